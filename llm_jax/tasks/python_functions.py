"""Python functions to write, judged by the published tests of MBPP, HumanEval.

The prompt of an MBPP problem shows one assert of at least three, so that the
others cannot be learnt by heart. A problem with an assert of another form is
dropped and counted.
"""

import atexit
import dataclasses
import functools
import random
from collections.abc import Mapping
from typing import Any

from absl import logging

from llm_jax import files
from llm_jax.tasks import protocol, splits
from llm_jax.verify import grading, python_tests
from llm_jax.verify.sandbox import sandbox

FIRST_TRAINING_ID = 601  # of MBPP; the others are its test and validation


@dataclasses.dataclass(frozen=True)
class _File:
  """What a file of problems holds."""

  # By prompt: what the answer goes on from, and the cases.
  tests: Mapping[str, tuple[str, list[python_tests.Case]]]
  splits: Mapping[str, list[protocol.Problem]]
  n_dropped: int  # problems whose tests are no list of calls


@dataclasses.dataclass(frozen=True)
class PythonFunctions:
  """The task that one file of MBPP or HumanEval makes.

  MBPP's own training problems are in the split train; all others, and all of
  HumanEval, are held out. Answers run in a sandbox that starts with the first
  one and ends with this process.
  """

  path: str = ''  # JSONL as published, plain or .gz
  timeout_s: float = 3.0  # that an answer may take for all of its calls
  name: str = 'python_functions'
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
    splits.check(split)
    chosen = list(_read(self.path, self.name).splits[split])
    if count > len(chosen):
      raise ValueError(
        f'{count} problems asked of {len(chosen)} in split {split}; use at '
        f'most {len(chosen)}'
      )
    random.Random(f'{self.name}/{split}/{seed}').shuffle(chosen)
    return chosen[:count]

  def size(self, split: str) -> int:
    """How many problems a split has."""
    return len(_read(self.path, self.name).splits[split])

  @property
  def n_dropped(self) -> int:
    """Problems of the file that cannot be judged."""
    return _read(self.path, self.name).n_dropped

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
    start, cases = _read(self.path, self.name).tests[problem.prompt]
    return python_tests.score(answer, start, cases, _sandbox(self.timeout_s))

  thinks = staticmethod(grading.thinks)


@functools.cache
def _sandbox(timeout_s: float) -> sandbox.Sandbox:
  box = sandbox.Sandbox(timeout_s)
  atexit.register(box.close)
  return box


@functools.cache
def _read(path: str, name: str) -> _File:
  if not path:
    raise ValueError(
      'the task has no file; set PythonFunctions.path to JSONL of MBPP or '
      'HumanEval'
    )
  tests: dict[str, tuple[str, list[python_tests.Case]]] = {}
  by_split: dict[str, list[protocol.Problem]] = {'train': [], 'held_out': []}
  n_dropped = 0
  rows = files.read_jsonl(path, functools.partial(_read_row, name))
  for problem, split, start, cases in rows:
    if cases is None or problem.prompt in tests:
      n_dropped += 1
      continue
    tests[problem.prompt] = (start, cases)
    by_split[split].append(problem)
  if n_dropped:
    logging.warning(
      '%d problems of %s are dropped: their tests are not all calls with a '
      'literal result, or another has the same prompt',
      n_dropped,
      path,
    )
  return _File(tests, by_split, n_dropped)


_Row = tuple[protocol.Problem, str, str, list[python_tests.Case] | None]


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
  return protocol.Problem(name, prompt, solution), split, '', cases


def _read_humaneval(row: Mapping[str, Any], name: str) -> _Row:
  """The answer goes on where the prompt ends, in the body of a function.

  It may also be the whole function: the prompt's is complete, as it has a
  docstring, and is then defined anew.
  """
  cases = python_tests.cases(row['test'], row['entry_point'])
  problem = protocol.Problem(name, row['prompt'], row['canonical_solution'])
  return problem, 'held_out', row['prompt'], cases
