"""From rewards of answers to advantages, one short function a formula.

Works on the whole batch, on the host. How a method puts them together is in
algorithms.py.
"""

import functools
from collections.abc import Callable

import chex
import numpy as np

_TINY = 1e-6  # added to a standard deviation


def group_mean(reward_PR: np.ndarray) -> np.ndarray:
  """Reward minus the mean over the answers to the same prompt.

  >>> group_mean(np.array([[1., 0., 0., 1.], [1., 1., 1., 1.]]))
  array([[ 0.5, -0.5, -0.5,  0.5],
         [ 0. ,  0. ,  0. ,  0. ]])

  The gradient is (R - 1) / R times that of the expected reward. Exactly 0 where
  all rewards of a group are equal, also where their mean is rounded.

  Args:
    reward_PR: rewards of R answers to each of P prompts, R at least 2.

  Source: arXiv:2503.20783 section 3.
  """
  _check_groups(reward_PR)
  reward_PR = np.asarray(reward_PR, np.float64)
  is_equal_P1 = (reward_PR == reward_PR[:, :1]).all(axis=1, keepdims=True)
  mean_P1 = reward_PR.mean(axis=1, keepdims=True)
  return np.where(is_equal_P1, 0.0, reward_PR - mean_P1)


def leave_one_out(reward_PR: np.ndarray) -> np.ndarray:
  """Reward minus the mean over the other answers to the same prompt.

  The gradient is that of the expected reward.

  Source: arXiv:2402.14740 section 3.3 (RLOO).
  """
  n_answers = reward_PR.shape[1]
  return group_mean(reward_PR) * (n_answers / (n_answers - 1))


def no_baseline(reward_PR: np.ndarray) -> np.ndarray:
  """The reward itself: the gradient is right too, with more variance."""
  return np.array(reward_PR, np.float64)


BASELINES = {
  'group_mean': group_mean,
  'leave_one_out': leave_one_out,
  'none': no_baseline,
}


def by_deviation(
  advantage_PR: np.ndarray, reward_PR: np.ndarray, axis: int | None
) -> np.ndarray:
  """Advantage over the standard deviation of rewards.

  That of the group weighs prompts by how nearly they are solved or hopeless,
  and makes the gradient that of something else than the expected reward.

  Args:
    advantage_PR: with a baseline, so that it is 0 where the deviation is.
    reward_PR: rewards of R answers to each of P prompts.
    axis: 1: of each group, R at least 2; None: of the batch.

  Source: arXiv:2402.03300 section 4.1.2.
  """
  if axis is not None:
    _check_groups(reward_PR)
  reward_PR = np.asarray(reward_PR, np.float64)
  return advantage_PR / (reward_PR.std(axis, ddof=1, keepdims=True) + _TINY)


SCALES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
  'none': lambda advantage_PR, reward_PR: advantage_PR,
  'group': functools.partial(by_deviation, axis=1),
  'batch': functools.partial(by_deviation, axis=None),
}


def _check_groups(reward_PR: np.ndarray) -> None:
  chex.assert_rank(reward_PR, 2)
  if reward_PR.shape[1] < 2:
    raise ValueError(
      f'groups of {reward_PR.shape[1]} answers have no mean or deviation to '
      'compare with; draw 2 or more to each prompt'
    )


def whiten(advantage_BT: np.ndarray, mask_BT: np.ndarray) -> np.ndarray:
  """Shift and scale to mean 0 and variance 1 over the tokens of the batch.

  With the reward of its answer at each token this is REINFORCE++.

  Args:
    advantage_BT: of each token, or (B, 1) of each row.
    mask_BT: 1 on sampled tokens.

  Returns:
    advantage_BT, float32, 0 outside the mask and of less than two tokens.

  Source: arXiv:2501.03262 section 3.
  """
  chex.assert_rank([advantage_BT, mask_BT], 2)
  x_BT = np.broadcast_to(np.asarray(advantage_BT, np.float64), mask_BT.shape)
  kept_X = x_BT[mask_BT > 0]
  if kept_X.size < 2:
    return np.zeros(mask_BT.shape, np.float32)
  white_BT = (x_BT - kept_X.mean()) / np.sqrt(kept_X.var(ddof=1) + 1e-8)
  return (white_BT * mask_BT).astype(np.float32)


def gae(
  reward_BT: np.ndarray,
  value_BT: np.ndarray,
  mask_BT: np.ndarray,
  gamma: float = 1.0,
  gae_lambda: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
  """Generalised advantage estimation over the sampled tokens of each row.

  A_t = d_t + gamma lambda A_t+1,  d_t = reward_t + gamma V_t+1 - V_t

  Unbiased for lambda 1 whatever the values are, and for any lambda if they
  are the expected returns. Tokens outside the mask are passed over: t + 1 is
  the next sampled token.

  Args:
    reward_BT: reward at each token; an answer's stands at its last one.
    value_BT: expected return before each token.
    mask_BT: 1 on sampled tokens.
    gamma: discount of a reward one token later.
    gae_lambda: weight of longer sums of rewards against values.

  Returns:
    advantage_BT and return_BT (advantage + value, what the value function is
    trained on), float32, 0 outside the mask.

  Source: arXiv:1506.02438 eq. 16.
  """
  chex.assert_rank(mask_BT, 2)
  chex.assert_equal_shape([reward_BT, value_BT, mask_BT])
  advantage_BT = np.zeros(mask_BT.shape)
  next_value_B = next_advantage_B = np.zeros(len(mask_BT))
  for t in reversed(range(mask_BT.shape[1])):
    kept_B = mask_BT[:, t] > 0
    delta_B = reward_BT[:, t] + gamma * next_value_B - value_BT[:, t]
    advantage_B = delta_B + gamma * gae_lambda * next_advantage_B
    next_value_B = np.where(kept_B, value_BT[:, t], next_value_B)
    next_advantage_B = np.where(kept_B, advantage_B, next_advantage_B)
    advantage_BT[:, t] = np.where(kept_B, advantage_B, 0)
  return_BT = (advantage_BT + value_BT) * (mask_BT > 0)
  return advantage_BT.astype(np.float32), return_BT.astype(np.float32)


def overlong_penalty(
  length_PR: np.ndarray, max_length: int, margin: float
) -> np.ndarray:
  """What a long answer loses: 0 up to max_length - margin, then down to -1.

  >>> overlong_penalty(np.array([[80, 85, 100, 101]]), 100, 20)
  array([[ 0.  , -0.25, -1.  , -1.  ]])

  Args:
    length_PR: tokens of each answer.
    max_length: where the whole penalty is reached.
    margin: tokens over which it falls.

  Returns:
    penalty_PR, to be added to the rewards.

  Source: arXiv:2503.14476 eq. 13.
  """
  return np.clip((max_length - margin - length_PR) / margin, -1.0, 0.0)


def explained_variance(
  return_BT: np.ndarray, value_BT: np.ndarray, mask_BT: np.ndarray
) -> float:
  """Share of the variance of returns that the values account for.

  1 - var(return - value) / var(return), over sampled tokens; 0 where all
  returns are equal.
  """
  chex.assert_equal_shape([return_BT, value_BT, mask_BT])
  return_X, value_X = return_BT[mask_BT > 0], value_BT[mask_BT > 0]
  variance = return_X.var(dtype=np.float64)
  error = (return_X - value_X).var(dtype=np.float64)
  return float(1 - error / variance) if variance else 0.0
