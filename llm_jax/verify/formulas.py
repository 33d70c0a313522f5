r"""Formulas as a model writes them, in LaTeX or plainly, as sympy objects.

A parser of its own: sympy's parsers evaluate text as code and get none. It
knows numbers in any base, + - * / ^ and products without a sign, roots, |x|,
floors, factorials, a few functions, e, i and letters, matrices, tuples,
intervals, sets, lists, equations and inequalities. Units behind a value are
dropped. What else there is, such as a word, is refused, never guessed.

Sizes are limited, but what sympy does with a small formula may still take for
ever: formula_equality.py is run in a child process for that.
"""

import dataclasses
import fractions
import functools
import pathlib
import re
import tomllib
from typing import Any

import sympy

from llm_jax.verify import equality

MAX_LENGTH = 1000  # characters
_MAX_DEPTH = 40
_MAX_EXPONENT = 1000
_MAX_BITS = 10_000  # of a power of two numbers

_TOKEN = re.compile(
  r'(?P<skip>\s+|\$|\\[!,;:> ]|~|\\(?:quad|qquad)(?![a-zA-Z]))'
  r'|(?P<unit>\\(?:text|mathrm|mbox|textbf)\s*\{[^{}]*\}(?:\s*\^\{?[0-9]\}?)?)'
  r'|(?P<degree>\^\s*(?:\\circ|\{\s*\\circ\s*\})|\\degree(?![a-zA-Z]))'
  r'|(?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)'
  r'|(?P<word>[a-zA-Z]+)'
  r'|(?P<sign>\\(?:begin|end)\s*\{[a-z]+\}(?:\{[lcr|]*\})?'
  r'|\\\\(?:\[[^\]]{0,9}\])?|\\[a-zA-Z]+|\\[{}%]|[-+*/^(){}\[\]=<>,;:!|_%&])'
)
# At the top, where no comma separates a pair, three digits continue a number.
_GROUPED = re.compile(r'[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?(?![0-9,])')
# LaTeX takes one digit for \sqrt; plain writing means the number.
_ROOT = re.compile(r'(?:√|(?<![a-zA-Z\\])sqrt)\s*([0-9]*)')
_JOINED = re.compile(r'\\(?:text|mathrm|mbox)\s*\{\s*,?\s*(or|and)\s*,?\s*\}')
_LETTER = re.compile(
  r'\\(?:math(?:rm|it)\s*\{([ei])\}'
  r'|(?:mathbf|boldsymbol|vec|hat|overrightarrow|overline)'
  r'\s*\{?([a-zA-Z]{1,2})\b\}?)'
)
_UNITS = re.compile(
  '[ckm]m|in|inch(es)?|f(oo|ee)?t|yards?|mi|miles?|([ck]|cent|kilo)?met(er|re)s?'
  '|units?|degrees?|(second|minute|hour|day|week|month|year)s?|percent'
  '|(dollar|cent|pound|gram|kilogram|liter|point)s?|[km]?g|lbs?|ml'
)
_BASED = re.compile(
  r'(?:\\text\{)?([0-9][0-9A-Z]{0,30}|[A-Z][0-9A-Z]{0,30}(?=\}))\}?'
  r'_\s*\{?\(?(?:\\text\{)?([0-9]{1,2}|[a-z]{3,7})\}?\)?\}?'
)
_FUNCTIONS = {
  'sin': sympy.sin, 'cos': sympy.cos, 'tan': sympy.tan, 'cot': sympy.cot,
  'sec': sympy.sec, 'csc': sympy.csc, 'arcsin': sympy.asin,
  'arccos': sympy.acos, 'arctan': sympy.atan, 'ln': sympy.log,
  'log': sympy.log, 'exp': sympy.exp,
}  # fmt: skip
_CONSTANTS = {'e': sympy.E, 'i': sympy.I, '\\pi': sympy.pi, '\\infty': sympy.oo}
_SETS = ('\\cup', '\\cap', '\\setminus')
MIRRORED = {'>': '<', '\\ge': '\\le', '<': '>', '\\le': '\\ge'}
_RELATIONS = ('=', '\\ne', '\\in', ':', *MIRRORED)
_CLOSING = {
  '(': ')', '[': ']', '{': '}', '\\{': '\\}', '|': '|', '\\lfloor': '\\rfloor',
  '\\lceil': '\\rceil',
}  # fmt: skip
_UNARY = {'|': sympy.Abs, '\\lfloor': sympy.floor, '\\lceil': sympy.ceiling}


@dataclasses.dataclass(frozen=True)
class Group:
  """Several values, or two sides: what is no expression."""

  kind: str  # 'set', 'or', 'base', brackets such as '(]', \cup, a relation
  items: tuple[Any, ...]  # sympy expressions or groups


