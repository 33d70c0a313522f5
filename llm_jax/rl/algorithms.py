"""What tells one policy-gradient method from another.

The formulas are in advantages.py and losses/policy.py; how rewards become the
advantages of tokens is in learn.py.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from llm_jax import types
from llm_jax.losses import policy, value
from llm_jax.model import config, likelihood
from llm_jax.rl import advantages


@dataclasses.dataclass(frozen=True)
class Algorithm:
  """A method by its parts. See PRESETS for those that have a name."""

  baseline: str = 'group_mean'  # or leave_one_out, none, value
  scale: str = 'none'  # divide by the deviation of the group or batch
  whiten: bool = False  # mean 0 and variance 1 over the tokens of the batch
  only_right: bool = False  # leave answers without a reward out
  surrogate: str = 'clipped'  # or sequence, cispo
  clip_low: float = 0.2  # a ratio below 1 - clip_low is not pushed down
  clip_high: float = 0.2  # a ratio above 1 + clip_high is not pushed up
  aggregation: str = 'token_mean'  # or sequence_mean, constant
  max_importance: float = 0.0  # cap of trainer / sampler; 0: not weighed
  kl_coefficient: float = 0.0  # penalty in the loss, per nat
  kl_in_reward: float = 0.0  # taken off the reward, per nat
  overlong_share: float = 0.0  # last part of max_length that costs up to 1
  # Of the baseline value, a head on the model that learns expected rewards:
  gamma: float = 1.0  # discount of a reward one token later
  gae_lambda: float = 1.0  # weight of rewards against values
  value_coefficient: float = 0.1  # of its loss
  value_clip: float = 0.2  # largest move of a value in one step

  def __post_init__(self):
    for name, choices in (
      ('baseline', (*advantages.BASELINES, 'value')),
      ('scale', advantages.SCALES),
      ('surrogate', policy.SURROGATES),
      ('aggregation', policy.AGGREGATIONS),
    ):
      if getattr(self, name) not in choices:
        raise ValueError(
          f'Algorithm.{name} = {getattr(self, name)!r}; use one of '
          f'{", ".join(choices)}'
        )
    for name in NUMBERS:
      number, most = getattr(self, name), _MOST.get(name, math.inf)
      if not (0 <= number <= most and math.isfinite(number)):
        limit = '0 or more' if most == math.inf else f'0 to {most}'
        raise ValueError(f'Algorithm.{name} = {number}; use {limit}')
    is_scaled = self.scale != 'none'
    for is_senseless, why in (
      (
        self.has_values and (is_scaled or self.only_right),
        'scale and only_right are of groups, not of values; use whiten',
      ),
      (
        self.baseline == 'none' and is_scaled,
        'without a baseline, equal rewards would be divided by a deviation of '
        '0; use a baseline of the group, or whiten in place of scale',
      ),
      (
        self.whiten and self.scale == 'batch',
        'whiten divides by the deviation of the batch already; leave scale out',
      ),
      (
        self.whiten and self.only_right,
        'answers that are all right differ in nothing; leave whiten out',
      ),
      (
        not self.has_values
        and any(getattr(self, n) != getattr(Algorithm, n) for n in _OF_VALUES),
        f"{', '.join(_OF_VALUES)} are of baseline = 'value'; leave them out",
      ),
    ):
      if is_senseless:
        raise ValueError(f'{self}: {why}')

  @property
  def has_values(self) -> bool:
    """Whether a value head is trained beside the policy."""
    return self.baseline == 'value'

  def check_answers(self, n_prompts: int, n_samples: int) -> None:
    """Refuse a step whose answers have no others to be compared with.

    Args:
      n_prompts: problems a step.
      n_samples: answers to each.

    Raises:
      ValueError: if the method needs more of either.
    """
    if self.baseline in ('group_mean', 'leave_one_out') and n_samples < 2:
      raise ValueError(
        f'Config.n_samples = {n_samples}: the baseline {self.baseline} is made '
        'of a group; use 2 or more, or a method without groups, such as ppo or '
        'reinforce_plus_plus'
      )
    if self.whiten and not self.has_values and n_prompts * n_samples < 2:
      raise ValueError(
        f'Config.n_prompts = {n_prompts} with n_samples = {n_samples}: one '
        'answer cannot be compared with the mean of the batch; use more'
      )


# From 0 on; the largest value of those that have one.
NUMBERS = [
  f.name for f in dataclasses.fields(Algorithm) if isinstance(f.default, float)
]
_MOST = {'overlong_share': 1.0, 'gamma': 1.0, 'gae_lambda': 1.0}
_OF_VALUES = ('gamma', 'gae_lambda', 'value_coefficient', 'value_clip')

PRESETS: Mapping[str, Algorithm] = {
  # arXiv:2402.03300, whose KL to the initial policy has the coefficient 0.04.
  'grpo': Algorithm(scale='group', aggregation='sequence_mean'),
  # arXiv:2503.20783
  'dr_grpo': Algorithm(aggregation='constant'),
  # arXiv:2503.14476 section 4.1; its dynamic sampling is Config.max_refills.
  'dapo': Algorithm(scale='group', clip_high=0.28, overlong_share=0.2),
  # arXiv:2507.18071 section 5.1
  'gspo': Algorithm(
    scale='group', surrogate='sequence', aggregation='sequence_mean',
    clip_low=3e-4, clip_high=4e-4,
  ),
  # arXiv:2506.13585 section 3.1: no lower clip; the upper one is ours.
  'cispo': Algorithm(
    scale='group', surrogate='cispo', clip_low=1.0, clip_high=4.0
  ),
  # arXiv:2402.14740
  'rloo': Algorithm(baseline='leave_one_out', aggregation='constant'),
  # arXiv:2501.03262
  'reinforce_plus_plus': Algorithm(baseline='none', whiten=True),
  # arXiv:1707.06347 eq. 9, with the advantages of arXiv:1506.02438
  'ppo': Algorithm(baseline='value', whiten=True, gae_lambda=0.95),
  # arXiv:2203.14465, on the answers of the present policy
  'expert_iteration': Algorithm(baseline='none', only_right=True),
}  # fmt: skip


def choose(preset: str, cfg: Algorithm) -> Algorithm:
  """A preset by its name, or cfg where there is none.

  Raises:
    ValueError: for a name that is none of PRESETS, and for parts of a method
      beside a name.
  """
  if not preset:
    return cfg
  if preset not in PRESETS:
    raise ValueError(f'preset {preset!r}; use one of {sorted(PRESETS)} or none')
  if cfg != Algorithm():
    raise ValueError(
      f'preset {preset!r} and {cfg}: give either; the parts of the preset are '
      f'{PRESETS[preset]}'
    )
  return PRESETS[preset]


def dead_groups(cfg: Algorithm, reward_PR: np.ndarray) -> np.ndarray:
  """is_dead_P: groups that teach nothing by the verifier's rewards alone."""
  if cfg.has_values:
    return np.zeros(len(reward_PR), bool)
  advantage_PR = advantages.BASELINES[cfg.baseline](reward_PR)
  if cfg.whiten:  # the batch is the group: an answer of no reward teaches too
    return np.full(len(reward_PR), np.ptp(advantage_PR) == 0)
  return np.logical_not(advantage_PR.any(axis=1))


