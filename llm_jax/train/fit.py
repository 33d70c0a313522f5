"""Chooses the micro-batch and the remat with which a step fits the memory.

An estimate from shapes: the state as it is sharded, and what the backward pass
keeps as autodiff lists it for the part of the model that one device holds. It
does NOT compile, and does NOT know what a compiler fuses, copies or pads:
tests/train/fit_test.py says how far off it is.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from absl import logging
from jax.sharding import Mesh

from llm_jax.losses import next_token
from llm_jax.model import config, likelihood, lora, params, transformer
from llm_jax.parallel import device_mesh
from llm_jax.train import host_memory, train_state

_POLICIES = ('none', 'dots', 'full')  # of remat: from fast to small
_USABLE = 0.85  # of a device's memory; the rest is for what is not foreseen
_PROCESS_BYTES = 5 * 2**27  # of a process on a CPU: code, compiler, data
_FEW_TOKENS = 2048  # a device computes fewer at once only if it must
_DEVICE = 'the device'


@dataclasses.dataclass(frozen=True)
class Plan:
  """How a batch is computed."""

  micro_batch: int  # rows of the batch, over all devices, computed at once
  remat: str  # of ModelConfig


@dataclasses.dataclass(frozen=True)
class Rows:
  """What the configuration of a recipe says of a batch."""

  batch_size: int  # over all devices
  loss_chunk: int = 0  # tokens of a row whose logits exist at once; 0: all
  micro_batch: int = 0  # rows over all devices, computed at once; 0: choose
  # GiB of a device; 0: as it says itself, for CPUs see host_memory.py.
  device_memory: float = 0.0


@dataclasses.dataclass(frozen=True)
class Step:
  """The step that has to fit."""

  cfg: Any  # Rows, or a recipe's configuration with the same fields
  model: config.ModelConfig  # its remat is the least that is used
  tx: optax.GradientTransformation
  mesh: Mesh
  length: int  # tokens of a row
  adapters: lora.Lora = lora.Lora()  # trained in place of the model, if any


def choose(step: Step, must_fit: bool = False) -> Plan:
  """The fastest plan that fits: little to recompute first, then large parts.

  Logs the estimate by part.

  Args:
    step: what has to fit.
    must_fit: whether to refuse what does not fit an accelerator either.

  Returns:
    The plan; the whole batch if a device does not tell its memory. Where none
    fits an accelerator, the smallest, with a warning.

  Raises:
    ValueError: if micro_batch does not divide the batch, or shards do not
      divide it; if no plan, or not that of micro_batch, fits the memory of a
      CPU, whose kernel would kill the process.
  """
  mesh, length, least_remat = step.mesh, step.length, step.model.remat
  batch_size, micro_batch = step.cfg.batch_size, step.cfg.micro_batch
  shards = device_mesh.n_row_shards(mesh)
  if micro_batch and (batch_size % micro_batch or micro_batch % shards):
    raise ValueError(
      f'micro_batch {micro_batch} must divide batch_size {batch_size} and '
      f'be a multiple of {shards} batch shards; use {shards}, or 0 for what '
      'fits'
    )
  memory_bytes, owner = _memory(mesh, step.cfg.device_memory)
  is_host = owner != _DEVICE
  if not memory_bytes or (micro_batch and not is_host):
    return Plan(micro_batch or batch_size, least_remat)
  rows = batch_size // shards  # of a device
  options = [
    (n, remat)
    for remat in _POLICIES[_POLICIES.index(least_remat) :]
    for n in range(rows, 0, -1)
    if not rows % n
  ]
  # Few tokens leave a device idle, which costs more than any remat.
  few = min(_FEW_TOKENS, rows * length)
  options.sort(key=lambda option: option[0] * length < few)
  if micro_batch:
    options = [(micro_batch // shards, least_remat)]
  usable_bytes = _USABLE * memory_bytes
  for n, remat in options:
    plan = Plan(n * shards, remat)
    parts = estimate(step, plan)
    if is_host:
      # Memory of the step before, which the process keeps, as that is faster
      # (experiments/process.py), in pieces too small for the next one; and the
      # copy of the state that is written while the run goes on.
      freed = sum(parts.values()) - parts['state']
      parts |= {'freed': freed, 'saving': parts['state']}
    if sum(parts.values()) <= usable_bytes:
      break
  total, gib = sum(parts.values()), 2**30
  shown = ' + '.join(f'{name} {n / gib:.2f}' for name, n in parts.items())
  shown = (
    f'{plan.micro_batch} of {batch_size} rows at once, remat {plan.remat}: '
    f'{shown} = {total / gib:.2f} GiB a device, of {memory_bytes / gib:.2f}'
  )
  logging.info('fit: %s', shown)
  if total > usable_bytes:
    remedy = (
      'raise MeshConfig.fsdp, set Config.loss_chunk, use shorter rows, or make '
      'the model smaller'
    )
    if is_host or must_fit:
      kills = ', and the kernel would kill it' if is_host else ''
      other = 'leave out micro_batch, ' if micro_batch else ''
      raise ValueError(
        f'a step needs more memory than {owner} gives{kills}: {shown}; '
        f'{other}{remedy}'
      )
    logging.warning('fit: that is too much for every plan; %s', remedy)
  elif is_host and total > host_memory.free() / len(mesh.local_devices):
    logging.warning(
      'fit: other processes use memory, and %.2f GiB are free; if the kernel '
      'ends this run, set micro_batch',
      host_memory.free() / 2**30,
    )
  return plan


def _memory(mesh: Mesh, device_memory: float) -> tuple[float, str]:
  """Bytes of a device that are there, 0 if it does not tell, and whose."""
  if device_memory:
    return device_memory * 2**30, _DEVICE
  device = jax.local_devices()[0]  # what this process may use of its own
  if device.platform != 'cpu':
    return (device.memory_stats() or {}).get('bytes_limit', 0), _DEVICE
  n_bytes, owner = host_memory.limit()
  return max(n_bytes - _PROCESS_BYTES, 1) / len(mesh.local_devices), owner


def estimate(step: Step, plan: Plan) -> dict[str, int]:
  """Bytes of one device at the peak of a step, by part; see `choose`.

  Returns:
    state: parameters and moments, of adapters with the model below them.
    gradients: once, or twice where those of micro-batches add up. activations:
    what is kept for the backward pass. working: one layer while it is computed
    again, and the logits with their gradient. weights: one layer and the head,
    gathered and cast; of adapters the merged model.
  """
  cfg, mesh, length = step.model, step.mesh, step.length
  loss_chunk, adapters = step.cfg.loss_chunk, step.adapters
  model_lines = params.table(cfg)
  lines = lora.trained(adapters, model_lines)
  init = functools.partial(transformer.init, cfg)
  if adapters.rank:
    init = functools.partial(lora.init, lines)
  state = train_state.abstract(init, step.tx, mesh, lines=lines)
  model_bytes = _bytes(params.abstract(model_lines, mesh))
  below = model_bytes if adapters.rank else 0
  n_context = mesh.shape['context']
  form = 'blocks' if n_context == 1 else 'masked'  # kernels keep as blocks do
  part = dataclasses.replace(_part(cfg, mesh.shape['tensor']), attention=form)
  rows = plan.micro_batch // device_mesh.n_row_shards(mesh)

  def kept_by(**changes):
    return _kept(dataclasses.replace(part, **changes), length, loss_chunk)

  kept, casts = kept_by(remat=plan.remat)
  again = 0
  if plan.remat != 'none':
    whole, inputs = (kept_by(n_layers=1, remat=x) for x in ('none', 'full'))
    again = whole[0] - inputs[0]
  counts = params.count(part)
  matrices = counts['attention'] + counts['mlp'] + counts['experts']
  layer = matrices // cfg.n_layers
  head = part.padded_vocab_size * cfg.d_model
  logits = 4 * (loss_chunk or length) * part.padded_vocab_size
  return {
    'state': below + _bytes(state),
    # Those of adapters are made from those of the merged matrices.
    'gradients': below
    + _bytes(state.params) * (1 + (plan.micro_batch < step.cfg.batch_size)),
    'activations': rows * kept // n_context + casts // mesh.shape['fsdp'],
    'working': rows * (again + 2 * logits) // n_context,
    'weights': below + (layer + head) * jnp.dtype(cfg.dtype).itemsize,
  }


def _part(cfg: config.ModelConfig, n: int) -> config.ModelConfig:
  """The model that one of n devices of the tensor axis computes."""

  def split(size):
    return size // n if not size % n else size

  n_heads = split(cfg.n_heads)
  return dataclasses.replace(
    cfg,
    n_heads=n_heads,
    n_kv_heads=math.gcd(n_heads, split(cfg.n_kv_heads)),
    d_ff=split(cfg.d_ff),
    vocab_size=split(cfg.padded_vocab_size),
  )


@functools.cache
def _kept(
  cfg: config.ModelConfig, length: int, loss_chunk: int
) -> tuple[int, int]:
  """Bytes that autodiff keeps for a row, and of weights in another dtype."""
  shapes = params.abstract(params.table(cfg))

  def residuals(n_rows):
    x_BT = jax.ShapeDtypeStruct((n_rows, length), jnp.int32)
    batch = dict.fromkeys(
      ('inputs_BT', 'targets_BT', 'positions_BT', 'segment_ids_BT'), x_BT
    )

    def backward(params, batch):
      def loss(params):
        logp_BT = likelihood.of_targets(
          cfg, params, batch, chunk_length=loss_chunk
        ).logp_BT
        return next_token.cross_entropy(logp_BT, jnp.ones_like(logp_BT))

      return jax.vjp(loss, params)[1]

    return jax.tree.leaves(jax.eval_shape(backward, shapes, batch))

  of_a_row = of_weights = 0
  for one, two in zip(residuals(1), residuals(2), strict=True):
    of_a_row += _bytes(two) - _bytes(one)
    # Parameters are kept as they are; only a copy of them takes memory.
    if one.shape == two.shape and one.dtype != jnp.float32:
      of_weights += _bytes(one)
  return of_a_row, of_weights


def _bytes(tree) -> int:
  """Bytes of a device's share of arrays."""

  def one(x):
    sharding = getattr(x, 'sharding', None)
    shape = sharding.shard_shape(x.shape) if sharding else x.shape
    return math.prod(shape) * x.dtype.itemsize

  return sum(map(one, jax.tree.leaves(tree)))
