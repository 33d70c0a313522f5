"""Gopher's repetition rules: how much of a text says the same again.

It decides on one document; copies between documents are deduplication's work.

Source: Rae et al., arXiv:2112.11446, table A1; verdicts as datatrove's
GopherRepetitionFilter gives them for the same words.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from llm_jax.web.filter import measures

# A literal first character, which is found fast.
_PARAGRAPH_BREAK = re.compile(r'\n\n\n*')
_LINE_BREAK = re.compile(r'\n\n*')
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


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
  top_n_grams: tuple[tuple[int, float], ...] = ((2, 0.2), (3, 0.18), (4, 0.16))
  duplicate_n_grams: tuple[tuple[int, float], ...] = tuple(
    zip(range(5, 11), (0.15, 0.14, 0.13, 0.12, 0.11, 0.10), strict=True)
  )


def reject(cfg: GopherRepetition, text: str, words: measures.Words) -> str:
  """Reason to remove a document, '' to keep it.

  Args:
    cfg: the thresholds.
    text: the document.
    words: its words in order, without spaces in them, measured.

  Returns:
    The first rule that it breaks, in the order of the paper's table.
  """
  return first_broken(_rules(cfg, text, words)) if cfg.enabled else ''


def first_broken(rules: Iterable[tuple[str, bool]]) -> str:
  """The name of the first rule that is broken, '' if none is."""
  return next((name for name, is_broken in rules if is_broken), '')


def _rules(
  cfg: GopherRepetition, text: str, words: measures.Words
) -> Iterator[tuple[str, bool]]:
  """Each rule, and whether the text breaks it; asked for one by one."""
  size = len(text)
  yield 'empty', not size
  paragraphs = _PARAGRAPH_BREAK.split(text.strip())
  n, n_chars = duplicates(paragraphs)
  yield (
    'duplicate_paragraphs',
    n / len(paragraphs) > cfg.max_duplicate_paragraphs,
  )
  yield (
    'duplicate_paragraph_chars',
    n_chars / size > cfg.max_duplicate_paragraph_chars,
  )
  lines = _LINE_BREAK.split(text)
  n, n_chars = duplicates(lines)
  yield 'duplicate_lines', n / len(lines) > cfg.max_duplicate_lines
  yield 'duplicate_line_chars', n_chars / size > cfg.max_duplicate_line_chars
  grams = _Grams(words)
  for name, count, limits in (
    ('top_{}_gram', grams.top_chars, cfg.top_n_grams),
    ('duplicate_{}_grams', grams.duplicate_chars, cfg.duplicate_n_grams),
  ):
    for n, limit in limits:
      if len(words) >= n:
        enough = limit * size * (1 - 1e-9)  # rounding does not decide
        yield name.format(n), count(n, enough) / size > limit


def duplicates(elements: Sequence[str]) -> tuple[int, int]:
  """Elements that stood before, and their characters.

  >>> duplicates(['ab', 'c', 'ab', 'ab'])
  (2, 4)
  """
  different = set(elements)
  n_duplicates = len(elements) - len(different)
  return n_duplicates, sum(map(len, elements)) - sum(map(len, different))


class _Grams:
  """Runs of n words as 64-bit hashes, without a loop over the words.

  The hash of characters c_s .. c_e is Σ f(c_i)·B^(i - s) modulo 2^64 with an
  odd B, so one running sum over the words gives that of every run. The slow
  twin is a loop over strings; tests/web/rules_test.py holds the two equal.
  """

  def __init__(self, words: measures.Words):
    self._words = words.hashes
    self._ends = np.cumsum(words.lengths, dtype='i8')
    self._starts = self._ends - words.lengths
    powers, inverses = measures.powers(int(words.lengths.sum()))
    self._inverses = inverses[self._starts]
    self._sums = np.zeros(len(self._ends) + 1, 'u8')
    np.cumsum(words.hashes * powers[self._starts], out=self._sums[1:])
    self._pairs = _most_times(self._spaced(2))

  def _joined(self, n: int) -> np.ndarray:
    """Hashes of n words written without spaces."""
    sums = self._sums[n:] - self._sums[:-n]
    return sums * self._inverses[: len(sums)]

  def _spaced(self, n: int) -> np.ndarray:
    """Hashes of n words, which differ if any word does."""
    hashes = self._words
    for offset in range(1, n):  # wraps around on purpose
      hashes = hashes[:-1] * _MULTIPLIER
      hashes = (hashes ^ (hashes >> np.uint64(29))) + self._words[offset:]
    return hashes

  def _lengths(self, n: int) -> np.ndarray:
    """Characters of each n words, without spaces."""
    return self._ends[n - 1 :] - self._starts[: len(self._starts) - n + 1]

  def top_chars(self, n: int, enough: float) -> int:
    """Characters, single spaces included, in the most frequent n words.

    Of equally frequent ones, the one that came first counts. A result of at
    most `enough` is a bound: n words are no more frequent than their first
    two.
    """
    lengths = self._lengths(n) + n - 1
    if n > 1:
      bound = int((lengths * self._pairs[: len(lengths)]).max())
      if bound <= enough:
        return bound
    _, first, times = np.unique(
      self._spaced(n), return_index=True, return_counts=True
    )
    return int(times.max() * lengths[first[times == times.max()].min()])

  def duplicate_chars(self, n: int, enough: float) -> int:
    """Characters in n words that stood before; the scan jumps over each.

    A result of at most `enough` is a bound.
    """
    hashes = self._joined(n)
    places = np.flatnonzero(_most_times(hashes) > 1)
    order = np.argsort(hashes[places], kind='stable')
    keys = hashes[places[order]]
    again = np.sort(places[order[1:][keys[1:] == keys[:-1]]])
    starts, ends = self._starts[again], self._ends[again + n - 1]
    bound = int((ends - np.maximum(starts, np.append(0, ends[:-1]))).sum())
    if bound <= enough:
      return bound
    lengths = self._lengths(n)[places].tolist()
    seen: set[int] = set()
    position = n_chars = 0
    keys = hashes[places].tolist()
    for place, key, length in zip(places.tolist(), keys, lengths, strict=True):
      if place < position:
        continue
      if key in seen:
        n_chars += length
        position = place + n
      else:
        seen.add(key)
    return n_chars


def _most_times(hashes: np.ndarray) -> np.ndarray:
  """How often each hash stands there, or more where some share high bits.

  Counting is several times as fast as sorting.
  """
  n_bits = len(hashes).bit_length() + 3
  buckets = (hashes >> np.uint64(64 - n_bits)).astype('i8')
  return np.bincount(buckets)[buckets]
