"""The policy gradient by hand, and where it must be zero.

The proof by enumeration is in tests/rl/exact_gradient_test.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llm_jax.losses import policy

RATIO_T = [0.7, 0.76, 1.0, 1.49, 1.6]  # of which the clips keep the middle


@pytest.mark.parametrize(
  ('name', 'up_T', 'down_T', 'low', 'high'),
  [
    # Up to 1.5 a token is pushed up, down to 0.75 down; the way back is free.
    ('clipped', [0.7, 0.76, 1, 1.49, 0], [0, 0.76, 1, 1.49, 1.6], 1, 1),
    # Each token keeps a gradient, times its clipped ratio.
    ('cispo', [0.75, 0.76, 1, 1.49, 1.5], [0.75, 0.76, 1, 1.49, 1.5], 2, 2),
  ],
)
def test_clips(name, up_T, down_T, low, high):
  """Gradients in logp at ratios on both sides of both edges, A = 1 and -1."""
  logp_BT = jnp.full((2, 5), -1.0)
  old_BT = logp_BT - jnp.log(jnp.array([RATIO_T, RATIO_T]))
  (_, metrics), grad_BT = jax.value_and_grad(
    policy.policy_gradient, has_aux=True
  )(
    logp_BT,
    old_BT,
    advantage_BT=jnp.array([[1.0], [-1.0]]),
    mask_BT=jnp.ones((2, 5)),
    surrogate=policy.SURROGATES[name],
    clips=policy.Clips(0.25, 0.5),
  )
  expected_BT = np.array([up_T, down_T]) * [[-1.0], [1.0]] / 10
  np.testing.assert_allclose(grad_BT, expected_BT, atol=1e-6)
  assert metrics['clip_low_share'] == (low, 10)
  assert metrics['clip_high_share'] == (high, 10)
  np.testing.assert_allclose(metrics['mean_ratio'][0], 2 * sum(RATIO_T), 1e-6)
  np.testing.assert_allclose(metrics['max_logp_difference'], np.log(1.6), 1e-5)


def test_sequence_ratio_is_the_geometric_mean():
  """Ratios 2 and 1/8 make 1/2 for both; a whole sequence is clipped or not."""
  old_BT = jnp.log(jnp.array([[0.2, 0.8, 0.5]]))
  logp_BT = jnp.log(jnp.array([[0.4, 0.1, 0.4]]))
  mask_BT = jnp.array([[1.0, 1.0, 0.0]])
  for advantage, clip_low, expected in ((1, 0.2, -0.25), (-1, 0.2, 0),
                                        (-1, 0.6, 0.25)):  # fmt: skip
    grad_BT, _ = jax.grad(policy.policy_gradient, has_aux=True)(
      logp_BT,
      old_BT,
      jnp.full((1, 1), advantage),
      mask_BT,
      surrogate=policy.sequence,
      clips=policy.Clips(clip_low, 0.2),
    )
    np.testing.assert_allclose(grad_BT, [[expected] * 2 + [0]], atol=1e-6)


@pytest.mark.parametrize('surrogate', policy.SURROGATES.values())
def test_masked_tokens_get_no_gradient_whatever_they_hold(surrogate):
  """Prompt and tool tokens: exactly 0, also where exp would overflow."""
  logp_BT = jnp.array([[-200.0, -1.0, -200.0, -2.0, -1.0]])
  other_BT = jnp.array([[0.0, -1.1, -1000.0, -1.9, 0.0]])
  mask_BT = jnp.array([[0.0, 1.0, 0.0, 1.0, 0.0]])  # the stop token is one
  (loss, _), grad_BT = jax.value_and_grad(policy.policy_gradient, has_aux=True)(
    logp_BT, other_BT, jnp.ones((1, 1)), mask_BT, surrogate=surrogate,
    ref_logp_BT=other_BT, kl_coefficient=0.1,
  )  # fmt: skip
  assert np.isfinite(loss)
  assert ((np.asarray(grad_BT) != 0) == (mask_BT > 0)).all()


def test_dead_batch_has_no_loss():
  zero_BT = jnp.zeros((2, 3))
  loss, _ = policy.policy_gradient(zero_BT, zero_BT, zero_BT, zero_BT)
  assert loss == 0
  for weigh in policy.AGGREGATIONS.values():
    assert np.isfinite(weigh(np.zeros((2, 3)), 3)).all()


def test_token_weights_by_hand():
  """Answers of 2, 1 and 3 tokens, and one that is dead."""
  mask_BT = np.array([[0, 1, 1, 0], [1, 0, 0, 0], [0, 1, 1, 1], [0] * 4])
  mean = 6 / 3  # tokens of the batch / answers that live
  for name, weights in (
    ('token_mean', [1] * 6),
    ('sequence_mean', mean * np.array([1 / 2] * 2 + [1] + [1 / 3] * 3)),
    ('constant', [6 / (4 * 10)] * 6),
  ):
    weight_BT = policy.AGGREGATIONS[name](mask_BT, 10)
    np.testing.assert_allclose(weight_BT[mask_BT > 0], weights, rtol=1e-6)
