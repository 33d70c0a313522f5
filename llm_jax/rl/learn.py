"""One step's learning: from its batch of rollouts to updates of the policy.

The batch is annotated with what its method must know of the answers (values,
log-probabilities under the trainer and a reference), its tokens get advantages,
and the policy one or several updates.
"""

import dataclasses
import functools
import time
import zlib
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils

from llm_jax import dataclass_json, types
from llm_jax.losses import policy
from llm_jax.model import likelihood
from llm_jax.parallel import device_mesh
from llm_jax.rl import advantages, algorithms, demonstrations, metrics
from llm_jax.train import fit, start, train_state, update

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Updates:
  """How often, and in what parts, a step learns from its rollouts."""

  n_epochs: int = 1  # times that each answer is used
  n_minibatches: int = 1  # updates of an epoch
  micro_batch: int = 0  # answers computed at once; 0: what fits the memory

  def __post_init__(self):
    dataclass_json.require_at_least(self, 'n_epochs n_minibatches', 1)

  @property
  def n_a_step(self) -> int:
    """Updates of a step in which no group is dead."""
    return self.n_epochs * self.n_minibatches

  def rows(self, n_rows: int) -> int:
    """Answers of one update.

    Raises:
      ValueError: if the minibatches do not divide the answers of a step.
    """
    rows, rest = divmod(n_rows, self.n_minibatches)
    if rest:
      raise ValueError(
        f'Updates.n_minibatches = {self.n_minibatches} does not divide '
        f'{n_rows} answers of a step; use a divisor'
      )
    return rows

  def plan(
    self,
    stage: start.Stage,
    tx: optax.GradientTransformation,
    n_rows: int,
    length: int,
  ) -> fit.Plan:
    """How an update of so many answers, in rows of a length, is computed."""
    return fit.choose(
      fit.Step(
        fit.Rows(n_rows, micro_batch=self.micro_batch),
        stage.model_config,
        tx,
        mesh=stage.mesh,
        length=length,
        adapters=stage.cfg.lora,
      )
    )


@dataclasses.dataclass(frozen=True)
class Learner:
  """All that it takes to learn from a batch, but the state."""

  stage: start.Stage
  algorithm: algorithms.Algorithm
  update_fn: update.UpdateFn
  taught: demonstrations.Demonstrations | None = None  # beside answers

  @property
  def updates(self) -> Updates:
    """How often a step learns from its rollouts."""
    return self.stage.cfg.updates

  @property
  def max_length(self) -> int:
    """Tokens of the longest answer that could be sampled."""
    return self.stage.cfg.max_new_tokens


