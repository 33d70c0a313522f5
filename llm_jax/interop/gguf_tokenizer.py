"""The tokenizer in a GGUF file, written as Hugging Face's files.

So it is read, kept and given back on the same way as one of a folder. llama.cpp
keeps no normalization and no flags of added tokens; where a published class has
them they are put back.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

from llm_jax import files
from llm_jax.interop import gguf_file
from llm_jax.tokenizer import huggingface, sentencepiece

_LOOKS_UP = ('cl100k', 'o200k')  # whole pre-tokens, before merging
_NORMALIZES = 'qwen2'  # brings text into form NFC
_NAMED = {'bos': 'bos', 'eos': 'eos', 'unknown': 'unk', 'padding': 'pad'}
_ENDS = ('eot', 'eom', 'eos')  # of a turn, a message to a tool, a text


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
    # Some call the unknown token a control token.
    kinds[own.get('unknown_token_id', 0)] = sentencepiece.UNKNOWN
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
  ids = {
    f'{key}_token': own[f'{name}_token_id']
    for name, key in _NAMED.items()
    if f'{name}_token_id' in own
  }
  settings: dict[str, Any] = {'bos_token': None}
  settings |= {key: own['tokens'][i] for key, i in ids.items()}
  settings['tokenizer_class'] = 'PreTrainedTokenizerFast'
  if own['model'] == 'llama':
    settings['tokenizer_class'] = 'LlamaTokenizer'
    settings['add_bos_token'] = True  # llama.cpp's default
  adds = ('add_bos_token', 'add_eos_token')
  settings |= {key: own[key] for key in adds if key in own}
  if 'tokenizer.chat_template' in known:
    settings['chat_template'] = known['tokenizer.chat_template']
  files.write_json(folder / 'tokenizer_config.json', settings)
  ids.pop('unk_token', None)
  ids = {f'{key}_id': token_id for key, token_id in ids.items()}
  files.write_json(folder / 'config.json', ids)
  ends = [own[f'{x}_token_id'] for x in _ENDS if f'{x}_token_id' in own]
  eos = [*dict.fromkeys(ends)]
  generation = ids | {'eos_token_id': eos[0] if len(eos) == 1 else eos}
  files.write_json(folder / 'generation_config.json', generation)


def _tokenizer_json(own: Mapping[str, Any]) -> dict[str, Any]:
  pre = own.get('pre', 'default')
  known = gguf_file.tables()['patterns']
  if pre not in known:
    raise ValueError(
      f'the GGUF file cuts text as {pre!r}, which is not ours; only '
      f'{", ".join(known)} can be read'
    )
  name = known[pre]
  kinds = own['token_type']

  def ids_of(kind: int) -> dict[str, int]:  # the same numbers in both formats
    return {t: i for i, t in enumerate(own['tokens']) if kinds[i] == kind}

  values = huggingface.empty_json(name)
  values['model'] |= {
    'vocab': ids_of(sentencepiece.NORMAL),
    'merges': own['merges'],
    'ignore_merges': name in _LOOKS_UP,
  }
  if name == _NORMALIZES:
    values['normalizer'] = {'type': 'NFC'}
  for kind in (sentencepiece.CONTROL, sentencepiece.USER_DEFINED):
    is_special = kind == sentencepiece.CONTROL
    values = huggingface.with_added_tokens(values, ids_of(kind), is_special)
  if own.get('add_bos_token'):
    bos = own['tokens'][own['bos_token_id']]
    values = huggingface.begins_with(values, bos)
  return values
