"""Learning from preferences without a reward model, from start to resume."""

import dataclasses
import json
import math

import numpy as np
import pytest

from experiments import dpo
from llm_jax import locks
from llm_jax.data import preferences
from llm_jax.losses import preference
from llm_jax.model import lora
from llm_jax.parallel import device_mesh
from llm_jax.train import checkpoint, metrics, training_loop
from tests.experiments import stages

CFG = dpo.Config(
  batch_size=4,
  sequence_length=160,
  evaluate_every=8,
  optimizer=stages.adamw(0.01),
  loop=training_loop.LoopConfig(n_steps=8, save_every=3),
  mesh=device_mesh.MeshConfig(data=1),
)


@pytest.fixture(scope='module')
def pairs(tmp_path_factory):
  rows = [
    {'prompt': f'question {i}', 'chosen': f'yes {i % 7}', 'rejected': 'no'}
    for i in range(40)
  ]
  file = tmp_path_factory.mktemp('pairs') / 'mine.jsonl'
  file.write_text('\n'.join(map(json.dumps, rows)))
  return [str(file)]


@pytest.fixture(scope='module')
def labelled(tmp_path_factory):
  """One answer a prompt, good or not."""
  rows = [
    {'prompt': f'question {i}', 'completion': text, 'label': text != 'no'}
    for i in range(80)
    for text in [(f'yes {i % 7}', 'no')[i % 2]]
  ]
  file = tmp_path_factory.mktemp('labelled') / 'mine.jsonl'
  file.write_text('\n'.join(map(json.dumps, rows)))
  return [str(file)]


@pytest.fixture(scope='module')
def workdir(base, pairs, tmp_path_factory):
  folder = tmp_path_factory.mktemp('stages') / 'dpo'
  dpo.run(CFG, str(folder), base, pairs)
  return folder


def lines(workdir):
  found = metrics.read(str(workdir / metrics.METRICS))
  return [line for line in found if 'loss' in line]


def test_it_starts_at_the_reference_and_learns(workdir):
  first, *_, last = lines(workdir)
  assert first['loss'] == pytest.approx(math.log(2), abs=1e-4)
  assert first['reward_margin'] == pytest.approx(0, abs=1e-4)
  assert last['reward_margin'] > 0.5
  assert last['accuracy'] == 1
  assert last['reward_margin'] == pytest.approx(
    last['reward_chosen'] - last['reward_rejected'], abs=1e-5
  )
  assert last['logp_chosen'] < 0
  done = json.loads((workdir / 'done.json').read_text())
  assert done['accuracy'] == 1
  assert 'held-out pairs right' in done['result']
  model = checkpoint.load_model(str(workdir))
  assert (model.stage, model.is_chat) == ('dpo', True)


def test_resumed_is_uninterrupted_and_reads_the_reference_it_kept(
  base, pairs, workdir, tmp_path, monkeypatch
):
  folder = tmp_path / 'dpo'
  with stages.ended_at(5):
    dpo.run(CFG, str(folder), base, pairs)
  kept = np.load(folder / 'reference_logp.npy')
  assert kept.shape == (80,)
  with monkeypatch.context() as patch:
    # The reference is not asked again: the end alone is.
    asked = []
    logps = dpo.preference_evals.logps
    patch.setattr(
      dpo.preference_evals,
      'logps',
      lambda cfg, params, groups: (
        asked.append(len(groups)) or logps(cfg, params, groups)
      ),
    )
    dpo.run(CFG, str(folder), base, pairs)
  (n_asked,) = asked
  assert n_asked < 10
  assert stages.losses(folder) == stages.losses(workdir)
  ends = [checkpoint.load_model(str(w)) for w in (workdir, folder)]
  assert ends[0].fingerprint == ends[1].fingerprint


@pytest.mark.parametrize(
  ('loss', 'options', 'first'),
  [
    # Where policy and reference are equal: 1/2 of both kinds; and a KL of 0.
    ('kto', {}, 0.5),
    pytest.param('kto of pairs', {}, 0.5, marks=pytest.mark.nightly),
    pytest.param('ipo', {'beta': 0.5}, 1.0, marks=pytest.mark.nightly),
    pytest.param(
      'hinge', {'length_normalised': True}, 1.0, marks=pytest.mark.nightly
    ),
    pytest.param('simpo', {'beta': 2.0}, None, marks=pytest.mark.nightly),
    pytest.param('orpo', {'beta': 0.5}, None, marks=pytest.mark.nightly),
    pytest.param(
      'robust', {'label_smoothing': 0.1}, math.log(2),
      marks=pytest.mark.nightly,
    ),
  ],
)  # fmt: skip
def test_other_losses(loss, options, first, base, pairs, labelled, tmp_path):
  """Adapters are trained, so that the reference is what lies below them."""
  rows = labelled if loss == 'kto' else pairs
  loss = loss.removesuffix(' of pairs')
  cfg = dataclasses.replace(
    CFG, method=preference.Preference(loss, **options), lora=lora.Lora(rank=2)
  )
  dpo.run(cfg, str(tmp_path / 'dpo'), base, rows)
  found = lines(tmp_path / 'dpo')
  if first is not None:
    assert found[0]['loss'] == pytest.approx(first, abs=1e-3)
  margins = [line['reward_chosen'] - line['reward_rejected'] for line in found]
  assert margins[-1] > margins[0] + 0.02
  assert (tmp_path / 'dpo' / 'reference_logp.npy').exists() == (
    loss not in ('simpo', 'orpo')
  )


def test_kto_is_refused_in_parts(base, pairs, tmp_path):
  cfg = dataclasses.replace(
    CFG, method=preference.Preference('kto'), micro_batch=2
  )
  with pytest.raises(
    ValueError, match='kto measures a KL over the whole batch'
  ):
    dpo.run(cfg, str(tmp_path / 'dpo'), base, pairs)
  cfg = dataclasses.replace(cfg, micro_batch=0, sequence_length=80)
  with pytest.raises(ValueError, match='kto adds an answer to another prompt'):
    dpo.run(cfg, str(tmp_path / 'dpo'), base, pairs)
  locks.unlock(tmp_path / 'dpo')


def test_answers_to_other_prompts():
  """The prompt's own ids, then the next prompt's best answer that fits."""

  def group(prompt, *answers):
    return [
      preferences.Answer(
        [*prompt, *ids], [0] * len(prompt) + [1] * len(ids), rank
      )
      for rank, ids in enumerate(answers)
    ]

  groups = [
    group([1] * 3, [2], [3]),
    group([4], [5] * 9, [6]),
    group([7], [8], [9]),
  ]
  first, *_ = preferences.with_mismatched(groups, -1, row_limit=14)
  assert first[:2] == groups[0]
  assert first[2] == preferences.Answer(
    [1, 1, 1, 8], [0, 0, 0, 1], preference.MISMATCHED
  )
  first, *_ = preferences.with_mismatched(groups, -1, row_limit=24)
  assert first[2].token_ids == [1, 1, 1, *[5] * 9]
