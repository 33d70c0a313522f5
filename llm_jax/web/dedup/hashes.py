"""64-bit hashes of strings and of runs of words, and tables of them on disk.

A table is one file: sorted hashes, and a small code beside each. It is opened
by mapping it, so loading costs nothing and all workers of a machine share one
copy in the page cache. It holds no strings: a key that is not in it is taken
for one that is with probability n / 2^64, for 5 M hashes 2.7e-13.

It does NOT resist somebody who looks for collisions, and a table does not
grow.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import xxhash

from llm_jax import files

_MAGIC = b'llm_jax hashes 3\n'
_PAGE = 4096  # the hashes start on a page of memory


def of_strings(strings: Iterable[str]) -> np.ndarray:
  """One unsigned 64-bit hash for each string, the same on every machine.

  Source: XXH64 of the UTF-8 bytes, seed 0.
  """
  # Text from the web may hold half of a surrogate pair.
  data = (string.encode('utf-8', 'surrogatepass') for string in strings)
  return np.fromiter(map(xxhash.xxh64_intdigest, data), 'u8')


def of_runs(word_hashes: np.ndarray, lengths: Iterable[int]) -> np.ndarray:
  """Hashes of all runs of the given lengths, in numpy, O(words x longest).

  Args:
    word_hashes: one value for each word, in order, as `of_strings`.
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
  path: files.Path,
  kind: str,
  metadata: dict[str, Any],
  parts: Iterable[tuple[np.ndarray, int]],
) -> None:
  """Writes a table; it takes its name when it is complete.

  Args:
    path: the file.
    kind: what `read` will ask for.
    metadata: JSON that `read` gives back.
    parts: hashes in any order with the code of all of them, below 2^16; of
      equal hashes the first counts.

  Raises:
    OSError: the disk is full; nothing is left.
  """
  arrays, codes = [np.zeros(0, 'u8')], [np.zeros(0, 'u2')]
  for values, code in parts:
    arrays.append(values)
    codes.append(np.full(len(values), code, 'u2'))
  hashes, first = np.unique(np.concatenate(arrays), return_index=True)
  header = json.dumps({'kind': kind, 'n': len(hashes), **metadata}).encode()
  size = len(_MAGIC) + 8 + len(header)
  with files.replacing(path) as file:
    file.write(_MAGIC + len(header).to_bytes(8, 'little') + header)
    file.write(bytes(-size % _PAGE))
    file.write(hashes.astype('<u8', copy=False).data)
    file.write(np.concatenate(codes)[first].astype('<u2', copy=False).data)


def read(path: pathlib.Path, kind: str) -> Table:
  """Maps a table that `write` wrote, in no time and at no memory of its own.

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
  if metadata['kind'] != kind:
    raise ValueError(f'{path} is a table of {metadata["kind"]}, not of {kind}')
  n = metadata['n']
  start += n_header + -(start + n_header) % _PAGE
  if len(bytes_) != start + 10 * n:
    raise ValueError(f'{path} is a part of a table; remove it, build again')
  hashes = bytes_[start : start + 8 * n].view('<u8')
  return Table(metadata, hashes, bytes_[start + 8 * n :].view('<u2'))
