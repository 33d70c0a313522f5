"""Sampling groups of answers and laying them out as a training batch.

Token ids end to end: what the model drew is what it is trained on, never
text encoded again. Does not score.
"""

import zlib
from collections.abc import Sequence

import numpy as np
from jax.sharding import Mesh

from llm_jax import types
from llm_jax.infer import generate
from llm_jax.model import config
from llm_jax.tasks import problem as problem_lib


def sample_groups(
  cfg: config.ModelConfig,
  params: types.Params,
  prompts: Sequence[Sequence[int]],
  n_samples: int,
  request: generate.Request,
  seed: int,
  step: int,
  mesh: Mesh,
) -> list[list[generate.Answer]]:
  """Draw n_samples answers to each prompt.

  Args:
    cfg: the model.
    params: its parameters, the very arrays that are trained.
    prompts: token ids.
    n_samples: answers a prompt.
    request: length limit, stop tokens and temperature.
    seed: of the run.
    step: of the run; the same seed, step and parameters give the same answers.
    mesh: where the parameters live.

  Returns:
    The answers, grouped by prompt.
  """
  rows = [p for p in prompts for _ in range(n_samples)]
  seeds = [
    zlib.crc32(f'rollout/{seed}/{step}/{i}'.encode()) for i in range(len(rows))
  ]
  answers = generate.generate(
    cfg, params, rows, seeds, request, len(rows), mesh
  )
  return [answers[i : i + n_samples] for i in range(0, len(rows), n_samples)]


def training_batch(
  prompts: Sequence[Sequence[int]],
  groups: Sequence[Sequence[generate.Answer]],
  advantage_PR: np.ndarray,
  is_dead_P: np.ndarray,
  length: int,
) -> dict[str, np.ndarray]:
  """Lay prompts and answers out as rows, the loss on drawn tokens only.

  Args:
    prompts: token ids of each prompt.
    groups: answers of each prompt.
    advantage_PR: advantage of each answer.
    is_dead_P: prompts that are left out of the loss.
    length: tokens of a row; a static shape.

  Returns:
    inputs_BT, targets_BT, positions_BT, old_logp_BT, loss_mask_BT and
    advantage_B. The mask is 1 where the target was drawn, stop token included.

  Raises:
    ValueError: if a prompt with its answer is longer than length + 1.
  """
  n_rows = advantage_PR.size
  tokens_BT = np.zeros((n_rows, length + 1), np.int32)
  old_logp_BT = np.zeros((n_rows, length), np.float32)
  loss_mask_BT = np.zeros((n_rows, length), np.float32)
  row = 0
  for prompt, group, is_dead in zip(prompts, groups, is_dead_P, strict=True):
    for answer in group:
      start, end = len(prompt), len(prompt) + len(answer.token_ids)
      if end > length + 1:
        raise ValueError(
          f'a prompt of {start} and an answer of {end - start} tokens do '
          f'not fit a row of {length + 1}; raise the length of the rows'
        )
      tokens_BT[row, :end] = [*prompt, *answer.token_ids]
      old_logp_BT[row, start - 1 : end - 1] = answer.logps
      loss_mask_BT[row, start - 1 : end - 1] = not is_dead
      row += 1
  positions_BT = np.broadcast_to(
    np.arange(length, dtype=np.int32), (n_rows, length)
  )
  return {
    'inputs_BT': tokens_BT[:, :-1],
    'targets_BT': tokens_BT[:, 1:],
    'positions_BT': np.ascontiguousarray(positions_BT),
    'old_logp_BT': old_logp_BT,
    'loss_mask_BT': loss_mask_BT,
    'advantage_B': advantage_PR.reshape(-1),
  }


def describe(
  groups: Sequence[Sequence[generate.Answer]],
  texts: Sequence[Sequence[str]],
  task: problem_lib.Task,
) -> dict[str, float]:
  """Lengths, entropy and thinking of the answers of one step.

  Args:
    groups: answers of each prompt.
    texts: the same as text.
    task: what was asked; it knows a thought when it sees one.

  Returns:
    mean_length (tokens, stop token included), truncated_share, entropy (nats
    a token, estimated from the drawn tokens), think_share, and sampled_tokens
    (their sum).
  """
  answers = [answer for group in groups for answer in group]
  n_tokens = sum(len(answer.token_ids) for answer in answers)
  n_thoughts = sum(task.thinks(text) for group in texts for text in group)
  return {
    'mean_length': n_tokens / len(answers),
    'truncated_share': sum(not a.stopped for a in answers) / len(answers),
    'entropy': -sum(sum(a.logps) for a in answers) / n_tokens,
    'think_share': n_thoughts / len(answers),
    'sampled_tokens': n_tokens,
  }
