"""The addition task: its split, its demonstrations and its verifier."""

import random

import pytest

from llm_jax.tasks import addition, documentation, identity, protocol, reference

TASK = addition.Addition(3)
PROBLEM = protocol.Problem('addition', '988+391=', '1379')


def test_the_text_has_no_held_out_problem():
  held_out = {p.prompt for p in TASK.problems('held_out', 2000, 0)}
  text = addition.text_documents(3, 'train', 5000, 3, think_share=0.4)
  assert not {prompt for prompt, _ in text} & held_out
  assert len(held_out) == 2000


def test_every_demonstration_is_right_column_by_column():
  for problem in TASK.problems('train', 500, 0):
    columns = TASK.demonstrate(problem, True).split('\n')[1:-2]
    digits = [line[5] for line in columns] + [columns[-1][4]]
    assert ''.join(reversed(digits)) == problem.reference


def test_verifier_survives_anything():
  draw = random.Random(0)
  alphabet = '0123456789+=<>/think\n \x00\ud7ff韬'
  for _ in range(2000):
    answer = ''.join(draw.choice(alphabet) for _ in range(draw.randrange(60)))
    assert TASK.score(PROBLEM, answer).correct == (
      not ('<think>' in answer and '</think>' not in answer)
      and answer.split('</think>')[-1].strip().lstrip('0') == '1379'
    )


def test_share_of_thinking_in_the_text():
  text = addition.text_documents(3, 'train', 4000, 0, think_share=0.4)
  share = sum(TASK.thinks(answer) for _, answer in text) / 4000
  assert abs(share - 0.4) < 0.03  # four standard deviations


def test_more_than_there_are_is_refused():
  with pytest.raises(ValueError, match='use at most 50000'):
    TASK.problems('train', 10**6, 0)


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
