"""Measures the training step, beside the same model in transformers on torch.

  python -m tools.bench_train --size 14m --peer_python .venv-torch/bin/python
  python -m tools.bench_train --size d24 --dtype bfloat16 --peak \
    --batch_size 16 --length 2048

With --peer_python the same parameters, batch, dtype and AdamW with clipping run
in PyTorch too, eager and compiled, each in a process of its own; they take
turns, A B C A B C, and the first losses must agree. The peer lives in an
environment of its own:

  python3 -m venv .venv-torch
  .venv-torch/bin/pip install torch transformers safetensors

--peak prints FLOPs and, where the device is known, MFU: the FLOPs of
`model.params.train_flops_per_token` over the peak of train/hardware.py. The
last line is one JSON object. It does NOT read data and does NOT save anything.
Times mean little on a machine that does other work.
"""

import dataclasses
import functools
import json
import pathlib
import re
import statistics
import tempfile
import time
from collections.abc import Callable

import jax
import numpy as np
from absl import app, flags

from experiments import process
from llm_jax import types
from llm_jax.interop import huggingface
from llm_jax.losses import next_token
from llm_jax.model import config, likelihood, params, sizes, transformer
from llm_jax.optim import optimizers
from llm_jax.parallel import device_mesh
from llm_jax.train import depth, hardware, train_state, update
from tools import peer

_SIZE = flags.DEFINE_string(
  'size', '1m', 'Name of the model, see sizes.py; or d24 for depth 24.'
)
_BATCH = flags.DEFINE_integer('batch_size', 8, 'Rows.')
_LENGTH = flags.DEFINE_integer('length', 256, 'Tokens of a row.')
_DTYPE = flags.DEFINE_enum(
  'dtype', 'float32', ['float32', 'bfloat16'], 'Of activations.'
)
_STEPS = flags.DEFINE_integer('steps', 5, 'Steps of a round.')
_ROUNDS = flags.DEFINE_integer('rounds', 7, 'Rounds of each.')
_PEER = flags.DEFINE_string('peer_python', '', 'Python with transformers.')
_PEAK = flags.DEFINE_boolean('peak', False, 'Print FLOPs and MFU.')
_MODEL = flags.DEFINE_multi_string(
  'model', [], 'Option of ModelConfig as name=JSON, such as remat="dots".'
)

_LEARNING_RATE = 1e-3
_DEPTH_VOCABULARY = 32_768  # tokens, of models by depth
_PAUSE_S = 0.3  # so that the threads of the one before sleep
_LOSS_TOLERANCE = 2e-3  # of the first losses, relative; float32 sums differ


def _model() -> config.ModelConfig:
  options = {
    name: json.loads(value)
    for name, value in (option.split('=', 1) for option in _MODEL.value)
  }
  if depth_digits := re.fullmatch(r'd(\d+)', _SIZE.value):
    cfg = depth.derive(
      int(depth_digits[1]),
      depth.REFERENCES['large'],
      vocab_size=_DEPTH_VOCABULARY,
      length=_LENGTH.value,
    ).model
  else:
    cfg = sizes.by_name(_SIZE.value)
  return dataclasses.replace(cfg, dtype=_DTYPE.value, **options)


def _batch(cfg: config.ModelConfig) -> dict[str, np.ndarray]:
  """Random tokens, the same in every process."""
  shape = (_BATCH.value, _LENGTH.value + 1)
  tokens_BT = np.random.default_rng(0).integers(0, cfg.vocab_size, shape)
  positions_BT = np.tile(np.arange(_LENGTH.value), (_BATCH.value, 1))
  return {
    'inputs_BT': tokens_BT[:, :-1].astype('i4'),
    'targets_BT': tokens_BT[:, 1:].astype('i4'),
    'positions_BT': positions_BT.astype('i4'),
    'loss_mask_BT': np.ones((_BATCH.value, _LENGTH.value), 'f4'),
  }


