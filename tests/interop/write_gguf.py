"""A GGUF file of a Llama or Gemma 3 model, written by llama.cpp's library.

The order of rows and the shift of norms are llama.cpp's, spelled out here once
more in slow form, so that what reads them is compared with something else.
"""

import json
import pathlib

import gguf
import numpy as np
from safetensors import numpy as safetensors_numpy

_GEMMA = 'gemma3_text'
_LAYER = {
  'input_layernorm': 'attn_norm', 'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k', 'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output', 'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up', 'mlp.down_proj': 'ffn_down',
}  # fmt: skip
_LLAMA = {'post_attention_layernorm': 'ffn_norm'}
_GEMMA_LAYER = {
  'self_attn.q_norm': 'attn_q_norm', 'self_attn.k_norm': 'attn_k_norm',
  'post_attention_layernorm': 'post_attention_norm',
  'pre_feedforward_layernorm': 'ffn_norm',
  'post_feedforward_layernorm': 'post_ffw_norm',
}  # fmt: skip
_TOP = {
  'model.embed_tokens': 'token_embd', 'model.norm': 'output_norm',
  'lm_head': 'output',
}  # fmt: skip


def write(folder, path, kind=None, tokenizer=None, **more):
  """Write a folder of Hugging Face as a GGUF file.

  Args:
    folder: with config.json and safetensors in one file.
    path: of the file.
    kind: type of matrices; None: F32.
    tokenizer: called with the writer, to add what it says of tokens.
    **more: further keys of the metadata.
  """
  folder = pathlib.Path(folder)
  cfg = json.loads((folder / 'config.json').read_text())
  is_gemma = cfg['model_type'] == _GEMMA
  architecture = 'gemma3' if is_gemma else 'llama'
  writer = gguf.GGUFWriter(path, architecture)
  writer.add_context_length(cfg['max_position_embeddings'])
  writer.add_embedding_length(cfg['hidden_size'])
  writer.add_block_count(cfg['num_hidden_layers'])
  writer.add_feed_forward_length(cfg['intermediate_size'])
  writer.add_head_count(cfg['num_attention_heads'])
  writer.add_head_count_kv(cfg['num_key_value_heads'])
  writer.add_layer_norm_rms_eps(cfg['rms_norm_eps'])
  theta = cfg.get('rope_theta')
  if theta is None:
    theta = cfg['rope_parameters']
    theta = theta.get('full_attention', theta)['rope_theta']
  writer.add_rope_freq_base(theta)
  writer.add_rope_dimension_count(cfg['head_dim'])
  writer.add_key_length(cfg['head_dim'])
  writer.add_value_length(cfg['head_dim'])
  writer.add_vocab_size(cfg['vocab_size'])
  if is_gemma:
    writer.add_sliding_window(cfg['sliding_window'])
  for key, value in more.items():
    writer.add_key_value(key.replace('__', '.'), *value)
  if tokenizer is not None:
    tokenizer(writer)
  tensors = safetensors_numpy.load_file(folder / 'model.safetensors')
  for name, array in tensors.items():
    if is_gemma and 'norm' in name:
      array = array + 1
    heads = {'q_proj': 'num_attention_heads', 'k_proj': 'num_key_value_heads'}
    part = name.split('.')[-2]
    if not is_gemma and part in heads:
      array = _in_pairs(array, cfg[heads[part]])
    wanted = kind if kind is not None and array.ndim == 2 else 0
    data, raw = np.float32(array), None
    if wanted:
      raw = gguf.GGMLQuantizationType(wanted)
      data = gguf.quants.quantize(data, raw)
    writer.add_tensor(_name(name, is_gemma), data, raw_dtype=raw)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()


def _in_pairs(array, n_heads):
  """Row i of a head's first half is followed by row i of its second half."""
  rows = []
  for head in np.split(array, n_heads):
    half = len(head) // 2
    for i in range(half):
      rows += [head[i], head[half + i]]
  return np.stack(rows)


def _name(name, is_gemma):
  stem, _, suffix = name.rpartition('.')
  if stem in _TOP:
    return f'{_TOP[stem]}.{suffix}'
  _, _, layer, rest = stem.split('.', 3)
  table = _LAYER | (_GEMMA_LAYER if is_gemma else _LLAMA)
  return f'blk.{layer}.{table[rest]}.{suffix}'


def add_byte_level(writer, folder, pre):
  """What a GGUF file says of a byte-level tokenizer, from a folder's files."""
  values = json.loads((folder / 'tokenizer.json').read_text())
  settings = json.loads((folder / 'tokenizer_config.json').read_text())
  ids = dict(values['model']['vocab'])
  special = {a['content']: a['special'] for a in values['added_tokens']}
  ids |= {a['content']: a['id'] for a in values['added_tokens']}
  n = json.loads((folder / 'config.json').read_text())['vocab_size']
  tokens = [f'[PAD{i}]' for i in range(n)]
  kinds = [gguf.TokenType.UNUSED] * n
  for token, i in ids.items():
    tokens[i], kinds[i] = token, gguf.TokenType.NORMAL
    if token in special:
      is_control = special[token]
      kinds[i] = gguf.TokenType.CONTROL
      kinds[i] = kinds[i] if is_control else gguf.TokenType.USER_DEFINED
  writer.add_tokenizer_model('gpt2')
  writer.add_tokenizer_pre(pre)
  writer.add_token_list(tokens)
  writer.add_token_types(kinds)
  merges = values['model']['merges']
  writer.add_token_merges(
    [m if isinstance(m, str) else ' '.join(m) for m in merges]
  )
  for key, add in (
    ('bos_token', writer.add_bos_token_id),
    ('eos_token', writer.add_eos_token_id),
  ):
    if settings.get(key):
      add(ids[settings[key]])
  writer.add_add_bos_token(False)
  if isinstance(settings.get('chat_template'), str):
    writer.add_chat_template(settings['chat_template'])
