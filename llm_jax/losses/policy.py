"""Policy-gradient losses over sampled tokens.

Takes log-probabilities and advantages as arrays; does not sample, score or
compute advantages.
"""

import chex
import jax
import jax.numpy as jnp

from llm_jax import types


def policy_gradient(
  logp_BT: jax.Array,
  old_logp_BT: types.Array,
  advantage_B: types.Array,
  mask_BT: types.Array,
  clip: float = 0.2,
) -> tuple[jax.Array, types.Metrics]:
  """Clipped surrogate loss with one advantage for each sampled answer.

  L = -sum mask min(r A, clip(r, 1-clip, 1+clip) A) / sum mask,  r = pi / old

  On policy, r = 1 and the gradient is REINFORCE's with the given advantage.

  Args:
    logp_BT: log pi(token | prefix) of the policy being trained, in nats.
    old_logp_BT: the same under the policy that sampled; no gradient flows.
    advantage_B: reward minus its baseline, one for each sequence.
    mask_BT: 1 on sampled tokens, the stop token included; 0 on prompt, tool
      output, padding, and on groups without variance.
    clip: half width of the trust region.

  Returns:
    Scalar loss averaged over the masked tokens, and scalar metrics.

  Source: arXiv:1707.06347 eq. 7; one mean over all tokens of the batch as in
  arXiv:2503.14476 eq. 8 and arXiv:2503.20783.
  """
  chex.assert_equal_shape([logp_BT, old_logp_BT, mask_BT])
  chex.assert_rank(advantage_B, 1)
  chex.assert_equal_shape_prefix([logp_BT, advantage_B], 1)
  ratio_BT = jnp.exp(logp_BT - jax.lax.stop_gradient(old_logp_BT))
  advantage_B1 = jax.lax.stop_gradient(advantage_B)[:, None]
  gain_BT = jnp.minimum(
    ratio_BT * advantage_B1,
    jnp.clip(ratio_BT, 1 - clip, 1 + clip) * advantage_B1,
  )
  n_tokens = jnp.maximum(mask_BT.sum(), 1)  # every group may be dead
  clipped_BT = (jnp.abs(ratio_BT - 1) > clip) * mask_BT
  distance_BT = jnp.abs(logp_BT - old_logp_BT) * mask_BT
  return -(gain_BT * mask_BT).sum() / n_tokens, {
    'clip_fraction': clipped_BT.sum() / n_tokens,
    'max_logp_difference': distance_BT.max(),
  }
