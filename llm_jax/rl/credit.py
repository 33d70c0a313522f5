"""From the rewards of answers to the advantage of each token.

Works on the host, on the whole batch of a step. Does not update.
"""

import numpy as np

from llm_jax.losses import policy
from llm_jax.rl import advantages, algorithm

Arrays = dict[str, np.ndarray]


def dead_groups(cfg: algorithm.Algorithm, reward_PR: np.ndarray) -> np.ndarray:
  """is_dead_P: groups that teach nothing by the verifier's rewards alone."""
  if cfg.whiten:  # the batch is the group: an answer of no reward teaches too
    return np.full(len(reward_PR), np.ptp(reward_PR) == 0)
  if cfg.baseline == 'value':
    return np.zeros(len(reward_PR), bool)
  return advantages.group_advantages(reward_PR, cfg.baseline)[1]


def assign(
  cfg: algorithm.Algorithm,
  batch: Arrays,
  reward_PR: np.ndarray,
  max_length: int,
) -> tuple[Arrays, dict[str, float]]:
  """Give each token its advantage, and leave out those that teach nothing.

  A KL in the reward is log pi - log ref of each drawn token, so that the mean
  over answers is the KL of answers to the reference.

  Args:
    cfg: the method.
    batch: of rollout.training_batch and a look; rows in order of reward_PR.
    reward_PR: rewards of R answers to each of P prompts.
    max_length: longest answer that could be sampled.

  Returns:
    The batch with advantage_BT (or of a row, (B, 1)), return_BT for baseline
    value, and loss_mask_BT without dead groups. Metrics: the mean of each part
    of the reward beside the verifier's, what the values explain, and how far
    the sampler's log-probabilities are from the trainer's.
  """
  batch, metrics = dict(batch), {}
  mask_BT = batch['loss_mask_BT']
  if cfg.overlong_share:
    length_PR = mask_BT.sum(axis=1).astype(int).reshape(reward_PR.shape)
    penalty_PR = advantages.overlong_penalty(
      length_PR, max_length, cfg.overlong_share * max_length
    )
    metrics['reward_overlong'] = float(penalty_PR.mean())
    reward_PR = reward_PR + penalty_PR
  kl_BT = np.zeros(mask_BT.shape)
  if cfg.kl_in_reward:
    kl_BT = (batch['old_logp_BT'] - batch['ref_logp_BT']) * mask_BT
    kl_BT = cfg.kl_in_reward * kl_BT.astype(np.float64)
    metrics['reward_kl'] = -float(kl_BT.sum(axis=1).mean())
  if cfg.baseline == 'value':
    advantage_BT, batch['return_BT'] = _by_values(cfg, batch, reward_PR, kl_BT)
    metrics['explained_variance'] = _explained(batch)
  else:
    reward_PR = reward_PR - kl_BT.sum(axis=1).reshape(reward_PR.shape)
    advantage_PR, is_dead_P = advantages.group_advantages(
      reward_PR, cfg.baseline, cfg.scale
    )
    if cfg.whiten:
      is_dead_P = dead_groups(cfg, advantage_PR)
    is_live_B1 = ~np.repeat(is_dead_P, reward_PR.shape[1])[:, None]
    advantage_BT = advantage_PR.reshape(-1, 1)
    mask_BT = mask_BT * is_live_B1
    if cfg.only_right:
      mask_BT = mask_BT * (advantage_BT > 0)
  if cfg.whiten:
    advantage_BT = advantages.whiten(advantage_BT, mask_BT)
  if cfg.max_importance:
    sampler_logp_BT = batch['old_logp_BT']
    batch['old_logp_BT'] = logp_BT = batch.pop('trainer_logp_BT')
    advantage_BT = advantage_BT * np.asarray(
      policy.truncated_importance(logp_BT, sampler_logp_BT, cfg.max_importance)
    )
    difference_BT = np.abs(logp_BT - sampler_logp_BT) * mask_BT
    metrics['max_logp_difference'] = float(difference_BT.max())
    n_tokens = max(mask_BT.sum(), 1)
    metrics['mean_logp_difference'] = float(difference_BT.sum() / n_tokens)
  batch |= {'loss_mask_BT': mask_BT, 'advantage_BT': advantage_BT}
  return batch, metrics


def _by_values(cfg, batch, reward_PR, kl_BT):
  """Advantages and returns where the verdict is on the last token."""
  mask_BT = batch['loss_mask_BT']
  rows_B = np.arange(len(mask_BT))
  last_B = mask_BT.shape[1] - 1 - mask_BT[:, ::-1].argmax(axis=1)
  reward_BT = -kl_BT
  reward_BT[rows_B, last_B] += reward_PR.reshape(-1)
  return advantages.gae(
    reward_BT, batch['value_BT'], mask_BT, cfg.gamma, cfg.gae_lambda
  )


def _explained(batch) -> float:
  """Share of the returns' variance that the values account for."""
  kept_BT = batch['loss_mask_BT'] > 0
  return_X, value_X = batch['return_BT'][kept_BT], batch['value_BT'][kept_BT]
  variance = return_X.var(dtype=np.float64)
  error = (return_X - value_X).var(dtype=np.float64)
  return float(1 - error / variance) if variance else 0.0
