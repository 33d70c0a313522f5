"""Optimizers and learning-rate schedules.

Muon or AdamW for the matrices inside layers; AdamW for embeddings, head and
norms; which is which stands in model/params.py. Does not own the update: see
train/update.py.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from llm_jax import dataclass_json
from llm_jax.model import params

_SCHEDULES = ('cosine', 'linear', 'constant', 'wsd')


class Schedule(Protocol):
  """A learning rate of a user's own, for the whole run, warmup included."""

  def learning_rate(self, peak: float, n_steps: int) -> optax.Schedule:
    """The function from step, 0 first, to rate, for the given peak."""
    ...


class Rule(Protocol):
  """An optimizer of a user's own; any function of optax can make it."""

  def transformation(
    self, n_steps: int, lines: params.Table
  ) -> optax.GradientTransformation:
    """What `make` returns, clipping and schedule included."""
    ...


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """Optimizer and schedule of one stage."""

  matrices: str = 'muon'  # rule for those in layers: muon or adamw
  matrix_lr: float = 0.02  # peak learning rate of those matrices
  peak_lr: float = 0.003  # peak learning rate of everything else
  b1: float = 0.9  # AdamW first moment
  b2: float = 0.95  # AdamW second moment
  weight_decay: float = 0.0  # on matrices, embeddings and head only
  clip_norm: float = 1.0  # global gradient norm; 0: no clipping
  warmup_steps: int = 20  # linear from 0
  # After warmup: cosine, linear, constant or wsd; or a class of your own.
  schedule: str | Schedule = 'cosine'
  final_share: float = 0.0  # of the peak, where the schedule ends
  decay_share: float = 0.65  # of the run that decays, for wsd

  def __post_init__(self):
    if self.matrices not in ('muon', 'adamw'):
      raise ValueError(
        f'Optimizer.matrices = {self.matrices!r}; use muon or adamw'
      )
    if isinstance(self.schedule, str) and self.schedule not in _SCHEDULES:
      raise ValueError(
        f'Optimizer.schedule = {self.schedule!r}; use {" or ".join(_SCHEDULES)}'
      )
    names = 'matrix_lr peak_lr weight_decay clip_norm warmup_steps'
    dataclass_json.require_at_least(self, names, 0)
    for name in ('final_share', 'decay_share'):
      if not 0 <= getattr(self, name) <= 1:
        raise ValueError(
          f'Optimizer.{name} = {getattr(self, name)}; use a share from 0 to 1'
        )


AnyOptimizer = Optimizer | Rule


def learning_rate(cfg: Optimizer, peak: float, n_steps: int) -> optax.Schedule:
  """Linear warmup to the peak, then the schedule to its end at n_steps.

  Cosine and linear go down from the warmup on; wsd (warmup, stable, decay)
  stays at the peak and is linear over the last decay_share of the run.

  Args:
    cfg: the optimizer.
    peak: learning rate at the end of the warmup.
    n_steps: steps of the whole run, warmup included.

  Returns:
    Function from step to learning rate.

  Raises:
    ValueError: if the warmup is as long as the run, or reaches into the decay.

  Source: wsd arXiv:2404.06395 section 4.
  """
  if not isinstance(cfg.schedule, str):
    return cfg.schedule.learning_rate(peak, n_steps)
  if cfg.warmup_steps >= n_steps:
    raise ValueError(
      f'Optimizer.warmup_steps = {cfg.warmup_steps} leaves nothing of '
      f'{n_steps} steps; use at most {n_steps - 1}, or raise LoopConfig.n_steps'
    )
  # The first step has rate peak / warmup, not 0, or it would be wasted.
  warmup = optax.linear_schedule(
    peak / max(cfg.warmup_steps, 1), peak, max(cfg.warmup_steps - 1, 1)
  )
  n_after = n_steps - cfg.warmup_steps
  n_decay = n_after
  if cfg.schedule == 'wsd':
    n_decay = n_steps - decay_start(cfg, n_steps)
    if n_decay > n_after:
      raise ValueError(
        f'warmup_steps {cfg.warmup_steps} and a decay over {n_decay} steps, '
        f'decay_share {cfg.decay_share}, do not fit into {n_steps} steps; use '
        f'at most warmup_steps {n_steps - n_decay}, or '
        f'decay_share {n_after / n_steps:.3g}'
      )
  line = optax.linear_schedule(
    peak, cfg.final_share * peak, n_decay, n_after - n_decay
  )
  decay = {
    'cosine': optax.cosine_decay_schedule(peak, n_decay, cfg.final_share),
    'linear': line,
    'wsd': line,
    'constant': optax.constant_schedule(peak),
  }[cfg.schedule]
  return optax.join_schedules([warmup, decay], [cfg.warmup_steps])


