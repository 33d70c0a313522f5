"""What the rules ask of the words of a text, as arrays.

A word that was met before is looked up, so that rules on thousands of words
are a few calls of numpy. It does NOT cut text into words.
"""

import dataclasses
import functools
import threading
from collections.abc import Sequence

import numpy as np

from llm_jax.web import english_words

_BASE = 0xD1342543DE82EF95
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_DTYPES = ('i8', 'u8', '?', '?')  # of what _measured gives
_MAX_WORDS = 1 << 17  # some 20 MB


@dataclasses.dataclass(frozen=True)
class Words:
  """Words in their order.

  Attributes:
    strings: the words.
    lengths: characters of each.
    hashes: Σ f(c_i)·B^i modulo 2^64 over the characters c_0, c_1, .. of each,
      with the odd B of `powers`, so that those of words that are written
      together are a sum.
    is_plain: whether each is more than symbols.
    has_letter: whether each has a letter.
  """

  strings: Sequence[str]
  lengths: np.ndarray
  hashes: np.ndarray
  is_plain: np.ndarray
  has_letter: np.ndarray


def measure(strings: Sequence[str]) -> Words:
  """Words with their measures.

  >>> words = measure(['It', 'rains', '.'])
  >>> words.lengths.tolist(), words.is_plain.tolist()
  ([2, 5, 1], [True, True, False])
  """
  with _LOCK:  # threads share the table
    if len(_TABLE) >= _MAX_WORDS:
      _TABLE.clear()
      for column in _TABLE.columns:
        column.clear()
    numbers = np.fromiter(map(_TABLE.__getitem__, strings), 'i8', len(strings))
    if _TABLE.new:
      for column, new in zip(
        _TABLE.columns, _measured(_TABLE.new), strict=True
      ):
        column += new.tobytes()
      _TABLE.new.clear()
    columns = map(np.frombuffer, _TABLE.columns, _DTYPES)
    return Words(strings, *(column[numbers] for column in columns))


@functools.lru_cache(maxsize=4)
def _powers(n_bits: int) -> tuple[np.ndarray, np.ndarray]:
  powers = np.full((2, 1 << n_bits), 1, 'u8')
  powers[0, 1:], powers[1, 1:] = _BASE, pow(_BASE, -1, 1 << 64)
  np.cumprod(powers, axis=1, out=powers)
  return powers[0], powers[1]


def powers(n: int) -> tuple[np.ndarray, np.ndarray]:
  """B^i and B^-i modulo 2^64 for all i below n or more."""
  return _powers(max(n.bit_length(), 16))  # one array for most texts


class _Table(dict[str, int]):
  """Words that were met, numbered.

  Attributes:
    new: those of them that were not measured yet.
    columns: the measures of the others, by number.
  """

  def __init__(self):
    self.new: list[str] = []
    self.columns = [bytearray() for _ in _DTYPES]

  def __missing__(self, word: str) -> int:
    self.new.append(word)
    self[word] = number = len(self)
    return number


_TABLE = _Table()
_LOCK = threading.Lock()


def _measured(words: list[str]) -> tuple[np.ndarray, ...]:
  """Columns of `Words`."""
  lengths = np.fromiter(map(len, words), 'i8', len(words))
  ends = np.cumsum(lengths)
  starts = ends - lengths
  data = ''.join(words).encode('utf-32-le', 'surrogatepass')
  values = (np.frombuffer(data, '<u4') + np.uint64(1)) * _MULTIPLIER
  values ^= values >> np.uint64(29)
  factors, inverses = powers(len(values))
  sums = np.zeros(len(values) + 1, 'u8')
  np.cumsum(values * factors[: len(values)], out=sums[1:])  # wraps around
  hashes = (sums[ends] - sums[starts]) * inverses[starts]
  symbols = english_words.symbols()
  is_plain = [not symbols.issuperset(word) for word in words]
  has_letter = [w.isalpha() or any(map(str.isalpha, w)) for w in words]
  return lengths, hashes, np.array(is_plain), np.array(has_letter)
