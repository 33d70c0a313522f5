"""The tokenizer.json of Hugging Face's `tokenizers` for a byte-level BPE.

It gives the same ids for text as ours when loaded with
`encode_special_tokens = True`. Without that, `tokenizers` turns text that
looks like a control token into one; the file format cannot forbid it.
"""

from collections.abc import Mapping
from typing import Any


def tokenizer_json(
  ranks: Mapping[bytes, int], split: str, special_ids: Mapping[str, int]
) -> dict[str, Any]:
  """The contents of tokenizer.json.

  Args:
    ranks: ids of ordinary tokens by their bytes.
    split: matches one pre-token after the other; no possessive quantifiers.
    special_ids: ids of the control tokens by name, in rising order.

  Returns:
    What json.dump writes.

  Raises:
    ValueError: if a token cannot be reached by merging two others.
  """
  printable = byte_characters()

  def spell(token: bytes) -> str:
    return ''.join([printable[value] for value in token])

  by_id = {rank: spell(token) for token, rank in ranks.items()}
  # Control tokens must stand in the model's vocabulary too: `tokenizers`
  # numbers the added ones anew where the ids before them have gaps.
  by_id |= {token_id: name for name, token_id in special_ids.items()}
  return {
    'version': '1.0',
    'truncation': None,
    'padding': None,
    'added_tokens': [
      {
        'id': token_id,
        'content': name,
        'single_word': False,
        'lstrip': False,
        'rstrip': False,
        'normalized': False,
        'special': True,
      }
      for name, token_id in special_ids.items()
    ],
    'normalizer': None,
    'pre_tokenizer': {
      'type': 'Sequence',
      'pretokenizers': [
        {
          'type': 'Split',
          'pattern': {'Regex': split},
          'behavior': 'Isolated',
          'invert': False,
        },
        {
          'type': 'ByteLevel',
          'add_prefix_space': False,
          'trim_offsets': False,
          'use_regex': False,
        },
      ],
    },
    'post_processor': None,
    'decoder': {
      'type': 'ByteLevel',
      'add_prefix_space': False,
      'trim_offsets': False,
      'use_regex': False,
    },
    'model': {
      'type': 'BPE',
      'dropout': None,
      'unk_token': None,
      'continuing_subword_prefix': None,
      'end_of_word_suffix': None,
      'fuse_unk': False,
      'byte_fallback': False,
      'ignore_merges': False,
      'vocab': {by_id[token_id]: token_id for token_id in sorted(by_id)},
      'merges': [
        f'{spell(left)} {spell(right)}' for left, right in find_merges(ranks)
      ],
    },
  }


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


def byte_characters() -> list[str]:
  """The printable character that stands for each byte.

  Source: `bytes_to_unicode` in openai/gpt-2, src/encoder.py.
  """
  printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
  others = iter(range(0x100, 0x200))
  return [chr(b if b in printable else next(others)) for b in range(256)]
