"""How the run in a folder goes on: as before, longer, or rewound and otherwise.

A run is made longer by a raised `LoopConfig.n_steps`. Where the schedule gives
the steps done the same rates in a run of the new length, as wsd's constant part
does, it goes on bit for bit as if it had been planned so; else the rate warms
up anew and follows the schedule over the steps that are left.

A run is rewound by `LoopConfig.rewind_to`, once whenever that, the optimizer or
`LoopConfig.skip_batches` changes: from the checkpoint of that step it goes on
with the new settings, the optimizer's moments as they were. Later checkpoints,
and a copy of the metrics, are set aside.

Both are noted in run.json, under `changes`.
"""

import dataclasses
import functools
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from llm_jax import locks, record
from llm_jax.optim import optimizers
from llm_jax.train import best_model, checkpoint, metrics

ASIDE = 'set_aside'


class _Schedule(NamedTuple):
  step: int  # that it is used from
  start: int  # behind which its warmup begins, at most step
  n_steps: int  # of the whole run


def updates_a_step(cfg: Any) -> int:
  """Of the optimizer; more than one where a recipe has `updates`, as RL has."""
  updates = getattr(cfg, 'updates', None)
  return updates.n_a_step if updates else 1


def find(workdir: str, cfg: Any) -> record.Continuation:
  """How a run goes on with a configuration, from what lies in its folder.

  Args:
    workdir: folder of the stage; if it is there, other processes are kept out
      of it, and nothing is changed.
    cfg: of the recipe, with loop and optimizer.

  Raises:
    ValueError: if a change has no checkpoint to go on from, comes too late, or
      leaves no room for the warmup.
  """
  if os.path.isdir(workdir):
    locks.lock(pathlib.Path(workdir))
  loop = cfg.loop
  if not os.path.exists(os.path.join(workdir, 'run.json')):
    if loop.rewind_to:
      raise ValueError(
        f'LoopConfig.rewind_to = {loop.rewind_to}, but there is no run in '
        f'{workdir}; leave it out, or give the --workdir of the run'
      )
    return record.Continuation()
  old = record.read(workdir)
  changed = record.changed_settings(old, cfg)
  before = old['config'].get('loop')
  if before is None:  # of another stage, which `record.begin` refuses
    return record.Continuation()
  steps = checkpoint.saved_steps(checkpoint.steps_folder(workdir))
  tuned = {
    name: values
    for name, values in changed.items()
    if name.partition('.')[0] == 'optimizer' or name == 'loop.skip_batches'
  }
  is_asked = loop.rewind_to != before.get('rewind_to', 0)
  rewinds = bool(loop.rewind_to and (tuned or is_asked))
  if rewinds and loop.rewind_to not in steps:
    raise ValueError(
      f'LoopConfig.rewind_to = {loop.rewind_to}: of that step there is no '
      f'checkpoint in {workdir}, but of steps {steps}; use one of these '
      '(LoopConfig.keep_every keeps more of them)'
    )
  step = loop.rewind_to if rewinds else max(steps, default=0)
  schedules = _schedules(old, before['n_steps'])
  used = [s for s in schedules if s.step <= step][-1]
  accepted, remedy = dict(tuned) if rewinds else {}, ''
  if tuned and steps and not rewinds:
    remedy = (
      'another optimizer or other batches from some step on: set LoopConfig.'
      f'rewind_to to one of the steps {steps}; or '
    )
  if 'loop.n_steps' in changed:
    accepted['loop.n_steps'] = changed['loop.n_steps']
  elif not rewinds and used == schedules[-1]:
    return record.Continuation(used.start, remedy=remedy)
  if rewinds:
    _check_skipped(before.get('skip_batches', ()), loop, step)
  start, how = _start(cfg, used, step), 'as if planned for this length'
  if start != used.start:
    how = (
      'where the learning rate warms up anew and follows its schedule over the '
      'steps that are left'
    )
  elif rewinds:
    how = 'with the new settings; later checkpoints are set aside'
  note = {
    'step': step,
    'settings': accepted,
    'n_steps': loop.n_steps,
    'n_steps_before': used.n_steps,
    'schedule_from': start,
    'is_as_planned': bool(accepted) and start == used.start and not rewinds,
    'how': f'goes on from step {step}, {how}',
  }
  set_aside = functools.partial(_set_aside, workdir, step)
  return record.Continuation(
    start,
    note=note,
    prepare=set_aside if rewinds else None,
    remedy=remedy,
  )


