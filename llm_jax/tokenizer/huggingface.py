"""The tokenizer.json of Hugging Face's `tokenizers` for a byte-level BPE.

What is written gives the same ids for text as ours when loaded with
`encode_special_tokens = True`. Without that, `tokenizers` turns text that
looks like a control token into one; the file format cannot forbid it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from llm_jax.tokenizer import patterns


def tokenizer_json(
  ranks: Mapping[bytes, int], split: str, special_ids: Mapping[str, int]
) -> dict[str, Any]:
  """The contents of tokenizer.json.

  Args:
    ranks: ids of ordinary tokens by their bytes.
    split: matches one pre-token after the other; no possessive quantifiers.
    special_ids: ids of the control tokens by name, in rising order.

  Returns:
    What json.dump writes. Where a token cannot be reached by merging, as in
    Llama 3, whole pre-tokens are looked up first, as tiktoken does.
  """
  printable = byte_characters()
  try:
    merges, looks_up = find_merges(ranks), False
  except ValueError:
    merges, looks_up = all_merges(ranks), True

  def spell(token: bytes) -> str:
    return ''.join([printable[value] for value in token])

  by_id = {rank: spell(token) for token, rank in ranks.items()}
  # Control tokens must stand in the model's vocabulary too: `tokenizers`
  # numbers the added ones anew where the ids before them have gaps.
  by_id |= {token_id: name for name, token_id in special_ids.items()}
  flags = 'single_word lstrip rstrip normalized'
  unused = 'dropout unk_token continuing_subword_prefix end_of_word_suffix'
  byte_level = {'type': 'ByteLevel'} | dict.fromkeys(
    ('add_prefix_space', 'trim_offsets', 'use_regex'), False
  )
  cut = {
    'type': 'Split', 'pattern': {'Regex': split}, 'behavior': 'Isolated',
    'invert': False,
  }  # fmt: skip
  return {
    'version': '1.0',
    'truncation': None,
    'padding': None,
    'added_tokens': [
      {
        'id': token_id,
        'content': name,
        **dict.fromkeys(flags.split(), False),
        'special': True,
      }
      for name, token_id in special_ids.items()
    ],
    'normalizer': None,
    'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': [cut, byte_level]},
    'post_processor': None,
    'decoder': byte_level,
    'model': {
      'type': 'BPE',
      **dict.fromkeys(unused.split()),
      'fuse_unk': False,
      'byte_fallback': False,
      'ignore_merges': looks_up,
      'vocab': {by_id[token_id]: token_id for token_id in sorted(by_id)},
      'merges': [f'{spell(left)} {spell(right)}' for left, right in merges],
    },
  }


class Parts(NamedTuple):
  """What a tokenizer.json is made of; see `Tokenizer`.

  Attributes:
    ranks: ids of ordinary tokens by their bytes.
    pattern: name of the split pattern.
    special_ids: ids of the added tokens by name.
    is_nfc: whether it brings text into Unicode's form NFC before it cuts,
      which ours does not; ids differ for text in another form.
  """

  ranks: dict[bytes, int]
  pattern: str
  special_ids: dict[str, int]
  is_nfc: bool


def read_parts(values: Mapping[str, Any]) -> Parts:
  """Take apart a tokenizer.json that we can represent exactly.

  Args:
    values: its contents.

  Returns:
    The parts of a tokenizer of ours that gives the same ids for NFC text.

  Raises:
    ValueError: for another algorithm, split pattern or normalizer, or merges
      that do not follow from the ids, by name.
  """
  model = values['model']
  normalizer = (values.get('normalizer') or {}).get('type')
  keys = 'byte_fallback continuing_subword_prefix end_of_word_suffix dropout'
  odd = [f'{key} {model[key]!r}' for key in keys.split() if model.get(key)]
  if model.get('type') != 'BPE':
    odd.append(f'the algorithm {model.get("type")!r}')
  if normalizer not in (None, 'NFC'):
    odd.append(f'the normalizer {normalizer!r}')
  pattern = _pattern_name(values.get('pre_tokenizer') or {})
  if pattern is None:
    odd.append('a split pattern that is not ours')
  if odd or pattern is None:
    raise ValueError(
      f'tokenizer.json has {", ".join(odd)}; only byte-level BPE cut as in '
      f'{", ".join(patterns.PATTERNS)} can be converted: give a tokenizer of '
      'ours with the same ids'
    )
  added = values.get('added_tokens') or []
  special_ids = {token['content']: token['id'] for token in added}
  value_of = {c: value for value, c in enumerate(byte_characters())}

  def spelled(text: str) -> bytes:
    return bytes([value_of[character] for character in text])

  ranks = {
    spelled(text): token_id
    for text, token_id in model['vocab'].items()
    if text not in special_ids
  }
  merges = [m.split(' ') if isinstance(m, str) else m for m in model['merges']]
  pairs = [(spelled(left), spelled(right)) for left, right in merges]
  if not _follow_from_ids(pairs, ranks, model.get('ignore_merges', False)):
    raise ValueError(
      'tokenizer.json has merges that do not follow from the ids of its '
      'tokens, so it cannot be converted; give a tokenizer of ours with the '
      'same ids'
    )
  return Parts(
    ranks, pattern, special_ids=special_ids, is_nfc=normalizer == 'NFC'
  )


def _follow_from_ids(pairs, ranks, looks_up) -> bool:
  """Whether a list of merges gives the same ids as merging by lowest id.

  Theirs merges the pair that stands first in the list, ours the pair whose
  token has the lowest id, after it looked up the whole pre-token.
  """
  made = [ranks.get(left + right, -1) for left, right in pairs]
  if -1 in made or made != sorted(made):
    return False
  if looks_up and set(pairs) == set(all_merges(ranks)):
    return True
  try:
    return set(find_merges(ranks)) <= set(pairs)
  except ValueError:  # a token that only a look-up finds
    return False


def _pattern_name(pre_tokenizer: Mapping[str, Any]) -> str | None:
  """Our name for the way that text is cut, if it is one of ours."""
  steps = pre_tokenizer.get('pretokenizers', [pre_tokenizer])
  last = steps[-1]
  if last.get('type') != 'ByteLevel' or last.get('add_prefix_space'):
    return None
  if last.get('use_regex', True):
    return 'gpt2' if len(steps) == 1 else None
  split = steps[0] if len(steps) == 2 else {}
  if split.get('behavior') != 'Isolated' or split.get('invert'):
    return None
  regex = split.get('pattern', {}).get('Regex')
  named = {form.split: name for name, form in patterns.PATTERNS.items()}
  return named.get(regex)


def find_merges(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
  """The pair that each token of several bytes was merged from, in order.

  >>> ranks = {b'a': 0, b'b': 1, b'ab': 2, b'aab': 3}
  >>> find_merges(ranks)
  [(b'a', b'b'), (b'a', b'ab')]

  Args:
    ranks: ids of ordinary tokens by their bytes.

  Returns:
    For each token, by rising id, the two that its bytes are when only tokens
    of lower ids exist.

  Raises:
    ValueError: if those are not two.
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
        raise ValueError(
          f'token {rank}, {token!r}, is not the merge of two tokens with lower '
          f'ids, so tokenizer.json cannot express it; use the ranks file'
        )
      i = candidates.index(best)
      parts[i : i + 2] = [parts[i] + parts[i + 1]]
    merges.append((parts[0], parts[1]))
  return merges


def all_merges(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
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
