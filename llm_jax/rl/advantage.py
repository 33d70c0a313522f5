"""From rewards of a group of answers to advantages.

Does not know where rewards come from.
"""

import numpy as np


def group_advantages(reward_PR: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Reward minus the mean of the answers to the same prompt.

  >>> group_advantages(np.array([[1., 0., 0., 1.], [1., 1., 1., 1.]]))[0][0]
  array([ 0.5, -0.5, -0.5,  0.5], dtype=float32)

  Not divided by the group's standard deviation, which would weigh prompts by
  how nearly they are solved or hopeless.

  Args:
    reward_PR: rewards of R answers to each of P prompts.

  Returns:
    advantage_PR, float32, and is_dead_P: prompts whose answers all got one
    reward, so that they teach nothing.

  Source: Dr. GRPO, arXiv:2503.20783 section 3.
  """
  reward_PR = np.asarray(reward_PR, np.float64)
  mean_P1 = reward_PR.mean(axis=1, keepdims=True)
  is_dead_P = (reward_PR == reward_PR[:, :1]).all(axis=1)
  advantage_PR = np.where(is_dead_P[:, None], 0.0, reward_PR - mean_P1)
  return advantage_PR.astype(np.float32), is_dead_P
