"""A real run of the loop with a model of one array, for the tests of it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from llm_jax import record
from llm_jax.model import params
from llm_jax.parallel import device_mesh
from llm_jax.train import (
  checkpoint,
  metrics,
  train_state,
  training_loop,
  update,
)

N = 512  # numbers of the model
TX = optax.adam(0.1)


def loss_fn(params, batch, key):
  """Depends on parameters, batch and the step's own randomness."""
  noise = 0.1 * jax.random.normal(key, (1, N))
  x_BT = params['w'][None] * batch['inputs_BT'] + noise
  return jnp.square(x_BT).mean(), {}


def mesh():
  return device_mesh.make(device_mesh.MeshConfig(data=1))


def state_of(arrays, tx=TX, on=None, lines=None):
  """The first state of a run that trains given arrays."""
  return train_state.create(
    lambda key: arrays,
    tx,
    seed=0,
    mesh=on or mesh(),
    lines=params.Table() if lines is None else lines,
  )


def new_state():
  return state_of({'w': jnp.ones(N)})


def batch_fn(step):
  draw = np.random.default_rng(step)
  return {'inputs_BT': draw.normal(size=(2, N)).astype(np.float32)}


@functools.cache
def update_fn():
  return update.make_update_fn(loss_fn, TX, mesh())


def train(
  workdir, cfg, step=None, batches=batch_fn, views=(), flops_per_token=0.0
):
  """Start or resume in a folder; yields what the loop yields."""
  record.begin(workdir, 'test', cfg)
  state, n_done = new_state(), -1
  restored = checkpoint.restore(str(workdir), state)
  if restored is not None:
    state, n_done = restored, int(restored.step)
  loop = training_loop.Loop(
    cfg,
    workdir=str(workdir),
    mesh=mesh(),
    writer=metrics.Writer(str(workdir), n_done, views),
  )
  yield from loop.train(state, step or update_fn(), batches, flops_per_token)


def finish(workdir, cfg, **options):
  """Train to the end; the lines of metrics.jsonl."""
  for _ in train(workdir, cfg, **options):
    pass
  return list(metrics.read(str(workdir / metrics.METRICS)))


def losses(workdir):
  """Of each step, as hex."""
  lines = list(metrics.read(str(workdir / metrics.METRICS)))
  return [(line['step'], line['loss'].hex()) for line in lines]
