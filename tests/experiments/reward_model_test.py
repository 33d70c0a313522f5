"""Reward models: what is scored, learnt, saved, resumed and loaded."""

import dataclasses
import json

import numpy as np
import pytest

import llm_jax
from experiments import reward_model
from llm_jax.chat import formats
from llm_jax.data import preferences
from llm_jax.infer import reading
from llm_jax.model import likelihood
from llm_jax.parallel import device_mesh
from llm_jax.train import checkpoint, metrics, training_loop
from tests.evals import tiny_checkpoint
from tests.experiments import stages
from tools import score

CFG = reward_model.Config(
  batch_size=4,
  sequence_length=128,
  evaluate_every=6,
  optimizer=stages.adamw(0.03),
  loop=training_loop.LoopConfig(n_steps=12, save_every=3),
  mesh=device_mesh.MeshConfig(data=1),
)


@pytest.fixture(scope='module')
def pairs(tmp_path_factory):
  """Who says yes is right; rankings of three and pairs."""
  rows = []
  for i in range(60):
    answers = [f'yes {i % 7}', f'no {i % 5}', f'maybe {i % 3}']
    if i % 2:
      row = {'chosen': answers[0], 'rejected': answers[1]}
    else:
      row = {'responses': answers[::-1], 'ranking': [2, 2, 1]}
    rows.append(json.dumps({'prompt': f'question {i}'} | row))
  file = tmp_path_factory.mktemp('pairs') / 'mine.jsonl'
  file.write_text('\n'.join(rows))
  return [str(file)]


@pytest.fixture(scope='module')
def workdir(base, pairs, tmp_path_factory):
  folder = tmp_path_factory.mktemp('stages') / 'reward_model'
  reward_model.run(CFG, str(folder), base, pairs)
  return folder


def test_it_learns_what_is_preferred(workdir):
  done = json.loads((workdir / 'done.json').read_text())
  assert done['accuracy'] > 0.9
  assert done['prompts'] >= 3
  assert done['result'].startswith(f'{done["accuracy"]:.1%} of {done["pairs"]}')
  run = json.loads((workdir / 'run.json').read_text())
  (mine,) = run['mixture']
  assert mine['rankings'] == 60 - run['held_out']
  lines = metrics.read(str(workdir / 'metrics.jsonl'))
  accuracies = [x['eval_accuracy'] for x in lines if 'eval_accuracy' in x]
  assert len(accuracies) == 2
  assert accuracies[-1] == done['accuracy']


def losses(workdir):
  lines = metrics.read(str(workdir / metrics.METRICS))
  kept = 'loss', 'grad_norm', 'eval_loss'
  return sorted(
    (x['step'], name, float(x[name]).hex())
    for x in lines
    for name in kept
    if name in x
  )


@pytest.mark.parametrize(
  'step', [5, pytest.param(12, marks=pytest.mark.nightly)]
)
def test_resumed_is_uninterrupted_bit_for_bit(
  step, base, pairs, workdir, tmp_path
):
  """Ended before the numbers of a step are on disk, of the last one too."""
  folder = tmp_path / 'reward_model'
  with stages.ended_at(step):
    reward_model.run(CFG, str(folder), base, pairs)
  reward_model.run(CFG, str(folder), base, pairs)
  assert losses(folder) == losses(workdir)
  ends = [
    checkpoint.load_model(str(w), has_values=True) for w in (workdir, folder)
  ]
  assert ends[0].fingerprint == ends[1].fingerprint


def test_a_score_is_that_of_python_and_of_no_other_model(workdir, base):
  model = llm_jax.load(workdir)
  asked = {'role': 'user', 'content': 'question 3'}

  def said(text):
    return [asked, {'role': 'assistant', 'content': text}]

  good, bad = model.score([said('yes 1'), said('no 1')])
  assert good > bad + 1
  assert model.score([said('no 1')]) == [bad]
  assert score.lines(str(workdir), 'question 3', ['yes 1', 'no 1']) == [
    f'{good:+.4f}  yes 1',
    f'{bad:+.4f}  no 1',
  ]
  with pytest.raises(ValueError, match='ends without an answer'):
    model.score([[asked]])
  with pytest.raises(ValueError, match='this model scores nothing'):
    llm_jax.load(base).score([said('yes')])
  with pytest.raises(ValueError, match='stage pretrain, whose model scores no'):
    checkpoint.load_model(base, has_values=True)


def test_scores_are_those_of_the_last_token_however_rows_are_filled(workdir):
  """By packing, in batches of any size, and with what ends answers as pad."""
  loaded = checkpoint.load_model(str(workdir), has_values=True)
  end = formats.Own(tiny_checkpoint.tokenizer()).stop_ids[0]
  groups = [
    # The end token is in the prompt too; after the answer comes a line break.
    [
      preferences.Answer([5, end, 6, 7, end], [0, 0, 1, 1, 1], 0),
      preferences.Answer([5, end, 8, end, 10], [0, 0, 1, 1, 0], 1),
    ],
    [preferences.Answer([9, 4, end], [0, 1, 1], 0)],
  ]
  batch = preferences.arrays([groups, []], 20, n_places=4, pad_id=end)
  assert batch['end_BA'][0].tolist() == [4, 5 + 3, 10 + 2, 0]
  packed_BA = likelihood.scores_of_answers(
    loaded.model_config, loaded.params, batch
  )
  answers = [answer for group in groups for answer in group]
  for batch_size in (1, 2, 5):
    alone_B = reading.scores(
      loaded.model_config,
      loaded.params,
      [answer.parts for answer in answers],
      batch_size=batch_size,
    )
    np.testing.assert_allclose(packed_BA[0, :3], alone_B, atol=1e-5)
  assert np.ptp(alone_B) > 0.01


@pytest.mark.nightly
def test_micro_batches_change_nothing(workdir, base, pairs, tmp_path):
  """Each prompt counts the same in them, however many answers it has."""
  cfg = dataclasses.replace(CFG, micro_batch=1)
  folder = tmp_path / 'reward_model'
  reward_model.run(cfg, str(folder), base, pairs)
  for whole, parts in zip(losses(workdir), losses(folder), strict=True):
    assert whole[:2] == parts[:2]
    # Adam divides by small numbers, so that the order of sums shows later.
    if whole[0] <= 3:
      pair = float.fromhex(whole[2]), float.fromhex(parts[2])
      assert pair[0] == pytest.approx(pair[1], rel=1e-3)


@pytest.mark.parametrize(
  ('settings', 'fault'),
  [
    ({'loss': 'hinge'}, "loss = 'hinge'; use one of"),
    ({'loss': 'plackett_luce', 'margin': 1.0}, 'are for bradley_terry'),
    ({'evaluate_every': 0}, 'evaluate_every = 0'),
  ],
)
def test_settings_that_do_not_fit_are_refused(settings, fault):
  with pytest.raises(ValueError, match=fault):
    dataclasses.replace(CFG, **settings)
