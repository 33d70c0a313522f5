"""The dial by hand arithmetic, its gin file, and that more depth is better."""

import dataclasses
import functools
import pathlib
import tarfile
import typing

import jax
import numpy as np
import pytest

from experiments import pretrain
from llm_jax import config
from llm_jax.model import likelihood, params, transformer
from llm_jax.parallel import device_mesh
from llm_jax.train import depth, train_state, training_loop
from tools import depth as tool


def test_depth_12_is_its_own_reference():
  """Depth 12 counts 12 (4 D^2 + 3 D F) + V D parameters, 12 tokens for each."""
  run = depth.derive(12, depth.REFERENCES['large'], 32_768, 2048)
  model = run.model
  assert (model.d_model, model.n_heads, model.head_dim) == (768, 6, 128)
  assert model.d_ff == 2048
  n = 12 * (4 * 768**2 + 3 * 768 * 2048) + 32_768 * 768
  assert run.batch_size * 2048 == 2**19
  assert run.n_steps == round(12 * n / 2**19) == 2520
  assert run.optimizer.matrix_lr == 0.02
  assert run.optimizer.peak_lr == 0.008
  assert run.optimizer.weight_decay == pytest.approx(0.1, rel=2e-3)


def test_twice_the_depth():
  """Width 1536; D, and so the batch before rounding, from the same count."""
  run = depth.derive(24, depth.REFERENCES['large'], 32_768, 2048)
  n = 24 * (4 * 1536**2 + 3 * 1536 * 4096) + 32_768 * 1536
  batch = 2**19 * (12 * n / 1.32e9) ** 0.383
  assert 2**19.5 < batch < 2**20.5
  assert run.batch_size * 2048 == 2**20
  assert run.n_steps == round(12 * n / 2**20)
  assert run.optimizer.matrix_lr == pytest.approx(0.02 * 2**0.5, rel=2e-3)
  # Twice the width takes back what twice the batch gives.
  assert run.optimizer.peak_lr == 0.008
  decay = 0.1 * 2**0.5 * 1.32e9 / (12 * n)
  assert run.optimizer.weight_decay == pytest.approx(decay, rel=2e-3)


def test_batch_grows_slower_than_tokens():
  """50 times the tokens: 50^0.383 = 4.5, and so 4 times the batch."""
  run = depth.derive(48, depth.REFERENCES['large'], 32_768, 2048)
  assert run.n_steps * run.batch_size * 2048 / 1.32e9 == pytest.approx(50, 0.01)
  assert run.batch_size * 2048 == 2**21


def test_widths_that_are_no_multiple_of_a_head_are_rounded_up():
  model = depth.derive(3, depth.REFERENCES['large'], 2048, 256).model
  assert (model.d_model, model.n_heads, model.d_ff) == (256, 2, 768)


def test_rows_longer_than_a_batch_are_refused():
  with pytest.raises(ValueError, match='row of 8192 tokens is longer than'):
    depth.derive(1, depth.REFERENCES['small'], 2048, 8192)


def test_gin_file_is_the_run(tmp_path):
  run = depth.derive(5, depth.REFERENCES['large'], 5000, 512)
  path = tmp_path / 'depth5.gin'
  path.write_text(tool.gin(run))
  cfg = config.load(pretrain.Config, [str(path)], [])
  assert cfg.model == run.model
  assert cfg.optimizer == run.optimizer
  assert (cfg.batch_size, cfg.loop.n_steps) == (run.batch_size, run.n_steps)


def rows(module, length):
  """A module's bytes in rows, each with the target behind its last input."""
  text = pathlib.Path(module.__file__).read_bytes()
  tokens = np.frombuffer(text, np.uint8).astype(np.int32)
  n = (len(tokens) - 1) // length
  inputs_BT = tokens[: n * length].reshape(n, length)
  return {
    'inputs_BT': inputs_BT,
    'targets_BT': tokens[1 : n * length + 1].reshape(n, length),
    'positions_BT': np.broadcast_to(np.arange(length), inputs_BT.shape),
    'segment_ids_BT': np.ones_like(inputs_BT),
    'loss_mask_BT': np.ones(inputs_BT.shape, np.float32),
  }


def held_out_loss(run):
  """Nats a byte of one module, after training on another one."""
  length = run.model.max_length
  mesh = device_mesh.make(device_mesh.MeshConfig(data=1), run.batch_size)
  cfg = pretrain.Config(
    batch_size=run.batch_size,
    model=run.model,
    optimizer=run.optimizer,
    loop=training_loop.LoopConfig(n_steps=run.n_steps),
  )
  n_bytes_V = np.ones(run.model.padded_vocab_size)
  tx, update_fn, _ = pretrain.make_step(
    cfg, mesh, length, n_bytes_V, run.n_steps
  )
  state = train_state.create(
    functools.partial(transformer.init, run.model),
    tx,
    seed=0,
    mesh=mesh,
    lines=params.table(run.model),
  )
  train, valid = rows(tarfile, length), rows(typing, length)
  order = np.random.default_rng(0).permutation(len(train['inputs_BT']))
  assert run.n_steps * run.batch_size <= len(order)  # one epoch
  for batch in order[: run.n_steps * run.batch_size].reshape(run.n_steps, -1):
    state, _ = update_fn(state, {k: x[batch] for k, x in train.items()})
  found = jax.jit(functools.partial(likelihood.of_targets, run.model))(
    state.params, {k: x[:256] for k, x in valid.items()}
  )
  return -float(found.logp_BT.mean())


@pytest.mark.parametrize(
  'depths', [(1, 2), pytest.param((1, 2, 3), marks=pytest.mark.nightly)]
)
def test_small_depths_are_ordered_in_loss(depths):
  """Of narrow models, each with tokens for its own size."""
  narrow = dataclasses.replace(
    depth.REFERENCES['small'], layer_width=16, head_dim=16
  )
  losses = [
    held_out_loss(depth.derive(n_layers, narrow, 256, 64, 1.0))
    for n_layers in depths
  ]
  assert losses == sorted(losses, reverse=True)
