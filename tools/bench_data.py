"""Measures the data of pretraining: the loader alone, and the wait of a step.

  python -m tools.bench_data

The loader reads batches of shuffled rows from shards of random tokens, on one
thread. Then the smallest model trains on such batches in blocks of steps, with
batches made ahead and made in the step, A B A B. The last line is one JSON
object. It does NOT measure tokenizing, whose recipe prints its own time; times
mean little on a machine that does other work.
"""

import functools
import json
import pathlib
import statistics
import tempfile
import time

import jax
import numpy as np
from absl import app, flags

from experiments import process
from llm_jax.data import mixture, prefetch, shards
from llm_jax.losses import next_token
from llm_jax.model import config, likelihood, params, transformer
from llm_jax.optim import optimizers
from llm_jax.parallel import device_mesh
from llm_jax.train import train_state, update

_TOKENS = flags.DEFINE_integer('tokens', 20_000_000, 'Tokens of the shards.')
_ROUNDS = flags.DEFINE_integer('rounds', 5, 'Blocks of steps of each kind.')
_STEPS = flags.DEFINE_integer('steps', 20, 'Steps of a block.')

_VOCABULARY = 2048
_DOCUMENT = 700  # tokens, about what a page has
_LOADER_S = 2.0  # of each measurement


def batches(folder: pathlib.Path, length: int, batch_size: int):
  """A batch function over shards of random tokens in a new folder."""
  (folder / 'web').mkdir(parents=True)
  random = np.random.default_rng(0)
  document = random.integers(1, _VOCABULARY, _DOCUMENT)
  layout = shards.Layout(length, end_of_text_id=0, vocab_size=_VOCABULARY)
  path = folder / 'web' / 'train-00000.array_record'
  writer = shards.ShardWriter(path, layout)
  for _ in range(_TOKENS.value // _DOCUMENT):
    writer.add(document, 0)
  shards.write_manifest(
    folder,
    shards={'web': {'train': [writer.close()]}},
    tokenizer_fingerprint='',
    layout=layout,
  )
  source = shards.TokenSource(
    folder, 'web', split='train', tokenizer_fingerprint=''
  )
  return mixture.make_batch_fn([(source, batch_size)], seed=0)


def loader_rate(batch_fn) -> float:
  """Tokens a second of making batches and nothing else."""
  n_tokens = batch_fn(0)['inputs_BT'].size  # the first one makes the order
  start, n = time.monotonic(), 0
  while time.monotonic() - start < _LOADER_S:
    n += 1
    batch_fn(n)
  return n * n_tokens / (time.monotonic() - start)


def train(batch_fn) -> dict[str, dict[str, list[float]]]:
  """Tokens a second and the wait of a step, with and without prefetching."""
  cfg = config.ModelConfig(vocab_size=_VOCABULARY, tied_embeddings=True)
  mesh = device_mesh.make(device_mesh.MeshConfig(), 16)
  lines = params.table(cfg)
  tx = optimizers.make(optimizers.Optimizer(), 10**6, lines)
  init = functools.partial(transformer.init, cfg)
  state = train_state.create(init, tx, seed=0, mesh=mesh, lines=lines)

  def loss_fn(params, batch, key):
    del key
    logp_BT = likelihood.of_targets(cfg, params, batch).logp_BT
    return next_token.cross_entropy(logp_BT, batch['loss_mask_BT']), {}

  update_fn = update.make_update_fn(loss_fn, tx, mesh)

  def make(step):
    return device_mesh.put_batch(mesh, batch_fn(step))

  def in_the_step(steps):
    for step in steps:
      start = time.monotonic()
      batch = make(step)
      yield batch, time.monotonic() - start

  kinds = {
    'ahead': functools.partial(prefetch.ahead, make),
    'in_step': in_the_step,
  }
  found = {kind: {'tokens_per_s': [], 'data_wait_s': []} for kind in kinds}
  state, _ = update_fn(state, make(0))  # compiles
  for block in range(_ROUNDS.value):
    for kind, iterate in kinds.items():
      steps = range(block * _STEPS.value, (block + 1) * _STEPS.value)
      jax.block_until_ready(state)
      start, n_tokens, before = time.monotonic(), 0, None
      for batch, wait_s in iterate(steps):
        state, metrics = update_fn(state, batch)
        n_tokens += batch['inputs_BT'].size
        found[kind]['data_wait_s'].append(wait_s)
        jax.block_until_ready(before)  # one step late, as in the loop
        before = metrics
      jax.block_until_ready(state)
      rate = n_tokens / (time.monotonic() - start)
      found[kind]['tokens_per_s'].append(rate)
  return found


def main(_):
  """Measures and prints."""
  process.set_up_jax()
  result = {}
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary)
    for length, batch_size in ((2048, 16), (2048, 256), (256, 16)):
      name = f'{batch_size}x{length}'
      batch_fn = batches(folder / name, length, batch_size)
      result[f'loader_tokens_per_s_{name}'] = rate = loader_rate(batch_fn)
      print(f'loader, batches of {name}: {rate / 1e6:.1f} M tokens/s')
    for kind, values in train(batch_fn).items():
      for what, numbers in values.items():
        middle = statistics.median(numbers)
        low, high = min(numbers), max(numbers)
        result[f'{what}_{kind}'] = middle
        print(f'{what} {kind}: {middle:.4g} ({low:.4g} to {high:.4g})')
  print(json.dumps(result))


if __name__ == '__main__':
  app.run(main)
