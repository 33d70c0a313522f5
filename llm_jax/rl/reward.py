"""Rewards of sampled answers: a verifier's verdicts, or at random.

Random rewards are the control: whatever accuracy rises under them does not
come from the verifier.
"""

import zlib

import numpy as np
from jax.experimental import multihost_utils

KINDS = ('verifier', 'random')


def choose(
  kind: str, correct_PR: np.ndarray, seed: int, step: int, draw: int
) -> np.ndarray:
  """Reward 1 or 0 for each answer, by verdict or by the toss of a coin.

  Of several processes the first one's verdicts count for all: an answer that
  runs into a time limit may be judged otherwise elsewhere.

  Args:
    kind: one of KINDS.
    correct_PR: verdicts, as numbers.
    seed: of the run.
    step: of the run; the same seed, step and draw toss the same coins.
    draw: of the step.

  Returns:
    reward_PR, float32.
  """
  if kind == 'random':
    return toss(correct_PR.shape, seed, step, draw)
  reward_PR = np.asarray(correct_PR, np.float32)
  return np.asarray(multihost_utils.broadcast_one_to_all(reward_PR))


def toss(
  shape: tuple[int, ...], seed: int, step: int, draw: int = 0
) -> np.ndarray:
  """Reward 1 or 0 by the toss of a coin, whatever was answered.

  Args:
    shape: prompts and answers to each, P R.
    seed: of the run.
    step: of the run; the same seed, step and draw toss the same coins.
    draw: of the step.

  Returns:
    reward_PR, float32.
  """
  name = f'reward/{seed}/{step}' + (f'/{draw}' if draw else '')
  coins = np.random.default_rng(zlib.crc32(name.encode()))
  return coins.integers(2, size=shape).astype(np.float32)
