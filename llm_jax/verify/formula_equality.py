r"""Whether two formulas are equal, by sympy: \sqrt{12} is 2\sqrt{3}.

The code of a child process that formula_pool.py starts, because a small formula
can keep sympy busy for ever. Whether an answer is as simple as the question
wanted is not asked: x^2-1 equals (x-1)(x+1).
"""

import json
import resource
import signal
import sys
from multiprocessing import connection
from typing import Any

import sympy
from sympy.core import random as sympy_random

from llm_jax.verify import formulas


def difference(answer: str, reference: str) -> str:
  """Why an answer does not equal the reference; '' if it does.

  Args:
    answer: anything a model wrote.
    reference: the right answer.

  Raises:
    ValueError: if one of them cannot be read.
  """
  sympy_random.seed(0)  # sympy tries random points; the same ones each time
  if _equal(formulas.parse(answer), formulas.parse(reference)):
    return ''
  return f'{answer[:40]!r} is not {reference[:40]!r}'


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


def _equal(a: Any, b: Any) -> bool:
  a, b = _canonical(a), _canonical(b)
  a, b = _without_name(a, b), _without_name(b, a)
  if not isinstance(a, formulas.Group) and not isinstance(b, formulas.Group):
    return _same(a, b)
  if not isinstance(a, formulas.Group):
    a, b = b, a
  if not isinstance(b, formulas.Group):
    # Of one element, of two parts, or in the base that the question names.
    match a:
      case formulas.Group('base', (value, base)):
        return str(b) == _digits(value, base)
      case formulas.Group('set', (item,)):
        return _same(item, b)
      case formulas.Group(':', (ratio,)):
        return _same(1 / ratio, b)
    return False
  if a.kind in ('=', '<', '\\le', '\\ne') and a.kind == b.kind:
    return _same_relation(a, b)
  if a.kind == 'base':
    return a == b
  if a.kind != b.kind or len(a.items) != len(b.items):
    return False
  if a.kind not in ('set', '\\cup', '\\cap'):
    return all(map(_equal, a.items, b.items))
  left = list(b.items)
  for item in a.items:
    match = next((k for k, other in enumerate(left) if _equal(item, other)), -1)
    if match < 0:
      return False
    del left[match]
  return True


def _digits(value: int, base: int) -> str:
  digits = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ'
  return ''.join(digits[n] for n in sympy.ntheory.digits(int(value), base)[1:])


def _is_name(value: Any) -> bool:
  """Whether it is x, f(x) or (x, y)."""
  if isinstance(value, formulas.Group):
    return value.kind == '()' and all(map(_is_name, value.items))
  return all(getattr(f, 'is_Symbol', 0) for f in sympy.Mul.make_args(value))


def _canonical(value: Any) -> Any:
  r"""One of the forms in which the same can be written.

  That is x \in (5, \infty) for 2x > 10, a union of ranges for x < 1 or x > 2,
  and (x, y) = (3, 4) for the list y = 4, x = 3.
  """
  if not isinstance(value, formulas.Group):
    return value
  if value.kind in formulas.MIRRORED:
    return _range(value.kind, *value.items)
  if value.kind not in ('set', 'or'):
    return value
  items = [
    item if _kind(item) == '=' else _canonical(item) for item in value.items
  ]
  names = {item.items[0] for item in items if _kind(item) in ('=', '\\in')}
  if value.kind == 'or' and all(_kind(item) == '\\in' for item in items):
    if len(names) == 1:
      ranges = tuple(item.items[1] for item in items)
      return formulas.Group('\\in', (*names, formulas.Group('\\cup', ranges)))
  if all(_kind(item) == '=' for item in items) and all(map(_is_name, names)):
    if len(names) == len(items) > 1:
      sides = sorted((item.items for item in items), key=lambda s: str(s[0]))
      columns = zip(*sides, strict=True)
      return formulas.Group(
        '=', tuple(formulas.Group('()', column) for column in columns)
      )
  return formulas.Group('set', tuple(items))


def _kind(value: Any) -> str:
  return value.kind if isinstance(value, formulas.Group) else ''


def _range(sign: str, left: Any, right: Any) -> Any:
  """The range of what is linear in one symbol; others as < or <=."""
  if _kind(left) or _kind(right):
    return formulas.Group(sign, (left, right))
  gap = sympy.expand(left - right)
  if len(gap.free_symbols) == 1 and gap.is_polynomial():
    (x,) = gap.free_symbols
    slope = gap.coeff(x, 1)
    if sympy.degree(gap, x) == 1 and slope.is_number and slope.is_nonzero:
      bound = (slope * x - gap) / slope
      if slope.is_negative:
        sign = formulas.MIRRORED[sign]
      ends = {'>': '()', '\\ge': '[)', '<': '()', '\\le': '(]'}[sign]
      is_above = sign in ('>', '\\ge')
      both = (bound, sympy.oo) if is_above else (-sympy.oo, bound)
      return formulas.Group('\\in', (x, formulas.Group(ends, both)))
  if sign in ('>', '\\ge'):
    sign, left, right = formulas.MIRRORED[sign], right, left
  return formulas.Group(sign, (left, right))


def _without_name(value: Any, other: Any) -> Any:
  r"""The right side of x = 5 or x \in A, if the other has no name."""
  named = ('=', '\\in')
  if _kind(value) not in named:
    return value
  if _kind(other) in (*named, '\\ne'):
    return value
  name, right = value.items
  return right if _is_name(name) else value


def _same(a: Any, b: Any) -> bool:
  if a == b:
    return True
  if hasattr(a, 'shape') or hasattr(b, 'shape'):
    is_shape = getattr(a, 'shape', 0) == getattr(b, 'shape', 1)
    return is_shape and all(map(_same, a.flat(), b.flat()))
  gap = sympy.expand(sympy.expand_func(a - b))
  return gap == 0 or gap.equals(0) is True


def _same_relation(a: formulas.Group, b: formulas.Group) -> bool:
  """Whether both say the same: one side may be moved, or both multiplied."""
  if any(isinstance(side, formulas.Group) for side in (*a.items, *b.items)):
    return all(map(_equal, a.items, b.items))
  gaps = [sympy.expand(left - right) for left, right in (a.items, b.items)]
  if not all(gap.free_symbols for gap in gaps):
    return False
  ratio = sympy.simplify(gaps[0] / gaps[1])
  is_unsigned = a.kind in ('=', '\\ne')
  return bool(ratio.is_number and (ratio.is_positive or is_unsigned))
