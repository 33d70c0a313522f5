"""The loss of a value function, the critic of PPO.

Takes values as arrays; does not compute them, nor the returns.
"""

import chex
import jax
import jax.numpy as jnp

from llm_jax import types


def clipped_value(
  value_BT: jax.Array,
  old_value_BT: types.Array,
  return_BT: types.Array,
  mask_BT: types.Array,
  clip: float = 0.2,
) -> tuple[jax.Array, dict[str, tuple[jax.Array, jax.Array]]]:
  """Squared error that stops pulling once a value has moved by clip.

  L = 1/2 sum mask max((v - R)^2, (clip(v, old - clip, old + clip) - R)^2)
      / sum mask

  Args:
    value_BT: expected return before each token, of the function trained.
    old_value_BT: the same when the answers were sampled.
    return_BT: what came, from advantage.gae.
    mask_BT: 1 on sampled tokens.
    clip: largest move of a value in one batch.

  Returns:
    Scalar loss averaged over the masked tokens; the share of clipped ones.

  Source: https://github.com/openai/baselines ppo2; not in the paper of PPO.
  """
  chex.assert_equal_shape([value_BT, old_value_BT, return_BT, mask_BT])
  near_BT = jnp.clip(value_BT, old_value_BT - clip, old_value_BT + clip)
  error_BT = (value_BT - return_BT) ** 2
  near_error_BT = (near_BT - return_BT) ** 2
  n_tokens = mask_BT.sum()
  worse_BT = jnp.maximum(error_BT, near_error_BT)
  loss = 0.5 * (worse_BT * mask_BT).sum() / jnp.maximum(n_tokens, 1)
  clipped = ((near_error_BT > error_BT) * mask_BT).sum()
  return loss, {'value_clip_share': (clipped, n_tokens)}
