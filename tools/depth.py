"""Prints a gin file for pretraining, all of it derived from a depth.

  python -m tools.depth --depth 4 > depth4.gin
  python -m tools.depth --depth 12 --reference large --vocab_size 32768 \
    --row_length 2048 > depth12.gin

The arithmetic is llm_jax/train/depth.py's. Read the file, change what you know
better, and give it to experiments.pretrain as --gin_file. The tokens must be of
that vocabulary and in rows of that length. It does NOT run anything.
"""

from collections.abc import Sequence

from absl import app, flags

from llm_jax.model import params
from llm_jax.train import depth

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

# What stands in the file, whether it is the default or not.
_MODEL = (
  *('vocab_size', 'n_layers', 'd_model', 'n_heads', 'n_kv_heads', 'head_dim'),
  *('d_ff', 'max_length', 'tied_embeddings', 'dtype', 'unroll_layers'),
)
_OPTIMIZER = (
  *('matrices', 'matrix_lr', 'peak_lr', 'weight_decay'),
  *('warmup_steps', 'schedule', 'final_share'),
)


def gin(run: depth.Run) -> str:
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
  ]
  return '\n'.join(lines)


def _main(argv: Sequence[str]) -> None:
  if argv[1:]:
    raise app.UsageError(f'unexpected arguments: {" ".join(argv[1:])}')
  try:
    run = depth.derive(
      _DEPTH.value,
      depth.REFERENCES[_REFERENCE.value],
      vocab_size=_VOCAB_SIZE.value,
      length=_LENGTH.value,
      tokens_per_parameter=_RATIO.value,
    )
  except ValueError as error:
    raise app.UsageError(str(error)) from None
  print(gin(run))


if __name__ == '__main__':
  app.run(_main)
