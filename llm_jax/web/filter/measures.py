"""What the rules ask of the words of a text, as arrays.

A word that was met before is looked up with all its measures, so that rules on
thousands of words are a few calls of numpy. It does NOT judge.
"""

import dataclasses
import functools
import struct
from collections.abc import Iterable

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
    ('unused', '<i2'),
  ]
)
_PACK = struct.Struct('<QI??xx').pack
_CACHE_SIZE = 1 << 15  # of words


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
  return of_words(words_of.split(text))


def of_words(strings: Iterable[str]) -> Words:
  """The measures of given words."""
  table = np.frombuffer(b''.join(map(_row_of_word, strings)), _ROW)
  names = [field.name for field in dataclasses.fields(Words)]
  return Words(*(np.ascontiguousarray(table[name]) for name in names))


def powers(n: int) -> tuple[np.ndarray, np.ndarray]:
  """B^i and B^-i modulo 2^64 for all i below n or more."""
  return _powers(max(n.bit_length(), 16))  # the same for most texts


@functools.lru_cache(maxsize=4)
def _powers(n_bits: int) -> tuple[np.ndarray, np.ndarray]:
  values = np.full((2, 1 << n_bits), 1, 'u8')
  values[0, 1:], values[1, 1:] = _BASE, pow(_BASE, -1, 1 << 64)
  np.cumprod(values, axis=1, out=values)
  return values[0], values[1]


@functools.lru_cache(_CACHE_SIZE)
def _row_of_word(word: str) -> bytes:
  value = 0
  for char in reversed(word):
    value = (value * _BASE + _of_character(char)) & _MASK
  is_plain = not english_words.symbols().issuperset(word)
  has_letter = word.isalpha() or any(map(str.isalpha, word))
  return _PACK(value, len(word), is_plain, has_letter)


@functools.cache
def _of_character(char: str) -> int:
  """f of a character."""
  value = (ord(char) + 1) * _MULTIPLIER & _MASK
  return value ^ value >> 29