def _schedules(old: Mapping[str, Any], n_steps: int) -> list[_Schedule]:
  """What the run followed, from which step on, without what was rewound."""
  changes = old.get('changes', [])
  first = changes[0]['n_steps_before'] if changes else n_steps
  found = [_Schedule(0, 0, first)]
  for x in changes:
    found = [s for s in found if s.step <= x['step']]
    found.append(_Schedule(x['step'], x['schedule_from'], x['n_steps']))
  return found


def _start(cfg: Any, used: _Schedule, step: int) -> int:
  """Where the schedule starts that the run follows behind a step."""
  n_steps = cfg.loop.n_steps
  if n_steps <= step:
    raise ValueError(
      f'LoopConfig.n_steps = {n_steps}, but {step} steps are done; use '
      'more, or LoopConfig.rewind_to'
    )
  k = updates_a_step(cfg)
  counts = [k * (n - used.start) for n in (used.n_steps, n_steps, step)]
  if optimizers.starts_alike(cfg.optimizer, *counts):
    return used.start
  shape = f'the schedule of {type(cfg.optimizer).__name__}'
  if n_steps < used.n_steps:
    raise ValueError(
      f'LoopConfig.n_steps = {n_steps} instead of {used.n_steps}: in a run of '
      f'that length {shape} would have given the {step} steps done other '
      'rates; raise it, or rewind to a step before'
    )
  try:
    if isinstance(cfg.optimizer, optimizers.Optimizer):
      n_left = k * (n_steps - step)
      optimizers.learning_rate(cfg.optimizer, peak=1.0, n_steps=n_left)
  except ValueError as error:
    raise ValueError(
      f'LoopConfig.n_steps = {n_steps} instead of {used.n_steps}: {shape} '
      f'starts anew behind step {step}, but {error}; or raise it further'
    ) from None
  return step


def _check_skipped(before: Any, loop: Any, step: int) -> None:
  """Refuse to leave out, or take in, batches that the run has read."""
  old = dataclasses.replace(
    loop, skip_batches=tuple((first, last) for first, last in before)
  )
  for done in range(1, step + 1):
    was, now = old.batch_number(done), loop.batch_number(done)
    if was != now:
      raise ValueError(
        f'LoopConfig.skip_batches = {loop.skip_batches}: step {done} has read '
        f'batch {was} and would read {now}, but the run goes on behind step '
        f'{step}; rewind to before step {done}, or leave batches up to {was} '
        'as they were'
      )


def _set_aside(workdir: str, step: int) -> None:
  """Move what is later than a step out of the way of a run that goes on there.

  The lines of metrics stay too, as a copy; Writer forgets them.
  """
  parent = os.path.join(workdir, ASIDE)
  os.makedirs(parent, exist_ok=True)
  aside = os.path.join(parent, str(len(os.listdir(parent)) + 1))
  os.makedirs(aside)
  for name in (metrics.METRICS, metrics.SAMPLES, metrics.ROLLOUTS):
    if os.path.exists(os.path.join(workdir, name)):
      shutil.copy(os.path.join(workdir, name), aside)
  if jax.process_index():
    return
  for part in ('', best_model.FOLDER):
    folder = checkpoint.steps_folder(workdir, part)
    target = os.path.join(aside, os.path.relpath(folder, workdir))
    for later in checkpoint.saved_steps(folder):
      if later > step:
        os.makedirs(target, exist_ok=True)
        shutil.move(os.path.join(folder, str(later)), target)
