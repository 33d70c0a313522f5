"""What is seen of a run while it trains.

A line now and then, a progress bar on a terminal, TensorBoard and Weights &
Biases as views of metrics.jsonl, a profile of chosen steps. None of it changes
what is computed, and none of it waits for the device.
"""

import collections
import contextlib
import dataclasses
import datetime
import hashlib
import importlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import tqdm
from absl import logging

from llm_jax import dataclass_json, files
from llm_jax.train import hardware

_VIEWS = ('tensorboard', 'wandb')
_LEAST_WAIT_S = 1e-3  # a shorter one is no wait, and not shown
# How the line shows a metric, in this order; others follow by their names.
_SHOWN = {
  'loss': 'loss {:.4f}',
  'bits_per_byte': '{:.3f} bits/byte',
  'tokens_per_s': '{:,.0f} tokens/s',
  'mfu': 'MFU {:.1%}',
  'grad_norm': 'grad norm {:.3g}',
  'data_wait_s': 'data wait {:.2g} s',
}


class View(NamedTuple):
  """Another place where the lines of metrics.jsonl go."""

  write: Callable[[int, Mapping[str, Any]], Any]  # a step and its numbers
  flush: Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Watch:
  """What is shown and kept beside metrics.jsonl; a resume may change it."""

  log_every: int = 10  # steps between lines on the console
  progress_bar: bool = True  # where the console is a terminal
  views: tuple[str, ...] = ()  # of metrics.jsonl: 'tensorboard', 'wandb'
  profile_first: int = 0  # first step of a profile; 0: none
  profile_steps: int = 5  # steps that it lasts
  peak_tflops: float = 0.0  # of one device, for MFU; 0: see hardware.py
  hang_s: float = 1800.0  # seconds that a step may take, compilation included

  def __post_init__(self):
    dataclass_json.require_at_least(self, 'log_every profile_steps', 1)
    dataclass_json.require_at_least(self, 'profile_first peak_tflops', 0)
    if self.hang_s <= 0:
      raise ValueError(f'Watch.hang_s = {self.hang_s} seconds; use 1800.0')
    for name in self.views:
      if name not in _VIEWS:
        raise ValueError(
          f'Watch.views names {name!r}; use {" or ".join(_VIEWS)}'
        )


# What only metrics.jsonl holds, or the line of a step of RL has no end.
_FILED = re.compile(
  'min_|max_|clip_|pass_at_|drawn_|sampled_|trained_|verifier_|score_|value_clip'
  '|mean_ratio|mean_logp|learning_rate'
)


def line(step: int, n_steps: int, values: Mapping[str, float]) -> str:
  """A step's numbers as the console shows them.

  >>> line(20, 100, {'eta_s': 80.4, 'loss': 2.5, 'tokens_per_s': 1234.0})
  'step 20/100 | loss 2.5000 | 1,234 tokens/s | ETA 0:01:20'
  >>> line(1, 9, {'accuracy': 0.5, 'max_ratio': 1.2})
  'step 1/9 | accuracy 0.5'
  """
  parts = [f'step {step}/{n_steps}']
  if values.get('data_wait_s', 0) < _LEAST_WAIT_S:
    values = {k: v for k, v in values.items() if k != 'data_wait_s'}
  parts += [s.format(values[k]) for k, s in _SHOWN.items() if k in values]
  hidden = {*_SHOWN, 'eta_s'} | ({'skipped'} - {k for k in values if values[k]})
  hidden |= set(filter(_FILED.match, values))
  parts += [f'{k} {v:.4g}' for k, v in values.items() if k not in hidden]
  if 'eta_s' in values:
    parts.append(f'ETA {datetime.timedelta(seconds=int(values["eta_s"]))}')
  return ' | '.join(parts)


