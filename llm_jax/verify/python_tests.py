"""Judges Python functions by asserts, in a sandbox.

Asserts are read, never executed: each becomes a call for the sandbox and an
expected value that stays here. Style and speed are not judged.
"""

import ast
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llm_jax.verify import arithmetic, code_blocks, grading
from llm_jax.verify.sandbox import sandbox

# What an assert may do with the value before it compares it.
_AFTERWARDS: Mapping[str, Callable[[Any], Any]] = {
  after.__name__: after for after in (bool, int, len, list, set, sorted, tuple)
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


def score(
  answer: str, start: str, tests: Sequence[Case], box: sandbox.Sandbox
) -> grading.Score:
  """Execute an answer, and compare each value that it returns out here.

  Args:
    answer: anything a model wrote.
    start: the beginning of a module, which it may go on from or repeat.
    tests: of one function.
    box: where the answer runs.

  Returns:
    Correct if every call returns what it must.
  """
  code = code_blocks.program(answer, tests[0].entry, start)
  if code is None:
    return grading.Score(False, 'the thought does not end')
  if len(code) - len(start) > code_blocks.MAX_CHARS:
    reason = f'the code has more than {code_blocks.MAX_CHARS} characters'
    return grading.Score(False, reason)
  calls = [(case.args, case.kwargs) for case in tests]
  done = box.run(code, tests[0].entry, calls)
  for case, value in zip(tests, done.values, strict=False):
    if not case.accepts(value):
      return grading.Score(False, _disagreement(case, value))
  if done.error:
    return grading.Score(False, done.error)
  if len(done.values) != len(tests):
    return grading.Score(False, f'{len(done.values)} values came back')
  return grading.Score(True, f'{len(tests)} calls are right')


def cases(code: str, candidate: str | None = None) -> list[Case] | None:
  """The asserts of a test as cases; None if one is of another form, or none is.

  Args:
    code: asserts; with a candidate, a module with a function `check` of such.
    candidate: the function that `check` calls `candidate`; None if the asserts
      call one and the same function by its name.
  """
  try:
    statements = ast.parse(code).body
  except SyntaxError:
    return None
  if candidate is not None:
    checks = [s for s in statements if getattr(s, 'name', '') == 'check']
    statements = getattr(checks[0], 'body', []) if checks else []
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
        args=tuple(map(_constant, args)),
        kwargs={str(k.arg): _constant(k.value) for k in keywords},
        expected=expected,
        tolerance=tolerance,
      )
  raise ValueError(f'{ast.unparse(node)} is no call of a function')


def _constant(node: ast.expr) -> Any:
  match node:
    case ast.BinOp(left=left, op=op, right=right) if (
      type(op) in arithmetic.APPLY
    ):
      return arithmetic.APPLY[type(op)](_constant(left), _constant(right))
    case ast.Call(
      func=ast.Name('tuple' | 'set' | 'list' as kind), args=[inner]
    ):
      return _AFTERWARDS[kind](_constant(inner))
  return ast.literal_eval(node)


def _disagreement(case: Case, value: Any) -> str:
  call = ', '.join(map(repr, case.args))
  text = f'{case.entry}({call}) is {value!r}'
  return text if len(text) < 200 else text[:200] + '…'
