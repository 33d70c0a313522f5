"""Gather what a run left on disk into the one record that the report shows.

Reads JSON and nothing else, trains and measures nothing, and never fills a
gap: an artifact that is missing, unreadable or of another form is listed
under `missing`. Every number in the record is finite. The record holds no time
of its making, so the same run gives the same bytes.
"""

import hashlib
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from llm_jax import files

# The order of the path; a run may hold more folders (rl_seed0, rl_seed1, ...)
# and they are placed by the stage that their run.json names.
STAGES = (
  'crawl',
  'clean',
  'train_tokenizer',
  'tokenize',
  'pretrain',
  'sft',
  'rl',
  'evaluate',
)
# What the recipes call their folders in a whole run.
_FOLDERS = {'train_tokenizer': 'tokenizer', 'tokenize': 'tokens'}
_TRAINING = ('pretrain', 'sft', 'rl')

# Enough for a chart of 400 units; the means of equal bins keep the shape.
_MAX_POINTS = 220
_MAX_SAMPLE_STEPS = 6
_MAX_SAMPLES_PER_STEP = 3
_MAX_ROLLOUT_STEPS = 24
_MAX_ROLLOUTS_PER_STEP = 8
_TOO_LARGE = 1e100  # to be a measurement; sums of smaller ones stay finite

# Forms of the artifacts, as `has_form` reads them.
_NUMBER = int | float
_NUMBERS, _LIMITS = {str: _NUMBER}, (_NUMBER, _NUMBER)
_RUN = {
  'stage?': str, 'config?': dict, 'seeds?': dict, 'resumed?': list,
  'git_sha?': str, 'git_dirty?': bool, 'start?': str,
}  # fmt: skip
_DONE = {'seconds?': _NUMBER, 'tokens?': _NUMBER}
_TOKENIZER = {'vocab_size?': int, 'bytes_per_token?': {str: _NUMBER | None}}
_REMOVED = {
  'documents?': _NUMBER, 'bytes?': _NUMBER,
  'samples?': [{'url?': str, 'text?': str}],
}  # fmt: skip
_STEP = {
  'name': str, 'documents_in?': _NUMBER, 'documents_kept?': _NUMBER,
  'bytes_in?': _NUMBER, 'bytes_kept?': _NUMBER, 'tokens_kept?': _NUMBER,
  'removed?': {str: _REMOVED}, 'replaced?': _NUMBERS, 'others?': _NUMBERS,
}  # fmt: skip
_HELD_OUT = {
  'documents': _NUMBER, 'bytes': _NUMBER,
  'models?': _NUMBERS, 'compressors?': _NUMBERS,
}  # fmt: skip
_ROW = {
  'checkpoint': str, 'task': str, 'mode': str, 'n': int,
  'greedy': _NUMBER, 'sampled': _NUMBER,
  'interval': {
    'greedy': _LIMITS, 'sampled': _LIMITS, 'pass_at_k?': {str: _LIMITS},
  },
  'pass_at_k?': _NUMBERS, 'think_share?': _NUMBER, 'mean_length?': _NUMBER,
  'samples?': [{'prompt': str, 'answer': str, 'correct': bool, 'reason': str}],
}  # fmt: skip
_SAMPLE = {'step': _NUMBER, 'prompt': str, 'text': str, 'mode?': str}
_ANSWER = {
  'prompt': str, 'text': str, 'reason': str, 'correct': bool,
  'reward': _NUMBER, 'tokens': int, 'finished': bool, 'trained': bool,
}  # fmt: skip


