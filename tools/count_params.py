"""Prints how many parameters a named size has, part by part.

  python -m tools.count_params llama3-8b qwen3-30b-a3b

Without names it prints the totals of all sizes. Rows that pad the vocabulary
are listed apart: the total without them is the number that is published. It
does NOT make any parameter.
"""

from collections.abc import Sequence

from absl import app, flags

from llm_jax.model import params, sizes

_LENGTH = flags.DEFINE_integer(
  'length', 0, 'Tokens of a sequence, for FLOPs; 0: the longest of the model.'
)


def table(name: str, length: int = 0) -> str:
  """The parameters of one size as lines of text.

  Args:
    name: of the size.
    length: tokens of a sequence, for the operations of training; 0: as long
      as the model takes.

  Returns:
    A line for each part that is there, the total and the operations.
  """
  cfg = sizes.by_name(name)
  counts = params.count(cfg)
  padding, total = counts.pop('padding'), counts.pop('total')
  active = counts.pop('active')
  published = total - padding
  lines = [name]
  for part, n in counts.items():
    if n:
      lines.append(f'  {part:<18}{n:>19,} {n / published:>7.1%}')
  lines.append(f'  {"total":<18}{published:>19,}')
  embedding = counts['embedding'] + counts['positions']
  if cfg.n_experts:
    lines.append(f'  {"active":<18}{active:>19,} {active / published:>7.1%}')
  lines.append(f'  {"not embedding":<18}{published - embedding:>19,}')
  lines.append(f'  {"padding rows":<18}{padding:>19,}')
  length = length or cfg.max_length
  flops = params.train_flops_per_token(cfg, length)
  lines.append(f'  training: {flops:.3g} FLOPs a token of {length:,}')
  return '\n'.join(lines)


def _main(argv: Sequence[str]) -> None:
  try:
    for name in argv[1:]:
      print(table(name, _LENGTH.value))
  except ValueError as error:
    raise app.UsageError(str(error)) from None
  if not argv[1:]:
    for name, cfg in sizes.SIZES.items():
      counts = params.count(cfg)
      print(f'{name:<14}{counts["total"] - counts["padding"]:>19,}')


if __name__ == '__main__':
  app.run(_main)
