"""Which problems are held out, and draws of distinct ones from a split.

A problem belongs to one split for ever, by the checksum of its key, whatever
the seed. It does not know what a problem asks; see the task.
"""

import random
import zlib
from collections.abc import Callable

from llm_jax.tasks import protocol
from llm_jax.verify import grading

HELD_OUT_SHARE = 10  # one key in ten is never trained on
_MAX_VAIN = 10_000  # draws in a row without a new problem


def is_held_out(key: str) -> bool:
  """Whether what has this key belongs to the split that no stage trains on."""
  return zlib.crc32(key.encode()) % HELD_OUT_SHARE == 0


def check(split: str) -> None:
  """Raise ValueError for anything but 'train' and 'held_out'."""
  if split not in ('train', 'held_out'):
    raise ValueError(f'split {split!r} is unknown; use train or held_out')


def draw(
  name: str,
  split: str,
  count: int,
  seed: int,
  make: Callable[[random.Random], tuple[str, protocol.Problem]],
) -> list[protocol.Problem]:
  """Draw distinct problems of one split.

  Args:
    name: of the task.
    split: 'train' or 'held_out'.
    count: how many.
    seed: of the draw; a longer draw starts with the shorter one.
    make: draws a key and its problem. What two problems must share a split
      for, such as 3*4 and 4*3, they have as one key.

  Returns:
    The problems.

  Raises:
    ValueError: if the split is unknown or has fewer problems than count.
  """
  check(split)
  source = random.Random(f'{name}/{split}/{seed}')
  chosen: dict[str, protocol.Problem] = {}
  n_vain = 0
  while len(chosen) < count:
    key, problem = make(source)
    is_new = problem.prompt not in chosen
    if is_new and is_held_out(key) == (split == 'held_out'):
      chosen[problem.prompt] = problem
      n_vain = 0
      continue
    n_vain += 1
    if n_vain == _MAX_VAIN:
      raise ValueError(
        f'{count} distinct problems asked of the split {split} of {name}, '
        f'which has about {len(chosen)}; ask for fewer or make it larger'
      )
  return list(chosen.values())


class Made:
  """What tasks share whose problems are made here and not read from a file.

  A dataclass of it has a `name`, and `_make` as `draw` wants it.
  """

  name: str
  _make: Callable[[random.Random], tuple[str, protocol.Problem]]

  def problems(
    self, split: str, count: int, seed: int
  ) -> list[protocol.Problem]:
    """Distinct problems of one split; see `draw`."""
    return draw(self.name, split, count, seed, self._make)

  thinks = staticmethod(grading.thinks)
