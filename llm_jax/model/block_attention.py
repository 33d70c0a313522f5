"""Causal self-attention over packed rows, in blocks that skip what is masked.

A block of queries meets the keys up to its own end, or those of its window,
and scores are computed again for the gradient, so that no array of T x T is
kept. Does not choose between forms: see packed_attention.py.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import ad_checkpoint

from llm_jax import types
from llm_jax.model import attention

# On CPUs a shorter block loses more to small products than it skips.
_MIN_BLOCK = 64
_MAX_BLOCKS = 16  # each is compiled; of 16 blocks, 47% is skipped

# Name of attention's results for jax.checkpoint; packed_attention.is_result.
RESULT = 'attention'


def attend(
  q_BTHK: jax.Array,
  k_BTGK: jax.Array,
  v_BTGK: jax.Array,
  segment_ids_BT: types.Array | None,
  rule: attention.Rule,
) -> jax.Array:
  """The form `blocks` of packed_attention.attend, with its arguments.

  Its gradient has no gradient.

  Source: arXiv:2112.05682; the gradient arXiv:2205.14135 algorithm 4.
  """
  batch, length, n_heads, head_dim = q_BTHK.shape
  n_groups = k_BTGK.shape[2]
  q_BGMTK = jnp.moveaxis(
    q_BTHK.reshape(batch, length, n_groups, -1, head_dim), 1, 3
  )
  k_BGSK, v_BGSK = (jnp.moveaxis(x, 1, 2) for x in (k_BTGK, v_BTGK))
  if segment_ids_BT is None:
    segment_ids_BT = jnp.zeros((1, length), jnp.int32)
  arrays = q_BGMTK, k_BGSK, v_BGSK, segment_ids_BT
  out_BGMTK: Any = _attend(rule, arrays)
  return jnp.moveaxis(out_BGMTK, 3, 1).reshape(batch, length, n_heads, head_dim)


def blocks(length: int, window: int) -> list[tuple[slice, slice]]:
  """Queries and the keys that they may read, block by block."""
  size = max(_MIN_BLOCK, math.ceil(length / _MAX_BLOCKS))
  spans = []
  for start in range(0, length, size):
    end = min(start + size, length)
    first = max(start - window + 1, 0) if window else 0
    spans.append((slice(start, end), slice(first, end)))
  return spans


def _scores(rule, arrays, queries, keys):
  """Masked scores of a block in float32, and their slope by the softcap."""
  q_BGMTK, k_BGSK, _, segment_ids_BT = arrays
  scores = jnp.einsum(
    'BGMTK,BGSK->BGMTS',
    q_BGMTK[:, :, :, queries],
    k_BGSK[:, :, keys],
    preferred_element_type=jnp.float32,
  )
  scores = attention.softcap(scores * rule.scale, rule.cap)
  slope = 1 - jnp.square(scores / rule.cap) if rule.cap else None
  mask_BTS = attention.packed_mask(
    segment_ids_BT[:, keys], rule.window, queries.start - keys.start
  )
  masked = jnp.where(mask_BTS[:, None, None], scores, attention.MASKED)
  return masked, slope


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(rule, arrays):
  return _forward(rule, arrays)[0]


def _forward(rule, arrays):
  q_BGMTK, _, v_BGSK, _ = arrays
  outs, logsumexps = [], []
  for queries, keys in blocks(q_BGMTK.shape[3], rule.window):
    scores, _ = _scores(rule, arrays, queries=queries, keys=keys)
    highest = jnp.max(scores, axis=-1, keepdims=True)
    weights = jnp.exp(scores - highest)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    v_block = v_BGSK[:, :, keys]
    out = jnp.einsum(
      'BGMTS,BGSK->BGMTK',
      weights.astype(v_block.dtype),
      v_block,
      preferred_element_type=jnp.float32,
    )
    outs.append((out / total).astype(v_block.dtype))
    logsumexps.append(highest + jnp.log(total))
  out_BGMTK, logsumexps = ad_checkpoint.checkpoint_name(
    (jnp.concatenate(outs, axis=3), logsumexps), RESULT
  )
  return out_BGMTK, (arrays, out_BGMTK, logsumexps)


def _backward(rule, saved, g_BGMTK):
  arrays, out_BGMTK, logsumexps = saved
  q_BGMTK, k_BGSK, v_BGSK, _ = arrays
  product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
  dtype = q_BGMTK.dtype
  dqs = []
  # With keys as the last axis, no block of T x S is transposed.
  shape_BGKS = k_BGSK.mT.shape
  dk_BGKS = jnp.zeros(shape_BGKS, jnp.float32)
  dv_BGKS = jnp.zeros(shape_BGKS, jnp.float32)
  # Not in the blocks, where XLA would take the sum again for each key.
  g_out_BGMT1 = jnp.sum(
    g_BGMTK.astype(jnp.float32) * out_BGMTK, axis=-1, keepdims=True
  )
  spans = blocks(q_BGMTK.shape[3], rule.window)
  for (queries, keys), logsumexp in zip(spans, logsumexps, strict=True):
    scores, slope = _scores(rule, arrays, queries=queries, keys=keys)
    weights = jnp.exp(scores - logsumexp)
    g, g_out = g_BGMTK[:, :, :, queries], g_out_BGMT1[:, :, :, queries]
    g_weights = product('BGMTK,BGSK->BGMTS', g, v_BGSK[:, :, keys])
    g_scores = weights * (g_weights - g_out) * rule.scale
    if slope is not None:
      g_scores *= slope
    g_scores, weights = g_scores.astype(dtype), weights.astype(dtype)
    q_block, k_block = q_BGMTK[:, :, :, queries], k_BGSK[:, :, keys]
    dqs.append(product('BGMTS,BGSK->BGMTK', g_scores, k_block))
    dk_block = product('BGMTK,BGMTS->BGKS', q_block, g_scores)
    dk_BGKS = dk_BGKS.at[..., keys].add(dk_block)
    dv_block = product('BGMTK,BGMTS->BGKS', g, weights)
    dv_BGKS = dv_BGKS.at[..., keys].add(dv_block)
  dq_BGMTK = jnp.concatenate(dqs, axis=3)
  grads = (dq_BGMTK, dk_BGKS.mT, dv_BGKS.mT)
  return ((*(x.astype(dtype) for x in grads), None),)


_attend.defvjp(_forward, _backward)