def make_loss_fn(
  cfg: Algorithm, model_cfg: config.ModelConfig, first: int, temperature: float
) -> Callable[..., tuple[jax.Array, types.Metrics]]:
  """The loss as update.make_update_fn takes it.

  Args:
    cfg: the method.
    model_cfg: the model.
    first: targets of a row before this one were never drawn.
    temperature: at which the others were drawn; the policy that is trained is
      the one that drew them.

  Returns:
    (params, batch, key) -> (loss, metrics).
  """

  def loss_fn(params, batch, key):
    del key  # nothing is drawn: there is no dropout
    logp_BT, value_BT, _ = likelihood.of_targets(
      model_cfg, params, batch, first=first, temperature=temperature
    )
    return loss(cfg, logp_BT, batch=batch, value_BT=value_BT)

  return loss_fn


def loss(
  cfg: Algorithm,
  logp_BT: jax.Array,
  batch: types.Batch,
  value_BT: jax.Array | None = None,
) -> tuple[jax.Array, dict[str, Any]]:
  """The loss of one update.

  Args:
    cfg: the method.
    logp_BT: of the last targets of each row under the policy that is trained,
      at the temperature of the rollouts; no earlier target was sampled.
    batch: from learn.minibatches; ptx_weight_BT where there are
      demonstrations.
    value_BT: expected rewards before the same targets, for baseline value.

  Returns:
    As policy.policy_gradient; with the loss of the values and its metrics.
  """
  last = slice(-logp_BT.shape[1], None)
  batch = {name: x[:, last] for name, x in batch.items()}
  mask_BT = batch['loss_mask_BT']
  total, metrics = policy.policy_gradient(
    logp_BT,
    batch['old_logp_BT'],
    batch['advantage_BT'],
    mask_BT=mask_BT,
    surrogate=policy.SURROGATES[cfg.surrogate],
    clips=policy.Clips(cfg.clip_low, cfg.clip_high),
    weight_BT=batch['weight_BT'],
    ref_logp_BT=batch.get('ref_logp_BT'),
    kl_coefficient=cfg.kl_coefficient,
  )
  if 'ptx_weight_BT' in batch:
    weight_BT = batch['ptx_weight_BT']
    ptx_loss = -(logp_BT * weight_BT).sum()
    total += ptx_loss / jnp.maximum(mask_BT.sum(), 1)
    metrics['ptx_loss'] = (ptx_loss, weight_BT.sum())
  if value_BT is not None:
    value_loss, value_metrics = value.clipped_value(
      value_BT,
      batch['value_BT'],
      return_BT=batch['return_BT'],
      mask_BT=mask_BT,
      clip=cfg.value_clip,
    )
    total += cfg.value_coefficient * value_loss
    n_tokens = mask_BT.sum()
    metrics |= value_metrics | {'value_loss': (value_loss * n_tokens, n_tokens)}
  return total, metrics
