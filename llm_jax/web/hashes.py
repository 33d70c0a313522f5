"""64-bit hashes of strings and of runs of words, and tables of them on disk.

A table is one file: sorted hashes, and a small code beside each. It is opened
by mapping it, so loading costs nothing and all workers of a machine share one
copy in the page cache. It holds no strings: a key that is not in it is taken
for one that is with probability n / 2^64, for 5 M hashes 2.7e-13.

It does NOT resist somebody who looks for collisions, and a table does not
grow.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from llm_jax.web import storage

_MAGIC = b'llm_jax hashes 1\n'
_PAGE = 4096  # the hashes start on a page of memory
MAX_CODES = 1 << 16
_LONG = 40  # characters; longer words are not kept in memory
_MAX_KNOWN = 1 << 17  # words, beside those of one text


def of_strings(strings: Iterable[str]) -> np.ndarray:
  """One unsigned 64-bit hash for each string, the same on every machine."""
  return np.frombuffer(b''.join(map(_digest, strings)), '<u8')


def _digest(string: str) -> bytes:
  # Text from the web may hold half of a surrogate pair.
  data = string.encode('utf-8', 'surrogatepass')
  return hashlib.blake2b(data, digest_size=8).digest()


def of_words(words: Sequence[str]) -> np.ndarray:
  """One hash for each word, as `of_strings`; frequent words are remembered."""
  if len(_KNOWN) > _MAX_KNOWN:
    _KNOWN.clear()
  return np.fromiter(map(_KNOWN.__getitem__, words), 'u8', len(words))


class _Known(dict[str, int]):
  """Hashes of words that are not long."""

  def __missing__(self, word: str) -> int:
    value = int.from_bytes(_digest(word), 'little')
    if len(word) < _LONG:
      self[word] = value
    return value


_KNOWN = _Known()


def of_runs(word_hashes: np.ndarray, lengths: Iterable[int]) -> np.ndarray:
  """Hashes of all runs of the given lengths, in numpy, O(words x longest).

  Args:
    word_hashes: one value for each word, in order.
    lengths: numbers of words in a run, at least one.

  Returns:
    One array, the shortest length first, each in the order of the text; a
    length above the number of words gives nothing.
  """
  wanted, result = set(lengths), []
  values = np.zeros(len(word_hashes), 'u8')
  for offset in range(max(wanted)):  # wraps around on purpose
    values = values[: len(word_hashes) - offset] ^ word_hashes[offset:]
    values *= np.uint64(0x9E3779B97F4A7C15)
    values ^= values >> np.uint64(32)
    if offset + 1 in wanted:
      result.append(values)
  return np.concatenate(result)


@dataclasses.dataclass(frozen=True)
class Table:
  """Sorted hashes with codes; see `read`.

  Attributes:
    metadata: what the writer wrote, JSON.
    hashes: unsigned, 64 bits, ascending, each once.
    codes: unsigned, 16 bits, one for each hash.
  """

  metadata: dict[str, Any]
  hashes: np.ndarray
  codes: np.ndarray

  def find(self, keys: np.ndarray) -> np.ndarray:
    """Codes of those keys that are in the table, in the order of the keys."""
    if not len(self.hashes):
      return self.codes
    places = self.hashes.searchsorted(keys)
    places[places == len(self.hashes)] = 0
    return self.codes[places[self.hashes[places] == keys]]


def write(
  path: pathlib.Path,
  metadata: dict[str, Any],
  hashes: np.ndarray,
  codes: np.ndarray,
) -> None:
  """Writes a table; it takes its name when it is complete.

  Args:
    path: the file.
    metadata: JSON that `read` gives back.
    hashes: in any order; of equal ones the first counts.
    codes: one for each, below `MAX_CODES`.

  Raises:
    OSError: the disk is full; nothing is left.
  """
  order = np.argsort(hashes, kind='stable')
  hashes, codes = hashes[order], codes[order]
  first = np.ones(len(hashes), bool)
  first[1:] = hashes[1:] != hashes[:-1]
  hashes, codes = hashes[first], codes[first]
  header = json.dumps({'n': len(hashes), **metadata}).encode()
  size = len(_MAGIC) + 8 + len(header)
  with storage.replacing(path) as file:
    file.write(_MAGIC + len(header).to_bytes(8, 'little') + header)
    file.write(bytes(-size % _PAGE))
    file.write(hashes.astype('<u8', copy=False).data)
    file.write(codes.astype('<u2', copy=False).data)


def read(path: pathlib.Path) -> Table:
  """Maps a table that `write` wrote.

  Raises:
    ValueError: it is no such file, or a part of one.
  """
  bytes_ = np.memmap(path, np.uint8, 'r').view(np.ndarray)
  start = len(_MAGIC) + 8
  head = bytes_[:start].tobytes()
  n_header = int.from_bytes(head[-8:], 'little')
  if not head.startswith(_MAGIC) or len(bytes_) < start + n_header:
    raise ValueError(f'{path} is no table of hashes; remove it, build again')
  metadata = json.loads(bytes_[start : start + n_header].tobytes())
  n = metadata['n']
  start += n_header + -(start + n_header) % _PAGE
  if len(bytes_) != start + 10 * n:
    raise ValueError(f'{path} is a part of a table; remove it, build again')
  hashes = bytes_[start : start + 8 * n].view('<u8')
  return Table(metadata, hashes, bytes_[start + 8 * n :].view('<u2'))
