"""Python functions to write, judged by the published tests of MBPP, HumanEval.

The prompt of an MBPP problem shows one assert of at least three, so that the
others cannot be learnt by heart. A problem with an assert of another form is
dropped and counted.
"""

import atexit
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

from absl import logging

from llm_jax import files
from llm_jax.tasks import protocol, splits
from llm_jax.verify import grading, python_tests
from llm_jax.verify.sandbox import sandbox

FIRST_TRAINING_ID = 601  # of MBPP; the others are its test and validation


class _Row(NamedTuple):
  """What a line of a file holds."""

  problem: protocol.Problem
  split: str
  start: str  # what the answer goes on from
  cases: list[python_tests.Case] | None  # None: the tests are no list of calls


@dataclasses.dataclass(frozen=True)
class PythonFunctions:
  """The task that one file of MBPP or HumanEval makes.

  MBPP's own training problems are in the split train; all others, and all of
  HumanEval, are held out. Answers run in a sandbox that starts with the first
  one and ends with this process.
  """

  path: str = ''  # JSONL as published, plain or .gz
  timeout_s: float = 3.0  # that an answer may take for all of its calls
  name: str = 'python_functions'  # in records
  # Text that starts a thought; banned for direct answers.
  think_start: str = grading.THINK_START

  def problems(
    self, split: str, count: int, seed: int
  ) -> list[protocol.Problem]:
    """Distinct problems of one split, in an order that the seed decides.

    Args:
      split: 'train' or 'held_out'.
      count: how many.
      seed: seed of the order.

    Raises:
      ValueError: if the split is unknown or has fewer problems than count, or
        a line of the file is of neither form.
    """
    if split != 'all':
      splits.check(split)
    rows = _read(self.path, self.name).values()
    chosen = [row.problem for row in rows if split in ('all', row.split)]
    return splits.choose(
      chosen,
      count=count or len(chosen),
      seed=f'{self.name}/{split}/{seed}',
      where=f'the split {split} of {self.path}',
    )

  def demonstrate(self, problem: protocol.Problem, think: bool) -> str:
    """The published solution; it comes without a thought.

    For MBPP a module, for HumanEval what goes on where the prompt ends.
    """
    del think
    return problem.reference

  def score(self, problem: protocol.Problem, answer: str) -> grading.Score:
    """Execute an answer, and compare each value that it returns out here.

    Args:
      problem: a problem of this task.
      answer: anything a model wrote: code, or text with code in fences, of
        which the last one with the function counts. Thoughts are passed over.

    Returns:
      Correct if every call of the tests returns what it must.
    """
    row = _read(self.path, self.name)[problem.prompt]
    return python_tests.score(
      answer,
      start=row.start,
      tests=row.cases or (),
      box=_sandbox(self.timeout_s),
    )

  thinks = staticmethod(grading.thinks)


@functools.cache
def _sandbox(timeout_s: float) -> sandbox.Sandbox:
  box = sandbox.Sandbox(timeout_s)
  atexit.register(box.close)
  return box


@functools.cache
def _read(path: str, name: str) -> Mapping[str, _Row]:
  """The problems that can be judged, by prompt."""
  if not path:
    raise ValueError(
      'the task has no file; set PythonFunctions.path to JSONL of MBPP or '
      'HumanEval'
    )
  kept: dict[str, _Row] = {}
  n_dropped = 0
  for row in files.read_jsonl(path, functools.partial(_read_row, name)):
    if row.cases is None or row.problem.prompt in kept:
      n_dropped += 1
    else:
      kept[row.problem.prompt] = row
  if n_dropped:
    logging.warning(
      '%d problems of %s are dropped: their tests are not all calls with a '
      'literal result, or another has the same prompt',
      n_dropped,
      path,
    )
  return kept


def _read_row(name: str, row: Mapping[str, Any]) -> _Row:
  if 'test_list' in row:
    return _read_mbpp(row, name)
  if 'entry_point' in row:
    return _read_humaneval(row, name)
  raise ValueError(
    f'the fields are {sorted(row)}; a problem of MBPP has test_list, one of '
    'HumanEval entry_point'
  )


def _read_mbpp(row: Mapping[str, Any], name: str) -> _Row:
  tests = [*row['test_list'], *row.get('challenge_test_list', ())]
  cases = None
  if not row.get('test_setup_code'):
    cases = python_tests.cases('\n'.join(tests))
  prompt = f'{row["text"]}\nFor example: {row["test_list"][0].strip()}\n'
  split = 'train' if row['task_id'] >= FIRST_TRAINING_ID else 'held_out'
  solution = row['code'].replace('\r\n', '\n')
  problem = protocol.Problem(name, prompt, solution)
  return _Row(problem, split=split, start='', cases=cases)


def _read_humaneval(row: Mapping[str, Any], name: str) -> _Row:
  """The answer goes on where the prompt ends, in the body of a function.

  It may also be the whole function: the prompt's is complete, as it has a
  docstring, and is then defined anew.
  """
  cases = python_tests.cases(row['test'], row['entry_point'])
  problem = protocol.Problem(name, row['prompt'], row['canonical_solution'])
  return _Row(problem, split='held_out', start=row['prompt'], cases=cases)