def _ours(
  cfg: config.ModelConfig,
) -> tuple[types.Params, Callable[[int], list[float]]]:
  """Initial parameters, and what runs n steps and gives their losses."""
  mesh = device_mesh.make(device_mesh.MeshConfig(), _BATCH.value)
  tx = optimizers.make(
    optimizers.Optimizer(
      matrices='adamw',
      peak_lr=_LEARNING_RATE,
      weight_decay=0.1,
      warmup_steps=0,
      schedule='constant',
    ),
    1,
    params.table(cfg),
  )

  def loss_fn(params, batch, key):
    del key
    logp_BT = likelihood.of_targets(cfg, params, batch).logp_BT
    return next_token.cross_entropy(logp_BT, batch['loss_mask_BT']), {}

  update_fn = update.make_update_fn(loss_fn, tx, mesh)
  init = functools.partial(transformer.init, cfg)
  state = train_state.create(
    init, tx, seed=0, mesh=mesh, lines=params.table(cfg)
  )
  first = jax.device_get(state.params)
  batch = device_mesh.put_batch(mesh, _batch(cfg))

  def run(n: int) -> list[float]:
    nonlocal state
    losses = []
    for _ in range(n):
      state, metrics = update_fn(state, batch)
      losses.append(metrics['loss'])
    return [float(loss) for loss in jax.block_until_ready(losses)]

  return first, run


def _peer(folder: pathlib.Path, mode: str) -> peer.Peer:
  return peer.Peer(
    [
      *(_PEER.value, 'tools/bench_train_torch.py', str(folder), mode),
      *(_DTYPE.value, str(_LEARNING_RATE)),
    ]
  )


def _measure(runs: dict[str, Callable[[int], list[float]]], n_tokens: int):
  losses = {name: run(3) for name, run in runs.items()}  # compiles
  print(f'first losses: {losses}', flush=True)
  expected = losses['llm_jax']
  for name, found in losses.items():
    if not np.allclose(found, expected, rtol=_LOSS_TOLERANCE):
      raise RuntimeError(f'losses differ, so it is not the same model: {name}')
  seconds: dict[str, list[float]] = {name: [] for name in runs}
  for _ in range(_ROUNDS.value):
    for name, run in runs.items():
      time.sleep(_PAUSE_S)
      start = time.perf_counter()
      run(_STEPS.value)
      seconds[name].append((time.perf_counter() - start) / _STEPS.value)
  found = {}
  for name, values in seconds.items():
    low, *_, high = statistics.quantiles(values, n=4)
    found[name] = {
      'tokens_per_s': round(n_tokens / statistics.median(values)),
      'seconds_a_step': round(statistics.median(values), 5),
      'quartiles': [round(low, 5), round(high, 5)],
    }
    print(f'{name}: {found[name]}', flush=True)
  return found


def main(_):
  """Measures."""
  process.set_up_jax()
  cfg = _model()
  first, run = _ours(cfg)
  runs: dict[str, Callable[[int], list[float]]] = {'llm_jax': run}
  n_tokens = _BATCH.value * _LENGTH.value
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    if _PEER.value:
      huggingface.write(folder / 'model', cfg, first)
      np.savez(folder / 'batch.npz', **_batch(cfg))
      runs['torch eager'] = _peer(folder, 'eager')
      runs['torch compile'] = _peer(folder, 'compile')
    found = _measure(runs, n_tokens)
    for ours_or_peer in runs.values():
      if isinstance(ours_or_peer, peer.Peer):
        ours_or_peer.close()
  rate = {name: values['tokens_per_s'] for name, values in found.items()}
  if _PEER.value:
    best = max(rate['torch eager'], rate['torch compile'])
    found['ratio to the better torch'] = round(rate['llm_jax'] / best, 3)
  if _PEAK.value:
    flops = params.train_flops_per_token(cfg, _LENGTH.value)
    device = jax.devices()[0]
    found['flops_per_token'] = flops
    found['tflops_per_s'] = round(flops * rate['llm_jax'] / 1e12, 4)
    found['device'] = device.device_kind
    if peak := hardware.peak_flops(device.device_kind):
      found['peak_tflops_per_s'] = peak / 1e12
      found['mfu'] = round(flops * rate['llm_jax'] / peak, 4)
  found['model'] = {'size': _SIZE.value, **params.count(cfg)}
  print(json.dumps(found))


if __name__ == '__main__':
  app.run(main)
