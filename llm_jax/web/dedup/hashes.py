"""64-bit hashes of strings and of runs of words, and tables of them on disk.

A table is one Arrow file: sorted hashes, and a small code beside each. It is
mapped at no cost, and all workers of a machine share one
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
import pyarrow
import xxhash
from pyarrow import feather

from llm_jax import files


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
  metadata: dict[str, Any],
  parts: Iterable[tuple[np.ndarray, int]],
) -> None:
  """Writes a table; it takes its name when it is complete.

  Args:
    path: the file.
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
  columns = {'hashes': hashes, 'codes': np.concatenate(codes)[first]}
  table = pyarrow.table(columns, metadata={'json': json.dumps(metadata)})
  with files.replacing(path) as file:
    feather.write_feather(
      table, file, compression='uncompressed', chunksize=max(len(hashes), 1)
    )


def read(path: pathlib.Path) -> Table:
  """Maps a table that `write` wrote, in no time and at no memory of its own.

  Raises:
    ValueError: it is no such file, or a part of one.
  """
  try:
    table = feather.read_table(path, memory_map=True)
    metadata = json.loads(table.schema.metadata[b'json'])
  except (pyarrow.ArrowException, OSError, TypeError, KeyError) as error:
    raise ValueError(
      f'{path} is no whole table of hashes ({error}); remove it, build again'
    ) from error
  return Table(metadata, table['hashes'].to_numpy(), table['codes'].to_numpy())