@functools.cache
def _spellings(kind: str) -> dict[str, Any]:
  """A table of formulas.toml."""
  path = pathlib.Path(__file__).with_suffix('.toml')
  return tomllib.loads(path.read_text('utf-8'))[kind]


def parse(text: str) -> Any:
  r"""Read one answer.

  >>> parse(r'x = \frac{\sqrt{12}}{2}')
  Group(kind='=', items=(x, sqrt(3)))
  >>> parse('1 < x \\le 2y')
  Group(kind='\\in', items=(x, Group(kind='(]', items=(1, 2*y))))

  Args:
    text: anything.

  Returns:
    An expression of real symbols, or a matrix of such; or a group: tuples and
    intervals by their brackets, sets and lists without order, equations and
    inequalities.

  Raises:
    ValueError: if it is too long, too deep, too large or not understood.
  """
  if len(text) > MAX_LENGTH:
    raise ValueError(f'{len(text)} characters are more than {MAX_LENGTH}')
  text = equality.undressed(text)
  if based := _BASED.fullmatch(text.strip(' $')):
    digits, base = based.groups()
    radix = _spellings('bases').get(base) or int(base)
    return Group('base', (sympy.Integer(int(digits, radix)), radix))
  tokens = _tokens(text)
  try:
    if not {'\\pm', '\\mp'} & {*tokens}:
      return _Parser(tokens).answer()
    both = [
      _Parser([signs.get(token, token) for token in tokens]).answer()
      for signs in ({'\\pm': '+', '\\mp': '-'}, {'\\pm': '-', '\\mp': '+'})
    ]
  except (TypeError, sympy.ShapeError) as error:  # such as a matrix plus 1
    raise ValueError(f'it cannot be computed: {error}') from error
  return Group('set', tuple(both))


def _tokens(text: str) -> list[str]:
  text = _JOINED.sub(r' \1 ', text)
  text = _LETTER.sub(r' \1\2 ', text)
  text = _ROOT.sub(lambda m: f'\\sqrt{{{m[1]}}}' if m[1] else '\\sqrt ', text)
  for old, new in _spellings('signs').items():
    text = text.replace(old, f'{new} ' if new[0] == '\\' else new)
  tokens: list[str] = []
  depth = position = 0
  while position < len(text):
    match = None if depth else _GROUPED.match(text, position)
    match = match or _TOKEN.match(text, position)
    if match is None:
      raise ValueError(f'{text[position : position + 20]!r} is not understood')
    position, kind, token = match.end(), match.lastgroup, match[0]
    if kind is None or kind == 'number':
      tokens.append(token.replace(',', ''))
    elif kind == 'word':
      tokens += _word(token, is_last=not text[position:].strip(' $'))
    elif kind == 'unit':
      if not tokens or equality.NO_UNIT.search(token):
        raise ValueError(f'{token[:20]!r} is no formula')
    elif kind == 'degree':
      tokens.append('\\degree')
    elif kind == 'sign':
      token = _spellings('tokens').get(token, token)
      depth += token in ('(', '[', '{', '\\{')
      depth -= token in (')', ']', '}', '\\}')
      tokens.append(token)
  return tokens


def _word(word: str, is_last: bool) -> list[str]:
  if word in ('or', 'and'):
    return [word]
  if len(word) > 1 and is_last and _UNITS.fullmatch(word):
    return []
  if word in _FUNCTIONS or word == 'pi':
    return ['\\' + word]
  if len(word) > 2:
    raise ValueError(f'{word[:20]!r} is a word')
  return list(word)


