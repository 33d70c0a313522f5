"""The loop of every training stage, whose recipe sees every step.

`Loop.train` is a generator, for batches that do not depend on the parameters:
the recipe evaluates or samples when it wants. Metrics are fetched one step
late, so that the device never waits for the host, and batches are placed before
their step, so that it does not wait for data. A recipe whose batches do depend
on the parameters counts `Loop.steps` and updates by itself.
"""

import contextlib
import dataclasses
import faulthandler
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping

import jax
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from llm_jax import dataclass_json, record, types
from llm_jax.data import prefetch
from llm_jax.parallel import device_mesh
from llm_jax.train import checkpoint, metrics, monitoring, stopping, train_state

MAX_SKIPPED = 10  # non-finite steps in a row that end a run


@dataclasses.dataclass(frozen=True)
class LoopConfig:
  """How long a run is, how often it saves, and what is seen of it.

  Of a run that has begun n_steps may be raised, and with rewind_to batches be
  left out and the optimizer be changed; see continuation.py.
  """

  n_steps: int = 300  # updates of the whole run
  save_every: int = 100  # steps between checkpoints
  watch: monitoring.Watch = monitoring.Watch()
  keep_every: int = 0  # steps between checkpoints that stay; 0: the newest do
  rewind_to: int = 0  # step of a checkpoint to go on from, once; 0: the newest
  skip_batches: tuple[tuple[int, int], ...] = ()  # (first, last), never read

  def __post_init__(self):
    dataclass_json.require_at_least(self, 'n_steps save_every', 1)
    dataclass_json.require_at_least(self, 'keep_every rewind_to', 0)
    for first, last in self.skip_batches:
      if not 1 <= first <= last:
        raise ValueError(
          f'LoopConfig.skip_batches = {self.skip_batches}: ({first}, {last}) '
          'is no range; write the first and the last batch of each, from 1 on, '
          'as in ((305, 314),)'
        )

  def batch_number(self, step: int) -> int:
    """The batch that a step reads: the step, but for those that are skipped.

    >>> cfg = LoopConfig(skip_batches=((3, 4), (7, 7)))
    >>> [cfg.batch_number(step) for step in range(1, 6)]
    [1, 2, 5, 6, 8]

    Args:
      step: from 1 on.
    """
    number, last_seen = step, 0
    for first, last in sorted(self.skip_batches):
      first = max(first, last_seen + 1)  # ranges may overlap
      if first <= number:
        number += max(0, last + 1 - first)
        last_seen = max(last_seen, last)
    return number


