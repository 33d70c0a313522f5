"""Meshes: their shapes, and that sharded training is training."""

import functools

import chex
import jax
import numpy as np
import pytest

from llm_jax.losses import next_token
from llm_jax.model import config, transformer
from llm_jax.optim import optimizer
from llm_jax.parallel import mesh as mesh_lib
from llm_jax.train import state as state_lib
from llm_jax.train import update as update_lib

CFG = config.ModelConfig(
  vocab_size=100, n_layers=2, d_model=32, n_heads=4, n_kv_heads=4, head_dim=8,
  d_ff=64,
)  # fmt: skip


def train(mesh_config):
  """Losses and parameters of three steps; AdamW, since it is elementwise.

  Muon's iteration turns rounding of near-zero singular values into visible
  differences, so its sharded run is compared by loss below.
  """
  mesh = mesh_lib.make(mesh_config, 8)
  tx = optimizer.make(optimizer.Optimizer(matrices='adamw', warmup_steps=1), 5)

  def loss_fn(params, batch, key):
    del key
    hidden_BTD, _ = transformer.apply(
      CFG, params, batch['inputs_BT'], batch['positions_BT']
    )
    logp_BT = next_token.token_logp(
      hidden_BTD, params['head'], batch['targets_BT'], CFG.vocab_size
    )
    return next_token.cross_entropy(logp_BT, batch['loss_mask_BT']), {}

  update = update_lib.make_update_fn(loss_fn, tx, mesh)
  state = state_lib.create(
    functools.partial(transformer.init, CFG), tx, 0, mesh
  )
  specs = jax.tree.map(lambda x: x.sharding.spec, state.params)
  random = np.random.default_rng(0)
  losses = []
  for _ in range(3):
    tokens_BT = random.integers(100, size=(8, 17)).astype(np.int32)
    batch = {
      'inputs_BT': tokens_BT[:, :-1],
      'targets_BT': tokens_BT[:, 1:],
      'positions_BT': np.tile(np.arange(16, dtype=np.int32), (8, 1)),
      'loss_mask_BT': random.integers(2, size=(8, 16)).astype(np.float32),
    }
    state, metrics = update(state, mesh_lib.put_batch(mesh, batch))
    losses.append(float(metrics['loss']))
  return losses, jax.device_get(state.params), specs


@pytest.fixture(scope='module')
def single():
  return train(mesh_lib.MeshConfig(data=1))


@pytest.mark.parametrize(
  'axes', [(4, 1, 1), (1, 4, 1), (1, 1, 4), (2, 2, 1), (1, 2, 2)]
)
def test_sharded_equals_single_device(single, axes):
  losses, params, specs = train(mesh_lib.MeshConfig(*axes))
  # Only the order of float32 sums differs.
  np.testing.assert_allclose(losses, single[0], rtol=2e-6)
  # Adam divides by the root of a tiny second moment, which magnifies rounding.
  chex.assert_trees_all_close(params, single[1], atol=2e-4)
  if axes[1] > 1:
    assert 'fsdp' in specs['layers']['wq']
  if axes[2] > 1:
    assert 'tensor' in specs['layers']['gate']
    assert 'tensor' in specs['embedding']


def test_parameters_do_not_depend_on_the_mesh(single):
  def first(mesh_config):
    return jax.device_get(
      state_lib.create(
        functools.partial(transformer.init, CFG),
        optimizer.make(optimizer.Optimizer(), 50),
        3,
        mesh_lib.make(mesh_config),
      ).params
    )

  chex.assert_trees_all_equal(
    first(mesh_lib.MeshConfig(data=1)), first(mesh_lib.MeshConfig(1, 2, 2))
  )


@pytest.mark.parametrize(
  ('mesh_config', 'batch_size', 'expected'),
  [
    (mesh_lib.MeshConfig(), 8, (4, 1, 1)),
    (mesh_lib.MeshConfig(), 6, (3, 1, 1)),
    (mesh_lib.MeshConfig(fsdp=2), 8, (2, 2, 1)),
    (mesh_lib.MeshConfig(tensor=3), 5, (1, 1, 3)),
    (mesh_lib.MeshConfig(data=2), 8, (2, 1, 1)),
  ],
)
def test_data_axis_takes_the_devices_that_divide_the_batch(
  mesh_config, batch_size, expected
):
  mesh = mesh_lib.make(mesh_config, batch_size)
  assert tuple(mesh.shape.values()) == expected


@pytest.mark.parametrize(
  ('mesh_config', 'batch_size', 'message'),
  [
    (mesh_lib.MeshConfig(data=5), 5, 'does not fit 4 devices'),
    (mesh_lib.MeshConfig(fsdp=8), 8, 'does not fit 4 devices'),
    (mesh_lib.MeshConfig(data=4), 6, 'not a multiple of 4 .*; use 8'),
  ],
)  # fmt: skip
def test_impossible_meshes_are_refused(mesh_config, batch_size, message):
  with pytest.raises(ValueError, match=message):
    mesh_lib.make(mesh_config, batch_size)
