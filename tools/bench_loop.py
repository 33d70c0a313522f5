"""What the loop costs beside its steps: the console, views, and checkpoints.

  python -m tools.bench_loop --size 1m
  python -m tools.bench_loop --size 10m --views tensorboard

Trains on one batch of random tokens, in turns with everything shown (a line at
each tenth step, and the views that are named) and with nothing but
metrics.jsonl, and compares steps. Then takes checkpoints: how long a save holds
the loop up, and how long it takes until it is on disk. The last line is one
JSON object. Does not measure what a recipe does in its turn.
"""

import functools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from experiments import process
from llm_jax import record, types
from llm_jax.losses import next_token
from llm_jax.model import config, likelihood, params, sizes, transformer
from llm_jax.optim import optimizers
from llm_jax.parallel import device_mesh
from llm_jax.train import (
  checkpoint,
  metrics,
  monitoring,
  train_state,
  training_loop,
  update,
)

_SIZE = flags.DEFINE_string('size', '1m', 'named size; see llm_jax.model.sizes')
_LENGTH = flags.DEFINE_integer('length', 256, 'tokens of a row')
_ROWS = flags.DEFINE_integer('rows', 8, 'rows of a batch')
_BLOCKS = flags.DEFINE_integer('blocks', 12, 'times that the two take turns')
_BLOCK_STEPS = flags.DEFINE_integer('block_steps', 20, 'steps of a turn')
_SAVES = flags.DEFINE_integer('saves', 5, 'checkpoints that are taken')
_VIEWS = flags.DEFINE_list('views', [], 'of the loop: tensorboard, wandb')


def main(argv: Sequence[str]) -> None:
  """Measure and print."""
  del argv
  process.set_up_logging(0)
  process.set_up_jax()
  cfg, mesh = (
    sizes.by_name(_SIZE.value),
    device_mesh.make(device_mesh.MeshConfig(1)),
  )
  n_steps = _BLOCKS.value * _BLOCK_STEPS.value + 2
  lines = params.table(cfg)
  tx = optimizers.make(optimizers.Optimizer(), n_steps, lines)
  update_fn = update.make_update_fn(functools.partial(_loss, cfg), tx, mesh)
  tokens_BT = np.random.default_rng(0).integers(
    cfg.vocab_size, size=(_ROWS.value, _LENGTH.value + 1), dtype=np.int32
  )
  batch = {
    'inputs_BT': tokens_BT[:, :-1],
    'targets_BT': tokens_BT[:, 1:],
    'positions_BT': np.zeros_like(tokens_BT[:, 1:])
    + np.arange(_LENGTH.value, dtype=np.int32),
  }

  def new_state() -> train_state.TrainState:
    init = functools.partial(transformer.init, cfg)
    return train_state.create(init, tx, seed=0, mesh=mesh, lines=lines)

  with tempfile.TemporaryDirectory() as workdir:
    views = tuple(_VIEWS.value)
    loop_cfg = training_loop.LoopConfig(
      n_steps, n_steps, monitoring.Watch(views=views)
    )
    record.begin(workdir, 'bench', loop_cfg)
    writer = metrics.Writer(
      workdir, -1, monitoring.open_views(loop_cfg.watch, workdir, -1)
    )
    loop = training_loop.Loop(
      loop_cfg, workdir=workdir, mesh=mesh, writer=writer
    )
    flops = params.train_flops_per_token(cfg, _LENGTH.value)
    trained = loop.train(
      new_state(), update_fn, lambda step: batch, flops_per_token=flops
    )
    shown = (state for _, state in trained)
    bare = _bare(new_state(), update_fn, batch=batch, mesh=mesh)
    seconds = _in_turns({'shown': shown, 'bare': bare})
    for _ in shown:  # the rest of it, with its checkpoint
      pass
  changes = [s / b - 1 for s, b in zip(*seconds.values(), strict=True)]
  result = {
    'size': _SIZE.value,
    'views': views,
    **{f'{k}_ms': statistics.median(v) * 1e3 for k, v in seconds.items()},
    'slower_percent': statistics.median(changes) * 100,
    'slower_percent_spread': [min(changes) * 100, max(changes) * 100],
    **_saves(new_state()),
  }
  for name, value in result.items():
    print(f'{name:<24}{value}', file=sys.stderr)
  print(json.dumps(result))


def _loss(
  cfg: config.ModelConfig, params: types.Params, batch: types.Batch, key
) -> tuple[jax.Array, types.Metrics]:
  del key
  logp_BT = likelihood.of_targets(cfg, params, batch).logp_BT
  return next_token.cross_entropy(logp_BT, jnp.ones_like(logp_BT)), {}


def _bare(state, update_fn, batch, mesh) -> Iterator[train_state.TrainState]:
  """The least that a loop does: place a batch, update, look at the loss."""
  pending = None
  while True:
    state, now = update_fn(state, device_mesh.put_batch(mesh, batch))
    if pending is not None:
      jax.device_get(pending)
    pending = now
    yield state


def _in_turns(loops: dict[str, Iterator]) -> dict[str, list[float]]:
  """Seconds of a step, one number a turn; compilation is before them."""
  for steps in loops.values():
    next(steps)
  seconds = {name: [] for name in loops}
  for _ in range(_BLOCKS.value):
    for name, steps in loops.items():
      started = time.perf_counter()
      for _ in range(_BLOCK_STEPS.value):
        state = next(steps)
      jax.block_until_ready(state)
      taken = time.perf_counter() - started
      seconds[name].append(taken / _BLOCK_STEPS.value)
  return seconds


def _saves(state: train_state.TrainState) -> dict[str, float]:
  """How long saves hold the loop up, and how long they take in all."""
  held, whole = [], []
  for _ in range(_SAVES.value + 1):
    with tempfile.TemporaryDirectory() as workdir:
      saver = checkpoint.Checkpointer(workdir)
      started = time.perf_counter()
      saver.save(state)
      held.append(time.perf_counter() - started)
      saver.close()
      whole.append(time.perf_counter() - started)
  n_bytes = sum(
    x.nbytes for x in jax.tree.leaves((state.params, state.opt_state))
  )
  return {  # the first one compiles the fingerprints
    'state_mb': n_bytes / 1e6,
    'save_holds_up_ms': statistics.median(held[1:]) * 1e3,
    'save_takes_ms': statistics.median(whole[1:]) * 1e3,
    'save_holds_up_percent': 100
    * statistics.median(
      h / w for h, w in zip(held[1:], whole[1:], strict=True)
    ),
  }


if __name__ == '__main__':
  app.run(main)
