"""The value of a sum such as (25-5)*3, exactly.

It knows numbers, + - * / and parentheses; no signs, powers or names. Python
parses the text, which is short, with x in place of each number; nothing ever
evaluates it as code.
"""

import ast
import fractions
import operator
import re
from collections.abc import Iterator

MAX_LENGTH = 200  # characters
_NUMBER = re.compile(r'[0-9]{1,12}(?:\.[0-9]{1,12})?|\.[0-9]{1,12}')
APPLY = {
  ast.Add: operator.add,
  ast.Sub: operator.sub,
  ast.Mult: operator.mul,
  ast.Div: operator.truediv,
}


def evaluate(text: str) -> tuple[fractions.Fraction, list[fractions.Fraction]]:
  """Evaluate a sum, and list its numbers in their order.

  >>> value, numbers = evaluate('(25-5) * 3')
  >>> int(value), [int(number) for number in numbers]
  (60, [25, 5, 3])

  Args:
    text: anything.

  Returns:
    The value and the numbers.

  Raises:
    ValueError: if the text is no sum, is too long, or divides by zero.
  """
  text = text.strip()
  if len(text) > MAX_LENGTH:
    raise ValueError(f'{len(text)} characters are more than {MAX_LENGTH}')
  numbers = [fractions.Fraction(number) for number in _NUMBER.findall(text)]
  try:
    if not re.fullmatch(r'[-+*/().0-9\s]+', text):
      raise SyntaxError
    tree = ast.parse(' '.join(_NUMBER.sub('x', text).split()), mode='eval')
    return _value(tree.body, iter(numbers)), numbers
  except SyntaxError:
    raise ValueError(f'{text[:40]!r} is no sum') from None
  except ZeroDivisionError:
    raise ValueError('a division by zero') from None


def _value(
  node: ast.expr, numbers: Iterator[fractions.Fraction]
) -> fractions.Fraction:
  match node:
    case ast.Name('x'):
      return next(numbers)
    case ast.BinOp(left, op, right) if type(op) in APPLY:
      return APPLY[type(op)](_value(left, numbers), _value(right, numbers))
  raise SyntaxError
