"""The addition task: its split, its demonstrations and its verifier."""

import random

import pytest

from llm_jax.tasks import addition, documentation, identity, protocol, reference

TASK = addition.Addition(3)
PROBLEM = protocol.Problem('addition', '988+391=', '1379')


def test_no_stage_sees_a_held_out_problem():
  held_out = {p.prompt for p in TASK.problems('held_out', 2000, 0)}
  for seed in (0, 1):
    train = {p.prompt for p in TASK.problems('train', 5000, seed)}
    assert not train & held_out
  text = {p for p, _ in addition.text_documents(3, 'train', 5000, 3, 0.4)}
  assert not text & held_out
  assert len(held_out) == 2000


def test_problems_depend_on_their_seed_alone():
  assert TASK.problems('train', 50, 7) == TASK.problems('train', 50, 7)
  assert TASK.problems('train', 50, 7) != TASK.problems('train', 50, 8)
  assert TASK.problems('train', 50, 7) == TASK.problems('train', 90, 7)[:50]


def test_every_demonstration_is_right_column_by_column():
  for problem in TASK.problems('train', 500, 0):
    for think in (False, True):
      answer = TASK.demonstrate(problem, think)
      assert TASK.score(problem, answer).correct
      assert TASK.thinks(answer) == think
    columns = TASK.demonstrate(problem, True).split('\n')[1:-2]
    digits = [line[5] for line in columns] + [columns[-1][4]]
    assert ''.join(reversed(digits)) == problem.reference


@pytest.mark.parametrize(
  ('answer', 'correct'),
  [
    ('1379', True),
    (' 1379\n', True),
    ('01379', True),
    ('<think>\nnonsense\n</think>\n1379', True),
    ('<think>\n1\n</think>\n<think>\n2\n</think>\n1379', True),
    ('1378', False),
    ('', False),
    ('1379 1379', False),
    ('1379.0', False),
    ('1379!', False),
    ('+1379', False),
    ('1_379', False),
    ('١٣٧٩', False),  # Arabic-Indic digits
    ('<think>\n1379', False),
    ('<think>\n</think>\n', False),
    ('1379\n</think>\n7', False),
    ('9' * 5000, False),
    ('988+391', False),
  ],
)
def test_verdicts(answer, correct):
  score = TASK.score(PROBLEM, answer)
  assert score.correct is correct
  assert score.reason


def test_unfinished_thought_is_named():
  score = TASK.score(PROBLEM, '<think>\n810:09')
  assert score.reason == 'the thought does not end'


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
  answers = [a for _, a in addition.text_documents(3, 'train', 4000, 0, 0.4)]
  share = sum(map(TASK.thinks, answers)) / 4000
  assert abs(share - 0.4) < 0.03  # four standard deviations


@pytest.mark.parametrize(
  ('split', 'count', 'message'),
  [
    ('test', 1, "split 'test' is unknown; use train or held_out"),
    ('train', 10**6, 'use at most 50000'),
  ],
)
def test_what_cannot_be_had_is_refused(split, count, message):
  with pytest.raises(ValueError, match=message):
    TASK.problems(split, count, 0)


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
