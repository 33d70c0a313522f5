"""One process of two that train together; started by processes_test.py."""

import dataclasses
import os
import signal
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import command_line
from llm_jax import record
from llm_jax.model import config, params
from llm_jax.parallel import device_mesh
from llm_jax.train import (
  checkpoint,
  metrics,
  train_state,
  training_loop,
  update,
)

FAULT_STEP = 9


@dataclasses.dataclass(frozen=True)
class Config:
  loop: training_loop.LoopConfig = training_loop.LoopConfig(
    n_steps=16, save_every=4
  )


def run(cfg: Config, workdir: str, fault: str = '') -> None:
  """Train; as the second process, do what the fault says on the way."""
  mesh = device_mesh.make(device_mesh.MeshConfig(fsdp=2))
  tx = optax.adam(0.1)
  init = lambda key: {'embedding': jax.random.normal(key, (8, 4))}  # noqa: E731
  lines = params.table(config.ModelConfig())
  state = train_state.create(init, tx, seed=0, mesh=mesh, lines=lines)

  def loss_fn(params, batch, key):
    noise = jax.random.normal(key, ())
    rows = params['embedding'][batch['inputs_BT']]
    return jnp.square(rows).mean() + noise * 0.01, {}

  index = jax.process_index()
  if not index:
    record.begin(workdir, 'test', cfg)
  own = os.path.join(workdir, f'process_{index}')
  os.makedirs(own, exist_ok=True)
  if index:
    workdir = own  # as a recipe has it; checkpoints are shared all the same
  restored = checkpoint.restore(workdir, state)
  state = restored or state
  done = int(state.step) if restored else -1
  writer = metrics.Writer(own, done)

  def batch_fn(step):
    draw = np.random.default_rng(step)
    return {'inputs_BT': draw.integers(8, size=(4, 3), dtype=np.int32)}

  update_fn = update.make_update_fn(loss_fn, tx, mesh)
  loop = training_loop.Loop(cfg.loop, workdir=workdir, mesh=mesh, writer=writer)
  for step, _ in loop.train(state, update_fn, batch_fn):
    if fault == 'slow':  # so that a signal finds it under way
      print(f'at step {step}', flush=True)
      time.sleep(0.2)
    if index and step == FAULT_STEP and fault not in ('', 'slow'):
      print(time.time(), flush=True)
      if fault == 'kill':
        os.kill(os.getpid(), signal.SIGKILL)
      elif fault == 'exception':
        raise RuntimeError('a planted bug')
      elif fault == 'hang':
        time.sleep(3600)


if __name__ == '__main__':
  port, process_id, *argv = sys.argv[1:]
  jax.config.update('jax_platforms', 'cpu')
  jax.config.update('jax_num_cpu_devices', 1)
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  jax.distributed.initialize(
    f'127.0.0.1:{port}', 2, int(process_id), heartbeat_timeout_seconds=10
  )
  sys.argv[1:] = argv
  command_line.main(Config, run, fault='what the second process does')