class _Parser:
  """Descends into one list of tokens, which it counts off."""

  def __init__(self, tokens: list[str]):
    self._tokens = [*tokens, '']
    self._at = self._depth = self._in_function = 0

  @property
  def _next(self) -> str:
    return self._tokens[self._at]

  def _take(self, *wanted: str) -> str:
    """The next token, if it is wanted; '' otherwise."""
    token = self._next
    if token and (not wanted or token in wanted):
      self._at += 1
      return token
    return ''

  def _need(self, token: str):
    if not self._take(token):
      raise ValueError(f'{self._next!r} stands where {token!r} is needed')

  def answer(self) -> Any:
    """All tokens as one value."""
    items, joints = self._list()
    if self._next:
      raise ValueError(f'{self._next[:20]!r} is out of place')
    if len(items) == 1:
      return items[0]
    return Group('or' if {*joints} == {'or'} else 'set', tuple(items))

  def _list(self) -> tuple[list[Any], list[str]]:
    """What commas and words separate, and these."""
    items, joints = [self._relation()], []
    while joint := self._take(',', 'or', 'and'):
      while self._take('or', 'and'):
        pass
      joints.append(joint)
      items.append(self._relation())
    return items, joints

  def _relation(self) -> Any:
    """A chain of equations is its first and last side."""
    sides, signs = [self._union()], []
    while sign := self._take(*_RELATIONS):
      signs.append(sign)
      sides.append(self._union())
    if not signs:
      return sides[0]
    if set(signs) == {':'}:
      first = _expression(sides[0])
      return Group(
        ':', tuple(_divide(_expression(side), first) for side in sides[1:])
      )
    if set(signs) == {'='}:
      return Group('=', (sides[0], sides[-1]))
    if len(signs) == 1:
      return Group(signs[0], (sides[0], sides[1]))
    if signs[0] in ('>', '\\ge'):  # 3 > x > 1
      sides.reverse()
      signs = [MIRRORED.get(sign, '') for sign in reversed(signs)]
    if len(signs) != 2 or {*signs} - {'<', '\\le'} or not sides[1].is_Symbol:
      raise ValueError('a chain of inequalities is not understood')
    kind = ('(' if signs[0] == '<' else '[') + (')' if signs[1] == '<' else ']')
    return Group('\\in', (sides[1], Group(kind, (sides[0], sides[2]))))

  def _union(self) -> Any:
    items, kind = [self._sum()], ''
    while sign := self._take(*_SETS):
      if kind not in ('', sign):
        raise ValueError(f'{kind!r} and {sign!r} are out of place')
      kind = sign
      items.append(self._sum())
    return Group(kind, tuple(items)) if kind else items[0]

  def _sum(self) -> Any:
    value = self._product()
    while sign := self._take('+', '-'):
      term = _expression(self._product())
      value = _expression(value) + (term if sign == '+' else -term)
    return value if isinstance(value, Group) else _expression(value)

  def _product(self) -> Any:
    value = self._signed()
    while True:
      if sign := self._take('*', '/'):
        factor = _expression(self._signed())
        value = _expression(value)
        value = value * factor if sign == '*' else _divide(value, factor)
      elif self._starts_atom():
        value = _expression(value) * _expression(self._power())
      else:
        return value

  def _starts_atom(self) -> bool:
    token = self._next
    return bool(token) and (
      (token[0].isalpha() and len(token) == 1)
      or token in ('(', '{', '\\frac', '\\sqrt', '\\pi', '\\binom', '\\lfloor')
      or token.startswith('\\begin')
      or token[1:] in _FUNCTIONS
      or token in _spellings('greek')
    )

  def _signed(self) -> Any:
    is_negative = False
    while sign := self._take('+', '-'):
      is_negative ^= sign == '-'
    value = self._power()
    return -_expression(value) if is_negative else value

  def _power(self) -> Any:
    value = self._atom()
    if self._take('^'):
      value = _power(_expression(value), self._argument(signed=True))
    while sign := self._take('%', '!', '\\degree'):
      if sign == '%':
        value = _expression(value) / 100
      elif sign == '!':
        value = sympy.factorial(_small(_expression(value)))
      elif self._in_function:
        value = _expression(value) * sympy.pi / 180
    return value

  def _argument(self, signed: bool = False) -> sympy.Expr:
    r"""What stands behind \frac or ^: braces, or one digit, letter or power."""
    self._enter()
    if signed:
      is_negative = self._take('-')
      value = _expression(self._power())
      value = -value if is_negative else value
    else:
      if self._next[:1].isdigit() and self._next[1:]:  # \frac12
        first, rest = self._next[0], self._next[1:]
        self._tokens[self._at : self._at + 1] = [first, rest]
      value = self._atom()
    self._depth -= 1
    return _expression(value)

  def _enter(self):
    self._depth += 1
    if self._depth > _MAX_DEPTH:
      raise ValueError(f'it is nested more than {_MAX_DEPTH} deep')

  def _atom(self) -> Any:
    token = self._take()
    name = token.removeprefix('\\')
    if token[:1].isdigit() or token[:1] == '.':
      return self._number(token)
    if token in _CLOSING or token.startswith('\\begin'):
      self._enter()
      is_matrix = token not in _CLOSING
      value = self._matrix(token) if is_matrix else self._bracket(token)
      self._depth -= 1
      return value
    if token == '\\frac':
      return _divide(self._argument(), self._argument())
    if token == '\\binom':
      return sympy.binomial(_small(self._argument()), _small(self._argument()))
    if token == '\\sqrt':
      index = sympy.Integer(2)
      if self._take('['):
        index = _expression(self._sum())
        self._need(']')
      return _power(self._argument(), _divide(sympy.Integer(1), index))
    if token == '\\emptyset':
      return Group('set', ())
    if token == '\\mathbb':
      letter = self._argument()
      is_real = str(letter) == 'R'
      return Group('()', (-sympy.oo, sympy.oo)) if is_real else letter
    if token in _CONSTANTS and self._next != '_':
      return _CONSTANTS[token]
    if token[:1] == '\\' and name in _FUNCTIONS:
      return self._function(name)
    if (len(token) == 1 and token.isalpha()) or token in _spellings('greek'):
      return sympy.Symbol(name + self._subscript(), real=True)
    raise ValueError(f'{token[:20] or "the end"!r} is out of place')

  def _number(self, token: str) -> sympy.Expr:
    exact = fractions.Fraction(token)
    value = sympy.Rational(exact.numerator, exact.denominator)
    if self._next == '\\frac' and '.' not in token:  # 1\frac{3}{4}
      part = self._argument()
      return value + part if part.is_Rational else value * part
    return value

  def _subscript(self) -> str:
    if not self._take('_'):
      return ''
    in_braces, name = self._take('{'), ''
    while self._next.isalnum() and (in_braces or not name):
      name += self._take()
    if in_braces:
      self._need('}')
    if not name:
      raise ValueError('a subscript is not understood')
    return f'_{name}'

  def _function(self, name: str) -> sympy.Expr:
    base, exponent = sympy.Integer(10) if name == 'log' else None, None
    if name == 'log' and self._take('_'):
      base = self._argument()
    if self._take('^'):
      exponent = self._argument(signed=True)
    self._enter()
    self._in_function += 1
    argument = _expression(self._power())
    while self._starts_atom() and self._next[1:] not in _FUNCTIONS:
      if self._tokens[self._at - 1] in (')', '}'):
        break
      argument *= _expression(self._power())
    self._in_function -= 1
    self._depth -= 1
    if name in ('ln', 'log') and argument.is_zero:
      raise ValueError('a logarithm of zero')
    value = _FUNCTIONS[name](argument)
    if base is not None:
      value = _divide(value, sympy.log(base))
    return value if exponent is None else _power(value, exponent)

  def _bracket(self, opening: str) -> Any:
    if opening == '\\{' and self._take('\\}'):
      return Group('set', ())
    items, _ = self._list()
    if opening == '{' and (sign := self._take('\\over', '\\choose')):
      top, bottom = _expression(items[0]), _expression(self._sum())
      self._need('}')
      if sign == '\\over':
        return _divide(top, bottom)
      return sympy.binomial(_small(top), _small(bottom))
    closing = self._take(_CLOSING[opening], *')]' if opening in '([' else '')
    if not closing:
      raise ValueError(f'{opening!r} is not closed')
    if opening == '\\{':
      return Group('set', tuple(items))
    if len(items) == 1 and _CLOSING[opening] == closing:
      if opening in '([{' and isinstance(items[0], Group):
        return items[0]
      return _UNARY.get(opening, _expression)(_expression(items[0]))
    if opening not in '([':
      raise ValueError('a comma is out of place')
    return Group(opening + closing, tuple(items))

  def _matrix(self, opening: str) -> sympy.ImmutableMatrix:
    if 'matrix' not in opening and 'array' not in opening:
      raise ValueError(f'{opening!r} is not understood')
    rows = [[_expression(self._sum())]]
    while not self._next.startswith('\\end'):
      if self._take('&'):
        rows[-1].append(_expression(self._sum()))
      elif self._next.startswith('\\\\') and self._take():
        if not self._next.startswith('\\end'):
          rows.append([_expression(self._sum())])
      else:
        raise ValueError(f'{self._next!r} is out of place')
    self._take()
    if len({len(row) for row in rows}) > 1:
      raise ValueError('rows have unequal lengths')
    return sympy.ImmutableMatrix(rows)


