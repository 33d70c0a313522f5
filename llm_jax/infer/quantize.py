"""Weights as int8, for devices that wait for memory while they decode.

A matrix is kept as bytes and one float32 for each output, and is computed with
in the model's own dtype: half of bfloat16 is read, the arithmetic is the same.
CPUs are slower with it. Such weights are neither trained nor saved.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from llm_jax import types
from llm_jax.model import params


class Int8(NamedTuple):
  """A matrix as bytes."""

  values: jax.Array  # int8, in the shape of the matrix
  scale: jax.Array  # float32, of length 1 along the axes that are summed over


def int8(params: types.Params, table: params.Table) -> types.Params:
  """Round each matrix; its largest number for each output becomes 127.

  Args:
    params: of a model.
    table: what is known of them.

  Returns:
    The same tree with Int8 in place of matrices; norms, biases, gates of values
    and routers stay.
  """

  def one(key_path, x):
    param = table[jax.tree_util.keystr(key_path, simple=True, separator='/')]
    if 'int8' not in param.uses:
      return x
    x = x.astype(jnp.float32)
    scale = jnp.max(jnp.abs(x), axis=param.inputs, keepdims=True) / 127
    values = jnp.round(x / jnp.maximum(scale, 1e-30)).astype(jnp.int8)
    return Int8(values, scale)

  return jax.tree_util.tree_map_with_path(one, params)


def as_arrays(params: types.Params, dtype: str) -> types.Params:
  """The parameters as the model takes them.

  Args:
    params: with or without Int8.
    dtype: of the matrices that were Int8.
  """

  def one(x: Any):
    if isinstance(x, Int8):
      return x.values.astype(dtype) * x.scale.astype(dtype)
    return x

  return jax.tree.map(one, params, is_leaf=lambda x: isinstance(x, Int8))
