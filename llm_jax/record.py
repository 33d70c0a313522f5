"""Keeps the honest record of a stage: what ran, on what, for how long.

A stage's folder holds `run.json` (what runs, and with which versions),
`config.txt` (the same configuration for reading), `clock.json` (working
seconds, which survive a kill) and, once finished, `done.json`. In the folder of
a run that does another one again lies that one's run.json as `rerun_of.json`.

From `begin` to `finish` the folder is locked, as two processes would store each
line twice. Imports no JAX: devices and mesh are handed in by the recipe.
"""

import argparse
import contextlib
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from absl import logging

from llm_jax import dataclass_json, files, locks

_VERSIONED = (
  'llm_jax jax jaxlib flax optax orbax-checkpoint array-record '
  'tensorflow-datasets chex gin-config numpy pyarrow tiktoken'
)

_OURS = ('llm_jax', 'experiments', '__main__')
_ENVIRONMENT = ('JAX_PLATFORMS', 'LIBTPU_INIT_ARGS', 'XLA_FLAGS')
# Fields, and groups of them, that say how a result is computed, saved or shown,
# but not what it is (beyond the order of sums): a resume may change them.
_FREE = (
  *('watch', 'save_every', 'keep_every', 'rewind_to', 'evaluate_every'),
  *('sample_every', 'sample_prompts', 'sample_tokens', 'n_written'),
  *('mesh', 'micro_batch', 'loss_chunk', 'device_memory', 'n_threads'),
  *('remat', 'attention', 'unroll_layers'),
)


@dataclasses.dataclass(frozen=True)
class Continuation:
  """How a run goes on, where it may do so otherwise than it was begun."""

  schedule_from: int = 0  # step behind which the schedule starts
  # What run.json says of that, under `changes`, with the `settings` that are
  # other ones from here on, on purpose; None: nothing is otherwise.
  note: Mapping[str, Any] | None = None
  prepare: Callable[[], None] | None = None  # is called before run.json says so
  remedy: str = ''  # for settings that may not change as they do


_AS_BEGUN = Continuation()


def begin(
  workdir: files.Name,
  stage: str,
  cfg: Any,
  inputs: Mapping[str, str] | None = None,
  extra: Mapping[str, Any] | None = None,
  goes_on: Continuation = _AS_BEGUN,
) -> bool:
  """Locks a stage's folder and opens it, or recognises the run that is in it.

  Args:
    workdir: the stage's folder; made if missing.
    stage: the stage's name, such as `pretrain`.
    cfg: the recipe's configuration.
    inputs: fingerprint or sha256 of each artifact that the stage reads.
    extra: what only the recipe knows (devices, mesh), merged into run.json.
    goes_on: what is otherwise from here on; then a finished run goes on.

  Returns:
    True if the stage is finished there with the same configuration and
    inputs, so that nothing is left to do.

  Raises:
    ValueError: if the folder holds a run of another stage, configuration or
      inputs; every difference that matters is named.
    BlockingIOError: if another process works in the folder; it is named.
  """
  workdir = pathlib.Path(workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  is_new = locks.lock(workdir)
  try:
    files.remove_leftovers(workdir)
    wanted = {
      'stage': stage,
      'config': dataclass_json.to_dict(cfg),
      'inputs': {**(inputs or {}), **_own_code(cfg)},
    }
    if not (workdir / 'run.json').exists():
      record = _new(workdir, wanted, extra or {})
    else:
      record = read(workdir)
      before = dataclass_json.with_defaults(cfg, record['config'])
      record['config'] = before
      _refuse_other_run(
        f'{workdir} holds another run',
        record,
        wanted,
        accepted=goes_on.note['settings'] if goes_on.note else (),
        remedy=f'{goes_on.remedy}give another --workdir',
      )
      if goes_on.note is None and (workdir / 'done.json').exists():
        return True
      new = {'config': wanted['config'], **(extra or {})}
      _resume(workdir, record, new=new, goes_on=goes_on)
    with files.replacing(workdir / 'config.txt') as file:
      file.write(dataclass_json.explain(cfg).encode() + b'\n')
    files.write_json(workdir / 'run.json', record)
    tick(workdir, was_stopped=True)
    return False
  except BaseException:
    if is_new:
      locks.unlock(workdir)
    raise


def read(workdir: files.Name) -> dict[str, Any]:
  """The record in a stage's folder.

  Raises:
    FileNotFoundError: if there is none.
    ValueError: if it is damaged; says how the run goes on without it.
  """
  path = pathlib.Path(workdir) / 'run.json'
  try:
    record = files.read_json(path)
    if not {'stage', 'config', 'inputs', 'resumed'} <= record.keys():
      raise ValueError(f'{path} is no record of a run')
  except ValueError as error:
    raise ValueError(
      f'{error}. What lies beside it is whole: restore the file, or rename it, '
      'and done.json if there is one; the same command then writes a new one '
      'and goes on'
    ) from None
  return record


def changed_settings(
  record: Mapping[str, Any], cfg: Any
) -> dict[str, tuple[Any, Any]]:
  """Settings that make another result than a record's, by name.

  Args:
    record: from `read`.
    cfg: the configuration now.

  Returns:
    What each was, and what it is now.
  """
  config = dataclass_json.to_dict(cfg)
  before = dataclass_json.with_defaults(cfg, record['config'])
  return _differences(before, config, free=_FREE)


def _new(workdir: pathlib.Path, wanted, extra) -> dict[str, Any]:
  if (workdir / 'done.json').exists():
    raise ValueError(
      f'{workdir} holds done.json but no run.json; rename done.json to go on '
      'with what else is there, or give another --workdir'
    )
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
      for name, value in dataclass_json.leaves(wanted['config']).items()
      if name.split('.')[-1] == 'seed'
    },
    **extra,
    'resumed': [],
  }
  if (workdir / 'rerun_of.json').exists():
    _compare_with_earlier(files.read_json(workdir / 'rerun_of.json'), record)
  return record


