r"""The third layer of equality: formulas, by hand and by numbers; hostile text.

What is equal was worked out by hand. Values of random formulas are also
computed in floating point, from the tree that the text was written from.
"""

import math
import random

import pytest
import sympy

from llm_jax.verify import expressions, symbolic

EQUAL = [
  (r'\sqrt{12}', r'2\sqrt{3}'),
  (r'$\sqrt{12}$.', '2√3'),
  (r'\dfrac{\sqrt2}{2}', r'\frac{1}{\sqrt{2}}'),
  (r'\sqrt[3]{16}', r'2\sqrt[3]2'),
  (r'\sqrt{3+2\sqrt{2}}', r'1+\sqrt{2}'),
  ('sqrt(12)/2', r'\sqrt3'),
  ('sqrt 12', r'2 \cdot \sqrt 3'),
  (r'\frac{\pi}{4}', r'0.25\pi'),
  ('16*pi', r'16\pi'),
  (r'\frac12x', 'x/2'),
  (r'2\frac{1}{2}x', '5x/2'),
  (r'2\frac{x}{3}', '2x/3'),
  ('(x+1)^2', 'x^2 + 2x + 1'),
  ('x**2-y**2', '(x - y)(x + y)'),
  (r'\frac{1}{x-1} - \frac{1}{x+1}', r'\frac{2}{x^2-1}'),
  ('2ab', '2ba'),
  ('x_1 + x_{2}', 'x_2 + x_1'),
  (r'\alpha\beta', r'\beta \alpha'),
  ('-x^2', '-(x^2)'),
  ('2^3^2x', '512x'),
  ('x^-1', '1/x'),
  ('x^10', r'x^{10}'),
  (r'2^{x+1}', r'2 \times 2^x'),
  ('6/2x', '3x'),
  ('|x-1|', '|1-x|'),
  (r'\left|2-\sqrt5\right|', r'\sqrt5 - 2'),
  (r'\sin^2 x + \cos^2 x', '1'),
  (r'\sin 2x', r'2\sin(x)\cos x'),
  (r'\log_2 8', '3'),
  (r'\log_{3} 9', r'\frac{\ln 9}{\ln 3}'),
  (r'50\%x', 'x/2'),
  (r'1{,}234x', '1234x'),
  ('1,234x', '1234x'),
  (r'12\text{ cm}^2', '12'),
  (r'5\sqrt{2} \mathrm{ m}', r'5\sqrt2'),
  ('10 cm', '10'),
  (r'90^\circ', '90'),
  (r'90^{\circ}', '90°'),
  (r'x = 2\sqrt{3}', r'\sqrt{12}'),
  ('f(x) = 2x', 'x+x'),
  ('x = 2 + 3 = 5', '5'),
  ('y = 2x + 3', 'y - 2x = 3'),
  ('2x+3y=6', '4x + 6y = 12'),
  ('x > 5', '5 < x'),
  (r'-x \le -5', r'x \geq 5'),
  ('2x >= 10', r'x \ge 5'),
  (r'(\frac{1}{2}, \sqrt8)', r'(0.5, 2\sqrt2)'),
  (r'\left(-\infty, 3\right]', r'(-∞,3]'),
  (r'(2,\infty)\cup(-\infty,1)', r'(-\infty,1) \cup (2,\infty)'),
  (r'\{1, 2, 3\}', r'\{3, 2, 1\}'),
  (r'\{1, 1\}', '1, 1'),
  ('(1,234)', '(1, 234)'),
  ('2, 1', '1,2'),
  ('x = 1 or x = 2', '2, 1'),
  (r'1 \text{ and } 2', '1, 2'),
  (r'3 \pm \sqrt{2}', r'3-\sqrt2, 3+\sqrt2'),
]
UNEQUAL = [
  (r'2\sqrt{3}', r'3\sqrt{2}'),
  (r'\sqrt{2}', '1.41421356237309504880168872420969807856967187537694'),
  (r'\pi', '3.14159265358979'),
  (r'\pi', r'\frac{355}{113}'),
  ('(x+1)^2', 'x^2+2x+2'),
  ('-x^2', '(-x)^2'),
  ('x^2', 'y^2'),
  ('|x|', 'x'),
  (r'\sqrt{x^2}', 'x'),
  ('1/2x', r'\frac{1}{2x}'),
  (r'\ln 8', r'2\ln 3'),
  ('y = 2x', 'y = 2x + 1'),
  ('y = 2x', '2x + 1'),
  ('x = 5', 'y = 5'),
  ('x = x', 'y = y'),
  ('1 = 1', '2 = 2'),
  ('x > 5', 'x < 5'),
  ('x > 5', r'x \ge 5'),
  ('x > 5', '-x > -5'),
  ('x > 5', '5'),
  ('2 cm x', '2x'),
  ('(1, 2)', '(2, 1)'),
  ('(1, 2)', '(1, 2]'),
  ('(1, 2)', '(1, 2, 3)'),
  ('(1, 2)', r'\{1, 2\}'),
  (r'\{1, 2\}', r'\{1, 3\}'),
  (r'\{1, 1\}', r'\{1, 2\}'),
  (r'\{1, 1\}', r'\{2, 1\}'),
  (r'(-\infty, 1)', r'(\infty, 1)'),
  (r'3 \pm \sqrt2', r'3 + \sqrt2'),
  (r'(1,2) \cup (3,4)', '(1,2), (3,4)'),
]
# What the parser must refuse, and why.
REFUSED = [
  ('', 'the end'),
  ('two', 'is a word'),
  ('__import__("os")', 'is a word'),
  ('().__class__', 'is not understood|is a word|out of place'),
  ('lambda: 1', 'is a word'),
  ('open(1)', "'open' is a word"),
  ('x;y', 'is not understood'),
  ('x.y', 'is not understood'),
  ('"x"', 'is not understood'),
  ('٥', 'is not understood'),
  ('５', 'is not understood'),
  ('x²', 'is not understood'),
  ('5 5', 'out of place'),
  ('1.2.3', 'out of place'),
  ('x 2', 'out of place'),
  ('1 +', 'the end'),
  ('* 2', 'out of place'),
  ('(1', 'is not closed'),
  ('1)', 'out of place'),
  ('(1}', 'is not closed'),
  (r'\frac{1}', 'the end'),
  (r'\frac{1}{', 'the end'),
  (r'\sqrt', 'the end'),
  (r'\input{x}', 'out of place'),
  (r'\text{Monday}', 'is no formula'),
  (r'{1,2}', 'a comma is out of place'),
  (r'\sin', 'the end'),
  ('x_', 'a subscript'),
  ('1 < x < 2', 'a chain'),
  (r'(1,2) + 1', 'cannot be part of an expression'),
  ('(x = 1) + 1', 'cannot be part'),
  ('1/0', 'a division by zero'),
  ('0^{-1}', 'a division by zero'),
  (r'\frac{x}{1-1}', 'a division by zero'),
  (r'\sqrt[0]{2}', 'a division by zero'),
  (r'\ln 0', 'a logarithm of zero'),
  (r'\log_1 2', 'a division by zero'),
  (r'\infty - \infty', 'is not finite'),
  (r'0 \cdot \infty', 'is not finite'),
  ('9**9**9', 'an exponent is larger'),
  ('9^{9^{9^9}}', 'an exponent is larger'),
  ('((9^999)^999)^999', 'more than 10000 bits'),
  ('0.5^{999999}', 'an exponent is larger'),
  (r'\sqrt[99999]{2}', 'an exponent is larger'),
  ('(' * 400 + '1' + ')' * 400, 'more than 40 deep'),
  ('(' * 999, 'more than 40 deep'),
  (r'\frac' * 150, 'more than 40 deep'),
  (r'\sqrt' * 150, 'more than 40 deep'),
  ('x^' * 400 + 'x', 'more than 40 deep'),
  (r'\sin' * 200 + 'x', 'more than 40 deep'),
  ('|' * 500, 'more than 40 deep'),
  ('1' * 1001, '1001 characters are more'),
  ('1' * 1_000_000, '1000000 characters are more'),
  ('\ud800', 'is not understood'),
  ('\0', 'is not understood'),
]


@pytest.mark.parametrize(('answer', 'reference'), EQUAL)
def test_equal(answer, reference):
  assert symbolic.difference(answer, reference) == ''
  assert symbolic.difference(reference, answer) == ''


@pytest.mark.parametrize(('answer', 'reference'), UNEQUAL)
def test_unequal(answer, reference):
  assert ' is not ' in symbolic.difference(answer, reference)
  assert ' is not ' in symbolic.difference(reference, answer)
  assert symbolic.difference(answer, answer) == '' or '=' in answer


@pytest.mark.parametrize(('text', 'reason'), REFUSED)
def test_refused(text, reason):
  with pytest.raises(ValueError, match=reason):
    expressions.parse(text)


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
  for answer, reference in EQUAL:
    assert symbolic.difference(answer, reference) == ''
  for text, _ in REFUSED:
    with pytest.raises(ValueError, match='.'):
      expressions.parse(text)


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
    got = float(sympy.N(expressions.parse(text), 30, maxn=2000))
    assert math.isclose(got, value, rel_tol=1e-9, abs_tol=1e-9), text
