"""Python functions to write, judged by the published tests of MBPP, HumanEval.

The prompt of an MBPP problem shows one assert of at least three, so that the
others cannot be learnt by heart. A problem with an assert of another form is
dropped and counted.
"""

import atexit
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from llm_jax.tasks import protocol, published, splits
from llm_jax.verify import grading, python_tests
from llm_jax.verify.sandbox import sandbox

FIRST_TRAINING_ID = 601  # of MBPP; the others are its test and validation


@dataclasses.dataclass(frozen=True)
class Function(protocol.Problem):
  """A function to write; the reference is the published solution."""

  split: str = 'held_out'
  start: str = ''  # what the answer goes on from
  cases: Sequence[python_tests.Case] = ()


@dataclasses.dataclass(frozen=True)
class PythonFunctions(protocol.Thinking):
  """The task that one file of MBPP or HumanEval makes.

  MBPP's own training problems are in the split train; all others, and all of
  HumanEval, are held out. Answers run in a sandbox that starts with the first
  one and ends with this process.
  """

  path: str = ''  # JSONL as published, plain or .gz
  timeout_s: float = 3.0  # that an answer may take for all of its calls
  name: str = 'python_functions'  # in records

  def problems(self, split: str, count: int, seed: int) -> list[Function]:
    """Distinct problems of one split, in an order that the seed decides.

    Args:
      split: 'train', 'held_out' or 'all'.
      count: how many; 0: all of the split.
      seed: seed of the order.

    Raises:
      ValueError: if the split is unknown or has fewer problems than count, or
        a line of the file is of neither form.
    """
    if split != 'all':
      splits.check(split)
    problems = published.load(self.path, self.read).values()
    return splits.choose(
      [p for p in problems if split in ('all', p.split)],
      count,
      seed=f'{self.name}/{split}/{seed}',
      where=f'the split {split} of {self.path}',
    )

  def read(self, row: Mapping[str, Any]) -> Function | None:
    """A row as a problem, or None if its tests are no list of calls."""
    if 'test_list' in row:
      function = self._mbpp(row)
    elif 'entry_point' in row:
      # The answer goes on where the prompt ends, in the body of a function. It
      # may also be the whole function: the prompt's is complete, as it has a
      # docstring, and is then defined anew.
      function = Function(
        self.name,
        row['prompt'],
        row['canonical_solution'],
        start=row['prompt'],
        cases=python_tests.cases(row['test'], row['entry_point']) or (),
      )
    else:
      raise ValueError(
        f'the fields are {sorted(row)}; a problem of MBPP has test_list, one '
        'of HumanEval entry_point'
      )
    return function if function.cases else None

  def _mbpp(self, row: Mapping[str, Any]) -> Function:
    tests = [*row['test_list'], *row.get('challenge_test_list', ())]
    has_setup = row.get('test_setup_code')
    return Function(
      self.name,
      f'{row["text"]}\nFor example: {row["test_list"][0].strip()}\n',
      row['code'].replace('\r\n', '\n'),
      split='train' if row['task_id'] >= FIRST_TRAINING_ID else 'held_out',
      cases=() if has_setup else python_tests.cases('\n'.join(tests)) or (),
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
    assert isinstance(problem, Function)
    box = _sandbox(self.timeout_s)
    return python_tests.score(
      answer, start=problem.start, tests=problem.cases, box=box
    )


@functools.cache
def _sandbox(timeout_s: float) -> sandbox.Sandbox:
  box = sandbox.Sandbox(timeout_s)
  atexit.register(box.close)
  return box
