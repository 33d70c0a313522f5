"""Problems in JSONL files here, as data sets of questions are published.

A question belongs to a split by its words: the same story with other numbers
stays in one split. It does not fetch anything.
"""

import dataclasses
import random
import re
from collections.abc import Callable
from typing import Any

from absl import logging

from llm_jax import files
from llm_jax.tasks import protocol, splits

# A row as a problem; None if its right answer cannot be read.
ReadFn = Callable[[dict[str, Any]], protocol.Problem | None]


@dataclasses.dataclass(frozen=True)
class Loaded:
  """The problems of a file by what they ask."""

  problems: dict[str, protocol.Problem]  # by prompt
  n_unreadable: int  # rows dropped because their right answer is unreadable


def key(question: str) -> str:
  """What decides a question's split: its words, without numbers or case."""
  return ' '.join(re.findall(r'[^\W\d_]+', question.casefold()))


def load(path: str, read: ReadFn) -> Loaded:
  """Read a file, dropping and counting what has no readable answer.

  Args:
    path: a JSONL file, gzipped if it ends in .gz.
    read: turns a row into a problem; of a row of another form it raises what
      Python does, or ValueError.

  Returns:
    The problems; of two with one prompt the first.

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
  return Loaded(problems, n_unreadable)


def problems(
  path: str, held_out_path: str, read: ReadFn, split: str, count: int, seed: int
) -> list[protocol.Problem]:
  """Distinct problems of one split of a file.

  Args:
    path: the file.
    held_out_path: a file that is held out as a whole, with every question of
      the same words in path; '' holds out a tenth of path.
    read: turns a row into a problem.
    split: 'train' or 'held_out'.
    count: how many.
    seed: of their order.

  Returns:
    The problems.

  Raises:
    ValueError: if the split is unknown or has fewer problems than count.
  """
  splits.check(split)
  own = load(path, read).problems.values()
  if held_out_path:
    held_out = list(load(held_out_path, read).problems.values())
  else:
    held_out = [p for p in own if splits.is_held_out(key(p.prompt))]
  if split == 'held_out':
    chosen = held_out
  else:
    closed = {key(problem.prompt) for problem in held_out}
    chosen = [problem for problem in own if key(problem.prompt) not in closed]
  if count > len(chosen):
    raise ValueError(
      f'{count} distinct problems asked of the {len(chosen)} in the split '
      f'{split} of {path}; use at most {len(chosen)}'
    )
  random.Random(f'{split}/{seed}').shuffle(chosen)
  return chosen[:count]
