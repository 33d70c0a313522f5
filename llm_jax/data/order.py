"""The order in which rows are visited, epoch after epoch, and on which host.

Keeps no state: the place of a row depends on the arguments alone, so that a
resumed run, or a run on another number of hosts, continues the same order.
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
  epochs, places = np.divmod(np.arange(start, start + count), n_rows)
  rows = np.empty(count, np.int64)
  for epoch in np.unique(epochs):
    here = epochs == epoch
    rows[here] = _permutation(name, n_rows, seed, int(epoch))[places[here]]
  return rows


def host_rows(batch_size: int, host_index: int, n_hosts: int) -> range:
  """The rows of a global batch that one of several hosts makes.

  Blocks in the order of the hosts, so that theirs, put one behind the other,
  are the global batch.

  Raises:
    ValueError: if the rows cannot be shared out evenly.
  """
  n_rows, rest = divmod(batch_size, n_hosts)
  if rest:
    raise ValueError(
      f'batch_size {batch_size} is not a multiple of {n_hosts} hosts; use '
      f'{batch_size - rest} or {batch_size - rest + n_hosts}'
    )
  return range(host_index * n_rows, (host_index + 1) * n_rows)


@functools.lru_cache(maxsize=16)  # a few data sets, two epochs of each
def _permutation(name: str, n_rows: int, seed: int, epoch: int) -> np.ndarray:
  # RandomState, because numpy promises that its numbers never change; those
  # of default_rng may, and a run resumed after an upgrade would reread rows.
  random = np.random.RandomState([seed, zlib.crc32(name.encode()), epoch])
  return random.permutation(n_rows)
