"""Policy-gradient losses over sampled tokens.

Takes log-probabilities and advantages as arrays; does not sample, score or
compute advantages.

Every loss here is a mean over the tokens of loss_mask, each times a weight that
`token_weights` computes once for the whole batch. So each is the same number
for a batch in micro-batches, over a mesh, packed or in another order of rows.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from llm_jax import types

SURROGATES = ('clipped', 'sequence', 'cispo')
AGGREGATIONS = ('token_mean', 'sequence_mean', 'constant')


def policy_gradient(
  logp_BT: jax.Array,
  old_logp_BT: types.Array,
  advantage_BT: types.Array,
  mask_BT: types.Array,
  clip_low: float = 0.2,
  clip_high: float = 0.2,
  surrogate: str = 'clipped',
  weight_BT: types.Array | None = None,
  segment_ids_BT: types.Array | None = None,
  ref_logp_BT: types.Array | None = None,
  kl_coefficient: float = 0.0,
) -> tuple[jax.Array, dict[str, Any]]:
  """A surrogate loss of which the gradient is the policy gradient.

  L = -sum mask weight (gain - kl_coefficient kl) / sum mask,  r = pi / old

  clipped:   gain = min(r A, clip(r, 1 - clip_low, 1 + clip_high) A)
  sequence:  the same with s for r, the geometric mean of a sequence's r
  cispo:     gain = clip(r, 1 - clip_low, 1 + clip_high) A log pi, where no
             gradient flows through r: a clipped token is still learned from

  On policy, r = 1 and the gradient is REINFORCE's with the given advantage.

  Args:
    logp_BT: log pi(token | prefix) of the policy being trained, in nats.
    old_logp_BT: the same under the policy that sampled; no gradient flows.
    advantage_BT: reward minus its baseline for each token, or (B, 1) for each
      row. Truncated importance weights are multiplied into it.
    mask_BT: 1 on sampled tokens, the stop token included; 0 on prompt, tool
      output, padding, and on groups without variance.
    clip_low: how far r may fall below 1 and still be pushed down.
    clip_high: how far r may rise above 1 and still be pushed up.
    surrogate: one of SURROGATES.
    weight_BT: of each token, from `token_weights`; None: all 1.
    segment_ids_BT: the sequence that a token belongs to, where a row holds
      several; only `sequence` asks.
    ref_logp_BT: log-probabilities of the policy that training must stay near.
    kl_coefficient: weight of `kl` to that policy.

  Returns:
    Scalar loss, and metrics as update.make_update_fn takes them: shares of
    tokens that get no gradient as r is too low or too high (for cispo: whose r
    is clipped), r, |log pi - log old|, kl if there is a reference.

  Source: arXiv:1707.06347 eq. 7; two clips arXiv:2503.14476 eq. 8; sequence
  arXiv:2507.18071 eq. 14 (GSPO-token); cispo arXiv:2506.13585 eq. 4.
  """
  chex.assert_equal_shape([logp_BT, old_logp_BT, mask_BT])
  chex.assert_rank(advantage_BT, 2)
  chex.assert_equal_shape_prefix([logp_BT, advantage_BT], 1)
  advantage_BT = jax.lax.stop_gradient(advantage_BT)
  log_ratio_BT = _log_ratio(logp_BT, old_logp_BT, mask_BT)
  ratio_BT = jnp.exp(log_ratio_BT)
  if surrogate == 'sequence':
    mean_BT = sequence_mean(log_ratio_BT, mask_BT, segment_ids_BT)
    # The value is the sequence's, the gradient each token's own.
    ratio_BT = jnp.exp(
      jax.lax.stop_gradient(mean_BT - log_ratio_BT) + log_ratio_BT
    )
  clipped_BT = jnp.clip(ratio_BT, 1 - clip_low, 1 + clip_high)
  is_low_BT, is_high_BT = ratio_BT < 1 - clip_low, ratio_BT > 1 + clip_high
  if surrogate == 'cispo':
    gain_BT = jax.lax.stop_gradient(clipped_BT) * advantage_BT * logp_BT
  elif surrogate in SURROGATES:
    gain_BT = jnp.minimum(ratio_BT * advantage_BT, clipped_BT * advantage_BT)
    is_low_BT &= advantage_BT < 0
    is_high_BT &= advantage_BT > 0
  else:
    raise ValueError(f'surrogate {surrogate!r}; use one of {SURROGATES}')
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
    kl_BT = kl(logp_BT, old_logp_BT, ref_logp_BT, mask_BT=mask_BT)
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


def sequence_mean(
  x_BT: jax.Array,
  mask_BT: types.Array,
  segment_ids_BT: types.Array | None = None,
) -> jax.Array:
  """Mean over the kept tokens of each sequence, at every one of its tokens.

  Args:
    x_BT: what to average.
    mask_BT: tokens that count.
    segment_ids_BT: 0 <= id <= T of each token's sequence, unlike all others in
      its row; None: a row is a sequence.

  Returns:
    mean_BT; 0 where a sequence has no token that counts.
  """
  if segment_ids_BT is None:
    segment_ids_BT = jnp.zeros(x_BT.shape, jnp.int32)

  def one_row(x_T, mask_T, ids_T):
    total_T, n_T = (
      jax.ops.segment_sum(y_T, ids_T, num_segments=x_T.size + 1)[ids_T]
      for y_T in (x_T * mask_T, mask_T)
    )
    return total_T / jnp.maximum(n_T, 1)

  return jax.vmap(one_row)(x_BT, jnp.asarray(mask_BT), segment_ids_BT)


def token_weights(
  aggregation: str,
  mask_BT: np.ndarray,
  n_sequences: int,
  max_length: int,
  segment_ids_BT: np.ndarray | None = None,
) -> np.ndarray:
  """What each token of a batch weighs in its loss.

  token_mean:     all the same, so a long answer has more say
  sequence_mean:  mean over sequences of the mean over their tokens
  constant:       sum over all tokens / (n_sequences max_length), which alone
                  leaves the gradient of the expected reward unbiased

  >>> mask_BT = np.array([[1, 1, 1, 0], [0, 1, 0, 0]])
  >>> token_weights('sequence_mean', mask_BT, 2, 4)[:, 1]
  array([0.6666667, 2.       ], dtype=float32)

  Args:
    aggregation: one of AGGREGATIONS.
    mask_BT: of the whole batch, before it is cut into micro-batches.
    n_sequences: answers sampled, those that the mask leaves out as well.
    max_length: longest answer that could be sampled, in tokens.
    segment_ids_BT: the sequence of each token, where a row holds several.

  Returns:
    weight_BT, float32, such that the mean over the mask of weight times loss
    is the aggregate.

  Source: arXiv:2503.14476 eq. 8, arXiv:2402.03300 eq. 3 and arXiv:2503.20783
  section 3.2, in this order.
  """
  chex.assert_rank(mask_BT, 2)
  n_tokens = mask_BT.sum(dtype=np.float64)
  if aggregation == 'token_mean':
    weight_BT = np.ones(mask_BT.shape)
  elif aggregation == 'sequence_mean':
    ids_BT = np.zeros(mask_BT.shape, int)
    if segment_ids_BT is not None:
      ids_BT += segment_ids_BT
    ids_BT += np.arange(len(ids_BT))[:, None] * (ids_BT.max() + 1)
    length_X = np.bincount(ids_BT.ravel(), mask_BT.ravel())
    weight_BT = n_tokens / np.maximum(length_X, 1)[ids_BT]
    weight_BT /= max(np.count_nonzero(length_X), 1)
  elif aggregation == 'constant':
    weight_BT = np.full(mask_BT.shape, n_tokens / (n_sequences * max_length))
  else:
    raise ValueError(f'aggregation {aggregation!r}; use one of {AGGREGATIONS}')
  return weight_BT.astype(np.float32)
