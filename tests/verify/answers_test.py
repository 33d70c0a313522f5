"""Which part of a text is its answer: the last, and never a thought."""

import pytest

from llm_jax.tasks import splits
from llm_jax.verify import answers


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('72', None),
    ('#### 72', '72'),
    ('a #### 1 #### 72 eggs\nthe end', '72 eggs'),
    ('####\n72\n3', '72'),
    (r'\boxed{72}', '72'),
    (r'\boxed{1} and \boxed{\frac{1}{2}} }', r'\frac{1}{2}'),
    (r'\boxed{\boxed{3}}', '3'),
    (r'#### \boxed{72}', '72'),
    (r'\boxed{1} #### 72', '72'),
    (r'#### 1 \boxed{72}', '72'),
    (r'#### 72 \boxed{', ''),
    (r'\boxed{72', ''),
    (r'\boxed{72} ####', ''),
    (r'\boxed 72', None),
    ('### 72', None),
  ],
)
def test_last_mark_counts(text, expected):
  assert answers.marked(text) == expected


@pytest.mark.parametrize(
  ('answer', 'expected'),
  [
    ('72', '72'),
    ('<think>1</think> 72 ', '72'),
    ('<think>1</think><think>2</think>72', '72'),
    ('<think>1</think>2<think>3', '2<think>3'),
    ('1</think>72', '72'),
    ('<think>72', None),
    ('<think>72</think>', ''),
  ],
)
def test_what_follows_the_last_thought(answer, expected):
  assert answers.final(answer) == expected


@pytest.mark.parametrize(
  ('text', 'expected'),
  [('072', 72), ('', None), ('7 2', None), ('٧', None), ('²', None),
   ('-7', None), ('7' * 12, 777777777777), ('7' * 13, None), ('7\n', None)],
)  # fmt: skip
def test_whole_numbers(text, expected):
  assert answers.whole_number(text) == expected


def test_a_tenth_is_held_out():
  n = sum(splits.is_held_out(f'key {n}') for n in range(10_000))
  assert abs(n - 1000) < 120  # four standard deviations
