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
  for name, count, limits in (
    ('top_{}_gram', _top_chars, cfg.top_n_grams),
    ('duplicate_{}_grams', _duplicate_chars, cfg.duplicate_n_grams),
  ):
    for n, limit in limits:
      if len(words) >= n:
        yield name.format(n), count(words, n) / size > limit


def duplicates(elements: Sequence[str]) -> tuple[int, int]:
  """Elements that stood before, and their characters.

  >>> duplicates(['ab', 'c', 'ab', 'ab'])
  (2, 4)
  """
  different = set(elements)
  n_duplicates = len(elements) - len(different)
  return n_duplicates, sum(map(len, elements)) - sum(map(len, different))


def _runs(
  words: measures.Words, n: int, gap: int
) -> tuple[np.ndarray, np.ndarray]:
  """Hashes and characters of all n words with `gap` spaces between them.

  The hash of characters c_s .. c_e is Σ f(c_i)·B^(i - s) modulo 2^64 with an
  odd B and f of a space 0, so one running sum over the words gives that of
  every run. The slow twin is a loop over strings; tests/web/rules_test.py holds
  the two equal.
  """
  ends = np.cumsum(words.lengths + gap, dtype='i8') - gap
  starts = (ends - words.lengths)[: len(words) - n + 1]
  powers, inverses = measures.powers(int(ends[-1]) + 1)
  sums = np.zeros(len(words) + 1, 'u8')
  np.cumsum(words.hashes * powers[ends - words.lengths], out=sums[1:])
  return (sums[n:] - sums[:-n]) * inverses[starts], ends[n - 1 :] - starts


def _top_chars(words: measures.Words, n: int) -> int:
  """Characters, single spaces included, in the most frequent n words.

  Of equally frequent ones, the one that came first counts.
  """
  hashes, lengths = _runs(words, n, gap=1)
  values, times = np.unique(hashes, return_counts=True)
  is_top = np.isin(hashes, values[times == times.max()])
  return int(times.max() * lengths[is_top.argmax()])


def _duplicate_chars(words: measures.Words, n: int) -> int:
  """Characters in n words that stood before; the scan jumps over each."""
  hashes, lengths = _runs(words, n, gap=0)
  values, times = np.unique(hashes, return_counts=True)
  places = np.flatnonzero(np.isin(hashes, values[times > 1]))
  seen: set[int] = set()
  end = n_chars = 0
  keys = hashes[places].tolist()
  for place, key in zip(places.tolist(), keys, strict=True):
    if place >= end and key in seen:
      n_chars += int(lengths[place])
      end = place + n
    elif place >= end:
      seen.add(key)
  return n_chars
