"""metrics.jsonl, the one record of a run's numbers, and its texts.

These are samples.jsonl and, of RL, rollouts.jsonl. One JSON object a line;
other views are drawn from these files.
"""

import json
import math
import os
import pathlib
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

from llm_jax import files
from llm_jax.train import monitoring

METRICS = 'metrics.jsonl'
SAMPLES = 'samples.jsonl'
ROLLOUTS = 'rollouts.jsonl'


class Writer:
  """Appends lines to a run's files, and forgets what a resume will redo."""

  def __init__(
    self, workdir: str, resume_step: int, views: Sequence[monitoring.View] = ()
  ):
    """Open the files of a run.

    Args:
      workdir: folder of the stage.
      resume_step: step that the run continues from, -1 for a new one. Lines of
        later steps, and a last line that a crash cut short, are dropped, since
        the run will write them again.
      views: get every line of numbers too.
    """
    self._views = views
    self._workdir = workdir
    kept = {}
    for name in (METRICS, SAMPLES, ROLLOUTS):
      path = os.path.join(workdir, name)
      if name != ROLLOUTS or os.path.exists(path):
        kept[path] = [r for r in read(path) if r['step'] <= resume_step]
    # All are read before one is changed or opened.
    for path, lines in kept.items():
      files.write_jsonl(path, lines)
    self._files = {os.path.basename(path): _append_to(path) for path in kept}

  def metrics(self, step: int, values: Mapping[str, Any]) -> None:
    """Append one line of numbers to metrics.jsonl."""
    self._append(METRICS, {'step': step} | dict(values))
    for view in self._views:
      view.write(step, values)

  def sample(self, step: int, values: Mapping[str, Any]) -> None:
    """Append one line of text that the model wrote to samples.jsonl."""
    self._append(SAMPLES, {'step': step} | dict(values))

  def rollouts(self, step: int, lines: Iterable[Mapping[str, Any]]) -> None:
    """Append what a step of RL sampled to rollouts.jsonl."""
    if ROLLOUTS not in self._files:
      path = os.path.join(self._workdir, ROLLOUTS)
      self._files[ROLLOUTS] = _append_to(path)
    for line in lines:
      self._append(ROLLOUTS, {'step': step} | dict(line))

  def total(self, name: str) -> float:
    """The sum of a number over all lines of metrics.jsonl that have it."""
    lines = read(os.path.join(self._workdir, METRICS))
    return sum(line.get(name, 0) for line in lines)

  def last(self, name: str, count: int = 1) -> float:
    """The mean of the last numbers in metrics.jsonl of that name; NaN: none."""
    lines = read(os.path.join(self._workdir, METRICS))
    values = [line[name] for line in lines if line.get(name) is not None]
    return statistics.fmean(values[-count:]) if values else math.nan

  def sync(self) -> None:
    """Force what was written to disk: call before a checkpoint is taken."""
    with files.explain_full(pathlib.Path(self._workdir)):
      for f in self._files.values():
        f.flush()
        os.fsync(f.fileno())
    for view in self._views:
      view.flush()

  def close(self) -> None:
    """Sync and close the files; a second time does nothing."""
    self.sync()
    while self._files:
      self._files.popitem()[1].close()

  def _append(self, name: str, line: Mapping[str, Any]) -> None:
    with files.explain_full(pathlib.Path(self._workdir)):
      self._files[name].write(json.dumps(line) + '\n')
      self._files[name].flush()


def _append_to(path: str) -> TextIO:
  return open(path, 'a', encoding='utf-8')


def read(path: str) -> Iterator[dict[str, Any]]:
  """Read the whole lines of a JSONL file; none if it does not exist.

  Args:
    path: metrics.jsonl, samples.jsonl or rollouts.jsonl.

  Yields:
    One dict a line. A last line that a crash cut short is left out.

  Raises:
    ValueError: if another line is damaged, with the file, the line and what to
      do.
  """
  if not os.path.exists(path):
    return
  try:
    yield from files.read_jsonl(path, _line, torn_end=True)
  except ValueError as error:
    raise ValueError(
      f'{error}; remove that line, the run goes on without it'
    ) from error


def _line(row: dict[str, Any]) -> dict[str, Any]:
  if type(row.get('step')) is not int:
    raise ValueError(f'{str(row)[:40]!r} has no step')
  return row
