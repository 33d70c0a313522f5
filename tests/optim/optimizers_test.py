"""Schedules by hand, and which rule moves which parameter."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llm_jax.model import config
from llm_jax.model import params as param_table
from llm_jax.optim import optimizers
from tests.model import start_params

CFG = config.ModelConfig(
  vocab_size=20, n_layers=2, d_model=16, n_heads=2, n_kv_heads=1, head_dim=8,
  d_ff=32,
)  # fmt: skip


@pytest.mark.parametrize(
  ('schedule', 'changes', 'expected'),
  [
    ('linear', {}, [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]),
    ('constant', {}, [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
    ('cosine', {}, [0.5, 1.0, 1.0, 0.8536, 0.5, 0.1464, 0.0]),
    ('linear', {'final_share': 0.2}, [0.5, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2]),
    ('cosine', {'final_share': 0.2}, [0.5, 1.0, 1.0, 0.8828, 0.6, 0.3172, 0.2]),
    # 2 steps up, 3 at the peak, the last 5 of 10 down to a tenth.
    (
      'wsd',
      {'decay_share': 0.5, 'final_share': 0.1},
      [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.82, 0.64, 0.46, 0.28, 0.1],
    ),
    # The decay may begin where the warmup ends.
    (
      'wsd',
      {'decay_share': 0.8},
      [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0.0],
    ),
  ],
)
def test_warmup_then_schedule(schedule, changes, expected):
  """Over the steps of the run; behind it the rate stays at its end."""
  cfg = optimizers.Optimizer(warmup_steps=2, schedule=schedule, **changes)
  rate = optimizers.learning_rate(cfg, 1.0, len(expected) - 1)
  got = [float(rate(step)) for step in range(len(expected) + 1)]
  # Cosines are written with four digits.
  atol = 1e-4 if schedule == 'cosine' else 1e-6
  np.testing.assert_allclose(got, [*expected, expected[-1]], atol=atol)


def test_warmup_that_reaches_into_the_decay_is_refused():
  cfg = optimizers.Optimizer(warmup_steps=4, schedule='wsd', decay_share=0.7)
  with pytest.raises(ValueError, match='warmup_steps 3, or decay_share 0.6$'):
    optimizers.learning_rate(cfg, 1.0, 10)
  cfg = dataclasses.replace(cfg, decay_share=0.6)
  assert float(optimizers.learning_rate(cfg, 1.0, 10)(4)) == 1.0


def test_warmup_as_long_as_the_run_is_refused():
  cfg = optimizers.Optimizer(warmup_steps=6)
  with pytest.raises(ValueError, match='warmup_steps = 6 leaves nothing of 6'):
    optimizers.learning_rate(cfg, 1.0, 6)


MODEL = dataclasses.replace(CFG, n_experts=3, d_shared=32)


@pytest.fixture(scope='module')
def params():
  return start_params.init(MODEL)


def first_update(cfg, params):
  tx = optimizers.make(cfg, 10, param_table.table(MODEL))
  grads = jax.tree.map(
    lambda x: jax.random.normal(jax.random.key(x.size), x.shape), params
  )

  @jax.jit
  def update(grads):
    return tx.update(grads, tx.init(params), params)[0]

  return update(grads)


@pytest.fixture(scope='module')
def muon_update(params):
  cfg = optimizers.Optimizer(
    matrix_lr=0.1, peak_lr=0.01, warmup_steps=1, clip_norm=0.0
  )
  return first_update(cfg, params)


def test_muon_moves_matrices_along_orthogonal_directions(muon_update):
  """Singular values of a layer's update are near the learning rate.

  The Newton-Schulz iteration takes all but the least of them into about
  [0.7, 1.2]; a random matrix has them from 0 to 2. A matrix that widens by r
  is scaled by sqrt(r).
  """
  updates = muon_update['layers']
  for name, shape, widening in (
    ('wq', (16, 16), 1), ('wk', (16, 8), 1), ('wo', (16, 16), 1),
    ('gate', (16, 32), 2), ('down', (32, 16), 1),
    ('expert_up', (16, 32), 2), ('expert_down', (32, 16), 1),
  ):  # fmt: skip
    for w in np.asarray(updates[name]).reshape(-1, *shape):
      values = np.linalg.svd(w, compute_uv=False) / 0.1 / np.sqrt(widening)
      assert np.quantile(values, 0.1) > 0.6, name
      assert values.max() < 1.3, name


def test_adamw_moves_the_rest_by_the_sign_of_the_gradient(params, muon_update):
  """AdamW's first step is -lr * sign(gradient), up to its epsilon."""
  updates = muon_update
  for name in ('embedding', 'head'):
    np.testing.assert_allclose(np.abs(updates[name]), 0.01, rtol=1e-3)
  np.testing.assert_allclose(
    np.abs(updates['layers']['q_norm']['scale']), 0.01, rtol=1e-3
  )
  everything = optimizers.Optimizer(
    matrices='adamw', peak_lr=0.01, warmup_steps=1, clip_norm=0.0
  )
  updates = first_update(everything, params)
  np.testing.assert_allclose(np.abs(updates['layers']['wq']), 0.01, rtol=1e-3)


def test_weight_decay_spares_biases_and_position_rows_decay():
  cfg = optimizers.Optimizer(
    matrices='adamw', warmup_steps=1, clip_norm=0.0, weight_decay=0.5
  )
  layout = dataclasses.replace(
    CFG, norm='layer', bias='all', positions='learned', max_length=8
  )
  params = jax.tree.map(jnp.ones_like, start_params.init(layout))
  tx = optimizers.make(cfg, 10, param_table.table(layout))
  zero = jax.tree.map(jnp.zeros_like, params)
  updates, _ = tx.update(zero, tx.init(params), params)
  decayed = {
    path[-1].key
    for path, x in jax.tree_util.tree_leaves_with_path(updates)
    if float(jnp.abs(x).max()) > 0
  }
  assert decayed == {
    *('wq', 'wk', 'wv', 'wo', 'gate', 'up', 'down'),
    *('embedding', 'position_embedding', 'head'),
  }


def test_weight_decay_spares_norm_scales(params, muon_update):
  cfg = optimizers.Optimizer(
    matrix_lr=0.1, peak_lr=0.01, warmup_steps=1, clip_norm=0.0,
    weight_decay=0.5,
  )  # fmt: skip
  decayed = first_update(cfg, params)
  change = jax.tree.map(
    lambda a, b: float(jnp.abs(a - b).max()), muon_update, decayed
  )
  assert change['final_norm']['scale'] == 0
  assert change['layers']['q_norm']['scale'] == 0
  assert change['embedding'] > 0
  assert change['layers']['gate'] > 0


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'matrices': 'lion'}, "Optimizer.matrices = 'lion'; use muon or adamw"),
    ({'schedule': 'step'}, "Optimizer.schedule = 'step'; use cosine"),
    ({'peak_lr': -1.0}, 'Optimizer.peak_lr = -1.0; use 0 or more'),
    ({'decay_share': 1.5}, 'Optimizer.decay_share = 1.5; use a share from 0'),
    ({'final_share': -0.1}, 'Optimizer.final_share = -0.1; use a share'),
  ],
)
def test_wrong_values_are_refused(values, message):
  with pytest.raises(ValueError, match=message):
    optimizers.Optimizer(**values)
