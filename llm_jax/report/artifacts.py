"""Gather what a run left on disk into the one record that the report shows.

Reads JSON and nothing else, trains and measures nothing, and never fills a
gap: an artifact that is missing or unreadable is listed under `missing`.
The record holds no time of its making, so the same run gives the same bytes.
"""

import hashlib
import json
import math
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

# Enough for a chart of 440 units; the means of equal bins keep the shape.
_MAX_POINTS = 220
_MAX_SAMPLE_STEPS = 6
_MAX_SAMPLES_PER_STEP = 3
_MAX_ROLLOUT_STEPS = 24
_MAX_ROLLOUTS_PER_STEP = 8


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
    'stages': [],
    'evaluation': [],
    'held_out': None,
    'funnel': None,
    'tokenizer': None,
    'training': {},
    'samples': {},
    'rollouts': {},
    'provenance': {},
    'missing': missing,
  }
  for folder, stage in _stage_folders(run_dir, missing):
    run = _read_json(folder, 'run.json', missing) or {}
    done = _read_json(folder, 'done.json', missing)
    clock = done or _read_json(folder, 'clock.json', []) or {}
    report['stages'].append(
      {
        'name': folder.name,
        'stage': stage,
        'status': 'done' if done else 'unfinished',
        'seconds': clock.get('seconds'),
        'tokens': (done or {}).get('tokens'),
        'summary': {
          key: value
          for key, value in (done or {}).items()
          if key not in ('stage', 'seconds', 'tokens')
        },
      }
    )
    report['provenance'][folder.name] = {
      key: value for key, value in run.items() if key != 'config'
    } | {'config_fingerprint': _fingerprint(run.get('config'))}
    if stage == 'clean':
      report['funnel'] = _read_json(folder, 'funnel.json', missing)
    if stage == 'train_tokenizer':
      report['tokenizer'] = _read_json(folder, 'report.json', missing)
    if stage == 'evaluate':
      evaluation = _read_json(folder, 'evaluation.json', missing) or {}
      report['evaluation'] = evaluation.get('rows', [])
      report['held_out'] = evaluation.get('held_out')
    if stage in _TRAINING:
      report['training'][folder.name] = {
        'stage': stage,
        'series': series(_read_lines(folder, 'metrics.jsonl', missing)),
      }
      samples = spread(_read_lines(folder, 'samples.jsonl', missing))
      if samples:
        report['samples'][folder.name] = samples
    if stage == 'rl':
      steps = rollouts(_read_lines(folder, 'rollouts.jsonl', missing))
      if steps:
        report['rollouts'][folder.name] = steps
  return report


def series(
  rows: Iterable[Mapping[str, Any]],
) -> dict[str, list[list[float | None]]]:
  """Turn the lines of metrics.jsonl into one series for each metric.

  A run that was killed repeats some steps after it resumes; the last line of
  a step counts. Series longer than a chart can show become the means of
  equal bins of consecutive points.

  Args:
    rows: one dictionary a line, each with `step`.

  Returns:
    {metric: [[step, value], ...]} in ascending order of step; a value that is
    not finite is None.
  """
  by_metric: dict[str, dict[float, float]] = {}
  for row in rows:
    for name, value in row.items():
      is_number = isinstance(value, int | float) and value is not True
      if name != 'step' and is_number and 'step' in row:
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
    if 'step' in row:
      prompt, mode = str(row.get('prompt', '')), str(row.get('mode', ''))
      sample = {'step': row['step'], 'mode': mode, 'prompt': prompt}
      sample['text'] = str(row.get('text', ''))
      # After a resume the same step is drawn again: the last one counts.
      by_step.setdefault(row['step'], {})[prompt, mode] = sample
  steps = _spread(sorted(by_step), _MAX_SAMPLE_STEPS)
  return [
    sample
    for step in steps
    for sample in list(by_step[step].values())[:_MAX_SAMPLES_PER_STEP]
  ]


def rollouts(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """Choose steps of rl from first to last, and the first answers of each.

  Args:
    rows: lines of rollouts.jsonl; one that lacks something is passed over.

  Returns:
    For each step: step, of (answers that were sampled), and answers: prompt,
    text, reason, correct, reward, tokens, finished, trained.
  """
  kinds = {
    'step': int, 'of': int, 'prompt': str, 'text': str, 'reason': str,
    'correct': bool, 'reward': int | float, 'tokens': int, 'finished': bool,
    'trained': bool,
  }  # fmt: skip
  by_step: dict[int, list[Mapping[str, Any]]] = {}
  for row in rows:
    if all(isinstance(row.get(name), kind) for name, kind in kinds.items()):
      by_step.setdefault(row['step'], []).append(row)
  return [
    {
      'step': step,
      'of': by_step[step][0]['of'],
      'answers': [
        {name: row[name] for name in kinds if name not in ('step', 'of')}
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
) -> list[tuple[pathlib.Path, str]]:
  """Folders of the run in the order of the path, with their stage."""
  found = []
  for folder in sorted(run_dir.iterdir()):
    if folder.is_dir() and (folder / 'run.json').exists():
      run = _read_json(folder, 'run.json', [])
      stage = (run or {}).get('stage') or folder.name
      if stage != 'report':  # the report does not report on itself
        found.append((folder, stage))
  have = {stage for _, stage in found}
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


def _read_json(
  folder: pathlib.Path, name: str, missing: list[str]
) -> dict[str, Any] | None:
  """The object in a JSON file, or None with a line in `missing`."""
  path = folder / name
  try:
    value = files.read_json(path)
  except FileNotFoundError:
    missing.append(f'{folder.name}/{name}: missing')
    return None
  except (OSError, ValueError) as error:
    missing.append(f'{folder.name}/{name}: unreadable ({error})')
    return None
  if not isinstance(value, dict):
    missing.append(f'{folder.name}/{name}: not a JSON object')
    return None
  return value


def _read_lines(
  folder: pathlib.Path, name: str, missing: list[str]
) -> list[dict[str, Any]]:
  """The objects in a JSONL file; lines that are none are counted."""
  errors: list[str] = []  # kill -9 in a write leaves a torn last line
  try:
    rows = list(files.read_jsonl(folder / name, dict, errors))
  except OSError:
    missing.append(f'{folder.name}/{name}: missing')
    return []
  if errors:
    missing.append(f'{folder.name}/{name}: {len(errors)} unreadable lines')
  return rows


def _binned(points: list[tuple[float, float]]) -> list[list[float | None]]:
  """At most _MAX_POINTS points; a value that is not finite stays one."""
  size = -(-len(points) // _MAX_POINTS)
  result: list[list[float | None]] = []
  for start in range(0, len(points), max(size, 1)):
    part = points[start : start + size]
    mean = sum(y for _, y in part) / len(part)
    # JSON has no NaN; None is drawn as a gap and said to be one.
    value = float(f'{mean:.6g}') if math.isfinite(mean) else None
    result.append([part[-1][0], value])
  return result
