"""Python functions to write, judged by the published tests of MBPP, HumanEval.

A problem's asserts are read, never executed: each becomes a call for the
sandbox and an expected value that stays here. The prompt of an MBPP problem
shows one assert of at least three, so that the others cannot be learnt by
heart. A problem with an assert of another form is dropped and counted. Does NOT
judge style or speed.
"""

import ast
import atexit
import dataclasses
import functools
import operator
import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import logging

from llm_jax import files
from llm_jax.tasks import protocol, splits
from llm_jax.verify import grading
from llm_jax.verify.sandbox import sandbox

FIRST_TRAINING_ID = 601  # of MBPP; the others are its test and validation
_MAX_CODE_CHARS = 20_000
_FENCE = re.compile(r'```(?:python|py)?[ \t]*\r?\n(.*?)(?:```|\Z)', re.DOTALL)
_ARITHMETIC: Mapping[type, Callable[[Any, Any], Any]] = {
  ast.Add: operator.add,
  ast.Sub: operator.sub,
  ast.Mult: operator.mul,
  ast.Div: operator.truediv,
}
# What an assert may do with the value before it compares it.
_AFTERWARDS: Mapping[str, Callable[[Any], Any]] = {
  'bool': bool,
  'int': int,
  'len': len,
  'list': list,
  'set': set,
  'sorted': sorted,
  'tuple': tuple,
}


@dataclasses.dataclass(frozen=True)
class Case:
  """One assert: what to call, and what must come back."""

  entry: str
  args: tuple[Any, ...]
  kwargs: Mapping[str, Any]
  expected: Any
  tolerance: float | None = None  # None: equal as == says
  after: str | None = None  # a key of _AFTERWARDS, applied to the value

  def accepts(self, value: Any) -> bool:
    """Whether a value of plain types is what the assert asks for."""
    try:
      if self.after is not None:
        value = _AFTERWARDS[self.after](value)
      if self.tolerance is not None:
        return abs(value - self.expected) <= self.tolerance
      return bool(value == self.expected)
    except (TypeError, ValueError, OverflowError):
      return False


