"""Grouped causal attention and rotary positions as plain functions.

Knows nothing of parameters or layers; `attend` is the plain XLA form.
"""

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from llm_jax import types
from llm_jax.model import config

MASKED = -1e30  # finite, so that a fully masked row gives no NaN


class Rule(NamedTuple):
  """What scores are, beside the arrays."""

  scale: float  # of the scores, usually 1 / sqrt(K)
  window: int = 0  # tokens that a token sees, itself with them; 0: all
  cap: float = 0.0  # of `softcap`, before the mask; 0: none


def rope_frequencies(
  head_dim: int, theta: float, scaling: config.RopeScaling | None = None
) -> jax.Array:
  """Angle by which each pair of a head turns from one position to the next.

  theta^(-2i/K) for the i-th pair, slowed down by the scaling.

  Args:
    head_dim: width K of a head.
    theta: base of the wavelengths.
    scaling: how wavelengths are stretched; None: not at all.

  Returns:
    frequency_K, one for each pair, in radians.

  Source: arXiv:2104.09864 eq. 15; `llama3` as in meta-llama/llama-models,
  models/llama3/model.py, apply_scaling.
  """
  half = head_dim // 2
  frequency_K = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
  if scaling is None:
    return frequency_K
  if scaling.kind == 'linear':
    return frequency_K / scaling.factor
  low, high = scaling.low_freq_factor, scaling.high_freq_factor
  n_turns_K = scaling.original_max_length * frequency_K / (2 * math.pi)
  kept_K = jnp.clip((n_turns_K - low) / (high - low), 0, 1)
  return frequency_K * (kept_K + (1 - kept_K) / scaling.factor)


def rotation(
  positions_BT: types.Array, frequency_K: jax.Array, length: int | None = None
) -> tuple[jax.Array, jax.Array]:
  """Cosine and sine of the angles by which each token's pairs turn.

  Args:
    positions_BT: position of each token in its document.
    frequency_K: from `rope_frequencies`, one for each pair.
    length: positions that can occur, from 0; the others give NaN. None: any.

  Returns:
    cos_BT1K and sin_BT1K of position * frequency.
  """
  # Looked up in a table: XLA's CPU backend would else compute them again in
  # each layer, for each head.
  if length is not None:
    angle_SK = jnp.arange(length)[:, None] * frequency_K[None]
    tables = jnp.cos(angle_SK), jnp.sin(angle_SK)
    cos_BTK, sin_BTK = (
      table_SK.at[positions_BT].get(mode='fill', fill_value=jnp.nan)
      for table_SK in tables
    )
    return cos_BTK[:, :, None], sin_BTK[:, :, None]
  angle_BT1K = positions_BT[:, :, None, None] * frequency_K[None, None, None]
  return jnp.cos(angle_BT1K), jnp.sin(angle_BT1K)


def rotate(
  x_BTHK: jax.Array, cos_BT1K: jax.Array, sin_BT1K: jax.Array
) -> jax.Array:
  """Rotate pairs of a head's halves by angles that grow with the position.

  (a, b) -> (a cos - b sin, b cos + a sin); a is the first half of the head, b
  the second.

  Args:
    x_BTHK: queries or keys (H may be the number of key heads).
    cos_BT1K: from `rotation`.
    sin_BT1K: the same.

  Returns:
    The rotated array, same shape and dtype.

  Source: arXiv:2104.09864 eq. 34, in the half-split order of GPT-NeoX.
  """
  a_BTHK, b_BTHK = jnp.split(x_BTHK.astype(jnp.float32), 2, axis=-1)
  rotated_BTHK = jnp.concatenate(
    [
      a_BTHK * cos_BT1K - b_BTHK * sin_BT1K,
      b_BTHK * cos_BT1K + a_BTHK * sin_BT1K,
    ],
    axis=-1,
  )
  return rotated_BTHK.astype(x_BTHK.dtype)


