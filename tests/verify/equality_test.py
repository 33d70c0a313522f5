"""Equality of written numbers, by hand; and by fractions on random ones."""

import fractions
import random

import pytest

from llm_jax.verify import equality


@pytest.mark.parametrize(
  ('answer', 'reference'),
  [
    ('1/2', '0.5'),
    ('0.5', '1/2'),
    (r'\frac{1}{2}', '1/2'),
    (r'\dfrac12', '0.50'),
    (r'$\tfrac{ 2 }{ 4 }$', '1/2'),
    (r'-\frac{1}{2}', '-0.5'),
    (r'\frac{-1}{2}', '-0.5'),
    ('−3', '-3'),
    ('+3', '3'),
    ('.5', '0.5'),
    ('5.', '5'),
    ('1,234,567', '1234567'),
    ('1{,}234', '1234'),
    ('1 3/4', '1.75'),
    (r'1\frac{3}{4}', '7/4'),
    ('50%', '1/2'),
    ('50%', '50'),
    ('0.5', '50%'),
    ('50', '50%'),
    (r'50\%', '50 %'),
    ('$12.00', '12'),
    (r'\$12', '12'),
    ('€ 12', '12'),
    ('x = 5', '5'),
    ('5', '$x=5$'),
    ('$x = 5$', 'x=5.0'),
    (r'\text{red}', 'red'),
    (r'\left(1, 2\right)', '( 1, 2 )'),
    (r'\sqrt{2}', r'$\sqrt{2}$.'),
    ('**5**', '5'),
    ('1/3', '2/6'),
    ('0.1', '1/10'),
    ('4/2', '4/2'),
  ],
)
def test_equal(answer, reference):
  assert equality.equal(answer, reference)


@pytest.mark.parametrize(
  ('answer', 'reference'),
  [
    ('y = 5', 'x = 5'),
    ('$y=5$', 'x = 5.0'),
    ('0.333', '1/3'),
    ('0.3333333333333333', '1/3'),
    ('1/3', '0.333'),
    ('5', '-5'),
    (r'-\frac{-1}{2}', '-0.5'),
    ('5%', '5.5'),
    ('5%', '500'),
    ('50%', '5'),
    ('50%', '0.5%'),
    ('1,23', '123'),
    ('12,34,567', '1234567'),
    ('1.234.567', '1234567'),
    ('4/2', '2'),
    ('1/0', '0'),
    ('0/0', '0'),
    ('2+3', '5'),
    ('5 5', '5'),
    ('', ''),
    ('.', ''),
    ('five', '5'),
    ('A', 'a'),
    ('5e0', '5'),
    ('0x5', '5'),
    ('5_0', '50'),
    ('٥', '5'),
    ('５', '5'),
    ('1' * 31, '1' * 30),
    ('1' * 2000, '1' * 2000),
    ('0.1', '0.10000000000000000000001'),
    ('nan', '1'),
    ('inf', '1'),
  ],
)
def test_not_equal(answer, reference):
  assert not equality.equal(answer, reference)


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


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('First 3, then $1,500.50.', '1,500.50'),
    ('none', ''),
    ('the 3 of 10-year-olds', '10'),
    ('it fell to -3 degrees', '-3'),
    ('--7', '7'),
    ('between 3-5', ''),
    ('3 + 5', ''),
    ('3 + 5 = 8', '8'),
    (r'is $\frac{3}{4}$ of it', '3/4'),
    ('it takes 1 3/4 hours', '1 3/4'),
    ('about 25 % of it', '25 %'),
    ('1,2345', '1,2345'),
    ('3, 4, 5,', '5'),
    ('x1', '1'),
  ],
)
def test_last_number(text, expected):
  assert equality.last_number(text) == expected
