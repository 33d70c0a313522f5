"""From rewards of answers to advantages.

Does not know where rewards come from. Works on the whole batch, on the host.
"""

import numpy as np

BASELINES = ('group_mean', 'leave_one_out', 'none')
SCALES = ('none', 'group', 'batch')
_TINY = 1e-6  # added to a standard deviation


def group_advantages(
  reward_PR: np.ndarray, baseline: str = 'group_mean', scale: str = 'none'
) -> tuple[np.ndarray, np.ndarray]:
  """Reward minus a baseline made of the answers to the same prompt.

  >>> group_advantages(np.array([[1., 0., 0., 1.], [1., 1., 1., 1.]]))[0][0]
  array([ 0.5, -0.5, -0.5,  0.5], dtype=float32)

  group_mean:     the mean of the group; the gradient is (R - 1) / R times that
                  of the expected reward
  leave_one_out:  the mean of the others; the very gradient
  none:           the reward itself; the very gradient, with more variance

  A scale divides by the standard deviation of the group's rewards, or of the
  batch's. That of the group weighs prompts by how nearly they are solved or
  hopeless, and makes the gradient that of something else.

  Args:
    reward_PR: rewards of R answers to each of P prompts.
    baseline: one of BASELINES.
    scale: one of SCALES.

  Returns:
    advantage_PR, float32, and is_dead_P: prompts that teach nothing, as each
    answer's advantage is 0 but for rounding.

  Source: arXiv:2503.20783 section 3; leave_one_out arXiv:2402.14740 section
  3.3 (RLOO); scale by group arXiv:2402.03300 section 4.1.2.
  """
  reward_PR = np.asarray(reward_PR, np.float64)
  n_rollouts = reward_PR.shape[1]
  mean_P1 = reward_PR.mean(axis=1, keepdims=True)
  if baseline == 'none':
    is_dead_P, advantage_PR = (reward_PR == 0).all(axis=1), reward_PR
  elif baseline in BASELINES:
    is_dead_P = (reward_PR == reward_PR[:, :1]).all(axis=1)
    advantage_PR = np.where(is_dead_P[:, None], 0.0, reward_PR - mean_P1)
    if baseline == 'leave_one_out':
      advantage_PR = advantage_PR * (n_rollouts / (n_rollouts - 1))
  else:
    raise ValueError(f'baseline {baseline!r}; use one of {BASELINES}')
  if scale == 'group':
    advantage_PR /= reward_PR.std(axis=1, ddof=1, keepdims=True) + _TINY
  elif scale == 'batch':
    advantage_PR = advantage_PR / (reward_PR.std(ddof=1) + _TINY)
  elif scale != 'none':
    raise ValueError(f'scale {scale!r}; use one of {SCALES}')
  return advantage_PR.astype(np.float32), is_dead_P


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
