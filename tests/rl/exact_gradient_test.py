"""Gradients against those of the expectation itself, by enumeration.

A policy of three tokens, one of which ends the answer, has 15 answers of up to
three tokens, and 225 groups of two. The mean over all, each weighted by its
probability, must be the gradient that a method claims to estimate.
"""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llm_jax.losses import policy
from llm_jax.rl import advantages

STOP, LENGTH = 2, 3
ANSWERS = [
  (*start, last)
  for n in range(LENGTH)
  for start in itertools.product(range(2), repeat=n)
  for last in ([STOP] if n < LENGTH - 1 else range(3))
]
PREFIXES = [
  a for n in range(LENGTH) for a in itertools.product((0, 1), repeat=n)
]
N = len(ANSWERS)
MASK_BT = np.array([[t < len(a) for t in range(LENGTH)] for a in ANSWERS], 'f4')
TOKEN_BT = np.array([[*a, 0, 0][:LENGTH] for a in ANSWERS])
PREFIX_BT = np.array(
  [[PREFIXES.index(a[:t]) if t < len(a) else 0 for t in range(LENGTH)]
   for a in ANSWERS]
)  # fmt: skip
RANDOM = np.random.default_rng(0)
REWARD_B = RANDOM.normal(size=N).astype('f4')
# Logits after each prefix: of the policy, of a reference, of another sampler.
THETA, REF, OTHER = RANDOM.normal(size=(3, len(PREFIXES), 3)).astype('f4')
EVERY_PAIR = np.array(list(itertools.product(range(N), repeat=2)))


def logp(theta):
  """Of each token of each answer; 0 after the end."""
  return jax.nn.log_softmax(theta)[PREFIX_BT, TOKEN_BT] * MASK_BT


def probability(theta):
  return jnp.exp(logp(theta).sum(axis=1))


@jax.jit
@jax.grad
def exact(theta):
  return (probability(theta) * REWARD_B).sum()


LOGP_BT, REF_BT, OTHER_BT = map(logp, (THETA, REF, OTHER))
P_B = np.asarray(probability(THETA))


def expected_step(
  advantage_BT, chance_B=P_B, rows=slice(None), old=LOGP_BT, n=1,
  aggregation='constant', **settings,
):  # fmt: skip
  """Minus the gradient of the loss over rows, each as often as it is drawn.

  With `constant` the sum over rows is that of their tokens, over n answers a
  group.
  """
  mask_BT = MASK_BT[rows]
  # Over n answers a group, of which there are as many as rows.
  weight_BT = policy.AGGREGATIONS[aggregation](mask_BT, 1) * len(mask_BT) / n

  @jax.jit
  @jax.grad
  def gradient(theta):
    loss, _ = policy.policy_gradient(
      logp(theta)[rows], old[rows], advantage_BT, mask_BT,
      clips=policy.Clips(1e9, 1e9), weight_BT=weight_BT * chance_B[:, None],
      **settings,
    )  # fmt: skip
    return -loss

  return gradient(THETA)


def cosine(a, b):
  return float((a * b).sum() / jnp.sqrt((a**2).sum() * (b**2).sum()))


def test_answers_are_all_there_are():
  np.testing.assert_allclose(P_B.sum(), 1, rtol=1e-6)
  assert len(set(ANSWERS)) == N == 15


def group_step(baseline, scale='none', **settings):
  """Expected over every group of two answers to the prompt."""
  reward_PR = REWARD_B[EVERY_PAIR]
  advantage_PR = advantages.BASELINES[baseline](reward_PR)
  advantage_PR = advantages.SCALES[scale](advantage_PR, reward_PR)
  chance_P = P_B[EVERY_PAIR].prod(axis=1)
  return expected_step(
    advantage_PR.reshape(-1, 1), np.repeat(chance_P, 2),
    EVERY_PAIR.reshape(-1), n=2, **settings,
  )  # fmt: skip


@pytest.mark.parametrize('surrogate', policy.SURROGATES.values())
def test_unbiased_baselines(surrogate):
  for baseline, factor in (
    ('none', 1), ('leave_one_out', 1), ('group_mean', 1 / 2),
  ):  # fmt: skip
    chex.assert_trees_all_close(
      group_step(baseline, surrogate=surrogate),
      factor * exact(THETA),
      atol=1e-6,
    )


def test_dividing_by_the_deviation_or_by_the_length_is_another_gradient():
  """Not only in length: no step size makes it the gradient of the reward."""
  assert cosine(group_step('group_mean'), exact(THETA)) > 1 - 1e-6
  assert cosine(group_step('group_mean', 'group'), exact(THETA)) < 0.99
  step = group_step('group_mean', aggregation='sequence_mean')
  assert cosine(step, exact(THETA)) < 0.99


def expected_return():
  """Of each prefix, backwards from the ends."""
  p_VV = np.asarray(jax.nn.softmax(THETA))
  value_X = np.zeros(len(PREFIXES))
  for i in reversed(range(len(PREFIXES))):
    for token in range(3):
      after = (*PREFIXES[i], token)
      value_X[i] += p_VV[i, token] * (
        REWARD_B[ANSWERS.index(after)]
        if after in ANSWERS
        else value_X[PREFIXES.index(after)]
      )
  return value_X


