"""One step's learning: from its rollouts to the updates of the policy.

Before the first update the model is asked what its method must know of the
answers: values, log-probabilities of its own and of a reference. Does not
sample or judge.
"""

import dataclasses
import time
import zlib
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from llm_jax import types
from llm_jax.losses import policy
from llm_jax.model import config, likelihood
from llm_jax.parallel import device_mesh
from llm_jax.rl import algorithm as algorithm_lib
from llm_jax.rl import credit, rollout
from llm_jax.rl import metrics as measures
from llm_jax.train import train_state, update

LookFn = Callable[[types.Params, credit.Arrays], credit.Arrays]


@dataclasses.dataclass(frozen=True)
class Updates:
  """How often, and in what parts, a step learns from its rollouts."""

  n_epochs: int = 1  # times that each answer is used
  n_minibatches: int = 1  # updates of an epoch
  micro_batch: int = 0  # answers computed at once; 0: what fits the memory

  def __post_init__(self):
    for name in ('n_epochs', 'n_minibatches'):
      if getattr(self, name) < 1:
        raise ValueError(
          f'Updates.{name} = {getattr(self, name)}; use 1 or more'
        )

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


@dataclasses.dataclass(frozen=True)
class Learner:
  """All that it takes to learn from rollouts, but the state."""

  algorithm: algorithm_lib.Algorithm
  updates: Updates
  look_fn: LookFn
  update_fn: update.UpdateFn
  mesh: Mesh
  row_length: int  # tokens of a row
  max_new_tokens: int  # of the longest answer
  seed: int  # of the run


def learn(
  learner: Learner,
  state: train_state.TrainState,
  collected: rollout.Collected,
  step: int,
) -> tuple[train_state.TrainState, dict[str, float]]:
  """Update the policy by what one step sampled.

  Args:
    learner: how.
    state: before it; it is donated.
    collected: rollouts of these parameters.
    step: of the run.

  Returns:
    The state, one step further however many updates there were; and metrics,
    of which those of updates are missing if every group was dead.
  """
  started = time.monotonic()
  groups, reward_PR = collected.batch
  batch = rollout.training_batch(groups, learner.row_length)
  batch, metrics = credit.assign(
    learner.algorithm,
    learner.look_fn(state.params, batch),
    reward_PR,
    learner.max_new_tokens,
  )
  done = []
  for minibatch in minibatches(learner, batch, step):
    placed = device_mesh.put_batch(learner.mesh, minibatch)
    state, found = learner.update_fn(state, placed)
    done.append(found)
  state = dataclasses.replace(state, step=state.step + 1 - len(done))
  metrics = measures.join_updates(jax.device_get(done)) | metrics
  update_s = time.monotonic() - started
  n_tokens = learner.updates.n_epochs * batch['inputs_BT'].size
  return state, metrics | {
    'update_s': update_s,
    'trained_tokens_per_s': n_tokens / update_s,
  }


def make_look_fn(
  cfg: algorithm_lib.Algorithm,
  model_cfg: config.ModelConfig,
  reference: types.Params,
  mesh: Mesh,
  micro_batch: int,
) -> LookFn:
  """Compile what a method must know of its answers before it learns from them.

  Args:
    cfg: the method.
    model_cfg: the model.
    reference: the policy to stay near; copied if there is a KL, since training
      donates its own.
    mesh: where it lives.
    micro_batch: rows that are computed at once.

  Returns:
    (params, batch) -> the batch with ref_logp_BT if there is a KL, value_BT for
    baseline value, and trainer_logp_BT if tokens are weighed by importance.
  """
  has_kl = cfg.kl_coefficient or cfg.kl_in_reward
  has_values, is_weighed = cfg.baseline == 'value', cfg.max_importance
  if not (has_kl or has_values or is_weighed):
    return lambda params, batch: batch
  kept = jax.tree.map(jnp.copy, reference) if has_kl else None

  @jax.jit
  def look(params, kept, batch):
    def one_part(part):
      found = {}
      if has_kl:
        found['ref_logp_BT'] = likelihood.target_logp(model_cfg, kept, part)
      if has_values or is_weighed:
        logp_BT, value_BT = likelihood.target_logp_and_value(
          model_cfg, params, part
        )
        found |= {'value_BT': value_BT} if has_values else {}
        found |= {'trainer_logp_BT': logp_BT} if is_weighed else {}
      return found

    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      n_parts = len(batch['inputs_BT']) // micro_batch
      if n_parts == 1:
        return one_part(batch)
      # Every n-th row, so that no row leaves its device.
      parts = {
        name: jnp.swapaxes(x.reshape(-1, n_parts, x.shape[1]), 0, 1)
        for name, x in batch.items()
      }
      return {
        name: jnp.swapaxes(x, 0, 1).reshape(-1, x.shape[-1])
        for name, x in jax.lax.map(one_part, parts).items()
      }

  def look_and_fetch(params, batch):
    names = ('inputs_BT', 'targets_BT', 'positions_BT')
    placed = device_mesh.put_batch(mesh, {name: batch[name] for name in names})
    found = look(params, kept, placed)
    return batch | multihost_utils.process_allgather(found, tiled=True)

  return look_and_fetch


def minibatches(
  learner: Learner, batch: credit.Arrays, step: int
) -> Iterator[credit.Arrays]:
  """The batches of a step's updates, one behind the other.

  Rows are dealt anew each epoch, by seed and step. A minibatch that teaches
  nothing is left out: a gradient of 0 would still move Adam's moments.

  Args:
    learner: how.
    batch: from credit.assign.
    step: of the run.

  Yields:
    Batches for algorithm.loss, with weight_BT.
  """
  n_rows, n_parts = len(batch['loss_mask_BT']), learner.updates.n_minibatches
  for epoch in range(learner.updates.n_epochs):
    rows_B = np.arange(n_rows)
    if n_parts > 1:
      key = zlib.crc32(f'minibatches/{step}/{epoch}'.encode())
      rows_B = np.random.RandomState([learner.seed, key]).permutation(n_rows)
    for part_B in np.split(rows_B, n_parts):
      minibatch = {name: x[part_B] for name, x in batch.items()}
      mask_BT = minibatch['loss_mask_BT']
      if mask_BT.any():
        yield minibatch | {
          'weight_BT': policy.token_weights(
            learner.algorithm.aggregation,
            mask_BT,
            len(mask_BT),
            learner.max_new_tokens,
          )
        }
