"""The loop of the stages whose batches do not depend on the parameters.

A generator: the recipe sees every step and evaluates or samples when it
wants. Metrics are fetched one step late, so that the device never waits for
the host, and batches are placed before their step, so that it does not wait
for data. Does not build batches and does not evaluate.
"""

import contextlib
import dataclasses
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping

import jax
from absl import logging
from jax.sharding import Mesh

from llm_jax import record, types
from llm_jax.data import prefetch
from llm_jax.parallel import mesh as mesh_lib
from llm_jax.train import checkpoint
from llm_jax.train import metrics as metrics_lib
from llm_jax.train import state as state_lib

MAX_SKIPPED = 10  # non-finite steps in a row that end a run


@dataclasses.dataclass(frozen=True)
class LoopConfig:
  """How long a run is and how often it logs and saves."""

  n_steps: int = 300
  log_every: int = 10  # steps between lines on the console
  save_every: int = 100  # steps between checkpoints

  def __post_init__(self):
    for name in ('n_steps', 'log_every', 'save_every'):
      if getattr(self, name) < 1:
        raise ValueError(
          f'LoopConfig.{name} = {getattr(self, name)}; use 1 or more'
        )


def steps(
  cfg: LoopConfig,
  workdir: str,
  state: state_lib.TrainState,
  update: Callable,
  batch_fn: Callable[[int], types.Batch],
  mesh: Mesh,
  writer: metrics_lib.Writer,
) -> Iterator[tuple[int, state_lib.TrainState]]:
  """Train from the state's step to n_steps.

  After each update the recipe gets its turn; then, if it is due, the state
  is saved, so that a resume redoes neither the step nor what the recipe did
  after it. SIGTERM saves and ends the process with exit code 0.

  Args:
    cfg: lengths and intervals.
    workdir: folder of the stage.
    state: where to start; it is donated.
    update: from train/update.py.
    batch_fn: from a step, counted from 0, to its global batch.
    mesh: to place batches on.
    writer: gets one line a step: loss, metrics, tokens so far, wall time,
      and the seconds that the step waited for its batch.

  Yields:
    (updates done, state); the state may not be kept past the next step.

  Raises:
    FloatingPointError: after MAX_SKIPPED steps in a row that were not finite.
  """
  first, start = int(state.step), time.monotonic()
  n_tokens = 0
  pending: tuple[int, types.Metrics] | None = None

  def write_pending() -> None:
    """Fetch a step's metrics only when the next step is under way."""
    nonlocal pending
    if pending is not None:
      step, metrics = pending
      seconds = time.monotonic() - start
      values = {k: float(v) for k, v in jax.device_get(metrics).items()}
      values['tokens_per_s'] = n_tokens / seconds
      values['eta_s'] = (cfg.n_steps - step) * seconds / (step - first)
      write(cfg, writer, step, values)
    pending = None

  def make(step: int) -> types.Batch:
    return mesh_lib.put_batch(mesh, batch_fn(step - 1))

  todo = range(first + 1, cfg.n_steps + 1)
  batches = prefetch.ahead(make, todo)
  with Saving(cfg, workdir, writer) as saving, contextlib.closing(batches):
    for step, (batch, wait_s) in zip(todo, batches, strict=True):
      state, metrics = update(state, batch)
      write_pending()
      n_tokens += math.prod(batch['inputs_BT'].shape)
      pending = step, {**metrics, 'data_wait_s': wait_s}
      yield step, state
      if saving.is_due(step):
        write_pending()
      saving.after(step, state)


class Saving:
  """Saves a run's state when it is due, and when the process is told to stop.

  Used as a context: leaving it waits until everything is on disk.
  """

  def __init__(self, cfg: LoopConfig, workdir: str, writer: metrics_lib.Writer):
    self._cfg = cfg
    self._workdir = workdir
    self._writer = writer
    self._stop_requested = False

  def __enter__(self) -> 'Saving':
    self._checkpointer = checkpoint.Checkpointer(self._workdir)
    self._previous = signal.signal(signal.SIGTERM, self._request_stop)
    return self

  def __exit__(self, *_) -> None:
    signal.signal(signal.SIGTERM, self._previous)
    self._checkpointer.close()

  def _request_stop(self, *_) -> None:
    self._stop_requested = True

  def is_due(self, step: int) -> bool:
    """Whether the state after this step will be saved."""
    return (
      step % self._cfg.save_every == 0
      or step == self._cfg.n_steps
      or self._stop_requested
    )

  def after(self, step: int, state: state_lib.TrainState) -> None:
    """Save if it is due; after a SIGTERM end the process with exit code 0.

    Args:
      step: updates done.
      state: the state after them; it may be donated afterwards.
    """
    if not self.is_due(step):
      return
    self._writer.sync()  # first: a resume never lacks a line
    self._checkpointer.save(state)
    record.tick(self._workdir)
    if self._stop_requested and step < self._cfg.n_steps:
      logging.info('SIGTERM: saved step %d; the same command resumes', step)
      raise SystemExit(0)


def write(
  cfg: LoopConfig,
  writer: metrics_lib.Writer,
  step: int,
  values: Mapping[str, float],
) -> None:
  """Append one step's numbers, and print them now and then.

  Args:
    cfg: how often a line is printed.
    writer: of metrics.jsonl.
    step: updates done.
    values: by name; 'skipped' counts steps in a row that were not finite.

  Raises:
    FloatingPointError: if MAX_SKIPPED steps in a row were skipped.
  """
  n_skipped = values.get('skipped', 0)
  if n_skipped:
    logging.warning('step %d is skipped, it is not finite: %s', step, values)
  # JSON has no NaN.
  finite = {k: v if math.isfinite(v) else None for k, v in values.items()}
  writer.metrics(step, finite)
  if n_skipped >= MAX_SKIPPED:
    raise FloatingPointError(
      f'step {step}: {MAX_SKIPPED} steps in a row had a loss or gradient that '
      f'is not finite (loss {values["loss"]}); lower the learning rate or look '
      'at the data of these steps. Parameters are as before them'
    )
  if step % cfg.log_every == 0 or step == cfg.n_steps:
    shown = ' | '.join(f'{k} {v:.4g}' for k, v in values.items())
    logging.info('step %d/%d | %s', step, cfg.n_steps, shown)