@dataclasses.dataclass
class Loop:
  """What every loop shares: the console, metrics, checkpoints, its end.

  SIGTERM saves and ends the process with exit code 0; sent to one process of
  many it ends all of them after the same step. Ctrl-C does the same with exit
  code 130. A step that takes longer than Watch.hang_s ends the process with
  every thread's stack. Used as a context: leaving it waits until everything is
  on disk.
  """

  cfg: LoopConfig  # lengths and intervals
  workdir: str  # folder of the stage
  mesh: Mesh  # to place batches on
  writer: metrics.Writer  # closed when the loop is left
  kept_step: int = 0  # is saved, and its checkpoint stays; 0: none
  # From a step, counted from 1, to its learning rate, which is written too.
  rate_fn: Callable[[int], float] | None = None

  def __post_init__(self):
    self._profile = contextlib.ExitStack()  # closed behind its last step
    self._signals = stopping.Listener()
    self._stops = ''  # the signal that ends the run after this step
    self._on_exit = contextlib.ExitStack()

  def __enter__(self) -> 'Loop':
    on_exit = self._on_exit  # the last one in is the first one out
    on_exit.callback(self.writer.close)
    on_exit.callback(faulthandler.cancel_dump_traceback_later)
    on_exit.enter_context(self._signals.listening())
    self._checkpointer = checkpoint.Checkpointer(
      self.workdir, keep_every=self.cfg.keep_every, kept_step=self.kept_step
    )
    on_exit.callback(self._checkpointer.close)
    on_exit.enter_context(self._profile)
    self._draw = on_exit.enter_context(
      monitoring.progress_bar(self.cfg.watch, self.cfg.n_steps)
    )
    return self

  def __exit__(self, *_) -> None:
    self._on_exit.close()

  def train(
    self,
    state: train_state.TrainState,
    update_fn: Callable,
    batch_fn: Callable[[int], types.Batch],
    flops_per_token: float = 0.0,
  ) -> Iterator[tuple[int, train_state.TrainState]]:
    """Train from the state's step to n_steps.

    After each update the recipe gets its turn; then, if it is due, the state
    is saved, so that a resume redoes neither the step nor what the recipe did
    after it.

    Args:
      state: where to start; it is donated.
      update_fn: from train/update.py.
      batch_fn: from a step, counted from 0, to its global batch.
      flops_per_token: operations of one token's training, for MFU.

    Yields:
      (updates done, state); the state may not be kept past the next step.
      metrics.jsonl gets one line a step: loss, metrics, tokens a second, time
      left, and the seconds that the step waited for its batch.

    Raises:
      FloatingPointError: after MAX_SKIPPED steps in a row that were not finite.
    """
    meter = monitoring.Meter(self.cfg.watch, flops_per_token)
    pending: tuple[int, int, types.Metrics] | None = None

    def write_pending() -> None:
      """Fetch a step's metrics only when the next step is under way."""
      nonlocal pending
      if pending is not None:
        step, n_tokens, found = pending
        values = {k: float(v) for k, v in jax.device_get(found).items()}
        n_left = self.cfg.n_steps - step
        self.write(step, values | meter.lap(n_tokens, n_left, self.mesh.size))
      pending = None

    def make(step: int) -> types.Batch:
      number = self.cfg.batch_number(step)
      return device_mesh.put_batch(self.mesh, batch_fn(number - 1))

    n_done = int(jax.device_get(state.step))
    batches = prefetch.ahead(make, range(n_done + 1, self.cfg.n_steps + 1))
    with self, contextlib.closing(batches):
      for step in self.steps(n_done):
        batch, wait_s = next(batches)
        state, found = update_fn(state, batch)
        write_pending()
        n_tokens = math.prod(batch['inputs_BT'].shape)
        pending = step, n_tokens, found | {'data_wait_s': wait_s}
        started = time.monotonic()
        yield step, state
        meter.pause(time.monotonic() - started)
        if self.is_due(step):
          write_pending()
          started = time.monotonic()
          self.save(step, state)
          meter.pause(time.monotonic() - started)

  def steps(self, n_done: int) -> Iterator[int]:
    """Count the steps that are left, from n_done + 1 on."""
    for step in range(n_done + 1, self.cfg.n_steps + 1):
      # Ends the process unless called again in time: where one of many hangs,
      # the others wait for it forever. 2: sys.stderr may be no file.
      hang_s = self.cfg.watch.hang_s
      faulthandler.dump_traceback_later(hang_s, exit=True, file=2)
      if step == self.cfg.watch.profile_first:
        self._start_profile()
      with jax.profiler.StepTraceAnnotation('train', step_num=step):
        yield step
      self._draw(step)

  def _start_profile(self) -> None:
    """Trace steps, for xprof or ui.perfetto.dev."""
    watch, folder = self.cfg.watch, os.path.join(self.workdir, 'profile')
    first = watch.profile_first
    last = first + watch.profile_steps - 1
    logging.info('steps %d to %d are profiled in %s', first, last, folder)
    self._profile.enter_context(
      jax.profiler.trace(folder, create_perfetto_trace=True)
    )

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Append one step's numbers, and print them now and then.

    Args:
      step: updates done.
      values: by name; 'skipped' counts steps in a row that were not finite.

    Raises:
      FloatingPointError: if MAX_SKIPPED steps in a row were skipped.
    """
    watch = self.cfg.watch
    if step == watch.profile_first + watch.profile_steps - 1:
      self._profile.close()
    n_skipped = values.get('skipped', 0)
    if n_skipped:
      logging.warning('step %d is skipped, it is not finite: %s', step, values)
    if self.rate_fn is not None:
      values = {**values, 'learning_rate': self.rate_fn(step)}
    # JSON has no NaN.
    finite = {k: v if math.isfinite(v) else None for k, v in values.items()}
    self.writer.metrics(step, finite)
    if n_skipped >= MAX_SKIPPED:
      self._checkpointer.wait()
      saved = checkpoint.saved_steps(checkpoint.steps_folder(self.workdir))
      first = self.cfg.batch_number(step - MAX_SKIPPED + 1)
      batches = first, self.cfg.batch_number(step)
      raise FloatingPointError(
        f'step {step}: {MAX_SKIPPED} steps in a row had a loss or gradient '
        f'that is not finite (loss {values["loss"]}). Parameters are as before '
        'them. To go on otherwise give the same command with a lower learning '
        f'rate, LoopConfig.rewind_to = one of the saved steps {saved}, and '
        f'without these batches LoopConfig.skip_batches = ({batches},)'
      )
    n_steps = self.cfg.n_steps
    if step % watch.log_every == 0 or step == n_steps:
      logging.info(monitoring.line(step, n_steps, values))

  def is_due(self, step: int) -> bool:
    """Whether the state is to be saved; every process asks once a step."""
    self._stops = self._signals.heard
    if (
      jax.process_count() > 1
      and multihost_utils.reached_preemption_sync_point(step)
    ):
      self._stops = 'SIGTERM'
    # A signal that comes behind this line is heard at the next step.
    is_last = step == self.cfg.n_steps
    is_regular = not step % self.cfg.save_every or step == self.kept_step
    return bool(self._stops) or is_last or is_regular

  def save(self, step: int, state: train_state.TrainState) -> None:
    """Save; if the process was told to stop, end it.

    Args:
      step: updates done, all of them written.
      state: the state after them; it may be donated afterwards.
    """
    self.writer.sync()  # first: a resume never lacks a line
    self._checkpointer.save(state)
    if not jax.process_index():
      record.tick(self.workdir)
    if self._stops and step < self.cfg.n_steps:
      self._checkpointer.wait()
      logging.info(
        '%s: saved step %d; the same command resumes', self._stops, step
      )
      is_terminal = self._stops == 'Ctrl-C'
      raise SystemExit(stopping.INTERRUPTED if is_terminal else 0)
