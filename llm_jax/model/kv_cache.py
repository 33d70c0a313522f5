"""Keys and values of earlier tokens: slots that rows write and read.

A layer's part is a dict of k_BGSK and v_BGSK, and of their scales where they
are kept as int8; a head's slots lie together, as attention reads them. Does not
know which slot is whose.
"""

import jax
import jax.numpy as jnp

from llm_jax import types
from llm_jax.model import config


def init(
  cfg: config.ModelConfig, n_rows: int, n_slots: int, int8: bool = False
) -> types.Params:
  """Empty keys and values of every layer, in the compute dtype or as int8.

  Args:
    cfg: the model.
    n_rows: rows.
    n_slots: tokens that a row can hold.
    int8: a byte for each number and a float32 for each head's key or value.

  Returns:
    A list with the part of each layer, so that a loop can update each in
    place; stacked with a leading N where layers are scanned.
  """
  stack = () if cfg.unroll_layers else (cfg.n_layers,)
  shape = (*stack, n_rows, cfg.n_kv_heads, n_slots, cfg.head_dim)

  def layer():
    part = {
      name: jnp.zeros(shape, jnp.int8 if int8 else cfg.dtype) for name in 'kv'
    }
    scales = {f'{name}_scale': jnp.zeros(shape[:-1]) for name in 'kv'}
    return part | (scales if int8 else {})

  return [layer() for _ in range(cfg.n_layers)] if not stack else layer()


def write(
  part: types.Params,
  k_BTGK: jax.Array,
  v_BTGK: jax.Array,
  positions_BT: types.Array,
) -> types.Params:
  """Put keys and values into the slots that positions name.

  Args:
    part: a layer's part of the cache.
    k_BTGK: keys.
    v_BTGK: values.
    positions_BT: slot of each token.

  Returns:
    The new part.
  """
  rows_B1 = jnp.arange(k_BTGK.shape[0])[:, None]
  new = {'k': k_BTGK, 'v': v_BTGK}
  if 'k_scale' in part:
    new = dict(_round('k', k_BTGK) | _round('v', v_BTGK))
  return {
    name: part[name].at[rows_B1, :, positions_BT].set(x)
    for name, x in new.items()
  }


def _round(name, x_BTGK):
  """As int8 and the scale of each vector; its largest number becomes 127."""
  x_BTGK = x_BTGK.astype(jnp.float32)
  scale_BTG = jnp.max(jnp.abs(x_BTGK), axis=-1) / 127
  rounded_BTGK = jnp.round(x_BTGK / jnp.maximum(scale_BTG, 1e-30)[..., None])
  return {name: rounded_BTGK.astype(jnp.int8), f'{name}_scale': scale_BTG}


def read(
  part: types.Params, n_slots: int, dtype: str
) -> tuple[jax.Array, jax.Array]:
  """Keys and values of the first slots.

  Args:
    part: a layer's part of the cache.
    n_slots: slots to read, a static number: what is behind costs nothing.
    dtype: to compute in.

  Returns:
    k_BGSK and v_BGSK.
  """

  def one(name):
    x_BGSK = part[name][:, :, :n_slots].astype(dtype)
    if f'{name}_scale' in part:
      scale_BGS = part[f'{name}_scale'][:, :, :n_slots].astype(dtype)
      x_BGSK = x_BGSK * scale_BGS[..., None]
    return x_BGSK

  return one('k'), one('v')


def n_slots(cache: types.Params) -> int:
  """Slots of each row."""
  part = cache[0] if isinstance(cache, list) else cache
  return part['k'].shape[-2]


def copy_rows(
  cache: types.Params, source: types.Params, row_B: jax.Array
) -> types.Params:
  """Overwrite the first slots of some rows with rows of another cache.

  Args:
    cache: B rows.
    source: P rows of at most as many slots.
    row_B: the row of source that a row gets; less than 0: it keeps its own.

  Returns:
    The new cache.
  """
  axis = 0 if isinstance(cache, list) else 1

  def one(x, new):
    length = new.shape[axis + 2]
    old = jax.lax.slice_in_dim(x, 0, length, axis=axis + 2)
    new = jnp.take(new, jnp.maximum(row_B, 0), axis=axis)
    shape = [1] * x.ndim
    shape[axis] = len(row_B)
    new = jnp.where((row_B >= 0).reshape(shape), new, old)
    return jax.lax.dynamic_update_slice_in_dim(x, new, 0, axis + 2)

  return jax.tree.map(one, cache, source)