def _expression(value: Any) -> Any:
  """The value, if it can be computed with."""
  if isinstance(value, Group):
    raise ValueError(f'{value.kind!r} cannot be part of an expression')
  if value.has(sympy.nan, sympy.zoo):
    raise ValueError('a value is not finite')
  return value


def _small(value: Any) -> Any:
  if value.is_number and not abs(value) <= _MAX_EXPONENT:
    raise ValueError(f'a number of choices is larger than {_MAX_EXPONENT}')
  return value


def _divide(top: Any, bottom: Any) -> Any:
  if bottom.is_zero:
    raise ValueError('a division by zero')
  return top / bottom


def _power(base: Any, exponent: sympy.Expr) -> Any:
  if isinstance(base, sympy.MatrixBase):
    raise ValueError('a power of a matrix is not understood')
  if isinstance(exponent, sympy.Rational):
    size = abs(exponent)
    if size > _MAX_EXPONENT or exponent.q > _MAX_EXPONENT:
      raise ValueError(f'an exponent is larger than {_MAX_EXPONENT}')
    if isinstance(base, sympy.Rational):
      n_bits = max(abs(base.p), base.q).bit_length() * size
      if n_bits > _MAX_BITS:
        raise ValueError(f'a power has more than {_MAX_BITS} bits')
    if exponent < 0 and base.is_zero:
      raise ValueError('a division by zero')
  return base**exponent
