"""Demonstrations beside answers, by hand and in a run."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import rl
from llm_jax.chat import template
from llm_jax.rl import algorithms, demonstrations, learn, rollout
from llm_jax.tasks import addition
from llm_jax.train import metrics, update
from tests.evals import tiny_checkpoint
from tests.experiments import rl_test
from tests.rl import tiny_stage

# Answers of one token behind one of the prompt; conversations of 3 and 2.
BATCH = rollout.training_batch(
  [tiny_stage.group([1], [([5], [-1.0]), ([6], [-2.0])])] * 2, 2
)
BATCH |= {'advantage_BT': np.array([[1.0], [-1], [0.5], [-0.5]], 'f4')}
BATCH |= {'weight_BT': np.ones((4, 2), 'f4')}
ROWS = [
  template.Rendered([7, 8, 9], [0, 1, 1]),
  template.Rendered([7, 9], [0, 1]),
]
TAUGHT = demonstrations.Demonstrations(
  demonstrations.Ptx(n_rows=2, coefficient=0.5), ROWS, seed=0
)


def test_rows_by_hand():
  found = TAUGHT.beside(BATCH, number=0)
  order = [0, 1] if found['inputs_BT'][4].tolist() == [7, 8] else [1, 0]
  rows = {
    name: found[name][4:][order].tolist()
    for name in ('inputs_BT', 'targets_BT', 'positions_BT', 'ptx_weight_BT')
  }
  # Half of the 4 tokens of answers, over the 3 that are learnt of these.
  weight = pytest.approx(0.5 * 4 / 3)
  assert rows == {
    'inputs_BT': [[7, 8], [7, 9]],
    'targets_BT': [[8, 9], [9, 0]],
    'positions_BT': [[0, 1], [0, 1]],
    'ptx_weight_BT': [[weight, weight], [weight, 0]],
  }
  assert not found['ptx_weight_BT'][:4].any()
  for name, values in BATCH.items():
    np.testing.assert_array_equal(found[name][:4], values)
    assert found[name].dtype == values.dtype
    if name not in rows:
      assert not found[name][4:].any(), name


def test_every_row_comes_once_an_epoch():
  """Whatever the number of updates that were before."""
  rows = [template.Rendered([n, n], [0, 1]) for n in range(10, 15)]
  taught = dataclasses.replace(TAUGHT, rows=rows)
  seen = [
    token
    for number in range(5)
    for token in taught.beside(BATCH, number)['inputs_BT'][4:, 0]
  ]
  assert sorted(seen[:10]) == sorted([*range(10, 15)] * 2)


@pytest.mark.parametrize('n_micro', [1, 2])
def test_the_loss_is_the_policys_and_a_part_of_that_of_sft(n_micro):
  """In gradients too, and in parts as in a whole."""
  start_BT = jax.random.normal(jax.random.key(0), (6, 2)) - 3
  batch = TAUGHT.beside(BATCH, number=0)
  batch |= {'row_BT': np.arange(6)[:, None]}

  def loss_fn(logp_BT, part, key):
    del key
    row_B = jnp.asarray(part['row_BT'])[:, 0]
    return algorithms.loss(algorithms.Algorithm(), logp_BT[row_B], batch=part)

  fn = jax.value_and_grad(loss_fn, has_aux=True)
  if n_micro > 1:
    fn = update.accumulated(fn, n_micro)
  (loss, found), gradient_BT = fn(start_BT, batch, jax.random.key(0))
  weight_BT = batch.pop('ptx_weight_BT')
  (alone, _), alone_BT = jax.value_and_grad(loss_fn, has_aux=True)(
    start_BT, batch, jax.random.key(0)
  )
  is_learnt_BT = weight_BT > 0
  nll = -start_BT[is_learnt_BT].mean()
  np.testing.assert_allclose(loss, alone + 0.5 * nll, rtol=1e-5)
  np.testing.assert_allclose(
    gradient_BT, alone_BT - 0.5 * is_learnt_BT / 3, atol=1e-6
  )
  ptx_loss, weight = found['ptx_loss']
  np.testing.assert_allclose(ptx_loss / weight, nll, rtol=1e-5)


def test_each_update_of_a_run_has_others():
  """Of two epochs with two minibatches each, and of the next step."""
  taught = dataclasses.replace(
    TAUGHT, rows=[template.Rendered([n, n], [0, 1]) for n in range(10, 26)]
  )
  learner = dataclasses.replace(
    tiny_stage.learner(
      None,
      algorithms.Algorithm(),
      updates=learn.Updates(n_epochs=2, n_minibatches=2),
    ),
    taught=taught,
  )
  batch = {name: x for name, x in BATCH.items() if name != 'weight_BT'}
  seen = [
    token
    for step in (1, 2)
    for made in learn.minibatches(learner, batch, step)
    for token in made['inputs_BT'][2:, 0]
  ]
  assert sorted(seen) == [*range(10, 26)]


def test_a_run_learns_what_is_given_and_says_so(tmp_path):
  base = tiny_checkpoint.write(tmp_path / 'base', is_chat=True)
  talks = [
    [
      {'role': 'user', 'content': 'Who?'},
      {'role': 'assistant', 'content': text},
    ]
    for text in ('me', 'me', 'x' * 90)
  ]
  file = tmp_path / 'who.jsonl'
  file.write_text('\n'.join(json.dumps({'messages': talk}) for talk in talks))
  cfg = rl_test.config_of(
    addition.Addition(),
    preset='',
    updates=learn.Updates(micro_batch=4),
    ptx=demonstrations.Ptx(n_rows=4),
    evaluate_every=100,
  )
  workdir = tmp_path / 'rl'
  rl.run(cfg, str(workdir), str(base), conversations=[str(file)])
  lines = metrics.read(str(workdir / metrics.METRICS))
  losses = [line['ptx_loss'] for line in lines if 'ptx_loss' in line]
  assert losses[-1] < losses[0] - 0.2
  run = json.loads((workdir / 'run.json').read_text())
  problems, taught = run['mixture']
  assert taught == {
    'source': 'demonstrations', 'problems': 2, 'tokens': taught['tokens'],
    'share': pytest.approx(1 / 3), 'epochs': pytest.approx(6 * 4 / 2),
  }  # fmt: skip
  assert problems['share'] == pytest.approx(2 / 3)
  assert 'conversations who' in run['inputs']
