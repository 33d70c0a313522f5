"""Grouped causal attention and rotary positions as plain functions.

Knows nothing of parameters or layers; `attend` is the plain XLA form.
"""

import chex
import jax
import jax.numpy as jnp

from llm_jax import types

MASKED = -1e30  # finite, so that a fully masked row gives no NaN


def rotate(x_BTHK: jax.Array, positions_BT: jax.Array, theta: float):
  """Rotate pairs of a head's halves by angles that grow with the position.

  (a, b) -> (a cos - b sin, b cos + a sin), angle = position * theta^(-2i/K)
  for the i-th pair; a is the first half of the head, b the second.

  Args:
    x_BTHK: queries or keys (H may be the number of key heads).
    positions_BT: position of each token in its document.
    theta: base of the wavelengths.

  Returns:
    The rotated array, same shape and dtype.

  Source: arXiv:2104.09864 eq. 34, in the half-split order of GPT-NeoX.
  """
  half = x_BTHK.shape[-1] // 2
  frequency_K = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
  angle_BT1K = positions_BT[:, :, None, None] * frequency_K[None, None, None]
  cos_BT1K, sin_BT1K = jnp.cos(angle_BT1K), jnp.sin(angle_BT1K)
  a_BTHK, b_BTHK = jnp.split(x_BTHK.astype(jnp.float32), 2, axis=-1)
  rotated_BTHK = jnp.concatenate(
    [
      a_BTHK * cos_BT1K - b_BTHK * sin_BT1K,
      b_BTHK * cos_BT1K + a_BTHK * sin_BT1K,
    ],
    axis=-1,
  )
  return rotated_BTHK.astype(x_BTHK.dtype)


def packed_mask(segment_ids_BT: types.Array) -> jax.Array:
  """Let a token see itself and earlier tokens of its own document.

  Args:
    segment_ids_BT: the document that each token of a row belongs to.

  Returns:
    mask_BTS, true where query t may read key s.
  """
  length = segment_ids_BT.shape[1]
  causal_TS = jnp.arange(length)[:, None] >= jnp.arange(length)[None, :]
  same_BTS = segment_ids_BT[:, :, None] == segment_ids_BT[:, None, :]
  return same_BTS & causal_TS[None]


def cache_mask(positions_BT: types.Array, n_slots: int) -> jax.Array:
  """Let a token see the cache slots up to and with its own position.

  Args:
    positions_BT: slot that each query token was written to.
    n_slots: slots of the cache.

  Returns:
    mask_BTS, true where query t may read slot s.
  """
  return jnp.arange(n_slots)[None, None, :] <= positions_BT[:, :, None]


def attend(
  q_BTHK: jax.Array, k_BSGK: jax.Array, v_BSGK: jax.Array, mask_BTS: jax.Array
) -> jax.Array:
  """Scaled dot-product attention with grouped keys and values.

  softmax(q k / sqrt(K)) v, scores and softmax in float32.

  Args:
    q_BTHK: queries.
    k_BSGK: keys; query head h reads key head h // (H / G).
    v_BSGK: values.
    mask_BTS: true where a query may read a key.

  Returns:
    out_BTHK in the dtype of the values.

  Source: arXiv:1706.03762 eq. 1; groups arXiv:2305.13245.
  """
  chex.assert_equal_shape([k_BSGK, v_BSGK])
  batch, n_queries, n_heads, head_dim = q_BTHK.shape
  n_groups = k_BSGK.shape[2]
  q_BTGMK = q_BTHK.reshape(
    batch, n_queries, n_groups, n_heads // n_groups, head_dim
  )
  scores_BGMTS = jnp.einsum(
    'BTGMK,BSGK->BGMTS', q_BTGMK, k_BSGK, preferred_element_type=jnp.float32
  )
  scores_BGMTS = jnp.where(
    mask_BTS[:, None, None], scores_BGMTS * head_dim**-0.5, MASKED
  )
  weights_BGMTS = jax.nn.softmax(scores_BGMTS, axis=-1).astype(v_BSGK.dtype)
  out_BTGMK = jnp.einsum('BGMTS,BSGK->BTGMK', weights_BGMTS, v_BSGK)
  return out_BTGMK.reshape(q_BTHK.shape)
