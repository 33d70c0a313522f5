"""Keeps the honest record of a stage: what ran, on what, for how long.

A stage's folder holds `run.json` (what runs, and with which versions),
`config.txt` (the same configuration for reading), `clock.json` (working
seconds, which survive a kill) and, once finished, `done.json`. In the folder of
a run that does another one again lies that one's run.json as `rerun_of.json`.

From `begin` to `finish` the folder is locked, as two processes would store each
line twice. Imports no JAX: devices and mesh are handed in by the recipe.
"""

import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from absl import logging

from llm_jax import dataclass_json, files

_VERSIONED = (
  'jax jaxlib flax optax orbax-checkpoint array-record tensorflow-datasets '
  'chex gin-config numpy pyarrow tiktoken'
)

_OURS = ('llm_jax', 'experiments', '__main__')
_ENVIRONMENT = ('JAX_PLATFORMS', 'LIBTPU_INIT_ARGS', 'XLA_FLAGS')
# A part of this name says what is shown of a run, not what is computed, so a
# resume may change it.
_SEEN = 'watch'


def begin(
  workdir: files.Name,
  stage: str,
  cfg: Any,
  inputs: Mapping[str, str] | None = None,
  extra: Mapping[str, Any] | None = None,
) -> bool:
  """Locks a stage's folder and opens it, or recognises the run that is in it.

  Args:
    workdir: the stage's folder; made if missing.
    stage: the stage's name, such as `pretrain`.
    cfg: the recipe's configuration.
    inputs: fingerprint or sha256 of each artifact that the stage reads.
    extra: what only the recipe knows (devices, mesh), merged into run.json.

  Returns:
    True if the stage is finished there with the same configuration and
    inputs, so that nothing is left to do.

  Raises:
    ValueError: if the folder holds a run of another stage, configuration or
      inputs; every difference is named.
    BlockingIOError: if another process works in the folder; it is named.
  """
  workdir = pathlib.Path(workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  is_new = files.lock(workdir)
  try:
    files.remove_leftovers(workdir)
    return _open(workdir, stage, cfg, inputs=inputs or {}, extra=extra or {})
  except BaseException:
    if is_new:
      files.unlock(workdir)
    raise


def _open(workdir: pathlib.Path, stage: str, cfg: Any, inputs, extra) -> bool:
  config = dataclass_json.to_dict(cfg)
  inputs = {**inputs, **_own_code(cfg)}
  wanted = {'stage': stage, 'config': config, 'inputs': inputs}
  is_done = (workdir / 'done.json').exists()
  if (workdir / 'run.json').exists():
    record = files.read_json(workdir / 'run.json')
    _refuse_other_run(f'{workdir} holds another run', record, wanted)
    if is_done:
      return True
    record['config'] = config
    record['resumed'].append({'time': _now(), **_git()})
  elif is_done:
    raise ValueError(
      f'{workdir} holds done.json but no run.json; delete the folder or give '
      'another --workdir'
    )
  else:
    record = {
      **wanted,
      'start': _now(),
      **_git(),
      'argv': sys.argv,
      'cwd': os.getcwd(),
      'environment': {k: os.environ.get(k) for k in _ENVIRONMENT},
      'versions': _versions(),
      'seeds': {
        name: value
        for name, value in dataclass_json.leaves(config).items()
        if name.split('.')[-1] == 'seed'
      },
      **extra,
      'resumed': [],
    }
    if (workdir / 'rerun_of.json').exists():
      _compare_with_earlier(files.read_json(workdir / 'rerun_of.json'), record)
  with files.replacing(workdir / 'config.txt') as file:
    file.write(dataclass_json.explain(cfg).encode() + b'\n')
  files.write_json(workdir / 'run.json', record)
  clock = workdir / 'clock.json'
  seconds = files.read_json(clock)['seconds'] if clock.exists() else 0.0
  files.write_json(clock, {'seconds': seconds, 'mark': time.monotonic()})
  return False


def rerun(workdir: files.Name, earlier: Mapping[str, Any]) -> None:
  """Says that a folder's run, not yet begun, does an earlier one again.

  `begin` then refuses another stage, configuration or inputs, and warns of
  another commit, version or machine, which may give other numbers.

  Args:
    workdir: the folder of the new run; made if missing.
    earlier: the earlier one's run.json.
  """
  workdir = pathlib.Path(workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  files.lock(workdir)
  files.write_json(workdir / 'rerun_of.json', earlier)


def tick(workdir: files.Name) -> float:
  """Stores the seconds worked so far, so that a kill loses only the rest.

  Returns:
    Working seconds of this stage, over all resumes.

  Raises:
    FileNotFoundError: if the stage was not begun.
  """
  path = pathlib.Path(workdir) / 'clock.json'
  clock, now = files.read_json(path), time.monotonic()
  seconds = clock['seconds'] + now - clock['mark']
  files.write_json(path, {'seconds': seconds, 'mark': now})
  return seconds


def finish(workdir: files.Name, summary: Mapping[str, Any]) -> None:
  """Marks a stage as finished, and lets other processes into its folder.

  Args:
    workdir: the stage's folder, opened by `begin`.
    summary: the stage's result in a few numbers, `tokens` among them where
      it counts tokens.
  """
  workdir = pathlib.Path(workdir)
  stage = files.read_json(workdir / 'run.json')['stage']
  seconds = round(tick(workdir), 3)
  files.write_json(
    workdir / 'done.json', {'stage': stage, 'seconds': seconds, **summary}
  )
  files.unlock(workdir)


def _refuse_other_run(
  what: str, old: Mapping[str, Any], new: Mapping[str, Any]
) -> None:
  changes = _changes(old, new, ('stage', 'config', 'inputs'))
  if changes:
    raise ValueError(
      f'{what} ({"; ".join(changes)}); give another --workdir or delete this '
      'one'
    )


def _compare_with_earlier(old: Mapping[str, Any], new: Mapping[str, Any]):
  _refuse_other_run('the run to do again is another one', old, new)
  own = {'stage', 'config', 'inputs', 'argv', 'start', 'cwd', 'resumed'}
  changes = _changes(old, new, [name for name in new if name not in own])
  if old.get('git_dirty') or new['git_dirty']:
    changes.append('files differ from the commit')
  if changes:
    logging.warning('numbers may differ from the earlier run: %s', changes)


def _changes(
  old: Mapping[str, Any], new: Mapping[str, Any], parts: Iterable[str]
) -> list[str]:
  """Each leaf of these parts that is not the same, with both values."""
  changes = []
  for part in parts:
    # JSON has read lists where the new record may hold other sequences.
    wanted = json.loads(json.dumps(new[part]))
    before = dataclass_json.leaves(old.get(part, {}))
    after = dataclass_json.leaves(wanted)
    for name in [*before, *(name for name in after if name not in before)]:
      if _SEEN in name.split('.'):
        continue
      was, is_now = before.get(name, 'absent'), after.get(name, 'absent')
      if was != is_now:
        label = ' '.join(filter(None, [part, name]))
        changes.append(f'{label}: {was!r} -> {is_now!r}')
  return changes


def _own_code(cfg: Any) -> dict[str, str]:
  """sha256 of each file with a class of a user's own in a configuration.

  The file that defines the class and those of its bases count, and not what
  these import besides.
  """
  found = {}
  for field in dataclasses.fields(cfg):
    value = getattr(cfg, field.name)
    if not dataclasses.is_dataclass(value):
      continue
    found |= _own_code(value)
    for cls in type(value).__mro__:
      path = getattr(sys.modules.get(cls.__module__), '__file__', None)
      package = cls.__module__.partition('.')[0]
      if path and package not in (*sys.stdlib_module_names, *_OURS):
        found[f'import {cls.__module__}'] = files.sha256(path)
  return found


def _now() -> str:
  return time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())


def _versions() -> dict[str, str]:
  versions = {
    'python': platform.python_version(),
    'platform': platform.platform(),
  }
  for name in _VERSIONED.split():
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      versions[name] = 'not installed'
  return versions


def _git() -> dict[str, Any]:
  """The commit that runs, and whether the files differ from it."""
  root = pathlib.Path(__file__).resolve().parent.parent

  def ask(*arguments: str) -> str | None:
    try:
      done = subprocess.run(
        ['git', '-C', str(root), *arguments],
        capture_output=True,
        text=True,
        timeout=20,
      )
    except (OSError, subprocess.TimeoutExpired):
      return None
    return done.stdout.strip() if done.returncode == 0 else None

  changed = ask('status', '--porcelain')
  return {
    'git_sha': ask('rev-parse', 'HEAD') or 'unknown',
    'git_dirty': None if changed is None else bool(changed),
  }
