"""Equality of written numbers, by hand; and by fractions on random ones."""

import fractions
import random

import pytest

from llm_jax.verify import equality
from tests.verify import formulas_test

PAIRS = [
  *formulas_test.pairs('equality.txt'),
  ('!=', '', ''),
  ('!=', '.', ''),
  ('!=', '1' * 2000, '1' * 2000),
]


@pytest.mark.parametrize(('sign', 'answer', 'reference'), PAIRS)
def test_pairs(sign, answer, reference):
  assert equality.equal(answer, reference) == (sign == '==')


def test_random_numbers_in_all_their_forms():
  draw = random.Random(0)
  for _ in range(500):
    n, places = draw.randrange(-(10**9), 10**9), draw.randint(0, 4)
    value = fractions.Fraction(n, 10**places)
    sign, digits = '-' * (n < 0), f'{abs(n):0{places + 1}}'
    cut = len(digits) - places
    whole, decimals = digits[:cut], digits[cut:]
    tail = f'.{decimals}' if places else ''
    forms = [
      f'{sign}{whole}{tail}',
      f'{sign}{int(whole):,}{tail}',
      f'${sign}{whole}{tail}$',
      f'{sign}{whole}{tail}' + ('0' if tail else '.00'),
    ]
    if value.denominator > 1:
      forms.append(f'{value.numerator}/{value.denominator}')
      forms.append(f'{sign}\\frac{{{abs(n)}}}{{{10**places}}}')
    for form in forms:
      assert equality.number(form) == value, form
      assert equality.equal(form, forms[0])
      assert not equality.equal(form, str(n + 1) + tail)


LAST_NUMBERS = {
  'First 3, then $1,500.50.': '1,500.50', 'none': '', '--7': '7',
  'the 3 of 10-year-olds': '10', 'it fell to -3 degrees': '-3',
  'between 3-5': '', '3 + 5': '', '3 + 5 = 8': '8',
  r'is $\frac{3}{4}$ of it': '3/4', 'it takes 1 3/4 hours': '1 3/4',
  'about 25 % of it': '25 %', '1,2345': '1,2345', '3, 4, 5,': '5', 'x1': '1',
}  # fmt: skip


@pytest.mark.parametrize('text', LAST_NUMBERS)
def test_last_number(text):
  assert equality.last_number(text) == LAST_NUMBERS[text]