def packed_mask(
  segment_ids_BS: types.Array, window: int = 0, first: int = 0
) -> jax.Array:
  """Let a token see itself and earlier tokens of its own document.

  Args:
    segment_ids_BS: the document that each token of a row belongs to.
    window: tokens that it sees, itself with them; 0: all.
    first: the token of the first query; the others follow.

  Returns:
    mask_BTS, true where query t, the token first + t, may read key s.
  """
  index_S = jnp.arange(segment_ids_BS.shape[1])
  distance_TS = index_S[first:, None] - index_S[None, :]
  seen_TS = distance_TS >= 0
  if window:
    seen_TS &= distance_TS < window
  same_BTS = segment_ids_BS[:, first:, None] == segment_ids_BS[:, None, :]
  return same_BTS & seen_TS[None]


def cache_mask(
  positions_BT: types.Array, n_slots: int, window: int = 0
) -> jax.Array:
  """Let a token see the cache slots up to and with its own position.

  Args:
    positions_BT: slot that each query token was written to.
    n_slots: slots of the cache.
    window: slots that it sees, its own with them; 0: all.

  Returns:
    mask_BTS, true where query t may read slot s.
  """
  slot_11S = jnp.arange(n_slots)[None, None, :]
  mask_BTS = slot_11S <= positions_BT[:, :, None]
  if window:
    mask_BTS &= slot_11S > positions_BT[:, :, None] - window
  return mask_BTS


def softcap(x: jax.Array, cap: float) -> jax.Array:
  """Squash x smoothly into (-cap, cap): cap * tanh(x / cap); cap 0: x.

  Source: arXiv:2408.00118 section 2.
  """
  return cap * jnp.tanh(x / cap) if cap else x


def attend(
  q_BTHK: jax.Array,
  k_BGSK: jax.Array,
  v_BGSK: jax.Array,
  mask_BTS: jax.Array,
  rule: Rule,
) -> jax.Array:
  """Scaled dot-product attention with grouped keys and values.

  softmax(softcap(q k scale)) v, scores and softmax in float32. XLA's CPU
  backend is 5 times faster over one query if both products keep the order of
  the cache, heads before slots, and have the queries on the left.

  Args:
    q_BTHK: queries.
    k_BGSK: keys; query head h reads key head h // (H / G).
    v_BGSK: values.
    mask_BTS: true where a query may read a key.
    rule: scale and softcap; its window is in the mask.

  Returns:
    out_BTHK in the dtype of the values.

  Source: arXiv:1706.03762 eq. 1; groups arXiv:2305.13245.
  """
  chex.assert_equal_shape([k_BGSK, v_BGSK])
  batch, length, _, head_dim = q_BTHK.shape
  n_groups = k_BGSK.shape[1]
  q_BTGMK = q_BTHK.reshape(batch, length, n_groups, -1, head_dim)
  # Queries first in X, so that they may be split over the axis context.
  q_BGTMK = jnp.swapaxes(q_BTGMK, 1, 2)
  q_BGXK = q_BGTMK.reshape(batch, n_groups, -1, head_dim)
  scores_BGXS = jnp.einsum(
    'BGXK,BGSK->BGXS', q_BGXK, k_BGSK, preferred_element_type=jnp.float32
  )
  scores_BGXS = softcap(scores_BGXS * rule.scale, rule.cap)
  scores_BGTMS = scores_BGXS.reshape(*q_BGTMK.shape[:-1], -1)
  seen_B1T1S = mask_BTS[:, None, :, None]
  scores_BGTMS = jnp.where(seen_B1T1S, scores_BGTMS, MASKED)
  weights_BGTMS = jax.nn.softmax(scores_BGTMS, axis=-1).astype(v_BGSK.dtype)
  weights_BGXS = weights_BGTMS.reshape(scores_BGXS.shape)
  out_BGXK = jnp.einsum('BGXS,BGSK->BGXK', weights_BGXS, v_BGSK)
  out_BTGMK = jnp.swapaxes(out_BGXK.reshape(q_BGTMK.shape), 1, 2)
  return out_BTGMK.reshape(q_BTHK.shape)
