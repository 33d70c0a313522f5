"""Low-rank adapters (LoRA): a matrix is a fixed one plus a trained product.

w + alpha / rank * a b, where b starts at 0, so that training starts from the
model that is given. `merge` builds the whole matrix, for a step of training as
for export, so that every layout and every mesh is served by the same model;
a step costs a copy of the chosen matrices and, while it lasts, their gradient.
Does not train; see train/train_state.py.

Source: arXiv:2106.09685 section 4.1; its A and B are a and b transposed.
"""

import dataclasses
import math
import re
from typing import Any

import jax
from flax import linen as nn
from flax import traverse_util
from jax.sharding import PartitionSpec

from llm_jax import types
from llm_jax.model import params


@dataclasses.dataclass(frozen=True)
class Lora:
  """Which matrices get adapters, and how large these are."""

  rank: int = 0  # of each adapter; 0: no adapters, all parameters are trained
  alpha: float = 16.0  # alpha / rank scales the product
  pattern: str = r'layers/(w[qkvo]|gate|up|down)$'  # regex, of parameter paths

  def __post_init__(self):
    if self.rank < 0 or self.alpha <= 0:
      raise ValueError(
        f'Lora.rank = {self.rank} with Lora.alpha = {self.alpha}; use a rank '
        'of 1 or more, or 0 for no adapters, and an alpha above 0'
      )
    try:
      re.compile(self.pattern)
    except re.error as error:
      raise ValueError(
        f'Lora.pattern = {self.pattern!r} is no regular expression: {error}'
      ) from error

  def check(self, optimizer: Any) -> None:
    """Refuse an optimizer of whole matrices.

    Raises:
      ValueError: if there are adapters and its matrices are not AdamW's.
    """
    matrices = getattr(optimizer, 'matrices', 'adamw')
    if self.rank and matrices != 'adamw':
      raise ValueError(
        f'Optimizer.matrices = {matrices!r} with Lora.rank = {self.rank}: Muon '
        'is for whole matrices; use adamw'
      )


def trained(cfg: Lora, lines: params.Table) -> params.Table:
  """The table of what is trained: adapters, or with rank 0 the model itself.

  Args:
    cfg: which matrices get adapters: those whose path the pattern is found in.
    lines: of the model.

  Returns:
    Lines of a, rows x rank, and b, rank x columns, in the place of each chosen
    matrix and behind its axes of layers and experts. a has variance 1 / fan-in,
    b is 0.

  Raises:
    ValueError: if the pattern is found in no path, or in one of no matrix.
  """
  if not cfg.rank:
    return lines
  matrices = [path for path in sorted(lines) if 'lora' in lines[path].uses]
  found = [path for path in sorted(lines) if re.search(cfg.pattern, path)]
  wrong = [path for path in found if path not in matrices]
  if wrong or not found:
    raise ValueError(
      f'Lora.pattern = {cfg.pattern!r} is found in '
      f'{", ".join(wrong) or "no parameter"}; use one that is found in '
      f'matrices only: {", ".join(matrices)}'
    )
  adapters = params.Table()
  for path in found:
    adapters |= _adapters(path, lines[path], cfg.rank)
  return adapters


def _adapters(path, matrix, rank) -> params.Table:
  def size(axes):
    return math.prod(matrix.shape[axis] for axis in axes)

  rows, columns = sorted((matrix.inputs, matrix.outputs))
  stack = matrix.shape[: rows[0]]
  a = dataclasses.replace(
    matrix,
    axes='',
    shape=(*stack, size(rows), rank),
    spec=PartitionSpec(),
    init=nn.initializers.normal(size(matrix.inputs) ** -0.5),
    inputs=(),
    outputs=(),
    uses=('decay',),
  )
  b_shape, zeros = (*stack, rank, size(columns)), nn.initializers.zeros
  b = dataclasses.replace(a, shape=b_shape, init=zeros)
  return params.Table({f'{path}/a': a, f'{path}/b': b})


def init(adapters: params.Table, key: jax.Array) -> types.Params:
  """Draw adapters, float32.

  Args:
    adapters: from `trained`.
    key: random key.

  Returns:
    Nested dict with {a, b} in the place of each chosen matrix.
  """
  paths = sorted({path.rpartition('/')[0] for path in adapters})
  keys = dict(zip(paths, jax.random.split(key, len(paths)), strict=True))
  drawn = {
    path: line.init(keys[path.rpartition('/')[0]], line.shape)
    for path, line in adapters.items()
  }
  return traverse_util.unflatten_dict(drawn, sep='/')


def merge(
  cfg: Lora, params: types.Params, adapters: types.Params
) -> types.Params:
  """The model with its adapters in it: w + alpha / rank * a b.

  Args:
    cfg: the adapters' configuration.
    params: the model without them.
    adapters: as `init` makes them.

  Returns:
    Parameters of the same structure and shapes.
  """
  merged: dict[str, Any] = traverse_util.flatten_dict(params, sep='/')
  parts: dict[str, Any] = traverse_util.flatten_dict(adapters, sep='/')
  for path in sorted({path.rpartition('/')[0] for path in parts}):
    product = parts[f'{path}/a'] @ parts[f'{path}/b']
    scaled = cfg.alpha / cfg.rank * product.reshape(merged[path].shape)
    merged[path] = merged[path] + scaled
  return traverse_util.unflatten_dict(merged, sep='/')
