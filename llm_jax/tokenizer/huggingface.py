"""The tokenizer.json of Hugging Face's `tokenizers` for a byte-level BPE.

What is written gives the same ids for text as ours when loaded with
`encode_special_tokens = True`. Without that, `tokenizers` turns text that
looks like a control token into one; the file format cannot forbid it.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

from llm_jax import files
from llm_jax.tokenizer import patterns

Pair = tuple[bytes, bytes]


def tokenizer_json(
  ranks: Mapping[bytes, int], pattern: str, special_ids: Mapping[str, int]
) -> dict[str, Any]:
  """The contents of tokenizer.json.

  Args:
    ranks: ids of ordinary tokens by their bytes.
    pattern: name of the split pattern.
    special_ids: ids of the control tokens by name, in rising order.

  Returns:
    What json.dump writes. Where a token cannot be reached by merging, as in
    Llama 3, whole pre-tokens are looked up first, as tiktoken does.
  """
  printable = byte_characters()
  merges = find_merges(ranks)
  looks_up = merges is None
  merges = all_merges(ranks) if looks_up else merges

  def spell(token: bytes) -> str:
    return ''.join([printable[value] for value in token])

  values = empty_json(pattern)
  values['model'] |= {
    'ignore_merges': looks_up,
    'vocab': {spell(token): rank for token, rank in ranks.items()},
    'merges': [f'{spell(left)} {spell(right)}' for left, right in merges],
  }
  return with_added_tokens(values, special_ids)


def empty_json(pattern: str) -> dict[str, Any]:
  """The tokenizer.json of a byte-level BPE without any token."""
  path = pathlib.Path(__file__).with_name('empty_tokenizer.json')
  return files.read_json(path) | {'pre_tokenizer': _pre_tokenizer(pattern)}


def begins_with(values: Mapping[str, Any], name: str) -> dict[str, Any]:
  """A tokenizer.json that puts a control token before every text.

  Args:
    values: its contents so far.
    name: of the control token.
  """
  first = {'SpecialToken': {'id': name, 'type_id': 0}}
  texts = [{'Sequence': {'id': x, 'type_id': i}} for i, x in enumerate('AB')]
  token_id = values['model']['vocab'][name]
  token = {'id': name, 'ids': [token_id], 'tokens': [name]}
  return {
    **values,
    'post_processor': {
      'type': 'TemplateProcessing',
      'single': [first, texts[0]],
      'pair': [first, *texts],
      'special_tokens': {name: token},
    },
  }


def with_added_tokens(
  values: Mapping[str, Any], ids: Mapping[str, int], is_special: bool = True
) -> dict[str, Any]:
  """A tokenizer.json with more added tokens, each under its id.

  They stand in the model's vocabulary too: `tokenizers` numbers the added ones
  anew where the ids before them have gaps.
  """
  old = values.get('added_tokens') or []
  flags = 'single_word lstrip rstrip normalized'
  off = dict.fromkeys(flags.split(), False)
  known = {token['content'] for token in old}
  new = [
    {'id': token_id, 'content': name, **off, 'special': is_special}
    for name, token_id in ids.items()
    if name not in known
  ]
  vocab = values['model']['vocab'] | {x['content']: x['id'] for x in new}
  in_order = dict(sorted(vocab.items(), key=lambda item: item[1]))
  return {
    **values,
    'added_tokens': sorted([*old, *new], key=lambda token: token['id']),
    'model': {**values['model'], 'vocab': in_order},
  }


def _pre_tokenizer(pattern: str) -> dict[str, Any]:
  flags = ('add_prefix_space', 'trim_offsets')
  cuts = patterns.steps(pattern)
  byte_level = {'type': 'ByteLevel', **dict.fromkeys(flags, False)}
  byte_level['use_regex'] = patterns.BYTE_LEVEL in cuts
  steps = [
    {'type': 'Digits', 'individual_digits': True}
    if cut == patterns.DIGITS
    else {
      'type': 'Split',
      'pattern': {'Regex': cut},
      'behavior': 'Isolated',
      'invert': False,
    }
    for cut in cuts
    if cut != patterns.BYTE_LEVEL
  ]
  return {'type': 'Sequence', 'pretokenizers': [*steps, byte_level]}


def find_merges(ranks: Mapping[bytes, int]) -> list[Pair] | None:
  """The pair that each token of several bytes was merged from, in order.

  >>> ranks = {b'a': 0, b'b': 1, b'ab': 2, b'aab': 3}
  >>> find_merges(ranks)
  [(b'a', b'b'), (b'a', b'ab')]

  Args:
    ranks: ids of ordinary tokens by their bytes.

  Returns:
    For each token, by rising id, the two that its bytes are when only tokens
    of lower ids exist; None if those are not two of some token, which only a
    look-up of the whole pre-token finds.
  """
  merges = []
  for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
    if len(token) == 1:
      continue
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
      candidates = [
        ranks.get(parts[i] + parts[i + 1], rank) for i in range(len(parts) - 1)
      ]
      best = min(candidates)
      if best >= rank:
        return None
      i = candidates.index(best)
      parts[i : i + 2] = [parts[i] + parts[i + 1]]
    merges.append((parts[0], parts[1]))
  return merges


def all_merges(ranks: Mapping[bytes, int]) -> list[Pair]:
  """Every pair of tokens that makes a token, by its rising id.

  >>> all_merges({b'a': 0, b'b': 1, b'ab': 2, b'aa': 3, b'aab': 4})
  [(b'a', b'b'), (b'a', b'a'), (b'a', b'ab'), (b'aa', b'b')]
  """
  return [
    (token[:i], token[i:])
    for token in sorted(ranks, key=ranks.__getitem__)
    for i in range(1, len(token))
    if token[:i] in ranks and token[i:] in ranks
  ]


def byte_characters() -> list[str]:
  """The printable character that stands for each byte.

  Source: `bytes_to_unicode` in openai/gpt-2, src/encoder.py.
  """
  printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
  others = iter(range(0x100, 0x200))
  return [chr(b if b in printable else next(others)) for b in range(256)]
