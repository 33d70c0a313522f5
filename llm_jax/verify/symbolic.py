r"""Whether two formulas are equal, by sympy: \sqrt{12} is 2\sqrt{3}.

The code of a child process that symbolic_pool.py starts, because a small
formula can keep sympy busy for ever. It does NOT ask whether an answer is as
simple as the question wanted: x^2-1 equals (x-1)(x+1).
"""

import json
import resource
import signal
import sys
from multiprocessing import connection
from typing import Any

import sympy
from sympy.core import random as sympy_random

from llm_jax.verify import expressions

_MIRRORED = {'>': '<', '\\ge': '\\le'}


def difference(answer: str, reference: str) -> str:
  """Why an answer does not equal the reference; '' if it does.

  Args:
    answer: anything a model wrote.
    reference: the right answer.

  Raises:
    ValueError: if one of them cannot be read.
  """
  sympy_random.seed(0)  # sympy tries random points; the same ones each time
  value, right = expressions.parse(answer), expressions.parse(reference)
  if _equal(value, right):
    return ''
  return f'{answer[:40]!r} is not {reference[:40]!r}'


def _equal(a: Any, b: Any) -> bool:
  a, b = _without_name(a, b), _without_name(b, a)
  if not isinstance(a, expressions.Group):
    return not isinstance(b, expressions.Group) and _same(a, b)
  if not isinstance(b, expressions.Group):
    return False
  if a.kind in ('=', '<', '>', '\\le', '\\ge', '\\ne'):
    return _same_relation(a, b)
  if a.kind != b.kind or len(a.items) != len(b.items):
    return False
  if a.kind not in ('set', 'cup'):
    return all(map(_equal, a.items, b.items))
  left = list(b.items)
  for item in a.items:
    match = next((k for k, other in enumerate(left) if _equal(item, other)), -1)
    if match < 0:
      return False
    del left[match]
  return True


def _without_name(value: Any, other: Any) -> Any:
  """The right side of x = 5 or f(x) = 5, if the other has no name."""
  if not isinstance(value, expressions.Group) or value.kind != '=':
    return value
  if isinstance(other, expressions.Group) and other.kind == '=':
    return value
  name, right = value.items
  is_name = not isinstance(name, expressions.Group) and all(
    factor.is_Symbol for factor in sympy.Mul.make_args(name)
  )
  return right if is_name else value


def _same(a: sympy.Expr, b: sympy.Expr) -> bool:
  if a == b:
    return True
  gap = sympy.expand(a - b)
  return gap == 0 or gap.equals(0) is True


def _same_relation(a: expressions.Group, b: expressions.Group) -> bool:
  """Whether both say the same: one side may be moved, or both multiplied."""
  sides_a, kind_a = _as_gap(a)
  sides_b, kind_b = _as_gap(b)
  if kind_a != kind_b or sides_a is None or sides_b is None:
    return False
  ratio = sympy.simplify(sides_a / sides_b)
  if not ratio.is_number:
    return False
  return bool(ratio.is_positive or kind_a in ('=', '\\ne'))


def _as_gap(relation: expressions.Group) -> tuple[sympy.Expr | None, str]:
  """One side minus the other, as < or <=; None if that is no formula."""
  left, right = relation.items
  if relation.kind in _MIRRORED:
    left, right = right, left
  kind = _MIRRORED.get(relation.kind, relation.kind)
  if any(isinstance(side, expressions.Group) for side in (left, right)):
    return None, kind
  gap = sympy.expand(left - right)
  return (gap if gap.free_symbols else None), kind


def serve(fd: int, cpu_s: float, memory_bytes: int):
  """Answers pairs of texts until the other end of a pipe is closed.

  Args:
    fd: of the pipe. A request is JSON: an answer and a reference. The answer
      is 'equal' or 'unequal' or 'unreadable', and a reason.
    cpu_s: seconds of computing for a request; then the kernel ends this
      process. CPU seconds, so that a loaded machine gives no other verdict.
    memory_bytes: address space.
  """
  if sys.platform == 'linux':
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
  pipe = connection.Connection(fd)
  pipe.send_bytes(b'ready')
  while True:
    try:
      answer, reference = json.loads(pipe.recv_bytes())
    except EOFError:
      return
    # The default action of SIGPROF ends the process inside native code too.
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    try:
      reason = difference(answer, reference)
      verdict = 'unequal' if reason else 'equal'
    except ValueError as error:
      verdict, reason = 'unreadable', str(error)
    except Exception as error:  # sympy's own, on what it cannot do
      verdict, reason = 'unequal', f'{type(error).__name__} in sympy'
    signal.setitimer(signal.ITIMER_PROF, 0)
    pipe.send_bytes(json.dumps([verdict, reason]).encode())