class Meter:
  """Tokens a second, MFU and the time that is left.

  An interval in which the recipe evaluated or a checkpoint was taken says
  nothing of the step and counts for the time left only.
  """

  def __init__(self, cfg: Watch, flops_per_token: float):
    """Start without any interval.

    Args:
      cfg: log_every is also the number of steps that a rate is the mean of.
      flops_per_token: operations of one token's training; 0: MFU is not known.
    """
    self._timed = collections.deque(maxlen=cfg.log_every)
    device = jax.devices()[0]
    peak = cfg.peak_tflops * 1e12 or hardware.peak_flops(device.device_kind)
    self._flops_share = flops_per_token / peak if peak else 0.0
    self._n_seen, self._start, self._last, self._paused = 0, 0.0, 0.0, 0.0

  def pause(self, seconds: float) -> None:
    """Count seconds in which no step was under way."""
    self._paused += seconds

  def lap(self, n_tokens: int, n_left: int, n_devices: int) -> dict[str, float]:
    """End a step's interval; the first one, with its compilation, is none.

    Args:
      n_tokens: of the step, over all devices.
      n_left: steps behind it.
      n_devices: that take part.

    Returns:
      tokens_per_s, mfu where the peak is known, and eta_s; what is not known
      yet is left out.
    """
    now = time.monotonic()
    seconds, self._last = now - self._last, now
    paused, self._paused = self._paused, 0.0
    if not self._n_seen:
      self._start = now
    elif paused < max(0.01 * seconds, 1e-3):
      self._timed.append((n_tokens, seconds))
    values = {}
    if self._timed:
      n, seconds = map(sum, zip(*self._timed, strict=True))
      values['tokens_per_s'] = n / seconds
      if self._flops_share:
        values['mfu'] = n / seconds * self._flops_share / n_devices
    if self._n_seen:
      values['eta_s'] = (now - self._start) / self._n_seen * n_left
    self._n_seen += 1
    return values


@contextlib.contextmanager
def progress_bar(cfg: Watch, n_steps: int) -> Iterator[Callable[[int], Any]]:
  """Draw a bar under the log lines where the console is a terminal.

  Args:
    cfg: whether it is wanted.
    n_steps: of the run.

  Yields:
    A function of the steps done.
  """
  bar = tqdm.tqdm(
    total=n_steps,
    disable=None if cfg.progress_bar else True,  # None: if it is no terminal
    bar_format='{bar} {n_fmt}/{total_fmt}',
    miniters=1,
    leave=False,
  )

  def clear(*_) -> bool:  # as a filter: a log line takes the bar's place
    bar.clear()
    return True

  handler = logging.get_absl_handler()
  handler.addFilter(clear)
  try:
    with bar:
      yield lambda step: bar.update(step - bar.n)
  finally:
    handler.removeFilter(clear)


def open_views(cfg: Watch, workdir: str, resume_step: int) -> list[View]:
  """Open what shows metrics.jsonl elsewhere.

  Args:
    cfg: which views.
    workdir: folder of the stage, with its run.json.
    resume_step: step that the run continues from, -1 for a new one.

  Returns:
    The views; none in any process but the first.

  Raises:
    ValueError: if a view's package is not installed.
  """
  if jax.process_index():
    return []
  openers = {'tensorboard': _tensorboard, 'wandb': _wandb}
  return [openers[name](workdir, resume_step) for name in cfg.views]


def _tensorboard(workdir: str, resume_step: int) -> View:
  writer = _optional('tensorboardX', 'tensorboard').SummaryWriter(
    os.path.join(workdir, 'tensorboard'), purge_step=resume_step + 1
  )

  def write(step: int, values: Mapping[str, Any]) -> None:
    for name, value in _there(values):
      writer.add_scalar(name, value, step)

  return View(write, writer.flush)


def _wandb(workdir: str, resume_step: int) -> View:
  del resume_step  # what is logged again is the same, and ignored there
  run_record = files.read_json(os.path.join(workdir, 'run.json'))
  identity = f'{run_record["start"]} {os.path.abspath(workdir)}'
  run = _optional('wandb', 'wandb').init(
    project=os.environ.get('WANDB_PROJECT', 'llm_jax'),
    id=hashlib.sha256(identity.encode()).hexdigest()[:32],
    name=os.path.basename(os.path.abspath(workdir)),
    dir=workdir,
    config=run_record['config'],
    resume='allow',
  )
  return View(
    lambda step, values: run.log(dict(_there(values)), step=step), lambda: None
  )


def _there(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
  """The numbers without those that were not finite, which are None."""
  return ((k, v) for k, v in values.items() if v is not None)


def _optional(package: str, extra: str) -> Any:
  try:
    return importlib.import_module(package)
  except ModuleNotFoundError:
    raise ValueError(
      f'Watch.views names {extra!r}, which needs the package {package}; run '
      f"pip install '.[{extra}]'"
    ) from None
