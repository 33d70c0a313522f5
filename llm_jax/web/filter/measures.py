"""What the rules ask of the words of a text, as arrays.

A chunk of text that was met before is looked up with all measures of its
words, so that rules on thousands of words are a few calls of numpy. It does
NOT judge.
"""

import dataclasses
import functools
import struct
from collections.abc import Callable, Iterable

import numpy as np

from llm_jax.web.filter import english_words
from llm_jax.web.filter import words as words_of

_BASE = 0xD1342543DE82EF95
_MULTIPLIER = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
_ROW = np.dtype(
  [
    ('hashes', '<u8'),
    ('lengths', '<i4'),
    ('is_plain', '?'),
    ('has_letter', '?'),
    ('unused', '<u2'),
  ]
)
_PACK = struct.Struct('<QI??2x').pack
_CACHE_SIZE = 1 << 14  # of chunks, and of words, of each of two generations


@dataclasses.dataclass(frozen=True)
class Words:
  """Words in their order.

  Attributes:
    lengths: characters of each.
    hashes: Σ f(c_i)·B^i modulo 2^64 over the characters c_0, c_1, .. of each,
      with the odd B of `powers`, so that the hash of words that are written
      together is a sum.
    is_plain: whether each is more than symbols.
    has_letter: whether each has a letter.
  """

  lengths: np.ndarray
  hashes: np.ndarray
  is_plain: np.ndarray
  has_letter: np.ndarray

  def __len__(self) -> int:
    return len(self.lengths)


def of_text(text: str) -> Words:
  """The measures of `words.split(text)`.

  >>> measures = of_text('It rains.')
  >>> measures.lengths.tolist(), measures.is_plain.tolist()
  ([2, 5, 1], [True, True, False])
  """
  _WORDS.age()
  if _CHUNKS.age():
    _JOINED.intersection_update(_CHUNKS.old)
  chunks = text.split()
  rows = b''.join(map(_CHUNKS.__getitem__, chunks))
  joined = _JOINED.intersection(chunks)
  if words_of.neighbours_change(text, chunks, joined):
    return of_words(words_of.split(text))
  return _words(rows)


def of_words(strings: Iterable[str]) -> Words:
  """The measures of given words."""
  return _words(b''.join(map(_WORDS.__getitem__, strings)))


def powers(n: int) -> tuple[np.ndarray, np.ndarray]:
  """B^i and B^-i modulo 2^64 for all i below n or more."""
  return _powers(max(n.bit_length(), 16))  # the same for most texts


@functools.lru_cache(maxsize=4)
def _powers(n_bits: int) -> tuple[np.ndarray, np.ndarray]:
  values = np.full((2, 1 << n_bits), 1, 'u8')
  values[0, 1:], values[1, 1:] = _BASE, pow(_BASE, -1, 1 << 64)
  np.cumprod(values, axis=1, out=values)
  return values[0], values[1]


def _words(rows: bytes) -> Words:
  table = np.frombuffer(rows, _ROW)
  names = [field.name for field in dataclasses.fields(Words)]
  return Words(*(np.ascontiguousarray(table[name]) for name in names))


class _Generations(dict[str, bytes]):
  """What was asked for lately: memory is bounded, and what is frequent stays.

  A full generation becomes the old one. What is asked for again moves from the
  old to the new one, and the rest is lost when that is full in its turn.
  """

  def __init__(self, make: Callable[[str], bytes]):
    super().__init__()
    self._make = make
    self.old: dict[str, bytes] = {}

  def __missing__(self, key: str) -> bytes:
    value = self.old.get(key)
    self[key] = value = self._make(key) if value is None else value
    return value

  def age(self) -> bool:
    """Starts a new generation if this one is full, and says so."""
    is_full = len(self) >= _CACHE_SIZE
    if is_full:
      self.old = dict(self)
      self.clear()
    return is_full


def _rows_of_chunk(chunk: str) -> bytes:
  words, pieces = words_of.cut(chunk)
  if words != pieces:
    _JOINED.add(chunk)
  return b''.join(map(_WORDS.__getitem__, words))


def _row_of_word(word: str) -> bytes:
  value = 0
  for char in reversed(word):
    value = (value * _BASE + _CHARACTERS[char]) & _MASK
  is_plain = not english_words.symbols().issuperset(word)
  has_letter = word.isalpha() or any(map(str.isalpha, word))
  return _PACK(value, len(word), is_plain, has_letter)


class _Characters(dict[str, int]):
  """f of a character."""

  def __missing__(self, char: str) -> int:
    value = (ord(char) + 1) * _MULTIPLIER & _MASK
    self[char] = value = value ^ value >> 29
    return value


_JOINED: set[str] = set()
_CHUNKS, _WORDS = _Generations(_rows_of_chunk), _Generations(_row_of_word)
_CHARACTERS = _Characters()