def collect(run_dir: pathlib.Path | str) -> dict[str, Any]:
  """Read the artifacts of all stages of a run.

  Args:
    run_dir: folder that holds one folder a stage.

  Returns:
    A JSON-able dictionary: `stages` (name, stage, status, seconds, tokens),
    `evaluation` (rows), `held_out`, `funnel`, `tokenizer`, `training` (series
    by stage folder and metric), `samples`, `rollouts`, `provenance`,
    `missing`.

  Raises:
    FileNotFoundError: there is no such folder.
  """
  run_dir = pathlib.Path(run_dir)
  if not run_dir.is_dir():
    raise FileNotFoundError(
      f'no run in {str(run_dir)!r}; name the folder that holds pretrain/, '
      'sft/ and the other stages'
    )
  missing: list[str] = []
  report: dict[str, Any] = {
    'stages': [], 'evaluation': [], 'held_out': None, 'funnel': None,
    'tokenizer': None, 'training': {}, 'samples': {}, 'rollouts': {},
    'provenance': {}, 'missing': missing,
  }  # fmt: skip
  for folder, stage, run in _stage_folders(run_dir, missing):
    name = folder.name
    done = _read_json(folder / 'done.json', _DONE, missing)
    clock = done or _read_json(folder / 'clock.json', _DONE, []) or {}
    shown = {
      'name': name,
      'stage': stage,
      'status': 'done' if done else 'unfinished',
      'seconds': clock.get('seconds'),
      'tokens': (done or {}).get('tokens'),
    }
    rest = {k: v for k, v in (done or {}).items() if k not in shown}
    report['stages'].append(shown | {'summary': rest})
    rest = {key: value for key, value in run.items() if key != 'config'}
    rest['config_fingerprint'] = _fingerprint(run.get('config'))
    report['provenance'][name] = rest
    if stage == 'clean':
      form = {'steps?': [_STEP]}
      report['funnel'] = _read_json(folder / 'funnel.json', form, missing)
    if stage == 'train_tokenizer':
      path = folder / 'report.json'
      report['tokenizer'] = _read_json(path, _TOKENIZER, missing)
    if stage == 'evaluate':
      path = folder / 'evaluation.json'
      form = {'rows?': [dict], 'held_out?': _HELD_OUT}
      found = _read_json(path, form, missing) or {}
      rows = found.get('rows') or []
      report['evaluation'] = [row for row in rows if has_form(row, _ROW)]
      if n_bad := len(rows) - len(report['evaluation']):
        missing.append(f'{name}/evaluation.json: {n_bad} rows of another form')
      report['held_out'] = found.get('held_out')
    if stage in _TRAINING:
      rows = _read_lines(folder / 'metrics.jsonl', {'step': _NUMBER}, missing)
      report['training'][name] = {'stage': stage, 'series': series(rows)}
      rows = _read_lines(folder / 'samples.jsonl', _SAMPLE, missing)
      if rows:
        report['samples'][name] = spread(rows)
    if stage == 'rl':
      form = {'step': int, 'of': int} | _ANSWER
      rows = _read_lines(folder / 'rollouts.jsonl', form, missing)
      if rows:
        report['rollouts'][name] = rollouts(rows)
  return report


def has_form(value: Any, form: Any) -> bool:
  """Whether a value that was read from JSON has a form.

  >>> form = {'name': str, 'limits?': [int | float]}
  >>> has_form({'name': 'a', 'limits': [1, 2.5]}, form)
  True
  >>> has_form({'name': 'a', 'limits': None}, form), has_form({}, form)
  (True, False)

  Args:
    value: of any kind.
    form: a type; `{name: form}` for an object with these keys, where one that
      ends in `?` may be absent or null; `{str: form}` for one with any keys;
      `[form]` for a list; `(form, form)` for a list of that length.

  Returns:
    Whether it has. An object may have more keys.
  """
  if isinstance(form, dict):
    if not isinstance(value, dict):
      return False
    if str in form:
      return all(has_form(item, form[str]) for item in value.values())
    return all(
      (name.endswith('?') and value.get(name[:-1]) is None)
      or has_form(value.get(name.rstrip('?')), item)
      for name, item in form.items()
    )
  if isinstance(form, list):
    return isinstance(value, list) and all(has_form(v, form[0]) for v in value)
  if isinstance(form, tuple):
    return (
      isinstance(value, list)
      and len(value) == len(form)
      and all(map(has_form, value, form))
    )
  return isinstance(value, form) and (form is bool or value is not True)


def series(
  rows: Iterable[Mapping[str, Any]],
) -> dict[str, list[list[float | None]]]:
  """Turn the lines of metrics.jsonl into one series for each metric.

  A run that was killed repeats some steps after it resumes; the last line of
  a step counts. Series longer than a chart can show become the means of
  equal bins of consecutive points.

  Args:
    rows: one dictionary a line, each with `step`; a value that is not finite
      is None.

  Returns:
    {metric: [[step, value], ...]} in ascending order of step; None stays.
  """
  by_metric: dict[str, dict[float, float | None]] = {}
  for row in rows:
    for name, value in row.items():
      if name != 'step' and has_form(value, _NUMBER | None):
        by_metric.setdefault(name, {})[row['step']] = value
  return {
    name: _binned(sorted(values.items())) for name, values in by_metric.items()
  }


