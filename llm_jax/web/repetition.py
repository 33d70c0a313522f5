"""Gopher's repetition rules: how much of a text says the same again.

It decides on one document; copies between documents are deduplication's work.

Source: Rae et al., arXiv:2112.11446, table A1; verdicts as datatrove's
GopherRepetitionFilter gives them for the same words.
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence

import numpy as np

_PARAGRAPH_BREAK = re.compile(r'\n{2,}')
_LINE_BREAK = re.compile(r'\n+')
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclasses.dataclass(frozen=True)
class GopherRepetition:
  """Largest fractions that are kept; the defaults are the paper's.

  Attributes:
    enabled: whether the rules are used.
    max_duplicate_lines: duplicate lines over lines.
    max_duplicate_paragraphs: duplicate paragraphs over paragraphs.
    max_duplicate_line_chars: their characters over all characters.
    max_duplicate_paragraph_chars: their characters over all characters.
    top_n_grams: (n, fraction): characters in the most frequent n-gram.
    duplicate_n_grams: (n, fraction): characters in repeated n-grams, each
      character counted once.
  """

  enabled: bool = True
  max_duplicate_lines: float = 0.3
  max_duplicate_paragraphs: float = 0.3
  max_duplicate_line_chars: float = 0.2
  max_duplicate_paragraph_chars: float = 0.2
  top_n_grams: tuple[tuple[int, float], ...] = (
    (2, 0.2),
    (3, 0.18),
    (4, 0.16),
  )
  duplicate_n_grams: tuple[tuple[int, float], ...] = (
    (5, 0.15),
    (6, 0.14),
    (7, 0.13),
    (8, 0.12),
    (9, 0.11),
    (10, 0.10),
  )


def reject(cfg: GopherRepetition, text: str, words: Sequence[str]) -> str:
  """Reason to remove a document, '' to keep it.

  Args:
    cfg: the thresholds.
    text: the document, not empty.
    words: its words in order.

  Returns:
    The first rule that it breaks, in the order of the paper's table.
  """
  if not cfg.enabled:
    return ''
  paragraphs = _PARAGRAPH_BREAK.split(text.strip())
  n_duplicates, n_chars = duplicates(paragraphs)
  if n_duplicates / len(paragraphs) > cfg.max_duplicate_paragraphs:
    return 'duplicate_paragraphs'
  if n_chars / len(text) > cfg.max_duplicate_paragraph_chars:
    return 'duplicate_paragraph_chars'
  lines = _LINE_BREAK.split(text)
  n_duplicates, n_chars = duplicates(lines)
  if n_duplicates / len(lines) > cfg.max_duplicate_lines:
    return 'duplicate_lines'
  if n_chars / len(text) > cfg.max_duplicate_line_chars:
    return 'duplicate_line_chars'
  numbers: dict[str, int] = {}
  ids = np.array([numbers.setdefault(w, len(numbers)) for w in words], 'u8')
  lengths = np.array([len(w) for w in words], 'i8')
  for n, limit in cfg.top_n_grams:
    if len(words) >= n and _top_chars(ids, lengths, n) / len(text) > limit:
      return f'top_{n}_gram'
  for n, limit in cfg.duplicate_n_grams:
    if len(words) < n:
      break
    hashes = _n_grams(ids, n)
    n_chars = _covered_chars(hashes, lengths, n)
    if n_chars / len(text) > limit:  # the bound does not decide
      n_chars = _duplicate_chars(hashes, lengths, n)
    if n_chars / len(text) > limit:
      return f'duplicate_{n}_grams'
  return ''


def duplicates(elements: Iterable[str]) -> tuple[int, int]:
  """Elements that stood before, and their characters.

  >>> duplicates(['ab', 'c', 'ab', 'ab'])
  (2, 4)
  """
  seen: set[str] = set()
  n_duplicates = n_chars = 0
  for element in elements:
    if element in seen:
      n_duplicates += 1
      n_chars += len(element)
    seen.add(element)
  return n_duplicates, n_chars


def _n_grams(ids: np.ndarray, n: int) -> np.ndarray:
  """A 64-bit hash of each run of n words."""
  size = len(ids) - n + 1
  hashes = np.zeros(size, 'u8')
  for offset in range(n):  # wraps around on purpose
    hashes = (hashes ^ (ids[offset : offset + size] + 1)) * _MULTIPLIER
    hashes ^= hashes >> np.uint64(29)
  return hashes


def _top_chars(ids: np.ndarray, lengths: np.ndarray, n: int) -> int:
  """Characters, single spaces included, in the most frequent n-gram."""
  _, first, counts = np.unique(
    _n_grams(ids, n), return_index=True, return_counts=True
  )
  best = counts.max()
  position = first[counts == best].min()  # of equals, the one that came first
  n_chars = int(lengths[position : position + n].sum()) + n - 1
  return n_chars * int(best)


def _covered_chars(hashes: np.ndarray, lengths: np.ndarray, n: int) -> int:
  """Characters of the words inside any n-gram that stood before.

  At least `_duplicate_chars`, which counts a part of these n-grams.
  """
  _, first = np.unique(hashes, return_index=True)
  repeats = np.setdiff1d(np.arange(len(hashes)), first)
  depth = np.zeros(len(lengths) + 1, 'i8')
  depth[repeats] += 1
  depth[repeats + n] -= 1
  return int(lengths[np.cumsum(depth)[:-1] > 0].sum())


def _duplicate_chars(hashes: np.ndarray, lengths: np.ndarray, n: int) -> int:
  """Characters in n-grams that stood before; the scan jumps over each."""
  ends = np.concatenate([[0], np.cumsum(lengths)]).tolist()
  keys = hashes.tolist()
  seen: set[int] = set()
  position = n_chars = 0
  while position < len(keys):
    if keys[position] in seen:
      n_chars += ends[position + n] - ends[position]
      position += n
    else:
      seen.add(keys[position])
      position += 1
  return n_chars
