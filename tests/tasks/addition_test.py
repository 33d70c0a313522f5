"""The addition task: its phrasings, its split and its demonstrations."""

import random
import re

import pytest

from llm_jax.tasks import addition, documentation, identity, protocol, reference

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
  assert {p.kind for p in problems} == set(addition.PHRASINGS)
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


def test_verifier_survives_anything():
  draw = random.Random(0)
  problem = protocol.Problem('addition', 'What is 988 + 391?', '1379')
  alphabet = '0123456789+=<>/think\n \x00\ud7ff韬'
  for _ in range(2000):
    answer = ''.join(draw.choice(alphabet) for _ in range(draw.randrange(60)))
    assert TASK.score(problem, answer).correct == (
      not ('<think>' in answer and '</think>' not in answer)
      and answer.split('</think>')[-1].strip().lstrip('0') == '1379'
    )


def test_share_of_thinking_in_the_text():
  text = addition.text_documents(TASK, 'train', 4000, 0, think_share=0.4)
  share = sum(TASK.thinks(answer) for _, answer in text) / 4000
  assert abs(share - 0.4) < 0.03  # four standard deviations


def test_more_than_there_are_is_refused():
  task = addition.Addition(1, phrasings=('12+7',))
  with pytest.raises(ValueError, match='which has about'):
    task.problems('train', 1000, 0)


def test_identity_and_documentation_are_drawn_by_seed():
  assert identity.conversations(20, 0) == identity.conversations(20, 0)
  assert identity.conversations(20, 0) != identity.conversations(20, 1)
  entries = [
    reference.Entry('textwrap.dedent', 'dedent(text)', 'Remove margins.')
  ]
  drawn = documentation.conversations(entries, 30, 0)
  pairs = {(m[0]['content'], m[1]['content']) for m in drawn}
  assert pairs == {
    ('What is the signature of textwrap.dedent?', 'dedent(text)'),
    ('What does textwrap.dedent do?', 'Remove margins.'),
  }
  with pytest.raises(ValueError, match='no documented function was found'):
    documentation.conversations([], 1, 0)
