"""What tokens are taught for their answer's reward; by hand."""

import numpy as np
import pytest

from llm_jax.infer import generate
from llm_jax.rl import algorithm, credit, prompts, rollout

REWARD_PR = np.array([[1.0, 0.0], [0.0, 0.0]])


def batch():
  """Prompts of one token, answers of 1 and 2, twice."""
  answers = [generate.Answer([5] * n, [-1.0] * n, True) for n in (1, 2)]
  group = rollout.Group(prompts.Question(None, [1]), answers, [], [], 0.0)
  return rollout.training_batch([group, group], 2)


def assign(looked=None, reward_PR=REWARD_PR, **settings):
  cfg = algorithm.Algorithm(**settings)
  return credit.assign(cfg, batch() | (looked or {}), reward_PR, 2)


def test_groups():
  """The first answer is right; its group alone teaches."""
  found, metrics = assign()
  assert found['advantage_BT'].tolist() == [[0.5], [-0.5], [0], [0]]
  assert found['loss_mask_BT'].tolist() == [[1, 0], [1, 1], [0, 0], [0, 0]]
  assert metrics == {}
  found, _ = assign(baseline='none', only_right=True)
  assert found['loss_mask_BT'].tolist() == [[1, 0], [0, 0], [0, 0], [0, 0]]


def test_whitening():
  # Rewards 1, 0, 0, 0, 0, 0 at six tokens: mean 1/6, variance 1/6.
  found, _ = assign(baseline='none', whiten=True)
  low, high = -1 / 6 / np.sqrt(1 / 6), 5 / 6 / np.sqrt(1 / 6)
  expected = [[high, 0], [low, low], [low, 0], [low, low]]
  np.testing.assert_allclose(found['advantage_BT'], expected, rtol=1e-5)
  np.testing.assert_array_equal(found['loss_mask_BT'], batch()['loss_mask_BT'])


def test_long_answers():
  # Half of the longest answer is free; the reward then falls to -1.
  found, metrics = assign(overlong_share=0.5)
  assert found['advantage_BT'].tolist() == [[1], [-1], [0.5], [-0.5]]
  assert found['loss_mask_BT'].sum() == 6
  assert metrics == {'reward_overlong': -0.5}


def test_kl_is_taken_off_the_reward_of_its_answer():
  """log pi - log ref is 0.5 and, of two tokens, 0.25 + 0.75; times 0.4."""
  ref_BT = np.array([[-1.5, 9], [-1.25, -1.75], [-1, 9], [-1, -1]], 'f4')
  found, metrics = assign({'ref_logp_BT': ref_BT}, kl_in_reward=0.4)
  # Rewards are 1 - 0.2 and 0 - 0.4 in the first group, equal in the second.
  np.testing.assert_allclose(
    found['advantage_BT'], [[0.6], [-0.6], [0], [0]], atol=1e-6
  )
  assert metrics == {'reward_kl': pytest.approx(-(0.2 + 0.4) / 4)}


def test_values_with_a_kl_at_each_token():
  value_BT = np.array([[0.5, 9], [0.25, 0.75], [0, 9], [0, 0]], 'f4')
  ref_BT = np.array([[-1.5, 9], [-1.25, -1.75], [-1, 9], [-1, -1]], 'f4')
  found, metrics = assign(
    {'value_BT': value_BT, 'ref_logp_BT': ref_BT},
    baseline='value', kl_in_reward=0.4, gae_lambda=0.5,
  )  # fmt: skip
  # Row 0: 1 - 0.2 - 0.5. Row 1: d = (-0.1 + 0.75 - 0.25, -0.3 - 0.75).
  last = -0.3 - 0.75
  first = 0.4 + 0.5 * last
  np.testing.assert_allclose(
    found['advantage_BT'], [[0.3, 0], [first, last], [0, 0], [0, 0]], atol=1e-6
  )
  np.testing.assert_allclose(
    found['return_BT'],
    [[0.8, 0], [first + 0.25, last + 0.75], [0, 0], [0, 0]],
    atol=1e-6,
  )
  assert found['loss_mask_BT'].sum() == 6  # nothing is dead
  returns = np.array([0.8, first + 0.25, last + 0.75, 0, 0, 0])
  error = returns - np.array([0.5, 0.25, 0.75, 0, 0, 0])
  assert metrics['explained_variance'] == pytest.approx(
    1 - error.var() / returns.var(), abs=1e-5
  )


def test_importance_weights_up_to_a_cap():
  """The trainer's log-probabilities are not the sampler's -1."""
  logp_BT = np.array([[-0.5, 9], [-1.25, 0], [-1, 9], [-1, -1]], 'f4')
  found, metrics = assign({'trainer_logp_BT': logp_BT}, max_importance=2.0)
  np.testing.assert_allclose(found['advantage_BT'][0, 0], 0.5 * np.exp(0.5))
  np.testing.assert_allclose(
    found['advantage_BT'][1], [-0.5 * np.exp(-0.25), -0.5 * 2]
  )
  np.testing.assert_array_equal(found['old_logp_BT'], logp_BT)
  assert metrics['max_logp_difference'] == 1.0
  assert metrics['mean_logp_difference'] == pytest.approx(1.75 / 3)


def test_dead_groups():
  reward_PR = np.array([[1, 1], [0, 1], [0, 0]])
  for settings, expected in (
    ({}, [True, False, True]),
    ({'baseline': 'none'}, [False, False, True]),
    ({'baseline': 'none', 'whiten': True}, [False] * 3),
    ({'baseline': 'value'}, [False] * 3),
  ):
    cfg = algorithm.Algorithm(**settings)
    assert credit.dead_groups(cfg, reward_PR).tolist() == expected
  cfg = algorithm.Algorithm(baseline='none', whiten=True)
  assert credit.dead_groups(cfg, np.ones((2, 2))).all()
