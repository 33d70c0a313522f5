"""Questions with short answers: what is right, refused, wrong, unreadable."""

import json

import pytest

from llm_jax.tasks import closed_book

TASK = closed_book.ClosedBook(wrong_cost=1.0)
PROBLEM = TASK.read({'question': 'Largest city?', 'answer': ['Paris', 'PAR']})


@pytest.mark.parametrize(
  ('answer', 'correct', 'refused', 'reward'),
  [
    ('Paris', True, False, 1.0),
    (' "paris". ', True, False, 1.0),
    ('par', True, False, 1.0),
    ('<think>\nLyon\n</think>\nParis', True, False, 1.0),
    ('Lyon? #### Paris', True, False, 1.0),
    ('I do not know.', False, True, 0.0),
    ("Sorry, I don't know that city.", False, True, 0.0),
    ('I could not find it.', False, True, 0.0),
    ('unknown', False, True, 0.0),
    ('Lyon', False, False, -1.0),
    ('Paris or Lyon', False, False, -1.0),
    ('The unknown city', False, False, -1.0),
    ('<think>\nI do not know', False, False, -1.0),
    ('', False, False, -1.0),
  ],
)
def test_verdicts(answer, correct, refused, reward):
  score = TASK.score(PROBLEM, answer)
  assert (score.correct, score.refused, score.reward) == (
    correct,
    refused,
    reward,
  )


def test_the_first_accepted_answer_is_demonstrated():
  assert TASK.demonstrate(PROBLEM, think=True) == 'Paris'
  assert TASK.score(PROBLEM, 'Paris').correct


@pytest.mark.parametrize(
  'row',
  [
    {'question': 'Who?'},
    {'question': 'Who?', 'answer': 7},
    {'question': 'Who?', 'answer': ['']},
    {'question': ' ', 'answer': 'Anna'},
    {'question': 'Who?', 'answer': ['Anna', None]},
    {'question': 'Who?', 'answer': []},
  ],
)
def test_a_row_of_another_form_is_named(row, tmp_path):
  path = tmp_path / 'questions.jsonl'
  path.write_text(json.dumps({'question': 'A?', 'answer': 'b'}) + '\n')
  with path.open('a') as file:
    file.write(json.dumps(row))
  task = closed_book.ClosedBook(path=str(path))
  with pytest.raises(ValueError, match='line 2'):
    task.problems('all', 0, seed=0)


def test_the_splits_share_no_question_and_keep_kinds(tmp_path):
  path = tmp_path / 'questions.jsonl'
  names = [f'{a}{b}' for a in 'abcdefgh' for b in 'abcdefgh']
  rows = [
    {'question': f'Who is {n}?', 'answer': n, 'kind': n[0]} for n in names
  ]
  path.write_text('\n'.join(map(json.dumps, rows)))
  task = closed_book.ClosedBook(path=str(path))
  train, held_out = (
    {p.prompt: p.kind for p in task.problems(split, 0, seed=0)}
    for split in ('train', 'held_out')
  )
  assert train
  assert held_out
  assert not train.keys() & held_out.keys()
  assert train | held_out == {r['question']: r['kind'] for r in rows}
