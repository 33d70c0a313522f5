"""The addition task: its phrasings, its split and its demonstrations."""

import re

import pytest

from llm_jax.tasks import addition, demonstrations, questions

TASK = addition.Addition()


def _pair(text):
  return sorted(map(int, re.findall('[0-9]+', text)))


def test_the_text_has_no_held_out_pair_of_numbers():
  """Not in other words, and not the other way around."""
  held_out = [_pair(p.prompt) for p in TASK.problems('held_out', 1000, 0)]
  text = addition.text_documents(TASK, 'train', 4000, 3, think_share=0.4)
  assert not [p for prompt, _ in text if (p := _pair(prompt)) in held_out]


def test_every_phrasing_asks_for_the_sum_of_numbers_of_all_lengths():
  problems = TASK.problems('train', 4000, 0)
  assert {p.kind for p in problems} == set(questions.of('addition'))
  for problem in problems:
    assert sum(_pair(problem.prompt)) == int(problem.reference)
    assert '{' not in problem.prompt
  lengths = {tuple(len(str(x)) for x in _pair(p.prompt)) for p in problems}
  assert lengths == {(1, 1), (1, 2), (1, 3), (2, 2), (2, 3), (3, 3)}


def test_phrasings_and_lengths_are_chosen():
  task = addition.Addition(5, min_digits=4, phrasings=('12+7',))
  for problem in task.problems('held_out', 50, 0):
    assert re.fullmatch('[0-9]{4,5}[+][0-9]{4,5}[?]?', problem.prompt)
  with pytest.raises(ValueError, match="names '1 2'; use some of"):
    addition.Addition(phrasings=('1 2',))
  with pytest.raises(ValueError, match='min_digits = 4 with n_digits = 3'):
    addition.Addition(min_digits=4)


def test_every_demonstration_is_right_column_by_column():
  for problem in TASK.problems('train', 500, 0):
    lines = TASK.demonstrate(problem, True).split('\n')
    restated, *columns = lines[1:-2]
    a, b = restated.split('+')
    assert len(a) == len(b) == len(columns) == 3
    assert sorted([int(a), int(b)]) == _pair(problem.prompt)
    assert [line[:2] for line in columns] == [
      x + y for x, y in zip(a[::-1], b[::-1], strict=True)
    ]
    digits = [line[5] for line in columns] + [columns[-1][4]]
    assert int(''.join(reversed(digits))) == int(problem.reference)
    assert lines[-1] == problem.reference


def test_share_of_thinking_in_the_text():
  text = addition.text_documents(TASK, 'train', 4000, 0, think_share=0.4)
  share = sum(TASK.thinks(answer) for _, answer in text) / 4000
  assert abs(share - 0.4) < 0.03  # four standard deviations


def test_identity_is_drawn_by_seed():
  assert demonstrations.identity(20, 0) == demonstrations.identity(20, 0)
  assert demonstrations.identity(20, 0) != demonstrations.identity(20, 1)
