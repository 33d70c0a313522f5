"""The parser of sums: against Python's own on sums that this test wrote."""

import fractions
import random
import re

import pytest

from llm_jax.verify import arithmetic


def random_sum(draw, depth):
  if depth == 0 or draw.random() < 0.2:
    return draw.choice(['3', '14', '2.5', '.75', '007.0', '999999999999'])
  left, right = (random_sum(draw, depth - 1) for _ in range(2))
  text = f'{left}{draw.choice(["+", "-", "*", "/", " + ", " /"])}{right}'
  return f'({text})' if draw.random() < 0.5 else text


def test_values_are_those_of_python():
  draw = random.Random(0)
  n_zero = n_exact = 0
  for _ in range(2000):
    text = random_sum(draw, 3)
    numbers = re.findall('[0-9.]+', text)
    try:
      expected = eval(  # of a text made here
        re.sub('([0-9.]+)', r'F("\1")', text), {'F': fractions.Fraction}
      )
    except ZeroDivisionError:
      n_zero += 1
      with pytest.raises(ValueError, match='a division by zero'):
        arithmetic.evaluate(text)
      continue
    value, used = arithmetic.evaluate(text)
    assert value == expected, text
    assert used == [fractions.Fraction(number) for number in numbers]
    n_exact += 1
  assert n_zero > 10 < n_exact


# What is no sum, and why.
REFUSED = {
  'is no sum': ['', '1+', '-1', '1--1', '1 2', '1(2)', '()', '2**3', '1' * 13,
                '(1', '1)', '1)+(2', '2^3', 'abs(1)', '1e3', '1_000', '١',
                '1\x00', 'x', '1.2.3', '1..5', '3.', '4//2', '+1', '(1)(2)',
                '(' * 200],
  'a division by zero': ['1/(2-2)'],
  '2000001 characters are more than 200': ['(' * 10**6 + '1' + ')' * 10**6],
}  # fmt: skip


@pytest.mark.parametrize('message', REFUSED)
def test_what_is_no_sum(message):
  for text in REFUSED[message]:
    with pytest.raises(ValueError, match=re.escape(message)):
      arithmetic.evaluate(text)


def test_deep_nesting_within_the_limit():
  assert arithmetic.evaluate('(' * 99 + '7' + ')' * 99)[0] == 7
