"""Problems in JSONL files here, as data sets of questions are published.

A question belongs to a split by its words: the same story with other numbers
stays in one split. It does not fetch anything.
"""

import re
from collections.abc import Callable
from typing import Any

from absl import logging

from llm_jax import files
from llm_jax.tasks import protocol, splits
from llm_jax.verify import grading

# A row as a problem; None if its right answer cannot be read.
ReadFn = Callable[[dict[str, Any]], protocol.Problem | None]


def key(question: str) -> str:
  """What decides a question's split: its words, without numbers or case."""
  return ' '.join(re.findall(r'[^\W\d_]+', question.casefold()))


def load(path: str, read: ReadFn) -> dict[str, protocol.Problem]:
  """Read a file, dropping and counting what has no readable answer.

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
  problems: dict[str, protocol.Problem] = {}
  n_unreadable = 0
  for problem in files.read_jsonl(path, read):
    if problem is None:
      n_unreadable += 1
    else:
      problems.setdefault(problem.prompt, problem)
  if n_unreadable:
    logging.warning(
      '%d problems of %s are dropped: their right answer cannot be read',
      n_unreadable,
      path,
    )
  return problems


class Published:
  """What tasks share whose problems stand in files here.

  A dataclass of it has a path, a held_out_path and `read`.
  """

  name: str  # in records; the order of the problems depends on it
  think_start: str  # text that starts a thought; banned for direct answers
  path: str
  held_out_path: str
  read: ReadFn

  def problems(
    self, split: str, count: int, seed: int
  ) -> list[protocol.Problem]:
    """Distinct problems of one split; one story with other numbers is of one.

    Args:
      split: 'train' or 'held_out', which is all of held_out_path or, without
        one, a tenth of path. A question with the same words is of no other.
      count: how many.
      seed: of their order.

    Returns:
      The problems.

    Raises:
      ValueError: if the split is unknown or has fewer problems than count.
    """
    splits.check(split)
    own = load(self.path, self.read).values()
    if self.held_out_path:
      held_out = list(load(self.held_out_path, self.read).values())
    else:
      held_out = [p for p in own if splits.is_held_out(key(p.prompt))]
    closed = {key(problem.prompt) for problem in held_out}
    train = [problem for problem in own if key(problem.prompt) not in closed]
    return splits.choose(
      held_out if split == 'held_out' else train,
      count=count,
      seed=f'{split}/{seed}',
      where=f'the split {split} of {self.path}',
    )

  thinks = staticmethod(grading.thinks)
