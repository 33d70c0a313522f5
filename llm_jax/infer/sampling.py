"""Drawing the next token from logits, by the rules and the seed of each row.

Never sorts the vocabulary.
"""

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from llm_jax.model import attention

_N_LISTED = 128  # most likely tokens that decide the usual truncation
_BLOCK = 128  # tokens whose probabilities are summed up together


class Rules(NamedTuple):
  """How each row is drawn; where all rows share a None, it is not compiled."""

  temperature_B: jax.Array  # divisor of the logits; 0: the most likely token
  # Truncation, of the tempered distribution, in this order.
  top_k_B: jax.Array | None = None  # tokens kept; 0: all
  top_p_B: jax.Array | None = None  # mass kept of these; 1: all
  min_p_B: jax.Array | None = None  # of the most likely one's; 0: all
  # Of tokens in seen_BV, positive logits are divided by it, others multiplied.
  repetition_penalty_B: jax.Array | None = None
  seen_BV: jax.Array | None = None
  banned_BV: jax.Array | None = None  # true: never drawn


def sample(
  logits_BV: jax.Array, rules: Rules, seed_B: jax.Array, position_B: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Draw one token a row by inverting the distribution function.

  The draw of a row depends on its own seed, position, rules and logits only,
  so a request gives the same tokens whatever its neighbours are.

  Args:
    logits_BV: float32; rows that only pad the vocabulary hold -1e30.
    rules: of each row.
    seed_B: uint32 seed of each request.
    position_B: position of the token to be drawn.

  Returns:
    token_B, and logp_B in nats under the distribution drawn from (under the
    untempered and untruncated one where the temperature is 0).

  Source: repetition penalty arXiv:1909.05858 section 4.1, top-p
  arXiv:1904.09751 section 3.1, min-p arXiv:2407.01082 section 3; their order
  is that of transformers.
  """
  chex.assert_rank(logits_BV, 2)
  chex.assert_equal_shape([rules.temperature_B, seed_B, position_B])
  if rules.banned_BV is not None:
    logits_BV = jnp.where(rules.banned_BV, attention.MASKED, logits_BV)
  if rules.repetition_penalty_B is not None and rules.seen_BV is not None:
    penalty_B1 = rules.repetition_penalty_B[:, None]
    less_BV = jnp.where(
      logits_BV > 0, logits_BV / penalty_B1, logits_BV * penalty_B1
    )
    logits_BV = jnp.where(rules.seen_BV, less_BV, logits_BV)
  greedy_B = rules.temperature_B <= 0
  divisor_B = jnp.where(greedy_B, 1.0, rules.temperature_B)
  scaled_BV = logits_BV / divisor_B[:, None]
  if rules.top_k_B is not None:
    threshold_B = jnp.where(greedy_B, -jnp.inf, _threshold(scaled_BV, rules))
    scaled_BV = jnp.where(
      scaled_BV >= threshold_B[:, None], scaled_BV, attention.MASKED
    )
  logp_BV = jax.nn.log_softmax(scaled_BV, axis=-1)
  token_B = jnp.where(
    greedy_B,
    _most_likely(logits_BV),
    _invert(jnp.exp(logp_BV), _uniform(seed_B, position_B)),
  ).astype(jnp.int32)
  chosen_B1 = jnp.take_along_axis(logp_BV, token_B[:, None], axis=-1)
  return token_B, chosen_B1[:, 0]


def _most_likely(logits_BV):
  """The first of the largest logits; XLA's own argmax is 8 times slower."""
  is_max_BV = logits_BV == logits_BV.max(axis=1, keepdims=True)
  n_tokens = logits_BV.shape[1]
  return jnp.where(is_max_BV, jnp.arange(n_tokens)[None], n_tokens).min(axis=1)


def _uniform(seed_B, position_B):
  """A random number in [0, 1) of each row."""

  def one(seed, position):
    return jax.random.uniform(
      jax.random.fold_in(jax.random.key(seed), position)
    )

  return jax.vmap(one)(seed_B, position_B)


def _invert(p_BV, uniform_B):
  """The first token at which the summed probability passes uniform_B."""
  # First the block of tokens, then the token in it: one sum over all tokens
  # one after the other would cost as much as all else.
  n_rows, n_tokens = p_BV.shape
  width = math.gcd(n_tokens, _BLOCK)
  p_BCJ = p_BV.reshape(n_rows, n_tokens // width, width)
  p_BC = p_BCJ.sum(axis=2)
  cdf_BC = jnp.cumsum(p_BC, axis=1)
  wanted_B1 = uniform_B[:, None] * cdf_BC[:, -1:]
  block_B1 = _first_above(cdf_BC, p_BC, wanted_B1)
  # Not cdf - p: rounding could lift that above the wanted value, and a token
  # without mass would be drawn.
  before_B1 = jnp.where(
    block_B1 > 0,
    jnp.take_along_axis(cdf_BC, jnp.maximum(block_B1 - 1, 0), axis=1),
    0,
  )
  p_BJ = jnp.take_along_axis(p_BCJ, block_B1[:, :, None], axis=1)[:, 0]
  cdf_BJ = before_B1 + jnp.cumsum(p_BJ, axis=1)
  return (block_B1 * width + _first_above(cdf_BJ, p_BJ, wanted_B1))[:, 0]


def _first_above(cdf_BC, p_BC, wanted_B1):
  """Where cdf passes the wanted value, or else the last that has any mass."""
  at_C = jnp.arange(p_BC.shape[1])[None]
  last_B1 = jnp.where(p_BC > 0, at_C, 0).max(axis=1, keepdims=True)
  passed_B1 = jnp.sum(cdf_BC <= wanted_B1, axis=1, keepdims=True)
  # Rounding must not push the draw past it.
  return jnp.minimum(passed_B1, last_B1)


def _threshold(scaled_BV: jax.Array, rules: Rules) -> jax.Array:
  """The least logit of each row that truncation keeps; its equals stay too."""
  k_B, p_B, min_p_B = rules.top_k_B, rules.top_p_B, rules.min_p_B
  assert k_B is not None
  assert p_B is not None
  assert min_p_B is not None
  n_tokens = scaled_BV.shape[1]
  k_B = jnp.where(k_B > 0, jnp.minimum(k_B, n_tokens), n_tokens)
  # The barrier keeps XLA from sorting for the sake of the slice below.
  listed_BJ = jax.lax.optimization_barrier(
    jax.lax.top_k(scaled_BV, min(_N_LISTED, n_tokens))[0]
  )
  n_listed = listed_BJ.shape[1]
  max_B1 = listed_BJ[:, :1]
  in_k_BJ = jnp.arange(n_listed)[None] < k_B[:, None]
  mass_BJ = jnp.where(in_k_BJ, jnp.exp(listed_BJ - max_B1), 0)
  mass_B = jnp.where(
    k_B <= n_listed, mass_BJ.sum(1), jnp.exp(scaled_BV - max_B1).sum(1)
  )
  wanted_B = p_B * mass_B
  # A token stays if those before it do not have the wanted mass yet.
  before_BJ = jnp.cumsum(mass_BJ, axis=1) - mass_BJ
  kept_BJ = in_k_BJ & ((before_BJ < wanted_B[:, None]) | (p_B >= 1)[:, None])
  from_list_B = jnp.where(kept_BJ, listed_BJ, jnp.inf).min(1)
  # Of a row that keeps all there is nothing to find, and of one whose last kept
  # token is not in the list, it is found by halving the range of floats.
  keeps_all_B = (k_B == n_tokens) & (p_B >= 1)
  is_listed_B = (k_B <= n_listed) | ((k_B == n_tokens) & ~kept_BJ[:, -1])
  is_listed_B |= keeps_all_B

  def search():
    by_k_B = _largest(scaled_BV, lambda kept_BV: kept_BV.sum(1) >= k_B)
    mass_BV = jnp.exp(scaled_BV - max_B1)
    mass_BV = jnp.where(scaled_BV >= by_k_B[:, None], mass_BV, 0)
    wanted_B = jnp.minimum(p_B, 1 - 1e-7) * mass_BV.sum(1)
    by_p_B = _largest(
      scaled_BV,
      lambda kept_BV: jnp.where(kept_BV, mass_BV, 0).sum(1) >= wanted_B,
    )
    return jnp.where(p_B >= 1, by_k_B, by_p_B)

  found_B = jax.lax.cond(jnp.all(is_listed_B), lambda: from_list_B, search)
  found_B = jnp.where(is_listed_B, from_list_B, found_B)
  found_B = jnp.where(keeps_all_B, -jnp.inf, found_B)
  return jnp.maximum(found_B, max_B1[:, 0] + jnp.log(min_p_B))


def _largest(x_BV, enough):
  """The largest t of each row for which `enough` holds of x >= t.

  `enough` holds for small t, and no longer above some t. Exact: it halves the
  range of the bits of a float, which are ordered as floats are.
  """

  def ordered(x):
    bits = jax.lax.bitcast_convert_type(x, jnp.int32)
    return jnp.where(bits < 0, bits ^ 0x7FFFFFFF, bits)

  def halve(_, ends):
    low_B, high_B = ends  # enough holds at low, and not above high
    # Their mean, rounded up, without overflow.
    middle_B = (low_B & high_B) + ((low_B ^ high_B) >> 1)
    middle_B += (low_B ^ high_B) & 1
    holds_B = enough(key_BV >= middle_B[:, None])
    low_B = jnp.where(holds_B, middle_B, low_B)
    high_B = jnp.where(holds_B, high_B, middle_B - 1)
    return low_B, high_B

  key_BV = ordered(x_BV)
  low_B, _ = jax.lax.fori_loop(0, 32, halve, (key_BV.min(1), key_BV.max(1)))
  bits_B = jnp.where(low_B < 0, low_B ^ 0x7FFFFFFF, low_B)
  return jax.lax.bitcast_convert_type(bits_B, jnp.float32)


def top(logits_BV: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
  """The n most likely tokens of each row, and their logps in nats.

  Args:
    logits_BV: as the model gives them.
    n: tokens.

  Returns:
    token_BJ, the most likely first, and logp_BJ.
  """
  best_BJ, token_BJ = jax.lax.optimization_barrier(jax.lax.top_k(logits_BV, n))
  total_B1 = jax.nn.logsumexp(logits_BV, axis=-1, keepdims=True)
  return token_BJ, best_BJ - total_B1
