"""Advantages by hand, and those that verl and TRL compute."""

import numpy as np
import pytest

from llm_jax.rl import advantages
from tests.losses.golden_policy_test import GOLDEN, relative

REWARD_PR = np.array([[1.0, 0.0, 0.0, 0.0], [2.0, 2.0, 0.0, 0.0]])


@pytest.mark.parametrize(
  ('scale', 'deviation_P1'),
  [('none', 1), ('group', [[0.5], [np.sqrt(4 / 3)]]),
   ('batch', np.sqrt(5.875 / 7))],
)  # fmt: skip
def test_scales(scale, deviation_P1):
  advantage_PR = REWARD_PR - [[0.25], [1.0]]
  found_PR = advantages.SCALES[scale](advantage_PR, REWARD_PR)
  np.testing.assert_allclose(found_PR, advantage_PR / deviation_P1, rtol=1e-5)


@pytest.mark.parametrize('baseline', ['group_mean', 'leave_one_out'])
@pytest.mark.parametrize('scale', advantages.SCALES)
def test_equal_rewards_are_0_even_where_their_mean_rounds(baseline, scale):
  reward_PR = np.full((2, 3), 0.1)
  advantage_PR = advantages.BASELINES[baseline](reward_PR)
  assert not advantages.SCALES[scale](advantage_PR, reward_PR).any()


def test_a_group_of_one_is_refused():
  for function in (advantages.group_mean, advantages.leave_one_out):
    with pytest.raises(ValueError, match='groups of 1 answers'):
      function(np.ones((3, 1)))
  with pytest.raises(ValueError, match='groups of 1 answers'):
    advantages.SCALES['group'](np.zeros((3, 1)), np.ones((3, 1)))


@pytest.mark.parametrize(
  ('baseline', 'scale'),
  [('group_mean', 'none'), ('group_mean', 'group'), ('leave_one_out', 'none')],
)
def test_groups_of_verl(baseline, scale):
  reward_PR = GOLDEN['reward_PR']
  found_PR = advantages.BASELINES[baseline](reward_PR)
  found_PR = advantages.SCALES[scale](found_PR, reward_PR)
  expected_BT = GOLDEN[f'verl_{baseline}_{scale}/advantage_BT']
  assert relative(found_PR.reshape(-1, 1) * GOLDEN['mask_BT'], expected_BT) < (
    1e-5
  )


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
