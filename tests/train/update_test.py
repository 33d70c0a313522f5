"""A step that is not finite changes nothing but the counters."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from llm_jax.model import config, lora, params
from llm_jax.optim import optimizers
from llm_jax.parallel import device_mesh
from llm_jax.train import train_state, update
from tests.train import tiny_run


def loss_fn(params, batch, key):
  noise = jax.random.normal(key, ())
  loss = (params['w'] * batch['x']).sum()
  return loss, {'noise': noise}


LINES = params.table(config.ModelConfig())
W = params.Table(w=LINES['final_norm/scale'])


def start(w, loss_fn=loss_fn, tx=tiny_run.TX, axes=(1,), n_micro=1):
  mesh = device_mesh.make(device_mesh.MeshConfig(*axes))
  state = tiny_run.state_of({'w': w}, tx, mesh, W)
  return update.make_update_fn(loss_fn, tx, mesh, n_micro), state


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_bad_batch_leaves_parameters_and_moments_alone(bad):
  update_fn, state = start(jnp.ones(3))
  good = {'x': np.array([1.0, 2.0, 3.0], np.float32)}
  state, _ = update_fn(state, good)
  before = jax.device_get((state.params, state.opt_state))
  worse = {'x': np.array([1.0, bad, 3.0], np.float32)}
  for n in (1, 2):
    state, metrics = update_fn(state, worse)
    assert int(metrics['skipped']) == n
    chex.assert_trees_all_equal(
      jax.device_get((state.params, state.opt_state)), before
    )
  state, metrics = update_fn(state, good)
  assert int(metrics['skipped']) == 0
  assert int(state.step) == 4
  assert (np.asarray(state.params['w']) != before[0]['w']).all()


def test_infinite_gradient_of_a_finite_loss_is_skipped():
  """The root at 0 is 0, and infinitely steep."""
  update_fn, state = start(
    jnp.ones(2),
    lambda params, batch, key: (jnp.sqrt((params['w'] - batch).sum()), {}),
  )
  state, _ = update_fn(state, np.zeros(2, np.float32))
  before = jax.device_get((state.params, state.opt_state))
  state, metrics = update_fn(state, before[0]['w'])
  assert float(metrics['loss']) == 0
  assert np.isinf(metrics['grad_norm'])
  assert int(metrics['skipped']) == 1
  chex.assert_trees_all_equal(
    jax.device_get((state.params, state.opt_state)), before
  )
  state, metrics = update_fn(state, np.zeros(2, np.float32))
  assert int(metrics['skipped']) == 0


def test_spike_is_clipped_and_not_remembered():
  """A gradient a thousand times too long moves as one of clip_norm does."""
  tx = optimizers.make(optimizers.Optimizer(warmup_steps=1), 9, W)
  x = np.array([1.0, 2.0, 3.0], np.float32)  # longer than clip_norm
  ends = []
  for spike in (1.0, 1e3):
    update_fn, state = start(jnp.ones(3), tx=tx)
    for scale in (1.0, spike, 1.0):
      state, metrics = update_fn(state, {'x': x * scale})
      assert int(metrics['skipped']) == 0
    ends.append(jax.device_get((state.params, state.opt_state)))
  # Only the rounding of the gradient's length differs.
  chex.assert_trees_all_close(*ends, rtol=1e-6)


def test_each_step_draws_its_own_randomness_and_none_is_compiled_again():
  update_fn, state = start(jnp.ones(3))
  noises = set()
  for _ in range(3):
    state, metrics = update_fn(state, {'x': np.ones(3, np.float32)})
    noises.add(float(metrics['noise']))
  assert len(noises) == 3
  assert update_fn._cache_size() == 1


def mean_loss(params, batch, key):
  """A mean over the mask, and metrics of both kinds."""
  del key
  mask_BT = batch['loss_mask_BT']
  error_BT = (batch['x_BT'] - params['w']) ** 2 * mask_BT
  n = jnp.maximum(mask_BT.sum(), 1)
  return error_BT.sum() / n, {
    'ratio': (error_BT.sum(), batch['n_bytes_B'].sum()),
    'targets': mask_BT.sum(),
  }


@pytest.mark.parametrize('axes', [(1, 1, 1), (2, 2, 1)])
@pytest.mark.parametrize('n_micro', [2, 4])
def test_micro_batches_are_the_whole_batch(axes, n_micro):
  """Rows differ in their tokens, and some micro-batch has none at all."""
  mesh = device_mesh.make(device_mesh.MeshConfig(*axes))
  random = np.random.default_rng(0)
  mask_BT = (random.random((16, 4)) < 0.5).astype(np.float32)
  mask_BT[::2] *= np.arange(8)[:, None] > 6
  mask_BT[1::4] = 0
  batch = {
    'x_BT': random.normal(size=(16, 4)).astype(np.float32),
    'loss_mask_BT': mask_BT,
    'n_bytes_B': random.integers(1, 9, size=16).astype(np.float32),
  }
  found = []
  for n in (1, n_micro):
    update_fn, state = start(jnp.ones(()), mean_loss, optax.sgd(1.0), axes, n)
    state, metrics = update_fn(state, device_mesh.put_batch(mesh, batch))
    found.append(jax.device_get((state.params, metrics)))
  # Only the order of float32 sums differs.
  chex.assert_trees_all_close(*found, rtol=1e-6)
  assert found[1][1]['targets'] == mask_BT.sum()


def test_an_optimizer_sees_the_parameters_that_are_given():
  """One that keeps a copy of them, as for a mean, starts from the right one."""
  mesh = device_mesh.make(device_mesh.MeshConfig(data=1))
  given = {'w': jnp.arange(3.0)}
  keeps = optax.GradientTransformation(lambda x: x, lambda g, s, p=None: (g, s))
  states = [
    train_state.create(
      lambda key: {'w': jax.random.normal(key, 3)},
      keeps,
      seed=5,
      mesh=mesh,
      lines=W,
      given=params_of_run,
    )
    for params_of_run in (given, None)
  ]
  chex.assert_trees_all_equal(states[0].params, given)
  chex.assert_trees_all_equal(states[0].opt_state, given)
  assert jnp.array_equal(states[0].key, states[1].key)
  assert not jnp.array_equal(states[1].params['w'], given['w'])


@pytest.mark.parametrize('axes', [(1, 1, 1), (2, 2, 1)])
@pytest.mark.parametrize('n_micro', [1, 4])
def test_adapters_are_trained_and_their_base_is_not(axes, n_micro):
  """By hand: the gradient of the second step, when b is no longer 0."""
  mesh = device_mesh.make(device_mesh.MeshConfig(*axes))
  random = np.random.default_rng(0)
  w, y = random.normal(size=(2, 8, 6)).astype(np.float32)
  base = {'head': w, 'final_norm': {'scale': np.ones(6, np.float32)}}
  base = jax.device_put(base, NamedSharding(mesh, PartitionSpec()))
  cfg, tx = lora.Lora(rank=2, alpha=6.0, pattern='head'), optax.sgd(0.1)
  lines = params.Table(head=dataclasses.replace(LINES['head'], shape=w.shape))
  lines = lora.trained(cfg, lines)
  init = functools.partial(lora.init, lines)
  state = train_state.create(init, tx, seed=0, mesh=mesh, lines=lines)
  state = dataclasses.replace(state, base=base, adapters=cfg)

  def loss_fn(params, batch, key):
    del key
    mask_B1 = batch['loss_mask_BT']
    error = (params['head'] - y)[None] * batch['x_B'][:, None, None]
    loss_B1 = 0.5 * jnp.square(error).sum(axis=(1, 2))[:, None]
    return (loss_B1 * mask_B1).sum() / jnp.maximum(mask_B1.sum(), 1), {}

  batch = {
    'x_B': random.normal(size=16).astype(np.float32),
    'loss_mask_BT': (np.arange(16)[:, None] % 3 > 0).astype(np.float32),
  }
  x2 = np.average(batch['x_B'] ** 2, weights=batch['loss_mask_BT'][:, 0])
  a, b = (np.asarray(state.params['head'][name]) for name in 'ab')
  update_fn = update.make_update_fn(loss_fn, tx, mesh, n_micro)
  for _ in range(2):
    state, _ = update_fn(state, device_mesh.put_batch(mesh, batch))
    dw = x2 * (w + 3.0 * a @ b - y)
    a, b = a - 0.1 * 3.0 * dw @ b.T, b - 0.1 * 3.0 * a.T @ dw
  chex.assert_trees_all_close(
    jax.device_get(state.params), {'head': {'a': a, 'b': b}}, rtol=1e-4
  )
  np.testing.assert_array_equal(state.base['head'], w)
  np.testing.assert_array_equal(state.base['final_norm']['scale'], 1)
