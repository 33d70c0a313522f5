"""Low-rank adapters (LoRA): a matrix is a fixed one plus a trained product.

w + alpha / rank * a b, where b starts at 0, so that training starts from the
model that is given. `merge` builds the whole matrix, for a step of training as
for export, so that every layout and every mesh is served by the same model;
a step costs a copy of the chosen matrices and, while it lasts, their gradient.
Does not train; see train/state.py.

Source: arXiv:2106.09685 section 4.1; its A and B are a and b transposed.
"""

import dataclasses
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from llm_jax import types
from llm_jax.optim import optimizers

# Matrices that Muon leaves alone, as optimizers.matrix_axes says the others.
_TABLES = re.compile(r'^((position_)?embedding|head)$')
_STACKED = re.compile(r'^(value_embedding|value_gate|layers/router)$')


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


def paths(cfg: Lora, params: types.Params) -> list[str]:
  """The matrices that get adapters: those whose path the pattern is found in.

  Raises:
    ValueError: if there are none, or the pattern is found in another path.
  """
  there = sorted(_flat(params))
  found = [path for path in there if re.search(cfg.pattern, path)]
  wrong = [path for path in found if _axes(path) is None]
  if wrong or not found:
    matrices = ', '.join(filter(_axes, there))
    raise ValueError(
      f'Lora.pattern = {cfg.pattern!r} is found in '
      f'{", ".join(wrong) or "no parameter"}; use one that is found in '
      f'matrices only: {matrices}'
    )
  return found


def init(cfg: Lora, params: types.Params, key: jax.Array) -> types.Params:
  """Draw the adapters of a model, float32.

  Args:
    cfg: which ones; its rank is 1 or more.
    params: the model's, of which only the shapes are read.
    key: random key.

  Returns:
    Nested dict with {a, b} in the place of each chosen matrix; a is rows x rank
    and b rank x columns, behind the axes of layers and experts. a has variance
    1 / rows (of embeddings and the head 1 / columns), b is 0.
  """
  shapes, adapters = _flat(params), {}
  chosen = paths(cfg, params)
  keys = jax.random.split(key, len(chosen))
  for path, a_key in zip(chosen, keys, strict=True):
    shape = shapes[path].shape
    first, n_reduced = _axes(path) or (0, 0)
    stack, split = shape[:first], first + n_reduced
    n_rows, n_columns = math.prod(shape[first:split]), math.prod(shape[split:])
    fan_in = n_columns if re.search(r'embedding$|^head$', path) else n_rows
    a = jax.random.normal(a_key, (*stack, n_rows, cfg.rank)) * fan_in**-0.5
    b = jnp.zeros((*stack, cfg.rank, n_columns))
    adapters |= {f'{path}/a': a, f'{path}/b': b}
  return traverse_util.unflatten_dict(adapters, sep='/')


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
  merged, parts = _flat(params), _flat(adapters)
  for path in paths(cfg, params):
    product = parts[f'{path}/a'] @ parts[f'{path}/b']
    scaled = cfg.alpha / cfg.rank * product.reshape(merged[path].shape)
    merged[path] = merged[path] + scaled
  return traverse_util.unflatten_dict(merged, sep='/')


def _axes(path: str) -> tuple[int, int] | None:
  """The first axis of a matrix and how many are its rows."""
  if _TABLES.search(path):
    return 0, 1
  return (1, 1) if _STACKED.search(path) else optimizers.matrix_axes(path)


def _flat(tree: types.Params) -> dict[str, Any]:
  return traverse_util.flatten_dict(tree, sep='/')