def _resume(workdir: pathlib.Path, record, new, goes_on) -> None:
  """Writes into a record that its run goes on, and what is otherwise now."""
  again = {'time': _now(), **_git()}
  if changed := _differences({name: record.get(name) for name in new}, new):
    again['changed'] = changed
  if goes_on.prepare:
    goes_on.prepare()
  if goes_on.note is not None:
    note = {'time': again['time'], **goes_on.note}
    done = workdir / 'done.json'
    if done.exists():
      note['finished'] = files.read_json(done)
      done.unlink()
    record['changes'] = [*record.get('changes', []), note]
  record['resumed'].append(again)
  record.update(new)


def history(stage_dir: files.Name) -> Iterator[dict[str, Any]]:
  """The records of a stage and of those it goes back to, as far as there are.

  Args:
    stage_dir: its folder, or one inside it, such as `best`.

  Yields:
    Each run.json, the newest first; the stage before is the --restore_from.
  """
  seen: set[str] = set()
  folder: str | None = os.path.abspath(stage_dir)
  while folder and folder not in seen:
    seen.add(folder)
    path = pathlib.Path(folder, 'run.json')
    if not path.exists():
      path = path.parent.parent / 'run.json'
    if not path.exists():
      return
    found = files.read_json(path)
    yield found
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument('-restore_from', '--restore_from')
    folder = parser.parse_known_args(found['argv'])[0].restore_from
    folder = folder and os.path.normpath(os.path.join(found['cwd'], folder))


