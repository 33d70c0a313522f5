"""Problems in JSONL files here, as data sets of questions are published.

A question belongs to a split by its words: the same story with other numbers
stays in one split. A stage that trains on a file leaves a tenth of it out; an
evaluation may ask all of a file that no stage trained on. It does not fetch
anything.
"""

import re
from collections.abc import Callable
from typing import Any, TypeVar

from absl import logging

from llm_jax import files
from llm_jax.tasks import protocol, splits

_Problem = TypeVar('_Problem', bound=protocol.Problem)
# A row as a problem; None if its right answer cannot be read.
ReadFn = Callable[[dict[str, Any]], _Problem | None]


def key(question: str) -> str:
  """What decides a question's split: its words, without numbers or case."""
  return ' '.join(re.findall(r'[^\W\d_]+', question.casefold()))


def load(path: str, read: ReadFn[_Problem]) -> dict[str, _Problem]:
  """Read a file, counting what has no readable answer or is there already.

  Args:
    path: a JSONL file, gzipped if it ends in .gz.
    read: turns a row into a problem; of a row of another form it raises what
      Python does, or ValueError.

  Returns:
    The problems by what they ask; of two with one prompt the first.

  Raises:
    ValueError: without a path, or with the line that has another form.
  """
  if not path:
    raise ValueError(
      'the task has no file; set its path to a JSONL file of problems'
    )
  problems: dict[str, _Problem] = {}
  n_unreadable = n_again = 0
  for problem in files.read_jsonl(path, read):
    if problem is None:
      n_unreadable += 1
    elif problem.prompt in problems:
      n_again += 1
    else:
      problems[problem.prompt] = problem
  for n, reason in (
    (n_unreadable, 'their right answer or a test of it cannot be read'),
    (n_again, 'an earlier one has the same prompt'),
  ):
    if n:
      logging.warning('%d problems of %s are dropped: %s', n, path, reason)
  return problems


class Published(protocol.Thinking):
  """What tasks share whose problems stand in files here.

  A dataclass of it has a path, a held_out_path and `read`.
  """

  name: str  # in records
  path: str
  held_out_path: str
  read: ReadFn[protocol.Problem]

  def problems(self, split: str, count: int, seed: int) -> protocol.Problems:
    """Distinct problems of one split; one story with other numbers is of one.

    Args:
      split: 'train' or 'held_out', which is all of held_out_path or, without
        one, a tenth of path. A question with the same words is of no other.
        'all' is all of held_out_path or, without one, of path.
      count: how many; 0: all of the split.
      seed: of their order.

    Returns:
      The problems.

    Raises:
      ValueError: if the split is unknown or has fewer problems than count.
    """
    if split != 'all':
      splits.check(split)
    is_whole = split != 'train' and self.held_out_path
    path = is_whole or self.path
    chosen = list(load(path, self.read).values())
    if split != 'all' and not is_whole:
      closed = self._closed(chosen)
      is_held_out = split == 'held_out'
      chosen = [p for p in chosen if (key(p.prompt) in closed) == is_held_out]
    return splits.choose(
      chosen,
      count,
      seed=f'{split}/{seed}',
      where=f'the split {split} of {path}',
    )

  def _closed(self, own: list[protocol.Problem]) -> set[str]:
    """Keys of the questions that no stage trains on."""
    if self.held_out_path:
      return set(map(key, load(self.held_out_path, self.read)))
    keys = {key(problem.prompt) for problem in own}
    return set(filter(splits.is_held_out, keys))
