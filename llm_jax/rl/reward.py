"""Rewards of sampled answers: from a task's verifier, or at random.

Random rewards are the control: whatever accuracy rises under them does not
come from the verifier.
"""

import zlib
from collections.abc import Sequence

import numpy as np

from llm_jax.tasks import problem as problem_lib


def verify(
  task: problem_lib.Task,
  problems: Sequence[problem_lib.Problem],
  answers: Sequence[Sequence[str]],
) -> np.ndarray:
  """Reward 1 for a right answer and 0 for a wrong one.

  Args:
    task: whose verifier judges.
    problems: one a prompt.
    answers: R texts for each prompt.

  Returns:
    reward_PR, float32.
  """
  rewards = [
    [float(task.score(problem, text).correct) for text in texts]
    for problem, texts in zip(problems, answers, strict=True)
  ]
  return np.array(rewards, np.float32)


def toss(shape: tuple[int, int], seed: int, step: int) -> np.ndarray:
  """Reward 1 or 0 by the toss of a coin, whatever was answered.

  Args:
    shape: prompts and answers to each, P R.
    seed: of the run.
    step: of the run; the same seed and step toss the same coins.

  Returns:
    reward_PR, float32.
  """
  draw = np.random.default_rng(zlib.crc32(f'reward/{seed}/{step}'.encode()))
  return draw.integers(2, size=shape).astype(np.float32)
