"""Policy-gradient losses over sampled tokens.

Takes log-probabilities and advantages as arrays; does not sample, score or
compute advantages.

Every loss here is a mean over the tokens of loss_mask, each times a weight that
one of AGGREGATIONS computes once for the whole batch. So each is the same
number for a batch in micro-batches, over a mesh or in another order of rows.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from llm_jax import types


class Tokens(NamedTuple):
  """What a surrogate is computed from."""

  logp_BT: jax.Array
  log_ratio_BT: jax.Array  # to the policy that sampled, 0 outside the mask
  advantage_BT: types.Array
  mask_BT: types.Array


class Gain(NamedTuple):
  """What a surrogate gains of each token, and which of them it clips."""

  gain_BT: jax.Array
  ratio_BT: jax.Array
  is_low_BT: jax.Array  # its ratio is so low that it gets no gradient
  is_high_BT: jax.Array  # or so high


class Clips(NamedTuple):
  """How far a ratio may move from 1."""

  low: float = 0.2  # below 1, and still be pushed down
  high: float = 0.2  # above 1, and still be pushed up

  def apply(self, ratio_BT: jax.Array) -> jax.Array:
    """Ratios within 1 - low and 1 + high."""
    return jnp.clip(ratio_BT, 1 - self.low, 1 + self.high)


def clipped(tokens: Tokens, clips: Clips) -> Gain:
  """The surrogate of PPO: min(r A, clip(r, 1 - low, 1 + high) A).

  Source: arXiv:1707.06347 eq. 7; two clips arXiv:2503.14476 eq. 8.
  """
  _, log_ratio_BT, advantage_BT, _ = tokens
  chex.assert_equal_shape_prefix([log_ratio_BT, advantage_BT], 1)
  ratio_BT = jnp.exp(log_ratio_BT)
  gain_BT = jnp.minimum(
    ratio_BT * advantage_BT, clips.apply(ratio_BT) * advantage_BT
  )
  return Gain(
    gain_BT,
    ratio_BT,
    is_low_BT=(ratio_BT < 1 - clips.low) & (advantage_BT < 0),
    is_high_BT=(ratio_BT > 1 + clips.high) & (advantage_BT > 0),
  )


def sequence(tokens: Tokens, clips: Clips) -> Gain:
  """As `clipped`, with one ratio for all tokens of a row.

  s = exp(mean of log r over the row's tokens); its gradient in each token is
  the token's own.

  Source: arXiv:2507.18071 eq. 14 (GSPO-token).
  """
  log_ratio_BT, mask_BT = tokens.log_ratio_BT, tokens.mask_BT
  mean_B1 = (log_ratio_BT * mask_BT).sum(axis=1, keepdims=True) / jnp.maximum(
    mask_BT.sum(axis=1, keepdims=True), 1
  )
  log_ratio_BT = jax.lax.stop_gradient(mean_B1 - log_ratio_BT) + log_ratio_BT
  return clipped(tokens._replace(log_ratio_BT=log_ratio_BT), clips)


def cispo(tokens: Tokens, clips: Clips) -> Gain:
  """REINFORCE with clipped weights: clip(r, 1 - low, 1 + high) A log pi.

  No gradient flows through r, so that a clipped token is still learned from;
  is_low and is_high are tokens whose weight is clipped.

  Source: arXiv:2506.13585 eq. 4.
  """
  chex.assert_equal_shape([tokens.logp_BT, tokens.log_ratio_BT])
  ratio_BT = jnp.exp(tokens.log_ratio_BT)
  weight_BT = jax.lax.stop_gradient(clips.apply(ratio_BT))
  return Gain(
    weight_BT * tokens.advantage_BT * tokens.logp_BT,
    ratio_BT,
    is_low_BT=ratio_BT < 1 - clips.low,
    is_high_BT=ratio_BT > 1 + clips.high,
  )


SURROGATES = {'clipped': clipped, 'sequence': sequence, 'cispo': cispo}


def policy_gradient(
  logp_BT: jax.Array,
  old_logp_BT: types.Array,
  advantage_BT: types.Array,
  mask_BT: types.Array,
  *,
  surrogate: Callable[..., Gain] = clipped,
  clips: Clips = Clips(),  # noqa: B008
  weight_BT: types.Array | None = None,
  ref_logp_BT: types.Array | None = None,
  kl_coefficient: float = 0.0,
) -> tuple[jax.Array, dict[str, Any]]:
  """A surrogate loss of which the gradient is the policy gradient.

  L = -sum mask weight (gain - kl_coefficient kl) / sum mask,  r = pi / old

  On policy, r = 1 and the gradient is REINFORCE's with the given advantage.

  Args:
    logp_BT: log pi(token | prefix) of the policy being trained, in nats. Where
      tokens were drawn at a temperature, all log-probabilities are of the
      tempered distributions.
    old_logp_BT: the same under the policy that sampled; no gradient flows.
    advantage_BT: reward minus its baseline for each token, or (B, 1) for each
      row. Truncated importance weights are multiplied into it.
    mask_BT: 1 on sampled tokens, the stop token included; 0 on prompt, tool
      output, padding, and on groups without variance.
    surrogate: one of SURROGATES, which say what a token gains.
    clips: of r.
    weight_BT: of each token, by one of AGGREGATIONS; None: all 1.
    ref_logp_BT: log-probabilities of the policy that training must stay near.
    kl_coefficient: weight of `kl` to that policy.

  Returns:
    Scalar loss, and metrics as update.make_update_fn takes them: shares of
    tokens that get no gradient as r is too low or too high (for cispo: whose r
    is clipped), r, |log pi - log old|, kl if there is a reference.
  """
  chex.assert_equal_shape([logp_BT, old_logp_BT, mask_BT])
  chex.assert_rank(advantage_BT, 2)
  chex.assert_equal_shape_prefix([logp_BT, advantage_BT], 1)
  log_ratio_BT = _log_ratio(logp_BT, old_logp_BT, mask_BT)
  advantage_BT = jax.lax.stop_gradient(advantage_BT)
  tokens = Tokens(
    logp_BT, log_ratio_BT, advantage_BT=advantage_BT, mask_BT=mask_BT
  )
  gain_BT, ratio_BT, is_low_BT, is_high_BT = surrogate(tokens, clips)
  n_tokens = mask_BT.sum()
  metrics = {
    'clip_low_share': ((is_low_BT * mask_BT).sum(), n_tokens),
    'clip_high_share': ((is_high_BT * mask_BT).sum(), n_tokens),
    'mean_ratio': ((ratio_BT * mask_BT).sum(), n_tokens),
    'min_ratio': jnp.where(mask_BT > 0, ratio_BT, jnp.inf).min(),
    'max_ratio': jnp.where(mask_BT > 0, ratio_BT, -jnp.inf).max(),
    'mean_logp_difference': (jnp.abs(log_ratio_BT).sum(), n_tokens),
    'max_logp_difference': jnp.abs(log_ratio_BT).max(),
  }
  if ref_logp_BT is not None:
    kl_BT = kl(logp_BT, old_logp_BT, ref_logp_BT=ref_logp_BT, mask_BT=mask_BT)
    metrics['kl'] = ((kl_BT * mask_BT).sum(), n_tokens)
    gain_BT -= kl_coefficient * kl_BT
  if weight_BT is not None:
    gain_BT *= weight_BT
  # Every group may be dead.
  return -(gain_BT * mask_BT).sum() / jnp.maximum(n_tokens, 1), metrics


def _log_ratio(logp_BT, other_logp_BT, mask_BT):
  """Of two policies; 0 outside the mask, where other_logp holds anything."""
  difference_BT = logp_BT - jax.lax.stop_gradient(other_logp_BT)
  return jnp.where(mask_BT > 0, difference_BT, 0.0)


def kl(
  logp_BT: jax.Array,
  old_logp_BT: types.Array,
  ref_logp_BT: types.Array,
  mask_BT: types.Array,
) -> jax.Array:
  """Estimate KL(pi || ref) of the next token, value and gradient unbiased.

  kl = r (x - log x - 1),  x = ref / pi,  r = pi / old

  Without r, the mean of the gradient is that of KL(ref || pi); the gradient of
  the plain difference of log-probabilities is 0 in the mean: neither is a
  penalty on KL(pi || ref). What the token does to the KL of later ones is not
  in it; a KL in the reward has that too.

  Args:
    logp_BT: of the policy being trained, in nats.
    old_logp_BT: of the policy that sampled.
    ref_logp_BT: of the reference.
    mask_BT: 1 on sampled tokens.

  Returns:
    kl_BT in nats, 0 outside the mask.

  Source: arXiv:2512.02556 eq. 7; the estimator without r is
  http://joschu.net/blog/kl-approx.html.
  """
  log_x_BT = -_log_ratio(logp_BT, ref_logp_BT, mask_BT)
  ratio_BT = jnp.exp(_log_ratio(logp_BT, old_logp_BT, mask_BT))
  return ratio_BT * (jnp.exp(log_x_BT) - log_x_BT - 1)


def truncated_importance(
  logp_BT: types.Array, sampler_logp_BT: types.Array, cap: float
) -> jax.Array:
  """Weigh tokens that another engine drew: min(trainer / sampler, cap).

  Args:
    logp_BT: under the trainer, with the parameters that sampled.
    sampler_logp_BT: under the engine that sampled, in nats.
    cap: largest weight, so that no token rules the batch.

  Returns:
    importance_BT, to multiply advantages by; no gradient flows.

  Source: https://fengyao.notion.site/off-policy-rl
  """
  chex.assert_equal_shape([logp_BT, sampler_logp_BT])
  ratio_BT = jnp.exp(jax.lax.stop_gradient(logp_BT - sampler_logp_BT))
  return jnp.minimum(ratio_BT, cap)


def token_mean(mask_BT: np.ndarray, max_length: int) -> np.ndarray:
  """Weights of 1, so that a long answer has more say.

  Source: arXiv:2503.14476 eq. 8.
  """
  del max_length
  return np.ones(mask_BT.shape, np.float32)


def sequence_mean(mask_BT: np.ndarray, max_length: int) -> np.ndarray:
  """Weights for the mean over sequences of the mean over their tokens.

  >>> mask_BT = np.array([[1, 1, 1, 0], [0, 1, 0, 0]])
  >>> sequence_mean(mask_BT, 4)[:, 1]
  array([0.6666667, 2.       ], dtype=float32)

  Source: arXiv:2402.03300 eq. 3.
  """
  del max_length
  length_B1 = mask_BT.sum(axis=1, keepdims=True, dtype=np.float64)
  weight_B1 = mask_BT.sum(dtype=np.float64) / np.maximum(length_B1, 1)
  weight_B1 = weight_B1 / max(np.count_nonzero(length_B1), 1)
  return np.broadcast_to(weight_B1, mask_BT.shape).astype(np.float32)


def constant(mask_BT: np.ndarray, max_length: int) -> np.ndarray:
  """Weights for the sum over all tokens / (rows max_length).

  This alone leaves the gradient of the expected reward unbiased. Rows that the
  mask leaves out count too.

  Source: arXiv:2503.20783 section 3.2.
  """
  n_tokens = mask_BT.sum(dtype=np.float64)
  weight = n_tokens / (len(mask_BT) * max_length)
  return np.full(mask_BT.shape, weight, np.float32)


# From the mask of a whole batch, one row for each answer that was sampled, and
# the tokens of the longest answer that could be, to weight_BT, such that the
# mean over the mask of weight times loss is the aggregate.
AGGREGATIONS = {
  'token_mean': token_mean,
  'sequence_mean': sequence_mean,
  'constant': constant,
}