def spread(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """Choose samples from first to last step, a few prompts of each.

  Args:
    rows: lines of samples.jsonl: step, prompt, text, and perhaps mode.

  Returns:
    At most a page of them, in order of step, with the last step among them.
  """
  by_step: dict[int, dict[tuple[str, str], dict[str, Any]]] = {}
  for row in rows:
    sample = {
      'step': row['step'],
      'mode': row.get('mode') or '',
      'prompt': row['prompt'],
      'text': row['text'],
    }
    # After a resume the same step is drawn again: the last one counts.
    key = (sample['prompt'], sample['mode'])
    by_step.setdefault(row['step'], {})[key] = sample
  return [
    sample
    for step in _spread(sorted(by_step), _MAX_SAMPLE_STEPS)
    for sample in list(by_step[step].values())[:_MAX_SAMPLES_PER_STEP]
  ]


def rollouts(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """Choose steps of rl from first to last, and the first answers of each.

  Args:
    rows: lines of rollouts.jsonl.

  Returns:
    For each step: step, of (answers that were sampled), and answers: prompt,
    text, reason, correct, reward, tokens, finished, trained.
  """
  by_step: dict[int, list[Mapping[str, Any]]] = {}
  for row in rows:
    by_step.setdefault(row['step'], []).append(row)
  return [
    {
      'step': step,
      'of': by_step[step][0]['of'],
      'answers': [
        {name: row[name] for name in _ANSWER}
        for row in by_step[step][:_MAX_ROLLOUTS_PER_STEP]
      ],
    }
    for step in _spread(sorted(by_step), _MAX_ROLLOUT_STEPS)
  ]


def _spread(steps: list[int], limit: int) -> list[int]:
  """At most so many steps, evenly, the first and the last among them."""
  if len(steps) <= limit:
    return steps
  return [
    steps[round(index * (len(steps) - 1) / (limit - 1))]
    for index in range(limit)
  ]


def _stage_folders(
  run_dir: pathlib.Path, missing: list[str]
) -> list[tuple[pathlib.Path, str, dict[str, Any]]]:
  """Folders of the run in the order of the path, with stage and run.json."""
  found = []
  for folder in sorted(run_dir.iterdir()):
    if folder.is_dir() and (folder / 'run.json').exists():
      run = _read_json(folder / 'run.json', _RUN, missing) or {}
      stage = run.get('stage') or folder.name
      if stage != 'report':  # the report does not report on itself
        found.append((folder, stage, run))
  have = {stage for _, stage, _ in found}
  for stage in STAGES:
    if stage not in have:
      missing.append(f'{_FOLDERS.get(stage, stage)}/: no run of this stage')
  rank = {stage: index for index, stage in enumerate(STAGES)}
  found.sort(key=lambda item: (rank.get(item[1], len(rank)), item[0].name))
  return found


def _fingerprint(config: Mapping[str, Any] | None) -> str | None:
  """The fingerprint that dataclass_json gives to this configuration."""
  if config is None:
    return None
  text = json.dumps(config, sort_keys=True, separators=(',', ':'))
  return hashlib.sha256(text.encode()).hexdigest()


def _finite(value: Any) -> Any:
  """What JSON held, with None for what is no measurement: NaN, 1e999."""
  if isinstance(value, dict):
    return {key: _finite(item) for key, item in value.items()}
  if isinstance(value, list):
    return [_finite(item) for item in value]
  is_number = isinstance(value, int | float)
  return value if not is_number or abs(value) < _TOO_LARGE else None


def _read_json(
  path: pathlib.Path, form: Mapping[str, Any], missing: list[str]
) -> dict[str, Any] | None:
  """The object in a JSON file, or None with a line in `missing`."""
  name = f'{path.parent.name}/{path.name}'
  try:
    value = _finite(files.read_json(path))
  except FileNotFoundError:
    missing.append(f'{name}: missing')
    return None
  except (OSError, ValueError, RecursionError) as error:
    missing.append(f'{name}: unreadable ({error})')
    return None
  if not isinstance(value, dict):
    missing.append(f'{name}: not a JSON object')
    return None
  wrong = [key for key in form if not has_form(value, {key: form[key]})]
  if wrong:
    fields = ', '.join(key.rstrip('?') for key in wrong)
    missing.append(f'{name}: of another form in {fields}')
  return None if wrong else value


def _read_lines(
  path: pathlib.Path, form: Mapping[str, Any], missing: list[str]
) -> list[dict[str, Any]]:
  """The objects in a JSONL file; lines of another form are counted."""
  name = f'{path.parent.name}/{path.name}'

  def read_row(row):
    row = _finite(row)
    if not has_form(row, form):
      raise ValueError('of another form')
    return row

  errors: list[str] = []  # kill -9 in a write leaves a torn last line
  try:
    rows = list(files.read_jsonl(path, read_row, errors))
  except FileNotFoundError:
    missing.append(f'{name}: missing')
    return []
  except (OSError, RecursionError) as error:
    missing.append(f'{name}: unreadable ({error})')
    return []
  if errors:
    missing.append(f'{name}: {len(errors)} unreadable lines')
  return rows


def _binned(
  points: list[tuple[float, float | None]],
) -> list[list[float | None]]:
  """At most _MAX_POINTS points; a bin with a value that is None is None."""
  size = -(-len(points) // _MAX_POINTS)
  result: list[list[float | None]] = []
  for start in range(0, len(points), max(size, 1)):
    part = points[start : start + size]
    known = [y for _, y in part if y is not None]
    # None is drawn as a gap and said to be one.
    is_whole = len(known) == len(part)
    mean = float(f'{sum(known) / len(known):.6g}') if is_whole else None
    result.append([part[-1][0], mean])
  return result