@dataclasses.dataclass(frozen=True)
class _File:
  """What a file of problems holds."""

  # By prompt: what the answer goes on from, and the cases.
  tests: Mapping[str, tuple[str, list[Case]]]
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
      answer: anything a model wrote: code, or text with code in a fence, of
        which the last counts. Thoughts are passed over.

    Returns:
      Correct if every call of the tests returns what it must.
    """
    code = code_of(answer)
    if len(code) > _MAX_CODE_CHARS:
      return grading.Score(
        False, f'the code has more than {_MAX_CODE_CHARS} characters'
      )
    start, cases = _read(self.path, self.name).tests[problem.prompt]
    done = _sandbox(self.timeout_s).run(
      start + code,
      cases[0].entry,
      [(case.args, case.kwargs) for case in cases],
    )
    for case, value in zip(cases, done.values, strict=False):
      if not case.accepts(value):
        return grading.Score(False, _disagreement(case, value))
    if done.error:
      return grading.Score(False, done.error)
    if len(done.values) != len(cases):
      return grading.Score(False, f'{len(done.values)} values came back')
    return grading.Score(True, f'{len(cases)} calls are right')

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
  tests: dict[str, tuple[str, list[Case]]] = {}
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


def code_of(answer: str) -> str:
  r"""The code of an answer: the last fence behind any thought, or all of it.

  >>> code_of('<think>hm</think>Try\n```python\nx = 1\n```\nGood?')
  'x = 1\n'
  """
  last = answer.rpartition(grading.THINK_END)[2]
  fences = _FENCE.findall(last)
  return fences[-1] if fences else last


def _disagreement(case: Case, value: Any) -> str:
  call = ', '.join(map(repr, case.args))
  text = f'{case.entry}({call}) is {value!r}'
  return text if len(text) < 200 else text[:200] + '…'


_Row = tuple[protocol.Problem, str, str, list[Case] | None]


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
  statements = _statements('\n'.join(tests))
  cases = None
  if not row.get('test_setup_code'):
    cases = _cases(statements, None)
  prompt = f'{row["text"]}\nFor example: {row["test_list"][0].strip()}\n'
  split = 'train' if row['task_id'] >= FIRST_TRAINING_ID else 'held_out'
  solution = row['code'].replace('\r\n', '\n')
  return protocol.Problem(name, prompt, solution), split, '', cases


def _read_humaneval(row: Mapping[str, Any], name: str) -> _Row:
  """The answer goes on where the prompt ends, in the body of a function.

  It may also be the whole function: the prompt's is complete, as it has a
  docstring, and is then defined anew.
  """
  checks = [
    node
    for node in _statements(row['test'])
    if isinstance(node, ast.FunctionDef) and node.name == 'check'
  ]
  cases = _cases(checks[0].body, row['entry_point']) if checks else None
  problem = protocol.Problem(name, row['prompt'], row['canonical_solution'])
  return problem, 'held_out', row['prompt'], cases


def _statements(code: str) -> list[ast.stmt]:
  try:
    return ast.parse(code).body
  except SyntaxError:
    return []


def _cases(
  statements: Sequence[ast.stmt], candidate: str | None
) -> list[Case] | None:
  """The asserts as cases; None if one is of another form, or there is none.

  Args:
    statements: the body of the tests.
    candidate: the function that the tests call `candidate`; None if they call
      one and the same function by its name.
  """
  cases = []
  for statement in statements:
    if ast.unparse(statement).startswith('assert True'):
      continue  # HumanEval has such
    try:
      cases.append(_case(statement))
    except (ValueError, TypeError, ArithmeticError):
      return None
  if candidate is not None:
    if {case.entry for case in cases} != {'candidate'}:
      return None
    cases = [dataclasses.replace(case, entry=candidate) for case in cases]
  return cases if len({case.entry for case in cases}) == 1 else None


def _case(statement: ast.stmt) -> Case:
  """One assert, of these forms; C is a constant and f(…) a call with such:

  f(…) == C, int(f(…)) == C and the like, f(…), not f(…), abs(f(…) - C) < C,
  math.isclose(f(…), C, rel_tol=C).
  """
  if not isinstance(statement, ast.Assert):
    raise ValueError(f'{ast.unparse(statement)} is no assert')
  match statement.test:
    case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
      return _call(left, _constant(right))
    case ast.Compare(
      left=ast.Call(
        func=ast.Name('abs'),
        args=[ast.BinOp(left=call, op=ast.Sub(), right=expected)],
      ),
      ops=[ast.Lt()],
      comparators=[tolerance],
    ):
      return _call(call, _constant(expected), float(_constant(tolerance)))
    case ast.Call(
      func=ast.Attribute(value=ast.Name('math'), attr='isclose'),
      args=[call, expected],
      keywords=keywords,
    ):
      options = {k.arg: float(_constant(k.value)) for k in keywords}
      right = _constant(expected)
      relative = options.get('rel_tol', 1e-9) * abs(right)
      return _call(call, right, max(relative, options.get('abs_tol', 0.0)))
    case ast.UnaryOp(op=ast.Not(), operand=call):
      return dataclasses.replace(_call(call, False), after='bool')
    case call:
      return dataclasses.replace(_call(call, True), after='bool')


def _call(
  node: ast.expr, expected: Any, tolerance: float | None = None
) -> Case:
  match node:
    case ast.Call(func=ast.Name(after), args=[ast.Call() as inner]) if (
      after in _AFTERWARDS
    ):
      return dataclasses.replace(_call(inner, expected, tolerance), after=after)
    case ast.Call(func=ast.Name(entry), args=args, keywords=keywords) if all(
      k.arg for k in keywords
    ):
      return Case(
        entry,
        tuple(_constant(argument) for argument in args),
        {str(k.arg): _constant(k.value) for k in keywords},
        expected,
        tolerance,
      )
  raise ValueError(f'{ast.unparse(node)} is no call of a function')


def _constant(node: ast.expr) -> Any:
  match node:
    case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
      return _ARITHMETIC[type(op)](_constant(left), _constant(right))
    case ast.Call(
      func=ast.Name('tuple' | 'set' | 'list' as kind), args=[inner]
    ):
      return _AFTERWARDS[kind](_constant(inner))
  return ast.literal_eval(node)
