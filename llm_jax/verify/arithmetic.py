"""The value of a sum such as (25-5)*3, exactly, with a parser of its own.

It knows numbers, + - * / and parentheses; no signs, powers or names. It never
evaluates text as code, and its time is linear in a text of limited length.
"""

import fractions
import operator
import re

MAX_LENGTH = 200  # characters
_TOKEN = re.compile(
  r'\s*([0-9]{1,12}(?:\.[0-9]{1,12})?|\.[0-9]{1,12}|[-+*/()])'
)
_RANK = {')': 0, '+': 1, '-': 1, '*': 2, '/': 2}
_APPLY = {
  '+': operator.add,
  '-': operator.sub,
  '*': operator.mul,
  '/': operator.truediv,
}


def evaluate(text: str) -> tuple[fractions.Fraction, list[fractions.Fraction]]:
  """Evaluate a sum, and list its numbers in their order.

  >>> value, numbers = evaluate('(25-5) * 3')
  >>> int(value), [int(number) for number in numbers]
  (60, [25, 5, 3])

  Two stacks instead of recursion: what a model wrote may nest deeply.

  Args:
    text: anything.

  Returns:
    The value and the numbers.

  Raises:
    ValueError: if the text is no sum, is too long, or divides by zero.
  """
  values: list[fractions.Fraction] = []
  numbers: list[fractions.Fraction] = []
  operators, wants_value = ['('], True
  for token in [*_tokens(text), ')']:
    if not operators:
      raise ValueError(f'{text[:40]!r} closes what was not opened')
    if wants_value != (token == '(' or token[-1].isdigit()):
      raise ValueError(f'{text[:40]!r} is no sum: {token!r} is out of place')
    if token == '(':
      operators.append(token)
    elif wants_value:
      values.append(fractions.Fraction(token))
      numbers.append(values[-1])
      wants_value = False
    else:
      while operators[-1] != '(' and _RANK[operators[-1]] >= _RANK[token]:
        right, left = values.pop(), values.pop()
        try:
          values.append(_APPLY[operators.pop()](left, right))
        except ZeroDivisionError:
          raise ValueError('a division by zero') from None
      if token == ')':
        operators.pop()
      else:
        operators.append(token)
        wants_value = True
  if operators:
    raise ValueError(f'{text[:40]!r} opens what it does not close')
  return values[0], numbers


def _tokens(text: str) -> list[str]:
  text = text.strip()
  if len(text) > MAX_LENGTH:
    raise ValueError(f'{len(text)} characters are more than {MAX_LENGTH}')
  tokens, position = [], 0
  while position < len(text):
    match = _TOKEN.match(text, position)
    if not match:
      raise ValueError(f'{text[position : position + 40]!r} is no sum')
    tokens.append(match[1])
    position = match.end()
  return tokens
