"""Gopher's repetition rules: how much of a text says the same again.

It decides on one document; copies between documents are deduplication's work.

Source: Rae et al., arXiv:2112.11446, table A1; verdicts as datatrove's
GopherRepetitionFilter gives them for the same words.
"""

import dataclasses
import functools
import re
from collections.abc import Iterable, Sequence

import numpy as np

_PARAGRAPH_BREAK = re.compile(r'\n{2,}')
_LINE_BREAK = re.compile(r'\n+')
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_BASE = np.uint64(0xD1342543DE82EF95)


@dataclasses.dataclass(frozen=True)
class GopherRepetition:
  """Largest fractions that are kept; the defaults are the paper's.

  A fraction of 1 turns its rule off, as an empty tuple does.

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
    text: the document.
    words: its words in order, without spaces in them.

  Returns:
    The first rule that it breaks, in the order of the paper's table.
  """
  if not cfg.enabled:
    return ''
  if not text:
    return 'empty'
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
  grams = _Grams(words)
  for n, limit in cfg.top_n_grams:
    if len(words) < n:
      continue
    enough = limit * len(text) * (1 - 1e-9)  # rounding does not decide
    if grams.top_chars(n, enough) / len(text) > limit:
      return f'top_{n}_gram'
  for n, limit in cfg.duplicate_n_grams:
    if len(words) < n:
      continue
    enough = limit * len(text) * (1 - 1e-9)
    if grams.duplicate_chars(n, enough) / len(text) > limit:
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


class _Grams:
  """Runs of n words as 64-bit hashes, without a loop over the words.

  The hash of characters c_s .. c_e is Σ f(c_i)·B^(i - s) modulo 2^64 with an
  odd B, so one running sum over the text gives that of every run.
  """

  def __init__(self, words: Sequence[str]):
    data = ''.join(words).encode('utf-32-le', 'surrogatepass')
    values = (np.frombuffer(data, '<u4') + np.uint64(1)) * _MULTIPLIER
    values ^= values >> np.uint64(29)
    lengths = np.fromiter(map(len, words), 'i8', len(words))
    self._ends = np.cumsum(lengths)
    self._starts = self._ends - lengths
    powers, self._inverses = _powers(max(len(values), 1).bit_length())
    self._sums = np.zeros(len(values) + 1, 'u8')
    np.cumsum(values * powers[: len(values)], out=self._sums[1:])

  def _joined(self, n: int) -> np.ndarray:
    """Hashes of n words written without spaces."""
    starts, ends = (
      self._starts[: len(self._starts) - n + 1],
      self._ends[n - 1 :],
    )
    return (self._sums[ends] - self._sums[starts]) * self._inverses[starts]

  def _spaced(self, n: int) -> np.ndarray:
    """Hashes of n words, which differ if any word does."""
    hashes = words = self._joined(1)
    for offset in range(1, n):  # wraps around on purpose
      hashes = hashes[:-1] * _MULTIPLIER
      hashes = (hashes ^ (hashes >> np.uint64(29))) + words[offset:]
    return hashes

  def _lengths(self, n: int) -> np.ndarray:
    """Characters of each n words, without spaces."""
    return self._ends[n - 1 :] - self._starts[: len(self._starts) - n + 1]

  def top_chars(self, n: int, enough: float) -> int:
    """Characters, single spaces included, in the most frequent n words.

    Of equally frequent ones, the one that came first counts. A result of at
    most `enough` is a bound.
    """
    hashes, lengths = self._spaced(n), self._lengths(n)
    order = np.sort(hashes)
    edges = np.flatnonzero(order[1:] != order[:-1])
    counts = np.diff(np.concatenate([[-1], edges, [len(order) - 1]]))
    n_times = int(counts.max())
    bound = n_times * (int(lengths.max()) + n - 1)
    if bound <= enough:
      return bound
    best = order[np.concatenate([edges, [len(order) - 1]])[counts == n_times]]
    first = int(np.isin(hashes, best).argmax())
    return n_times * (int(lengths[first]) + n - 1)

  def duplicate_chars(self, n: int, enough: float) -> int:
    """Characters in n words that stood before; the scan jumps over each.

    A result of at most `enough` is a bound.
    """
    hashes, lengths = self._joined(n), self._lengths(n)
    order = np.sort(hashes)
    n_repeated = int(np.count_nonzero(order[1:] == order[:-1]))
    bound = n_repeated * int(lengths.max())
    if bound <= enough:
      return bound
    # Sorting places costs three times as much, but gives a closer bound.
    order = np.argsort(hashes)
    is_repeated = np.zeros(len(order) + 1, bool)
    is_repeated[1:-1] = hashes[order[1:]] == hashes[order[:-1]]
    bound = int(lengths[order[is_repeated[:-1]]].sum())
    if bound <= enough:
      return bound
    places = np.sort(order[is_repeated[:-1] | is_repeated[1:]])
    keys, lengths = hashes[places].tolist(), lengths[places].tolist()
    seen: set[int] = set()
    position = n_chars = 0
    for place, key, length in zip(places.tolist(), keys, lengths, strict=True):
      if place < position:
        continue
      if key in seen:
        n_chars += length
        position = place + n
      else:
        seen.add(key)
    return n_chars


@functools.lru_cache(maxsize=4)
def _powers(n_bits: int) -> tuple[np.ndarray, np.ndarray]:
  """B^i and B^-i modulo 2^64 for all i below 2^n_bits."""
  inverse = np.uint64(pow(int(_BASE), -1, 1 << 64))
  powers = np.full((2, 1 << n_bits), 1, 'u8')
  powers[0, 1:], powers[1, 1:] = _BASE, inverse
  np.cumprod(powers, axis=1, out=powers)
  return powers[0], powers[1]