def decay_start(cfg: Optimizer, n_steps: int) -> int:
  """Steps of a run before wsd's decay: from there it can be made longer."""
  return n_steps - max(1, round(cfg.decay_share * n_steps))


def starts_alike(
  cfg: AnyOptimizer, n_steps: int, other_n_steps: int, n_done: int
) -> bool:
  """Whether runs of two lengths have the same rates in their first steps.

  Of a rule of a user's own the rates are not known, and taken for others.
  """
  if n_steps == other_n_steps or not n_done:
    return True
  if not isinstance(cfg, Optimizer):
    return False
  rates, others = (
    jax.vmap(learning_rate(cfg, 1.0, n))(jnp.arange(n_done))
    for n in (n_steps, other_n_steps)
  )
  return bool(jnp.array_equal(rates, others))


def restart_schedule(state: optax.OptState) -> optax.OptState:
  """Set the counters of the schedule to 0; moments stay what they are."""

  def is_counter(x):
    return isinstance(x, optax.ScaleByScheduleState)

  def one(x):
    return jax.tree.map(jnp.zeros_like, x) if is_counter(x) else x

  return jax.tree.map(one, state, is_leaf=is_counter)


def make(
  cfg: AnyOptimizer, n_steps: int, lines: params.Table
) -> optax.GradientTransformation:
  """Build the gradient transformation of a run.

  Args:
    cfg: the optimizer.
    n_steps: steps of the whole run.
    lines: of the parameters that are trained: which are decayed, and of which
      matrices Muon takes which axes.

  Returns:
    Clipping by global norm, then the rule of each parameter.

  Source: Muon as in optax.contrib, with updates scaled by
  sqrt(max(1, fan_out / fan_in)); AdamW arXiv:1711.05101.
  """
  if not isinstance(cfg, Optimizer):
    return cfg.transformation(n_steps, lines)
  rate = learning_rate(cfg, cfg.peak_lr, n_steps)
  adamw = optax.adamw(
    rate,
    b1=cfg.b1,
    b2=cfg.b2,
    weight_decay=cfg.weight_decay,
    mask=_by_line(lambda param: 'decay' in param.uses, lines),
  )
  tx = adamw
  if cfg.matrices != 'adamw':
    matrix_rate = learning_rate(cfg, cfg.matrix_lr, n_steps)
    axes = _by_line(
      lambda param: contrib.MuonDimensionNumbers(param.inputs, param.outputs),
      lines,
    )
    orthogonal = contrib.muon(
      matrix_rate,
      weight_decay=cfg.weight_decay,
      muon_weight_dimension_numbers=axes,
    )
    labels = _by_line(
      lambda param: 'muon' if 'muon' in param.uses else 'adamw', lines
    )
    tx = optax.partition({'muon': orthogonal, 'adamw': adamw}, labels)
  if cfg.clip_norm:
    tx = optax.chain(optax.clip_by_global_norm(cfg.clip_norm), tx)
  return tx


def _by_line(one: Callable[[params.Param], Any], lines: params.Table):
  """From a tree of parameters, or what mirrors it, to one value for each."""

  def by_path(key_path, _):
    path = jax.tree_util.keystr(key_path, simple=True, separator='/')
    return one(lines[path])

  return functools.partial(jax.tree_util.tree_map_with_path, by_path)