def rerun(workdir: files.Name, earlier: Mapping[str, Any]) -> None:
  """Says that a folder's run, not yet begun, does an earlier one again.

  `begin` then refuses another stage, configuration or inputs, and warns of
  another commit, version or machine, which may give other numbers.

  Args:
    workdir: the folder of the new run; made if missing.
    earlier: the earlier one's run.json.

  Raises:
    ValueError: if the earlier one was changed on its way.
  """
  bent = [x for x in earlier.get('changes', []) if not x['is_as_planned']]
  if bent:
    raise ValueError(
      'the run to do again was changed on its way, which no single command '
      f'does again: {bent}; do without --rerun'
    )
  workdir = pathlib.Path(workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  locks.lock(workdir)
  files.write_json(workdir / 'rerun_of.json', earlier)


def tick(workdir: files.Name, was_stopped: bool = False) -> float:
  """Stores the seconds worked so far, so that a kill loses only the rest.

  Args:
    workdir: the stage's folder.
    was_stopped: whether the time since the last call was no work.

  Returns:
    Working seconds of this stage, over all resumes; a damaged clock.json is no
    reason to stop a run.
  """
  path, now = pathlib.Path(workdir) / 'clock.json', time.monotonic()
  seconds, mark = 0.0, now
  try:
    if path.exists():
      clock = files.read_json(path)
      seconds, mark = float(clock['seconds']), float(clock['mark'])
  except (KeyError, TypeError, ValueError) as error:
    text = '%s is damaged (%s) and written anew: working seconds count from 0'
    logging.warning(text, path, error)
  seconds += 0.0 if was_stopped else now - mark
  files.write_json(path, {'seconds': seconds, 'mark': now})
  return seconds


@contextlib.contextmanager
def correctable(workdir: files.Name) -> Iterator[None]:
  """Forgets a run that fails inside before its first step.

  So the same folder takes the command with other settings or mended files.

  Args:
    workdir: the stage's folder, opened by `begin`.
  """
  try:
    yield
  except (ValueError, OSError):
    folder = pathlib.Path(workdir)
    if not read(folder)['resumed'] and not (folder / 'metrics.jsonl').exists():
      for name in ('run.json', 'config.txt', 'clock.json'):
        (folder / name).unlink(missing_ok=True)
    raise


def mixture(
  workdir: files.Name, rows: Sequence[Mapping[str, Any]], **more: Any
) -> None:
  """Print what a stage trains on, and write it into run.json.

  Args:
    workdir: the stage's folder, opened by `begin`.
    rows: of each source its name, counts as whole numbers, `share` as a part
      of one, and `epochs`.
    **more: what else run.json shall say of it.
  """
  path = pathlib.Path(workdir) / 'run.json'
  files.write_json(
    path, {**files.read_json(path), 'mixture': list(rows), **more}
  )
  forms = {float: ',.2f', int: ','}
  lines = [list(rows[0])]
  for row in rows:
    values = {**row, 'share': f'{row["share"]:.1%}'}.values()
    lines.append(
      [format(value, forms.get(type(value), '')) for value in values]
    )
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  for first, *others in lines:
    cells = [first.ljust(widths[0])]
    cells += [x.rjust(n) for x, n in zip(others, widths[1:], strict=True)]
    logging.info('mixture: %s', '  '.join(cells))


def finish(workdir: files.Name, summary: Mapping[str, Any]) -> None:
  """Marks a stage as finished, and lets other processes into its folder.

  Args:
    workdir: the stage's folder, opened by `begin`.
    summary: the stage's result in a few numbers, `tokens` among them where
      it counts tokens; `result` says in words how good it is, and is shown.
  """
  workdir = pathlib.Path(workdir)
  stage = files.read_json(workdir / 'run.json')['stage']
  seconds = round(tick(workdir), 3)
  files.write_json(
    workdir / 'done.json', {'stage': stage, 'seconds': seconds, **summary}
  )
  if 'result' in summary:
    logging.info('%s took %.0f s: %s', stage, seconds, summary['result'])
  locks.unlock(workdir)


def _refuse_other_run(
  what: str,
  old: Mapping[str, Any],
  new: Mapping[str, Any],
  accepted: Iterable[str],
  remedy: str,
) -> None:
  changes = {
    part: _differences(old.get(part, {}), new[part], free=free)
    for part, free in (('stage', ()), ('config', _FREE), ('inputs', ()))
  }
  for name in accepted:
    changes['config'].pop(name, None)
  if any(changes.values()):
    shown = '; '.join(_show(part, changes[part]) for part in changes)
    raise ValueError(f'{what} ({shown.strip("; ")}); {remedy}')


def _compare_with_earlier(old: Mapping[str, Any], new: Mapping[str, Any]):
  what = 'the run to do again is another one'
  remedy = 'give the files and flags of that one'
  _refuse_other_run(what, old, new, accepted=(), remedy=remedy)
  own = {'stage', 'config', 'inputs', 'argv', 'start', 'cwd', 'resumed'}
  parts = [name for name in new if name not in own]
  changes = [_show(x, _differences(old.get(x), new[x])) for x in parts]
  if old.get('git_dirty') or new['git_dirty']:
    changes.append('files differ from the commit')
  if shown := [*filter(None, changes)]:
    logging.warning('numbers may differ from the earlier run: %s', shown)


def _differences(
  old: Any, new: Any, free: Iterable[str] = ()
) -> dict[str, tuple[Any, Any]]:
  """Leaves that differ, with both values; none of those that are free to."""
  # JSON has read lists where the new record may hold other sequences.
  before = dataclass_json.leaves({} if old is None else old)
  after = dataclass_json.leaves(json.loads(json.dumps(new)))
  return {
    name: (before.get(name, 'absent'), after.get(name, 'absent'))
    for name in before | after
    if before.get(name, 'absent') != after.get(name, 'absent')
    and not set(name.split('.')).intersection(free)
  }


def _show(part: str, changes: Mapping[str, tuple[Any, Any]]) -> str:
  return '; '.join(
    f'{part} {name}'.strip() + f': {was!r} -> {now!r}'
    for name, (was, now) in changes.items()
  )


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
  # Not that of another's checkout into which this is installed.
  git = ['git', f'--git-dir={root}/.git', f'--work-tree={root}']
  try:
    sha, changed = (
      subprocess.check_output(
        [*git, *words], stderr=subprocess.DEVNULL, text=True, timeout=20
      ).strip()
      for words in (('rev-parse', 'HEAD'), ('status', '--porcelain'))
    )
  except (OSError, subprocess.SubprocessError):
    return {'git_sha': 'unknown', 'git_dirty': None}
  return {'git_sha': sha, 'git_dirty': bool(changed)}