def make_annotate_fn(
  learner: Learner, micro_batch: int, temperature: float
) -> Callable[[types.Params, Arrays], Arrays]:
  """Compile what a method must know of its answers before it learns from them.

  Args:
    learner: with the method. The first parameters of its stage are the
      reference, the policy to stay near; they are copied if there is a KL,
      since training donates its own.
    micro_batch: rows that are computed at once.
    temperature: at which answers are drawn, and so of every log-probability.

  Returns:
    (params, batch) -> the batch with ref_logp_BT if there is a KL, value_BT for
    baseline value, and trainer_logp_BT if tokens are weighed by importance.
  """
  algorithm, stage = learner.algorithm, learner.stage
  # What a reward model says is to be read beside how far the policy went.
  has_kl = bool(algorithm.kl_coefficient or algorithm.kl_in_reward)
  has_kl |= stage.cfg.reward == 'model'
  has_values, is_weighed = algorithm.has_values, bool(algorithm.max_importance)
  if not (has_kl or has_values or is_weighed):
    return lambda params, batch: batch
  mesh = stage.mesh
  of_targets = functools.partial(
    likelihood.of_targets, stage.model_config, temperature=temperature
  )
  reference = jax.tree.map(jnp.copy, stage.params) if has_kl else None

  @jax.jit
  def annotations(params, reference, batch):
    def one_part(part):
      found = {}
      if has_kl:
        found['ref_logp_BT'] = of_targets(reference, part).logp_BT
      if has_values or is_weighed:
        logp_BT, value_BT, _ = of_targets(params, part)
        found |= {'value_BT': value_BT} if has_values else {}
        found |= {'trainer_logp_BT': logp_BT} if is_weighed else {}
      return found

    n_rows = len(batch['inputs_BT'])
    n_parts = -(-n_rows // micro_batch)
    n_parts = next(n for n in range(n_parts, n_rows + 1) if n_rows % n == 0)
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      return update.map_micro_batches(one_part, batch, n_parts)

  def annotate(params, batch):
    names = ('inputs_BT', 'targets_BT', 'positions_BT')
    placed = device_mesh.put_batch(mesh, {name: batch[name] for name in names})
    found = annotations(params, reference, placed)
    return batch | multihost_utils.process_allgather(found, tiled=True)

  return annotate


def token_advantages(
  learner: Learner, batch: Arrays, reward_PR: np.ndarray
) -> tuple[Arrays, dict[str, float]]:
  """Give each token its advantage, and leave out those that teach nothing.

  A KL in the reward is log pi - log ref of each drawn token, so that the mean
  over answers is the KL of answers to the reference, each policy at the
  temperature of the rollouts.

  Args:
    learner: with the method.
    batch: annotated; rows in order of reward_PR.
    reward_PR: rewards of R answers to each of P prompts.

  Returns:
    What changes in the batch: advantage_BT (or of a row, (B, 1)), return_BT
    for baseline value, loss_mask_BT without dead groups, and old_logp_BT of
    the trainer if tokens are weighed by importance. Metrics: the mean of each
    part of the reward beside the verifier's, what the values explain, and how
    far the sampler's log-probabilities are from the trainer's.
  """
  cfg, mask_BT = learner.algorithm, batch['loss_mask_BT']
  changed: Arrays = {}
  reward_PR, kl_BT, found = _rewards(learner, batch, reward_PR)
  if cfg.has_values:
    # The verdict is on the last token.
    reward_BT = -kl_BT
    last_B = mask_BT.shape[1] - 1 - mask_BT[:, ::-1].argmax(axis=1)
    reward_BT[np.arange(len(mask_BT)), last_B] += reward_PR.reshape(-1)
    advantage_BT, changed['return_BT'] = advantages.gae(
      reward_BT,
      batch['value_BT'],
      mask_BT=mask_BT,
      gamma=cfg.gamma,
      gae_lambda=cfg.gae_lambda,
    )
    found['explained_variance'] = advantages.explained_variance(
      changed['return_BT'], batch['value_BT'], mask_BT
    )
  else:
    reward_PR = reward_PR - kl_BT.sum(axis=1).reshape(reward_PR.shape)
    is_dead_P = algorithms.dead_groups(cfg, reward_PR)
    unscaled_PR = advantages.BASELINES[cfg.baseline](reward_PR)
    advantage_PR = advantages.SCALES[cfg.scale](unscaled_PR, reward_PR)
    advantage_BT = advantage_PR.astype(np.float32).reshape(-1, 1)
    mask_BT = mask_BT * ~np.repeat(is_dead_P, reward_PR.shape[1])[:, None]
    if cfg.only_right:
      mask_BT = mask_BT * (advantage_BT > 0)
  if cfg.whiten:
    advantage_BT = advantages.whiten(advantage_BT, mask_BT)
  if cfg.max_importance:
    sampler_logp_BT, logp_BT = batch['old_logp_BT'], batch['trainer_logp_BT']
    changed['old_logp_BT'] = logp_BT
    advantage_BT = advantage_BT * np.asarray(
      policy.truncated_importance(logp_BT, sampler_logp_BT, cfg.max_importance)
    )
    difference_BT = np.abs(logp_BT - sampler_logp_BT) * mask_BT
    found['max_logp_difference'] = float(difference_BT.max())
    n_tokens = max(mask_BT.sum(), 1)
    found['mean_logp_difference'] = float(difference_BT.sum() / n_tokens)
  changed |= {'loss_mask_BT': mask_BT, 'advantage_BT': advantage_BT}
  return changed, found


def _rewards(learner, batch, reward_PR):
  """Rewards with what length takes off, the KL of each token, and metrics."""
  cfg, mask_BT, found = learner.algorithm, batch['loss_mask_BT'], {}
  if cfg.overlong_share:
    length_PR = mask_BT.sum(axis=1).astype(int).reshape(reward_PR.shape)
    penalty_PR = advantages.overlong_penalty(
      length_PR, learner.max_length, cfg.overlong_share * learner.max_length
    )
    found['reward_overlong'] = float(penalty_PR.mean())
    reward_PR = reward_PR + penalty_PR
  kl_BT = np.zeros(mask_BT.shape)
  if 'ref_logp_BT' in batch:
    kl_BT = (batch['old_logp_BT'] - batch['ref_logp_BT']) * mask_BT
    kl_BT = kl_BT.astype(np.float64)
    found['kl_of_answers'] = float(kl_BT.sum(axis=1).mean())
    kl_BT *= cfg.kl_in_reward
  if cfg.kl_in_reward:
    found['reward_kl'] = -float(kl_BT.sum(axis=1).mean())
  return reward_PR, kl_BT, found


def update_policy(
  learner: Learner, state: train_state.TrainState, batch: Arrays, step: int
) -> tuple[train_state.TrainState, dict[str, float]]:
  """Update the policy by what one step sampled.

  Args:
    learner: how.
    state: before it; it is donated.
    batch: annotated, with the advantages of its tokens.
    step: of the run.

  Returns:
    The state, one step further however many updates there were; and metrics,
    of which those of updates are missing if every group was dead.
  """
  started = time.monotonic()
  done = []
  for minibatch in minibatches(learner, batch, step):
    placed = device_mesh.put_batch(learner.stage.mesh, minibatch)
    state, found = learner.update_fn(state, placed)
    done.append(found)
  state = dataclasses.replace(state, step=state.step + 1 - len(done))
  joined = metrics.join_updates(jax.device_get(done))
  update_s = time.monotonic() - started
  n_tokens = learner.updates.n_epochs * batch['inputs_BT'].size
  return state, joined | {
    'update_s': update_s,
    'trained_tokens_per_s': n_tokens / update_s,
  }


def minibatches(learner: Learner, batch: Arrays, step: int) -> Iterator[Arrays]:
  """The batches of a step's updates, one behind the other.

  Rows are dealt anew each epoch, by seed and step. A minibatch that teaches
  nothing is left out: a gradient of 0 would still move Adam's moments.

  Args:
    learner: how.
    batch: annotated, with the advantages of its tokens.
    step: of the run.

  Yields:
    Batches for algorithms.loss, with weight_BT.
  """
  n_rows, n_parts = len(batch['loss_mask_BT']), learner.updates.n_minibatches
  weigh = policy.AGGREGATIONS[learner.algorithm.aggregation]
  for epoch in range(learner.updates.n_epochs):
    rows_B = np.arange(n_rows)
    if n_parts > 1:
      key = zlib.crc32(f'minibatches/{step}/{epoch}'.encode())
      seed = learner.stage.cfg.seed
      rows_B = np.random.RandomState([seed, key]).permutation(n_rows)
    for part, part_B in enumerate(np.split(rows_B, n_parts)):
      minibatch = {name: x[part_B] for name, x in batch.items()}
      mask_BT = minibatch['loss_mask_BT']
      if mask_BT.any():
        minibatch['weight_BT'] = weigh(mask_BT, learner.max_length)
        if learner.taught:
          number = ((step - 1) * learner.updates.n_epochs + epoch) * n_parts
          minibatch = learner.taught.beside(minibatch, number + part)
        yield minibatch
