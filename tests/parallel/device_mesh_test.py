"""Meshes: their shapes, and that sharded training is training."""

import functools
import itertools
import re
import types

import chex
import jax
import numpy as np
import optax
import pytest

from llm_jax.losses import next_token
from llm_jax.model import config, likelihood, params, transformer
from llm_jax.parallel import device_mesh
from llm_jax.train import train_state
from tests.model import start_params

CFG = config.ModelConfig(
  vocab_size=100, n_layers=2, d_model=32, n_heads=8, n_kv_heads=4, head_dim=8,
  d_ff=16, n_experts=8, d_shared=64, unroll_layers=False,
)  # fmt: skip
LINES = params.table(CFG)
AXES = ('data', 'fsdp', 'tensor', 'context', 'expert')
# Every pair of axes is in one of these.
TRIPLES = [
  dict.fromkeys(axes, 2)
  for axes in (
    ('data', 'fsdp', 'tensor'),
    ('data', 'context', 'expert'),
    ('fsdp', 'context', 'expert'),
    ('tensor', 'context', 'expert'),
  )
]
# Every axis alone and in pairs, on as many of eight devices as it can take.
ALONE = [{axis: 4 if axis == 'tensor' else 8} for axis in AXES]
PAIRS = [{a: 4, b: 2} for a, b in itertools.combinations(AXES, 2)]


def mesh_config(**axes):
  return device_mesh.MeshConfig(**{'data': 1, **axes})


def random_batch(random):
  tokens_BT = random.integers(100, size=(8, 17)).astype(np.int32)
  return {
    'inputs_BT': tokens_BT[:, :-1],
    'targets_BT': tokens_BT[:, 1:],
    'positions_BT': np.tile(np.arange(16, dtype=np.int32), (8, 1)),
    'segment_ids_BT': np.sort(random.integers(3, size=(8, 16))),
    'loss_mask_BT': random.integers(2, size=(8, 16)).astype(np.float32),
  }


def loss_fn(params, batch):
  logp_BT, _, balance = likelihood.of_targets(CFG, params, batch)
  loss = next_token.cross_entropy(logp_BT, batch['loss_mask_BT'])
  return loss + 0.1 * balance, {'balance': balance}


@functools.cache
def first_params():
  shapes = params.abstract(LINES)
  return start_params.random_like(shapes, seed=1, mean=0.5, scale=0.2)


# Most of the time goes into machine code that runs twice. One collective at a
# time: with several under way, eight devices on two cores can wait for each
# other until XLA gives up.
@functools.partial(
  jax.jit,
  compiler_options={
    'xla_backend_optimization_level': 0,
    'xla_cpu_enable_concurrency_optimized_scheduler': False,
  },
)
def step(params, batch):
  """Gradient descent, so that parameters differ no more than gradients."""
  grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
  (loss, metrics), grads = grad_fn(params, batch)
  params = jax.tree.map(lambda x, grad: x - 0.1 * grad, params, grads)
  return params, metrics | {'loss': loss}


def train(mesh_cfg):
  """Losses and parameters of two steps, and how parameters were split."""
  mesh = device_mesh.make(mesh_cfg, 8)
  shardings = params.shardings(LINES, mesh)
  random = np.random.default_rng(0)
  losses = []
  with jax.set_mesh(mesh):
    trained = jax.device_put(first_params(), shardings)
    shapes = jax.tree.map(lambda x: x.addressable_shards[0].data.shape, trained)
    for _ in range(2):
      batch = device_mesh.put_batch(mesh, random_batch(random))
      trained, metrics = step(trained, batch)
      losses += [float(metrics['loss']), float(metrics['balance'])]
  return losses, jax.device_get(trained), shapes


@pytest.fixture(scope='module')
def single():
  return train(mesh_config())


@pytest.mark.parametrize(
  'axes',
  TRIPLES
  + [pytest.param(axes, marks=pytest.mark.nightly) for axes in ALONE + PAIRS],
  ids=str,
)
def test_sharded_equals_single_device(single, axes):
  losses, trained, shapes = train(mesh_config(**axes))
  # Only the order of float32 sums differs.
  np.testing.assert_allclose(losses, single[0], rtol=1e-5)
  chex.assert_trees_all_close(trained, single[1], atol=2e-5)
  layers, whole = shapes['layers'], single[2]['layers']
  parts = {axis: axes.get(axis, 1) for axis in AXES}
  for name, n_parts in {
    'wq': parts['fsdp'] * parts['tensor'],
    'wo': parts['fsdp'] * parts['tensor'],
    'down': parts['fsdp'] * parts['tensor'],
    'expert_up': parts['expert'] * parts['fsdp'] * parts['tensor'],
    'expert_down': parts['expert'] * parts['fsdp'] * parts['tensor'],
  }.items():
    assert np.prod(layers[name]) * n_parts == np.prod(whole[name]), name


