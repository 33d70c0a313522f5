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
# Of the metadata, behind the architecture; and in config.json.
_SIZES = {
  'context_length': 'max_position_embeddings',
  'embedding_length': 'hidden_size', 'block_count': 'num_hidden_layers',
  'feed_forward_length': 'intermediate_size',
  'attention.head_count': 'num_attention_heads',
  'attention.head_count_kv': 'num_key_value_heads',
  'attention.key_length': 'head_dim', 'attention.value_length': 'head_dim',
  'rope.dimension_count': 'head_dim', 'vocab_size': 'vocab_size',
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
  for key, name in _SIZES.items():
    writer.add_uint32(f'{architecture}.{key}', cfg[name])
  writer.add_layer_norm_rms_eps(cfg['rms_norm_eps'])
  theta = cfg.get('rope_theta')
  if theta is None:
    theta = cfg['rope_parameters']
    theta = theta.get('full_attention', theta)['rope_theta']
  writer.add_rope_freq_base(theta)
  if is_gemma:
    writer.add_sliding_window(cfg['sliding_window'])
  for key, value in more.items():
    writer.add_key_value(key.replace('__', '.'), *value)
  if tokenizer is not None:
    tokenizer(writer)
  tensors = safetensors_numpy.load_file(folder / 'model.safetensors')
  names = gguf.get_tensor_name_map(
    gguf.MODEL_ARCH[architecture.upper()], cfg['num_hidden_layers']
  )
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
    name = names.get_name(name, try_suffixes=('.weight',))
    writer.add_tensor(name, data, raw_dtype=raw)
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
