r"""Formulas, by hand and by numbers; and hostile text.

What is equal was worked out by hand. Values of random formulas are also
computed in floating point, from the tree that the text was written from.
"""

import math
import pathlib
import random

import pytest
import sympy

from llm_jax.verify import formula_equality, formulas


def pairs(name):
  """Sign, left and right of each line `a  ==  b` or `a  !=  b` of a file."""
  text = (pathlib.Path(__file__).parent / name).read_text('utf-8')
  return [
    (sign, *line.split(f'  {sign}  '))
    for line in text.splitlines()
    for sign in ('==', '!=')
    if f'  {sign}  ' in line
  ]


PAIRS = pairs('formulas.txt')
# What the parser must refuse, and why.
REFUSED = {
  'the end': ['', '1 +', r'\frac{1}', r'\frac{1}{', r'\sqrt', r'\sin'],
  'is a word': ['two', '__import__("os")', 'lambda: 1', 'open(1)'],
  'is not understood|is a word|out of place': ['().__class__'],
  'is not understood': ['x.y', '"x"', '٥', '５', 'x²', '\ud800', '\0',
                        r'\begin{cases} 1 \end{cases}'],
  'out of place': ['5 5', '1.2.3', 'x 2', '* 2', '1)', r'\input{x}',
                   r'\begin{pmatrix} 1 , 2 \end{pmatrix}', r'1 \cup 2 \cap 3'],
  'is not closed': ['(1', '(1}'],
  'is no formula': [r'\text{Monday}', r'5 \text{ million}'],
  'a comma is out of place': [r'{1,2}', '|1,2|'],
  'a subscript': ['x_'],
  'a chain': ['1 < x > 2', '1 < 2x < 4', '1 = x < 2', '1 < x < 2 < y'],
  'cannot be part': [r'(1,2) + 1', '(x = 1) + 1'],
  'cannot be computed': [r'\begin{pmatrix} 1 & 2 \end{pmatrix} + 1',
    r'\begin{pmatrix} 1 \end{pmatrix} + \begin{pmatrix} 1 & 2 \end{pmatrix}'],
  'unequal lengths': [r'\begin{pmatrix} 1 & 2 \\ 3 \end{pmatrix}'],
  'a power of a matrix': [r'\begin{pmatrix} 1 \end{pmatrix}^9'],
  'a division by zero': ['1/0', '0^{-1}', r'\frac{x}{1-1}', r'\sqrt[0]{2}',
                         r'\log_1 2'],
  'a logarithm of zero': [r'\ln 0'],
  'is not finite': [r'\infty - \infty', r'0 \cdot \infty'],
  'an exponent is larger': ['9**9**9', '9^{9^{9^9}}', '0.5^{999999}',
                            r'\sqrt[99999]{2}'],
  'more than 10000 bits': ['((9^999)^999)^999'],
  'of choices is larger': ['9999!', '9!!!', r'\binom{9999}{2}'],
  'more than 40 deep': ['(' * 400 + '1' + ')' * 400, '(' * 999, r'\frac' * 150,
                        r'\sqrt' * 150, 'x^' * 400 + 'x', r'\sin' * 200 + 'x',
                        '|' * 500, r'\begin{matrix}' * 60],
  '1001 characters are more': ['1' * 1001],
  '1000000 characters are more': ['1' * 1_000_000],
}  # fmt: skip
HOSTILE = [text for texts in REFUSED.values() for text in texts]


@pytest.mark.parametrize(('sign', 'answer', 'reference'), PAIRS)
def test_pairs(sign, answer, reference):
  there = formula_equality.difference(answer, reference)
  back = formula_equality.difference(reference, answer)
  if sign == '==':
    assert there == back == ''
  else:
    assert ' is not ' in there
    assert ' is not ' in back
    assert formula_equality.difference(answer, answer) == '' or '=' in answer


@pytest.mark.parametrize('reason', REFUSED)
def test_refused(reason):
  for text in REFUSED[reason]:
    with pytest.raises(ValueError, match=reason):
      formulas.parse(text)


def test_text_of_a_model_never_reaches_what_evaluates(monkeypatch):
  """Sympy's own ways from text to an object are closed here."""

  def refuse(*_, **__):
    raise AssertionError('text was evaluated')

  for module in (sympy, sympy.core.sympify, sympy.parsing.sympy_parser):
    for name in ('parse_expr', 'eval_expr', 'stringify_expr'):
      monkeypatch.setattr(module, name, refuse, raising=False)
  monkeypatch.setattr('builtins.eval', refuse)
  with pytest.raises(AssertionError, match='text was evaluated'):
    sympy.sympify('x+1')
  for sign, answer, reference in PAIRS:
    assert (formula_equality.difference(answer, reference) == '') == (
      sign == '=='
    )
  for text in HOSTILE:
    with pytest.raises(ValueError, match='.'):
      formulas.parse(text)


def _formula(draw, depth):
  """LaTeX with a level of binding, and its value."""
  if depth == 0:
    n = draw.randint(1, 9)
    return str(n), float(n)
  (a, x), (b, y) = (_formula(draw, depth - 1) for _ in range(2))
  match draw.randrange(6):
    case 0:
      return f'({a}+{b})', x + y
    case 1:
      return f'({a} - {b})', x - y
    case 2:
      return rf'{{{a}}} \cdot {b}', x * y
    case 3:
      return rf'\frac{{{a}}}{{{b}}}', x / y
    case 4:
      return rf'\sqrt{{({a})^{{2}} + ({b})^2}}', math.sqrt(x * x + y * y)
  return f'({a})^{{3}}', x**3


def test_random_formulas_have_their_value():
  draw, n = random.Random(0), 0
  while n < 150:
    try:
      text, value = _formula(draw, 3)
    except ZeroDivisionError:
      continue
    n += 1
    got = float(sympy.N(formulas.parse(text), 30, maxn=2000))
    assert math.isclose(got, value, rel_tol=1e-9, abs_tol=1e-9), text
