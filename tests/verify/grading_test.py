"""Which part of a text is its answer: the last, and never a thought."""

import pytest

from llm_jax.tasks import splits
from llm_jax.verify import grading

MARKED = {
  '72': None, '#### 72': '72', 'a #### 1 #### 72 eggs\nthe end': '72 eggs',
  '####\n72\n3': '72', r'\boxed{72}': '72', r'\boxed{\boxed{3}}': '3',
  r'\boxed{1} and \boxed{\frac{1}{2}} }': r'\frac{1}{2}',
  r'#### \boxed{72}': '72', r'\boxed{1} #### 72': '72',
  r'#### 1 \boxed{72}': '72', r'#### 72 \boxed{': '', r'\boxed{72': '',
  r'\boxed{72} ####': '', r'\boxed 72': None, '### 72': None,
  '##### 72': None, '#### 72\n#### Verification\n#### 2. Check': '72',
  '\\boxed{72}\n#### **Step** 2': '72', '#### edab': 'edab',
  '#### one\n#### two': 'two', r'\boxed {72} \fbox{73}': '73',
}  # fmt: skip
MARKED_AS_MATHS = {
  r'\boxed{1} and $\boxed{2}$': '1, 2',
  r'x=\boxed{1}, y = \boxed{2}, or \boxed{3}': '1, 2, 3',
  r'\boxed{1}, so \boxed{2}': '2',
  r'\boxed{1} and \boxed{': '1, ',
  r'\boxed{\boxed{3}}': '3',
  '#### Conclusion': None,
  '#### 72 eggs': '72 eggs',
}
FINAL = {
  '72': '72', '<think>1</think> 72 ': '72',
  '<think>1</think><think>2</think>72': '72', '<think>1</think>2<think>3': None,
  '<think>1</think><think>2': None, '1</think>72': '72', '<think>72': None,
  '<think>72</think>': '',
}  # fmt: skip
WHOLE = {
  '072': 72, '': None, '7 2': None, '٧': None, '²': None, '-7': None,
  '7' * 12: 777777777777, '7' * 13: None, '7\n': None,
}  # fmt: skip


@pytest.mark.parametrize('text', MARKED)
def test_last_mark_counts(text):
  assert grading.marked(text) == MARKED[text]


@pytest.mark.parametrize('text', MARKED_AS_MATHS)
def test_marks_of_mathematics(text):
  assert grading.marked(text, is_maths=True) == MARKED_AS_MATHS[text]


@pytest.mark.parametrize('text', FINAL)
def test_what_follows_the_last_thought(text):
  assert grading.final(text) == FINAL[text]


@pytest.mark.parametrize('text', WHOLE)
def test_whole_numbers(text):
  assert grading.whole_number(text) == WHOLE[text]


def test_a_tenth_is_held_out():
  n = sum(splits.is_held_out(f'key {n}') for n in range(10_000))
  assert abs(n - 1000) < 120  # four standard deviations
