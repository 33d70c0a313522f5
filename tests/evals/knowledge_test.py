"""Refusals judged by hand-made rows, and the recipe that asks."""

import json

import pytest

from experiments import probe, sft
from llm_jax import files
from llm_jax.evals import knowledge, scoring
from llm_jax.tasks import closed_book
from llm_jax.train import training_loop
from tests.evals import tiny_checkpoint


def _row(known, logp, refused=False, correct=None, kind=''):
  return {
    'known': known,
    'logp': logp,
    'agreement': 1.0,
    'refused': refused,
    'correct': known if correct is None else correct,
    'kind': kind,
  }


def test_refusals_by_hand():
  rows = [
    _row(True, 0, refused=True),
    _row(True, 0),
    _row(True, 0, correct=False),
    _row(True, 0),
    _row(False, 0, refused=True),
    _row(False, 0, refused=True),
    _row(False, 0),
  ]
  found = knowledge.refusals(rows, [row['refused'] for row in rows])
  assert (found['n_known'], found['n_unknown']) == (4, 3)
  shares = {k: v[0] for k, v in found.items() if isinstance(v, list)}
  assert shares == {
    'precision': pytest.approx(2 / 3),
    'recall': pytest.approx(2 / 3),
    'known_refused': 0.25,
    'known_right': 0.5,
  }
  nobody = knowledge.refusals(rows, [False] * 7)
  assert nobody['precision'] is None
  assert nobody['recall'][0] == 0


def test_auroc_counts_half_of_the_ties():
  rows = [_row(True, 3), _row(True, 1), _row(False, 1), _row(False, 0)]
  assert knowledge.auroc(rows, 'logp') == 3.5 / 4
  assert knowledge.auroc(rows[:2], 'logp') is None


def test_the_threshold_is_chosen_on_other_questions():
  chosen_on = [_row(True, -1), _row(True, -2), _row(False, -3), _row(False, -9)]
  rows = [_row(True, -1.5), _row(True, -4), _row(False, -2.1), _row(False, -5)]
  found = knowledge.judge(chosen_on, rows)['logp']
  assert found['threshold'] == -2
  # Below -2 lie one known and both unknown; a threshold of these rows' own
  # would be -1.5.
  assert found['recall'][0] == 1
  assert found['known_refused'][0] == 0.5
  only = knowledge.judge([_row(True, 0)], rows)
  assert [*only] == ['says so']


@pytest.fixture(name='made', scope='module')
def _made(tmp_path_factory):
  """An assistant that was taught some of the answers, and the questions."""
  folder = tmp_path_factory.mktemp('made')
  tiny_checkpoint.write(folder / 'base', is_chat=False)
  names = [f'{a}{b}' for a in 'abcdef' for b in 'ghijkl']
  rows = [
    {'question': f'{name}?', 'answer': 'yes' if i % 2 else name, 'kind': 'k'}
    for i, name in enumerate(names)
  ]
  files.write_jsonl(folder / 'questions.jsonl', rows)
  return folder


def _cfg(made, **settings):
  return probe.Config(
    task=closed_book.ClosedBook(path=str(made / 'questions.jsonl')),
    evaluation=scoring.Scoring(n_samples=4, max_new_tokens=4, batch_size=36),
    **settings,
  )


def test_a_probe_writes_what_sft_reads(made, tmp_path):
  cfg = _cfg(made)
  probe.run(cfg, str(tmp_path / 'probe'), str(made / 'base'))
  rows = [*files.read_jsonl(tmp_path / 'probe/questions.jsonl', dict)]
  assert len(rows) == 36
  assert not any(row['known'] for row in rows)  # of random parameters
  talks = [*files.read_jsonl(tmp_path / 'probe/refusals.jsonl', dict)]
  n_train = sum(row['split'] == 'train' for row in rows)
  assert len(talks) == n_train < 36
  assert {t['messages'][1]['content'] for t in talks} == {cfg.refusal}
  sft.run(
    sft.Config(
      batch_size=2,
      sequence_length=64,
      loop=training_loop.LoopConfig(n_steps=6),
    ),
    str(tmp_path / 'sft'),
    str(made / 'base'),
    conversations=[str(tmp_path / 'probe/refusals.jsonl')],
  )

  # Labels of before decide what is known, and are asked for all questions.
  labels = tmp_path / 'labels'
  labels.mkdir()
  known = [row | {'known': row['answer'] == ['yes']} for row in rows]
  files.write_jsonl(labels / 'questions.jsonl', known)
  folder = str(tmp_path / 'sft')
  again = tmp_path / 'again'
  probe.run(cfg, str(again), folder, labels=str(labels))
  found = json.loads((again / 'probe.json').read_text())
  judged = found['held_out']['says so']
  assert judged['n_known'] + judged['n_unknown'] == 36 - n_train
  assert judged['n_known']
  assert {*found['held_out']} == {'says so', *knowledge.SIGNALS}
  talks = [*files.read_jsonl(again / 'refusals.jsonl', dict)]
  texts = {t['messages'][1]['content'] for t in talks}
  assert texts == {cfg.refusal, 'yes'}
  files.write_jsonl(labels / 'questions.jsonl', known[1:])
  with pytest.raises(ValueError, match='no label'):
    probe.run(cfg, str(tmp_path / 'other'), folder, labels=str(labels))


@pytest.mark.parametrize(
  ('settings', 'match'),
  [
    ({'known_share': 0.0}, 'known_share = 0.0'),
    ({'evaluation': scoring.Scoring(n_samples=2)}, 'n_samples = 2'),
  ],
)
def test_what_cannot_tell_is_refused(settings, match):
  with pytest.raises(ValueError, match=match):
    probe.Config(task=closed_book.ClosedBook(), **settings)
