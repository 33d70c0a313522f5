"""The tokenizer in a GGUF file, written as Hugging Face's files.

So it is read, kept and given back on the same way as one of a folder. llama.cpp
keeps no normalization and no flags of added tokens; where a published class has
them they are put back.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

from llm_jax import files
from llm_jax.tokenizer import huggingface, patterns, sentencepiece

# Kinds of tokens, the same numbers as in SentencePiece.
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4
# Our pattern, by llama.cpp's name of the way that text is cut.
_PATTERNS = {
  'gpt-2': 'gpt2', 'smollm': 'smollm', 'starcoder': 'smollm',
  'refact': 'smollm', 'command-r': 'smollm', 'llama-bpe': 'cl100k',
  'llama3': 'cl100k', 'llama-v3': 'cl100k', 'dbrx': 'cl100k',
  'smaug-bpe': 'cl100k', 'qwen2': 'qwen2', 'deepseek-r1-qwen': 'qwen2',
  'gpt-4o': 'o200k', 'llama4': 'o200k', 'deepseek-v3': 'deepseek3',
}  # fmt: skip
_LOOKS_UP = ('cl100k', 'o200k')  # whole pre-tokens, before merging
_NORMALIZES = 'qwen2'  # brings text into form NFC
_NAMED = {'bos': 'bos', 'eos': 'eos', 'unknown': 'unk', 'padding': 'pad'}
_ENDS = ('eot', 'eom')  # of a turn and of a message to a tool


def write(known: Mapping[str, Any], folder: files.Name) -> None:
  """Write the files of a tokenizer.

  Args:
    known: the file's metadata.
    folder: to write to.

  Raises:
    ValueError: if there is no tokenizer, or not one that can be read.
  """
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  own = {
    key.removeprefix('tokenizer.ggml.'): value
    for key, value in known.items()
    if key.startswith('tokenizer.ggml.')
  }
  model = own.get('model')
  if model == 'gpt2':
    files.write_json(folder / 'tokenizer.json', _tokenizer_json(own))
  elif model == 'llama':
    kinds = [*own['token_type']]
    kinds[own.get('unknown_token_id', 0)] = _UNKNOWN  # some call it control
    sentencepiece.write(
      folder / 'tokenizer.model',
      zip(own['tokens'], own['scores'], kinds, strict=True),
      begins_with_blank=own.get('add_space_prefix', True),
    )
  else:
    raise ValueError(
      f'the GGUF file has a tokenizer of the model {model!r}; only gpt2 '
      '(byte-level BPE) and llama (SentencePiece) can be read'
    )
  _write_settings(own, known, folder)


def _write_settings(
  own: Mapping[str, Any], known: Mapping[str, Any], folder: pathlib.Path
) -> None:
  tokens = own['tokens']
  settings: dict[str, Any] = {
    f'{key}_token': tokens[own[f'{name}_token_id']]
    for name, key in _NAMED.items()
    if f'{name}_token_id' in own
  }
  settings.setdefault('bos_token', None)
  for key in ('add_bos_token', 'add_eos_token'):
    if key in own:
      settings[key] = own[key]
  if own['model'] == 'llama':
    settings.setdefault('add_bos_token', True)  # llama.cpp's default
  prefix = 'tokenizer.chat_template'
  templates = [
    {'name': key.removeprefix(prefix).strip('.') or 'default', 'template': text}
    for key, text in known.items()
    if key.startswith(prefix) and isinstance(text, str)
  ]
  if templates:
    settings['chat_template'] = templates
    if [each['name'] for each in templates] == ['default']:
      settings['chat_template'] = templates[0]['template']
  is_bpe = own['model'] == 'gpt2'
  settings['tokenizer_class'] = (
    'PreTrainedTokenizerFast' if is_bpe else 'LlamaTokenizer'
  )
  files.write_json(folder / 'tokenizer_config.json', settings)
  ids = {
    f'{key}_token_id': own[f'{name}_token_id']
    for name, key in _NAMED.items()
    if name != 'unknown' and f'{name}_token_id' in own
  }
  files.write_json(folder / 'config.json', ids)
  ends = [own[f'{x}_token_id'] for x in _ENDS if f'{x}_token_id' in own]
  eos = [*dict.fromkeys([*ends, *[ids[x] for x in ids if x.startswith('eos')]])]
  generation = ids | {'eos_token_id': eos[0] if len(eos) == 1 else eos}
  files.write_json(folder / 'generation_config.json', generation)


def _tokenizer_json(own: Mapping[str, Any]) -> dict[str, Any]:
  pre = own.get('pre', 'default')
  if pre not in _PATTERNS:
    raise ValueError(
      f'the GGUF file cuts text as {pre!r}, which is not ours; only '
      f'{", ".join(_PATTERNS)} can be read'
    )
  name = _PATTERNS[pre]
  kinds = own['token_type']
  by_kind = {
    kind: {t: i for i, t in enumerate(own['tokens']) if kinds[i] == kind}
    for kind in (_NORMAL, _CONTROL, _USER_DEFINED)
  }
  values = huggingface.empty_json(patterns.by_name(name))
  values['model'] |= {
    'vocab': by_kind[_NORMAL],
    'merges': own['merges'],
    'ignore_merges': name in _LOOKS_UP,
  }
  if name == _NORMALIZES:
    values['normalizer'] = {'type': 'NFC'}
  values = huggingface.with_added_tokens(values, by_kind[_CONTROL])
  values = huggingface.with_added_tokens(
    values, by_kind[_USER_DEFINED], is_special=False
  )
  if own.get('add_bos_token'):
    bos = own['tokens'][own['bos_token_id']]
    values = huggingface.begins_with(values, bos)
  return values
