"""Log-probabilities of target tokens and the cross-entropy over them.

Takes hidden states and the head's matrix as arrays, never a model.
"""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from llm_jax import types

PADDING_LOGIT = -1e30  # for vocabulary rows that are no token


class Head(NamedTuple):
  """What turns hidden states into logits."""

  w_VD: jax.Array  # rows from vocab_size on only pad it and get no mass
  vocab_size: int  # rows that are tokens
  softcap: float = 0.0  # logits are cap * tanh(logits / cap); 0: no cap
  # First and last id of runs below vocab_size that are no tokens.
  unused_ids: tuple[tuple[int, int], ...] = ()


def token_logp(
  hidden_BTD: jax.Array,
  head: Head,
  targets_BT: types.Array,
  chunk_length: int = 0,
  temperature: float = 1.0,
) -> jax.Array:
  """Log-probability of each target token, log softmax(h w / t)[target].

  Args:
    hidden_BTD: final hidden states.
    head: of the model.
    targets_BT: token ids.
    chunk_length: tokens of each row whose logits exist at once; the backward
      pass recomputes them. 0: all at once, faster where memory allows. Both
      forms are held equal by tests/losses/next_token_test.py.
    temperature: divisor t of the logits, more than 0; the distribution is that
      of infer/sampling.py at this temperature, before any truncation.

  Returns:
    logp_BT in nats, float32.

  Raises:
    ValueError: if chunk_length does not divide the length of the rows.
  """
  chex.assert_rank([hidden_BTD, head.w_VD, targets_BT], [3, 2, 2])
  length = hidden_BTD.shape[1]

  def of_chunk(hidden_BTD, w_VD, targets_BT):
    logits_BTV = logits(hidden_BTD, head._replace(w_VD=w_VD), temperature)
    return _pick(logits_BTV, targets_BT, hidden_BTD.dtype)

  if not chunk_length or chunk_length == length:
    return of_chunk(hidden_BTD, head.w_VD, targets_BT)
  if length % chunk_length:
    raise ValueError(
      f'loss chunk_length {chunk_length} does not divide {length} tokens a '
      f'row; use a divisor, or 0 for no chunks'
    )

  def chunks_first(x):
    chunked = x.reshape(x.shape[0], -1, chunk_length, *x.shape[2:])
    return jnp.swapaxes(chunked, 0, 1)

  logp_CBT = jax.lax.map(
    lambda chunk: jax.checkpoint(of_chunk)(chunk[0], head.w_VD, chunk[1]),
    (chunks_first(hidden_BTD), chunks_first(targets_BT)),
  )
  return jnp.swapaxes(logp_CBT, 0, 1).reshape(targets_BT.shape)


def logits(
  hidden_BTD: jax.Array, head: Head, temperature: float = 1.0
) -> jax.Array:
  """logits_BTV over a temperature, float32; rows that are no tokens get -1e30.

  So these are never sampled and add nothing to a softmax.
  """
  w_VD, vocab_size, softcap, unused_ids = head
  logits_BTV = _product(hidden_BTD, w_VD)
  if softcap:
    logits_BTV = softcap * jnp.tanh(logits_BTV / softcap)
  if temperature != 1:
    logits_BTV = logits_BTV / temperature
  if vocab_size == w_VD.shape[0] and not unused_ids:
    return logits_BTV
  ids_V = jnp.arange(w_VD.shape[0])
  is_token_V = ids_V < vocab_size
  for first, last in unused_ids:
    is_token_V &= (ids_V < first) | (ids_V > last)
  return jnp.where(is_token_V[None, None], logits_BTV, PADDING_LOGIT)


@jax.custom_vjp
def _product(hidden_BTD, w_VD):
  return _product_forward(hidden_BTD, w_VD)[0]


def _product_forward(hidden_BTD, w_VD):
  logits_XV = jnp.einsum(
    'XD,VD->XV',
    hidden_BTD.reshape(-1, w_VD.shape[1]),
    w_VD.astype(hidden_BTD.dtype),
    preferred_element_type=jnp.float32,
  )
  logits_BTV = logits_XV.reshape(*hidden_BTD.shape[:2], -1)
  return logits_BTV, (hidden_BTD, w_VD)


def _product_backward(saved, g_BTV):
  # Rounded as activations are: autodiff would multiply in float32. And flat,
  # as in model/layer.py.
  hidden_BTD, w_VD = saved
  dtype = hidden_BTD.dtype
  g_XV = g_BTV.astype(dtype).reshape(-1, w_VD.shape[0])
  g_hidden_XD = g_XV @ w_VD.astype(dtype)
  g_w_VD = jnp.einsum(
    'XV,XD->VD',
    g_XV,
    hidden_BTD.reshape(-1, w_VD.shape[1]),
    preferred_element_type=jnp.float32,
  )
  return g_hidden_XD.reshape(hidden_BTD.shape), g_w_VD.astype(w_VD.dtype)


_product.defvjp(_product_forward, _product_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _pick(logits_BTV, targets_BT, dtype):
  return _pick_forward(logits_BTV, targets_BT, dtype)[0]


def _pick_forward(logits_BTV, targets_BT, dtype):
  del dtype
  target_BT1 = jnp.take_along_axis(logits_BTV, targets_BT[..., None], axis=-1)
  highest_BT1 = jnp.max(logits_BTV, axis=-1, keepdims=True)
  weights_BTV = jnp.exp(logits_BTV - highest_BT1)
  total_BT1 = weights_BTV.sum(axis=-1, keepdims=True)
  logp_BT1 = target_BT1 - highest_BT1 - jnp.log(total_BT1)
  logp_BT = logp_BT1[..., 0]
  return logp_BT, (weights_BTV, total_BT1, logp_BT, targets_BT)


def _pick_backward(dtype, saved, g_BT):
  # In one pass over the weights: autodiff would scatter into zeros, and add.
  weights_BTV, total_BT1, logp_BT, targets_BT = saved
  slope_BTV = (-g_BT[..., None] / total_BT1 * weights_BTV).astype(dtype)
  slope_BT = (-g_BT * jnp.expm1(logp_BT)).astype(dtype)
  slope_BTV = jnp.put_along_axis(
    slope_BTV,
    targets_BT[..., None],
    slope_BT[..., None],
    axis=-1,
    inplace=False,
  )
  return slope_BTV.astype(jnp.float32), None


_pick.defvjp(_pick_forward, _pick_backward)


def cross_entropy(logp_BT: jax.Array, mask_BT: types.Array) -> jax.Array:
  """Mean negative log-probability over the tokens that the mask keeps.

  L = -sum(mask * logp) / sum(mask)

  Args:
    logp_BT: log-probability of each target, in nats.
    mask_BT: weight of each target, 0 or 1.

  Returns:
    Scalar loss in nats per token; 0 if the mask keeps nothing.
  """
  chex.assert_equal_shape([logp_BT, mask_BT])
  return -(logp_BT * mask_BT).sum() / jnp.maximum(mask_BT.sum(), 1)