def gae_step(value_X, gae_lambda):
  reward_BT = np.zeros_like(MASK_BT)
  reward_BT[range(N), [len(a) - 1 for a in ANSWERS]] = REWARD_B
  advantage_BT, _ = advantages.gae(
    reward_BT, value_X[PREFIX_BT], MASK_BT, 1.0, gae_lambda
  )
  return expected_step(advantage_BT)


def test_gae():
  """Lambda 1 needs no right values, right values need no lambda 1."""
  right_X, wrong_X = expected_return(), RANDOM.normal(size=len(PREFIXES))
  for value_X, gae_lambda in ((wrong_X, 1), (right_X, 1), (right_X, 0.3)):
    chex.assert_trees_all_close(
      gae_step(value_X, gae_lambda), exact(THETA), atol=1e-6
    )
  assert cosine(gae_step(wrong_X, 0.3), exact(THETA)) < 0.99


def test_kl_in_the_reward_is_the_kl_of_answers():
  @jax.jit
  @jax.grad
  def penalised(theta):
    log_ratio_B = (logp(theta) - REF_BT).sum(axis=1)
    return (probability(theta) * (REWARD_B - 0.3 * log_ratio_B)).sum()

  reward_B = REWARD_B - 0.3 * np.asarray(LOGP_BT - REF_BT).sum(axis=1)
  step = expected_step(reward_B[:, None])
  chex.assert_trees_all_close(step, penalised(THETA), atol=1e-6)


@jax.jit
@jax.grad
def kl_gradient(theta, chance_X):
  """Of the KL of the next token, each prefix as often as it was sampled."""
  logp_XV = jax.nn.log_softmax(theta)
  kl_X = (jnp.exp(logp_XV) * (logp_XV - jax.nn.log_softmax(REF))).sum(axis=1)
  return (chance_X * kl_X).sum()


def prefix_chances(p_B):
  chance_X = np.zeros(len(PREFIXES), 'f4')
  np.add.at(chance_X, PREFIX_BT, p_B[:, None] * MASK_BT)
  return chance_X


@pytest.mark.parametrize('sampler', [THETA, OTHER], ids=['on', 'off'])
def test_kl_in_the_loss_is_the_kl_of_the_next_token(sampler):
  """On and off policy, value and gradient; and why not a plainer estimator."""
  old_BT, p_B = logp(sampler), np.asarray(probability(sampler))
  chance_BT = p_B[:, None] * MASK_BT
  kl = jax.value_and_grad(
    lambda theta: (
      chance_BT * policy.kl(logp(theta), old_BT, REF_BT, MASK_BT)
    ).sum()
  )
  logp_XV, ref_XV = map(jax.nn.log_softmax, (THETA, REF))
  kl_X = (jnp.exp(logp_XV) * (logp_XV - ref_XV)).sum(axis=1)
  expected = kl_gradient(THETA, prefix_chances(p_B))
  value, gradient = jax.jit(kl)(THETA)
  np.testing.assert_allclose(value, (prefix_chances(p_B) * kl_X).sum(), 1e-5)
  chex.assert_trees_all_close(gradient, expected, atol=1e-6)

  step = expected_step(
    np.zeros((N, 1)), p_B, old=old_BT, ref_logp_BT=REF_BT, kl_coefficient=0.3
  )
  chex.assert_trees_all_close(step, -0.3 * expected, atol=1e-6)
  if sampler is OTHER:
    return
  k1 = jax.grad(lambda theta: (chance_BT * (logp(theta) - REF_BT)).sum())
  chex.assert_trees_all_close(k1(THETA), jnp.zeros_like(THETA), atol=1e-6)

  def k3(theta):
    log_x_BT = REF_BT - logp(theta)
    return (chance_BT * (jnp.exp(log_x_BT) - log_x_BT - 1)).sum()

  assert cosine(jax.grad(k3)(THETA), expected) < 0.99


def test_importance_weights_undo_another_sampler():
  """Answers of one token, drawn by another policy; a low cap is felt."""
  theta_1V, other_1V, reward_1V = RANDOM.normal(size=(3, 1, 3)).astype('f4')
  other_B1 = jax.nn.log_softmax(other_1V).T

  @jax.grad
  def step(theta_1V, cap):
    logp_B1 = jax.nn.log_softmax(theta_1V).T
    weight_B1 = policy.truncated_importance(logp_B1, other_B1, cap)
    loss, _ = policy.policy_gradient(
      logp_B1, logp_B1, reward_1V.T * weight_B1, jnp.ones((3, 1)),
      weight_BT=jnp.exp(other_B1),
    )  # fmt: skip
    return -3 * loss

  expected = jax.grad(lambda x: (jax.nn.softmax(x) * reward_1V).sum())(theta_1V)
  chex.assert_trees_all_close(step(theta_1V, 1e9), expected, atol=1e-6)
  assert cosine(step(theta_1V, 0.5), expected) < 0.99
