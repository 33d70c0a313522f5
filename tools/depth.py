"""Prints a gin file for pretraining, all of it derived from a depth.

  python -m tools.depth --depth 4 > depth4.gin
  python -m tools.depth --depth 12 --reference large --vocab_size 32768 \
    --row_length 2048 > depth12.gin

The arithmetic is llm_jax/train/depth.py's. Read the file, change what you know
better, and give it to experiments.pretrain as --gin_file. The tokens must be of
that vocabulary and in rows of that length. What does not fit the memory of this
machine's devices is refused; --here=False writes a file for another one. It
does NOT run anything.
"""

import math
from collections.abc import Sequence

import jax
from absl import app, flags

from llm_jax.model import params
from llm_jax.optim import optimizers
from llm_jax.parallel import device_mesh
from llm_jax.train import depth, fit

_DEPTH = flags.DEFINE_integer('depth', 4, 'layers', lower_bound=1)
_REFERENCE = flags.DEFINE_enum(
  'reference',
  'small',
  list(depth.REFERENCES),
  'the run to derive from: small for CPUs, large for accelerators',
)
_VOCAB_SIZE = flags.DEFINE_integer('vocab_size', 2048, 'of the tokenizer')
_LENGTH = flags.DEFINE_integer('row_length', 256, 'tokens of a row')
_RATIO = flags.DEFINE_float(
  'tokens_per_parameter', 12.0, 'of the matrices and the head', lower_bound=0
)
_HERE = flags.DEFINE_boolean('here', True, 'it is to run on this machine')

_CHUNK = (
  256  # tokens of a row whose logits exist at once, where memory is short
)
# What stands in the file, whether it is the default or not.
_MODEL = (
  *('vocab_size', 'n_layers', 'd_model', 'n_heads', 'n_kv_heads', 'head_dim'),
  *('d_ff', 'max_length', 'tied_embeddings', 'dtype', 'unroll_layers'),
)
_OPTIMIZER = (
  *('matrices', 'matrix_lr', 'peak_lr', 'weight_decay'),
  *('warmup_steps', 'schedule', 'final_share'),
)


def gin(run: depth.Run, further: Sequence[str] = ()) -> str:
  """The gin file of a run, and on top what the run costs."""
  model, length = run.model, run.model.max_length
  n_tokens = run.n_steps * run.batch_size * length
  flops = n_tokens * params.train_flops_per_token(model, length)
  counts = params.count(model)
  lines = [
    f'# Depth {model.n_layers}: {counts["total"] - counts["padding"]:,} '
    f'parameters, {n_tokens:,} tokens, {flops:.3g} FLOPs.',
    *(f'ModelConfig.{f} = {getattr(model, f)!r}' for f in _MODEL),
    f'Config.batch_size = {run.batch_size}',
    "Config.sources = ('documents',)",
    'Config.weights = (1.0,)',
    *(f'Optimizer.{f} = {getattr(run.optimizer, f)!r}' for f in _OPTIMIZER),
    f'LoopConfig.n_steps = {run.n_steps}',
    *further,
  ]
  return '\n'.join(lines)


def settings_here(run: depth.Run) -> list[str]:
  """Lines of gin without which a run does not fit this machine.

  Raises:
    ValueError: if it does not fit with any.
  """
  length, rows = run.model.max_length, run.batch_size
  chunk = math.gcd(length, _CHUNK)
  lines = params.table(run.model)
  tx = optimizers.make(run.optimizer, run.n_steps, lines)
  error = None
  for loss_chunk, fsdp in ((0, 1), (chunk, 1), (chunk, jax.device_count())):
    try:
      mesh = device_mesh.make(device_mesh.MeshConfig(fsdp=fsdp), rows)
      step = fit.Step(
        fit.Rows(rows, loss_chunk), run.model, tx, mesh=mesh, length=length
      )
      fit.choose(step, must_fit=True)
    except ValueError as refused:
      error = refused
    else:
      chosen = {'Config.loss_chunk': loss_chunk, 'MeshConfig.fsdp': fsdp}
      return [f'{k} = {v}' for k, v in chosen.items() if v not in (0, 1)]
  raise ValueError(str(error))


def _derive(n_layers: int) -> depth.Run:
  return depth.derive(
    n_layers,
    depth.REFERENCES[_REFERENCE.value],
    vocab_size=_VOCAB_SIZE.value,
    length=_LENGTH.value,
    tokens_per_parameter=_RATIO.value,
  )


def _deepest(n_layers: int) -> int:
  """The largest depth below one that does not fit; 0: none."""
  fits, too_deep = 0, n_layers
  while too_deep - fits > 1:
    middle = (fits + too_deep) // 2
    try:
      settings_here(_derive(middle))
      fits = middle
    except ValueError:
      too_deep = middle
  return fits


def _main(argv: Sequence[str]) -> None:
  if argv[1:]:
    raise app.UsageError(f'unexpected arguments: {" ".join(argv[1:])}')
  try:
    run = _derive(_DEPTH.value)
  except ValueError as error:
    raise app.UsageError(str(error)) from None
  further = []
  if _HERE.value:
    try:
      further = settings_here(run)
    except ValueError as error:
      raise app.UsageError(
        f'depth {_DEPTH.value}: {error}. The deepest that fits here is '
        f'{_deepest(_DEPTH.value)}; --here=False writes the file all the same'
      ) from None
  print(gin(run, further))


if __name__ == '__main__':
  app.run(_main)