def test_tokens_stay_split_over_context():
  """No part holds another's activations; keys alone are gathered."""
  mesh = device_mesh.make(mesh_config(context=4), 8)
  with jax.set_mesh(mesh):
    placed = jax.device_put(first_params(), params.shardings(LINES, mesh))
    batch = device_mesh.put_batch(mesh, random_batch(np.random.default_rng(0)))
    run = jax.jit(functools.partial(transformer.apply, CFG))
    compiled = run.lower(
      placed, batch['inputs_BT'], batch['positions_BT']
    ).compile()
  assert compiled.output_shardings[0].spec[1] == 'context'
  text = compiled.as_text()
  assert 'f32[8,4,4,2,16]' in text  # scores of 4 queries against 16 keys
  assert not re.search(r'f32\[8,4,(16,2|32),16\]', text)


def test_parameters_do_not_depend_on_the_mesh():
  cfg = config.ModelConfig(vocab_size=100, n_layers=1, unroll_layers=False)

  def first(mesh_cfg):
    return jax.device_get(
      train_state.create(
        functools.partial(transformer.init, cfg),
        optax.sgd(0.1),
        seed=3,
        mesh=device_mesh.make(mesh_cfg),
        lines=params.table(cfg),
      ).params
    )

  chex.assert_trees_all_equal(
    first(mesh_config()), first(mesh_config(fsdp=2, tensor=3))
  )


@pytest.mark.parametrize(
  ('axes', 'batch_size', 'expected'),
  [
    ({}, 8, (8, 1, 1, 1, 1)),
    ({}, 6, (6, 1, 1, 1, 1)),
    ({'fsdp': 2}, 8, (4, 2, 1, 1, 1)),
    ({'tensor': 3}, 5, (1, 1, 3, 1, 1)),
    ({'data': 2}, 8, (2, 1, 1, 1, 1)),
    ({'context': 2, 'expert': 2}, 4, (2, 1, 1, 2, 2)),
  ],
)
def test_data_axis_takes_the_devices_that_divide_the_batch(
  axes, batch_size, expected
):
  mesh = device_mesh.make(device_mesh.MeshConfig(**axes), batch_size)
  assert tuple(mesh.shape.values()) == expected
  assert mesh.axis_names == AXES


@pytest.mark.parametrize(
  ('axes', 'batch_size', 'message'),
  [
    ({'data': 9}, 9, 'does not fit 8 devices'),
    ({'fsdp': 16}, 16, 'does not fit 8 devices'),
    ({'data': 2, 'expert': 2}, 6, 'not a multiple of 4 .*expert 2.; use 8'),
  ],
)  # fmt: skip
def test_impossible_meshes_are_refused(axes, batch_size, message):
  with pytest.raises(ValueError, match=message):
    device_mesh.make(device_mesh.MeshConfig(**axes), batch_size)


def test_experts_that_do_not_divide_are_refused():
  cfg = config.ModelConfig(**{**vars(CFG), 'n_experts': 6})
  mesh = device_mesh.make(mesh_config(expert=4))
  with (
    jax.set_mesh(mesh),
    pytest.raises(ValueError, match='n_experts 6 is not a multiple of .* 4'),
  ):
    jax.eval_shape(lambda: transformer.init(cfg, jax.random.key(0)))


class Chip(types.SimpleNamespace):
  """A device that is not there."""

  __hash__ = object.__hash__


def slices(n_slices, n_each, n_processes=1):
  """Stand-ins for TPU chips, of which the mesh reads these attributes."""
  return [
    Chip(
      id=i, slice_index=i // n_each, platform='tpu', device_kind='TPU v4',
      process_index=i * n_processes // (n_slices * n_each),
      coords=(i % n_each, 0, 0), core_on_chip=0,
    )
    for i in range(n_slices * n_each)
  ]  # fmt: skip


def test_only_the_data_axis_runs_between_slices():
  mesh = device_mesh.make(
    device_mesh.MeshConfig(fsdp=4, tensor=2), devices=slices(2, 16)
  )
  assert tuple(mesh.shape.values()) == (4, 4, 2, 1, 1)
  at = np.vectorize(lambda device: device.slice_index)(mesh.devices)
  assert [set(row.ravel()) for row in at] == [{0}, {0}, {1}, {1}]


@pytest.mark.parametrize(
  ('axes', 'devices', 'message'),
  [
    ({'fsdp': 32}, slices(2, 16), 'a multiple of 2 for data'),
    ({'fsdp': 8, 'data': 2}, slices(2, 16), '16 of 32 devices .* 2 slices'),
    ({'fsdp': 8, 'data': 1}, slices(1, 16, 4), '8 of 16 .* in 4 processes'),
  ],
)
def test_devices_left_out_and_split_slices_are_refused(axes, devices, message):
  with pytest.raises(ValueError, match=message):
    device_mesh.make(device_mesh.MeshConfig(**axes), devices=devices)
