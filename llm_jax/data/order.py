"""The order in which rows are visited, epoch after epoch.

Which row is the n-th depends on the arguments alone, so that a resumed run
continues the same order.
"""

import functools
import zlib

import numpy as np


def row_indices(
  name: str, n_rows: int, seed: int, start: int, count: int
) -> np.ndarray:
  """Rows number start to start + count - 1 of an endless shuffled reading.

  Every epoch is another permutation of all rows, so each row comes exactly
  once an epoch, and a batch may hold the end of one and the start of the next.

  Args:
    name: of the data set; sets of one seed are shuffled independently.
    n_rows: rows in the data set.
    seed: from 0 to 2^32 - 1.
    start: rows read before.
    count: rows to read.

  Returns:
    `count` row indices, int64.
  """
  epochs, offsets = np.divmod(np.arange(start, start + count), n_rows)
  rows = np.empty(count, np.int64)
  for epoch in np.unique(epochs):
    here = epochs == epoch
    order = _permutation(name, n_rows, seed=seed, epoch=int(epoch))
    rows[here] = order[offsets[here]]
  return rows


@functools.lru_cache(maxsize=16)  # a few data sets, two epochs of each
def _permutation(name: str, n_rows: int, seed: int, epoch: int) -> np.ndarray:
  # RandomState, because numpy promises that its numbers never change; those
  # of default_rng may, and a run resumed after an upgrade would reread rows.
  random = np.random.RandomState([seed, zlib.crc32(name.encode()), epoch])
  return random.permutation(n_rows)
