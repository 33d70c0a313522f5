"""Advantages by hand, and those that verl and TRL compute."""

import numpy as np
import pytest

from llm_jax.rl import advantages
from tests.losses.golden_policy_test import GOLDEN, relative


def test_advantage_is_reward_minus_the_mean_of_the_group():
  reward_PR = np.array([[1.0, 0.0, 0.0, 0.0], [0.0] * 4, [1.0] * 4])
  advantage_PR, is_dead_P = advantages.group_advantages(reward_PR)
  np.testing.assert_allclose(advantage_PR[0], [0.75, -0.25, -0.25, -0.25])
  assert not advantage_PR[1:].any()
  assert is_dead_P.tolist() == [False, True, True]


@pytest.mark.parametrize('baseline', ['group_mean', 'leave_one_out'])
@pytest.mark.parametrize('scale', advantages.SCALES)
def test_equal_rewards_are_dead_even_where_their_mean_rounds(baseline, scale):
  reward_PR = np.full((1, 3), 0.1)
  advantage_PR, is_dead_P = advantages.group_advantages(
    reward_PR, baseline, scale
  )
  assert is_dead_P.all()
  assert not advantage_PR.any()


def test_other_baselines_and_scales():
  reward_PR = np.array([[1.0, 0.0, 0.0, 0.0], [2.0, 2.0, 0.0, 0.0]])
  third = 1 / 3
  found, _ = advantages.group_advantages(reward_PR, 'leave_one_out')
  np.testing.assert_allclose(found[0], [1, -third, -third, -third], rtol=1e-6)
  found, is_dead_P = advantages.group_advantages(
    np.array([[1.0, 1.0], [0.0, 0.0]]), 'none'
  )
  assert found.tolist() == [[1, 1], [0, 0]]
  assert is_dead_P.tolist() == [False, True]
  found, _ = advantages.group_advantages(reward_PR, scale='batch')
  np.testing.assert_allclose(
    found, (reward_PR - [[0.25], [1.0]]) / np.sqrt(5.875 / 7), rtol=1e-5
  )
  with pytest.raises(ValueError, match="baseline 'mean'; use one of"):
    advantages.group_advantages(reward_PR, 'mean')
  with pytest.raises(ValueError, match="scale 'std'; use one of"):
    advantages.group_advantages(reward_PR, scale='std')


@pytest.mark.parametrize(
  ('baseline', 'scale'),
  [('group_mean', 'none'), ('group_mean', 'group'), ('leave_one_out', 'none')],
)
def test_groups_of_verl(baseline, scale):
  found, _ = advantages.group_advantages(GOLDEN['reward_PR'], baseline, scale)
  expected_BT = GOLDEN[f'verl_{baseline}_{scale}/advantage_BT']
  mask_BT = GOLDEN['mask_BT']
  assert relative(found.reshape(-1, 1) * mask_BT, expected_BT) < 1e-5


def test_reinforce_plus_plus_of_verl():
  found_BT = advantages.whiten(
    GOLDEN['reward_PR'].reshape(-1, 1), GOLDEN['mask_BT']
  )
  assert relative(found_BT, GOLDEN['verl_whiten/advantage_BT']) < 1e-5


def test_whitening_nothing():
  assert not advantages.whiten(np.ones((2, 1)), np.zeros((2, 3))).any()
  assert not advantages.whiten(np.ones((2, 1)), np.ones((2, 3))).any()


def test_gae_of_verl():
  """Which whitens it; tool tokens in the middle are passed over."""
  mask_BT = GOLDEN['mask_BT']
  last_B = mask_BT.shape[1] - 1 - mask_BT[:, ::-1].argmax(axis=1)
  reward_BT = np.zeros(mask_BT.shape)
  reward_BT[range(len(last_B)), last_B] = GOLDEN['reward_PR'].reshape(-1)
  advantage_BT, return_BT = advantages.gae(
    reward_BT, GOLDEN['value_BT'], mask_BT, 0.97, 0.9
  )
  white_BT = advantages.whiten(advantage_BT, mask_BT)
  expected_BT = GOLDEN['verl_gae/advantage_BT'] * mask_BT
  assert relative(white_BT, expected_BT) < 1e-5
  assert relative(return_BT, GOLDEN['verl_gae/return_BT'] * mask_BT) < 1e-5


def test_overlong_penalty_of_trl():
  found_B = advantages.overlong_penalty(GOLDEN['length_B'], 16, 5)
  np.testing.assert_allclose(found_B, GOLDEN['trl_overlong/penalty_B'])
  assert 0 > found_B[5] > -1
