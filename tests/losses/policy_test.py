"""The policy gradient by hand, by enumeration and against what must be zero."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np

from llm_jax.losses import policy


class PolicyGradientTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_on_policy_gradient_is_reinforce(self):
    """At pi = pi_old the gradient is -A mask / sum(mask), elsewhere 0."""
    logp_BT = jnp.log(jnp.array([[0.5, 0.25, 0.1], [0.2, 0.9, 0.3]]))
    advantage_B = jnp.array([1.0, -2.0])
    mask_BT = jnp.array([[0.0, 1.0, 1.0], [0.0, 1.0, 0.0]])
    grad_BT, _ = self.variant(jax.grad(policy.policy_gradient, has_aux=True))(
      logp_BT, logp_BT, advantage_B, mask_BT
    )
    chex.assert_trees_all_close(
      grad_BT, -advantage_B[:, None] * mask_BT / 3, atol=1e-6
    )


def test_gradient_is_that_of_the_expected_reward():
  """Two tokens of a vocabulary of three: every answer can be enumerated.

  The mean over all nine answers, each weighted by its probability, of the
  loss's gradient is minus the gradient of the expected reward, whatever the
  baseline.
  """
  logits_V = jnp.array([0.3, -0.2, 0.9])
  logits_VV = jax.random.normal(jax.random.key(0), (3, 3))
  reward_VV = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
  answers = np.array(list(itertools.product(range(3), repeat=2)))

  def answer_logp_BT(theta):
    first_V = jax.nn.log_softmax(theta[0])
    second_VV = jax.nn.log_softmax(theta[1], axis=-1)
    return jnp.stack(
      [first_V[answers[:, 0]], second_VV[answers[:, 0], answers[:, 1]]], axis=1
    )

  def expected_reward(theta):
    p_B = jnp.exp(answer_logp_BT(theta).sum(axis=1))
    return (p_B * reward_VV[answers[:, 0], answers[:, 1]]).sum()

  theta = (logits_V, logits_VV)
  exact = jax.jit(jax.grad(expected_reward))(theta)
  logp_BT = answer_logp_BT(theta)
  p_B = jnp.exp(logp_BT.sum(axis=1))

  # One row an answer; its weight stands in for how often it is drawn. The
  # mean over 18 tokens is undone by the factor.
  @jax.jit
  @jax.grad
  def gradient(theta, baseline):
    weight_B = (reward_VV[answers[:, 0], answers[:, 1]] - baseline) * p_B
    loss, _ = policy.policy_gradient(
      answer_logp_BT(theta), logp_BT, weight_B, jnp.ones((9, 2))
    )
    return -18 * loss

  for baseline in (0.0, 0.7):
    chex.assert_trees_all_close(gradient(theta, baseline), exact, atol=1e-6)


def test_clip_stops_gain_but_not_loss():
  """Ratio 1.5 with clip .2: no gradient for A > 0, full for A < 0."""
  old_BT = jnp.log(jnp.full((2, 1), 0.4))
  logp_BT = jnp.log(jnp.full((2, 1), 0.6))
  advantage_B = jnp.array([1.0, -1.0])
  mask_BT = jnp.ones((2, 1))
  (loss, metrics), grad_BT = jax.value_and_grad(
    policy.policy_gradient, has_aux=True
  )(logp_BT, old_BT, advantage_B, mask_BT)
  np.testing.assert_allclose(grad_BT, [[0.0], [0.75]], atol=1e-6)
  np.testing.assert_allclose(loss, -(1.2 - 1.5) / 2, atol=1e-6)
  assert float(metrics['clip_fraction']) == 1.0
  np.testing.assert_allclose(
    metrics['max_logp_difference'], np.log(1.5), rtol=1e-6
  )
