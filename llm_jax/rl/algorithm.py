"""What tells one policy-gradient method from another.

Puts together advantage.py, rollout.py and losses/policy.py; does not sample or
score.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from llm_jax import types
from llm_jax.infer import generate
from llm_jax.losses import policy
from llm_jax.model import config, likelihood
from llm_jax.rl import advantage, rollout


@dataclasses.dataclass(frozen=True)
class Algorithm:
  """A method by its parts. See PRESETS for those that have a name."""

  baseline: str = 'group_mean'  # or leave_one_out, none
  scale: str = 'none'  # divide by the deviation of the group or batch
  whiten: bool = False  # mean 0 and variance 1 over the tokens of the batch
  only_right: bool = False  # leave answers without a reward out
  surrogate: str = 'clipped'  # or sequence, cispo
  clip_low: float = 0.2  # a ratio below 1 - clip_low is not pushed down
  clip_high: float = 0.2  # a ratio above 1 + clip_high is not pushed up
  aggregation: str = 'token_mean'  # or sequence_mean, constant
  max_importance: float = 0.0  # cap of trainer / sampler; 0: not weighed
  kl_coefficient: float = 0.0  # penalty in the loss, per nat
  overlong_share: float = 0.0  # last part of max_length that costs up to 1

  def __post_init__(self):
    for name, choices in (
      ('baseline', advantage.BASELINES),
      ('scale', advantage.SCALES),
      ('surrogate', policy.SURROGATES),
      ('aggregation', policy.AGGREGATIONS),
    ):
      if getattr(self, name) not in choices:
        raise ValueError(
          f'Algorithm.{name} = {getattr(self, name)!r}; use one of {choices}'
        )


_PER_TOKEN = (
  'old_logp_BT', 'advantage_BT', 'loss_mask_BT', 'weight_BT', 'segment_ids_BT',
  'ref_logp_BT',
)  # fmt: skip

PRESETS: Mapping[str, Algorithm] = {
  # arXiv:2402.03300, whose KL to the initial policy has the coefficient 0.04.
  'grpo': Algorithm(scale='group', aggregation='sequence_mean'),
  # arXiv:2503.20783
  'dr_grpo': Algorithm(aggregation='constant'),
  # arXiv:2503.14476 section 4.1
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


def make_batch(
  cfg: Algorithm,
  prompts: Sequence[Sequence[int]],
  groups: Sequence[Sequence[generate.Answer]],
  reward_PR: np.ndarray,
  length: int,
  max_length: int,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
  """From answers and their rewards to the batch of one update.

  Args:
    cfg: the method.
    prompts: token ids of each of P prompts.
    groups: R answers to each prompt.
    reward_PR: rewards; a KL in the reward is already taken off.
    length: tokens of a row; a static shape.
    max_length: longest answer that could be sampled.

  Returns:
    The batch of rollout.training_batch with weight_BT, and advantage_BT in
    place of advantage_B; is_dead_P, the prompts that teach nothing.
  """
  if cfg.overlong_share:
    length_PR = np.array([[len(a.token_ids) for a in g] for g in groups])
    reward_PR = reward_PR + advantage.overlong_penalty(
      length_PR, max_length, cfg.overlong_share * max_length
    )
  advantage_PR, is_dead_P = advantage.group_advantages(
    reward_PR, cfg.baseline, cfg.scale
  )
  if cfg.whiten:  # the batch is the group: an answer of no reward teaches too
    is_dead_P = np.full(len(groups), np.ptp(advantage_PR) == 0)
  batch = rollout.training_batch(
    prompts, groups, advantage_PR, is_dead_P, length
  )
  mask_BT = batch['loss_mask_BT']
  advantage_BT = batch.pop('advantage_B')[:, None]
  if cfg.only_right:
    mask_BT = mask_BT * (advantage_BT > 0)
  if cfg.whiten:
    advantage_BT = advantage.whiten(advantage_BT, mask_BT)
  return batch | {
    'loss_mask_BT': mask_BT,
    'advantage_BT': advantage_BT,
    'weight_BT': policy.token_weights(
      cfg.aggregation, mask_BT, len(mask_BT), max_length
    ),
  }, is_dead_P


def make_reference_fn(
  cfg: Algorithm,
  model_cfg: config.ModelConfig,
  params: types.Params,
  mesh: Mesh,
) -> Callable[[dict[str, jax.Array]], dict[str, jax.Array]]:
  """Compile what adds ref_logp_BT to a batch, if the method has a KL.

  Args:
    cfg: the method.
    model_cfg: the model.
    params: the policy to stay near; copied, since training donates its own.
    mesh: where it lives.

  Returns:
    batch -> batch.
  """
  if not cfg.kl_coefficient:
    return lambda batch: batch
  kept = jax.tree.map(jnp.copy, params)

  @jax.jit
  def ref_logp(params, batch):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      return likelihood.target_logp(model_cfg, params, batch)

  return lambda batch: batch | {'ref_logp_BT': ref_logp(kept, batch)}


def loss(
  cfg: Algorithm, logp_BT: jax.Array, batch: types.Batch
) -> tuple[jax.Array, dict[str, Any]]:
  """The loss of one update on answers that the same parameters sampled.

  Args:
    cfg: the method.
    logp_BT: of the last targets of each row under the policy that is trained;
      no earlier one was sampled.
    batch: from make_batch, with ref_logp_BT if there is a KL.

  Returns:
    As policy.policy_gradient.
  """
  last = slice(-logp_BT.shape[1], None)
  batch = {name: x[:, last] for name, x in batch.items() if name in _PER_TOKEN}
  old_logp_BT, advantage_BT = batch['old_logp_BT'], batch['advantage_BT']
  if cfg.max_importance:  # the sampler's and the trainer's differ by rounding
    advantage_BT = advantage_BT * policy.truncated_importance(
      logp_BT, old_logp_BT, cfg.max_importance
    )
    old_logp_BT = jax.lax.stop_gradient(logp_BT)
  return policy.policy_gradient(
    logp_BT,
    old_logp_BT,
    advantage_BT,
    batch['loss_mask_BT'],
    cfg.clip_low,
    cfg.clip_high,
    cfg.surrogate,
    batch['weight_BT'],
    batch.get('segment_ids_BT'),
    batch.get('ref_logp_BT'),
    cfg.kl_coefficient,
  )
