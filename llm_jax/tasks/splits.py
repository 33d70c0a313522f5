"""Which problems are held out, and draws of distinct ones from a split.

A problem belongs to one split for ever, by the checksum of its key, whatever
the seed. It does not know what a problem asks; see the task.
"""

import random
import zlib
from collections.abc import Callable
from typing import Any, TypeVar

from llm_jax.tasks import protocol
from llm_jax.verify import grading

HELD_OUT_SHARE = 10  # one key in ten is never trained on
_MAX_VAIN = 10_000  # draws in a row without a new problem
Reader = tuple[Callable[[str], Any], str]  # with what it reads, in words
_Problem = TypeVar('_Problem', bound=protocol.Problem)


def is_held_out(key: str) -> bool:
  """Whether what has this key belongs to the split that no stage trains on."""
  return zlib.crc32(key.encode()) % HELD_OUT_SHARE == 0


def check(split: str) -> None:
  """Raise ValueError for anything but 'train' and 'held_out'."""
  if split not in ('train', 'held_out'):
    raise ValueError(f'split {split!r} is unknown; use train or held_out')


def choose(
  problems: list[_Problem], count: int, seed: str, where: str
) -> list[_Problem]:
  """Some of the problems of one split, in an order that the seed decides.

  Args:
    problems: all of the split.
    count: how many; 0: all.
    seed: of the order.
    where: the name of the split.

  Raises:
    ValueError: if there are fewer problems than count.
  """
  if count > len(problems):
    raise ValueError(
      f'{count} distinct problems asked of the {len(problems)} in {where}; use '
      f'at most {len(problems)}'
    )
  chosen = [*problems]
  random.Random(seed).shuffle(chosen)
  return chosen[: count or None]


class Made(protocol.Thinking):
  """What tasks share whose problems are made here and not read from a file.

  A dataclass of it has a `name`, and `_make`, which draws a key and its
  problem. What two problems must share a split for, such as 3*4 and 4*3, they
  have as one key.
  """

  name: str  # in records; the draw of the problems depends on it
  _make: Callable[[random.Random], tuple[str, protocol.Problem]]

  def _thought(self, problem: protocol.Problem) -> list[str]:
    """The lines that a demonstrator thinks; none where there is no need."""
    del problem
    return []

  def _reader(self, problem: protocol.Problem) -> Reader:
    """What reads the value of an answer, None if it has none; and its name."""
    del problem
    return grading.whole_number, 'a number'

  def problems(self, split: str, count: int, seed: int) -> protocol.Problems:
    """Draw distinct problems of one split.

    Args:
      split: 'train' or 'held_out'.
      count: how many.
      seed: of the draw; a longer draw starts with the shorter one.

    Returns:
      The problems.

    Raises:
      ValueError: if the split is unknown or has fewer problems than count.
    """
    check(split)
    draw = random.Random(f'{self.name}/{split}/{seed}')
    chosen: dict[str, protocol.Problem] = {}
    n_vain = 0
    while len(chosen) < count:
      key, problem = self._make(draw)
      is_new = problem.prompt not in chosen
      if is_new and is_held_out(key) == (split == 'held_out'):
        chosen[problem.prompt] = problem
        n_vain = 0
        continue
      n_vain += 1
      if n_vain == _MAX_VAIN:
        raise ValueError(
          f'{count} distinct problems asked of the split {split} of '
          f'{self.name}, which has about {len(chosen)}; ask for fewer'
        )
    return list(chosen.values())

  def demonstrate(self, problem: protocol.Problem, think: bool) -> str:
    """Write the answer, after the task's own thought if thinking.

    Args:
      problem: a problem of this task.
      think: whether the thought, if the task has one, comes before.

    Returns:
      The text of the answer.
    """
    lines = self._thought(problem) if think else []
    return grading.with_thought(lines, problem.reference)

  def score(self, problem: protocol.Problem, answer: str) -> grading.Score:
    """Compare what follows the last thought with the right answer.

    Args:
      problem: a problem of this task.
      answer: anything a model wrote.

    Returns:
      Correct if the last answer has the reference's value and nothing else.
    """
    read, what = self._reader(problem)
    return grading.compare(
      answer, reference=read(problem.reference), read=read, what=what
    )
