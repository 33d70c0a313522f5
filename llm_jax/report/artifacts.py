"""Gather what a run left on disk into the one record that the report shows.

Reads JSON and nothing else, trains and measures nothing, and never fills a
gap: an artifact that is missing, unreadable or of another form is listed
under `missing`. Every number in the record is finite. The record holds no time
of its making, so the same run gives the same bytes.
"""

import functools
import hashlib
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from llm_jax import files

# The order of the path; a run may hold more folders (rl_seed0, rl_seed1, ...)
# and they are placed by the stage that their run.json names.
STAGES = (
  *('crawl', 'clean', 'train_tokenizer', 'tokenize'),
  *('pretrain', 'sft', 'rl', 'evaluate'),
)
# What the recipes call their folders in a whole run.
_FOLDERS = {'train_tokenizer': 'tokenizer', 'tokenize': 'tokens'}
_TRAINING = ('pretrain', 'sft', 'rl')

Row = Mapping[str, Any]  # of a JSONL file
Series = list[list[float | None]]  # points, each x and y

# Enough for a chart of 400 units; the means of equal bins keep the shape.
_MAX_POINTS = 220
_MAX_SAMPLE_STEPS = 6
_MAX_SAMPLES_PER_STEP = 3
_MAX_ROLLOUT_STEPS = 24
_MAX_ROLLOUTS_PER_STEP = 8
_TOO_LARGE = 1e100  # to be a measurement; sums of smaller ones stay finite

_OF_STEP = ('step', 'of')  # and not of an answer
_TYPES: dict[str, Any] = {'number': int | float}
_TYPES |= {kind.__name__: kind for kind in (str, int, bool, dict, list)}


def collect(run_dir: pathlib.Path | str) -> dict[str, Any]:
  """Read the artifacts of all stages of a run.

  Args:
    run_dir: folder that holds one folder a stage.

  Returns:
    A JSON-able dictionary: `stages` (name, stage, status, seconds, tokens),
    `evaluation` (rows), `choices` (rows by likelihood), `held_out`, `funnels`
    and `tokenizers` by stage folder, `training` (series by stage folder and
    metric), `masks`, `samples`, `rollouts`, `probes`, `optimised` (rows of the
    run's own folder), `provenance`, `missing`.

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
    'stages': [], 'evaluation': [], 'choices': [], 'held_out': None,
    'funnels': {},
    'tokenizers': {}, 'training': {}, 'masks': {}, 'samples': {},
    'rollouts': {}, 'probes': {}, 'provenance': {}, 'missing': missing,
  }  # fmt: skip
  report['optimised'] = _read(run_dir / 'optimised.jsonl', []) or []
  for folder, stage, run in _stage_folders(run_dir, missing):
    name = folder.name
    done = _read(folder / 'done.json', missing)
    clock = done or _read(folder / 'clock.json', []) or {}
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
    if stage == 'evaluate':
      _add_evaluation(report, folder / 'evaluation.json')
    if stage in _TRAINING:
      rows = _read(folder / 'metrics.jsonl', missing) or ()
      report['training'][name] = {'stage': stage, 'series': series(rows)}
    for stages, key, file, shown_of in (
      (('clean',), 'funnels', 'funnel.json', dict),
      (('train_tokenizer',), 'tokenizers', 'report.json', dict),
      (('sft',), 'masks', 'masks.jsonl', list),
      (_TRAINING, 'samples', 'samples.jsonl', spread),
      (('rl',), 'rollouts', 'rollouts.jsonl', rollouts),
      (('probe',), 'probes', 'probe.json', dict),
    ):
      if stage in stages and (found := _read(folder / file, missing)):
        report[key][name] = shown_of(found)
  return report


def _add_evaluation(report: dict[str, Any], path: pathlib.Path) -> None:
  """Add the rows of an evaluation, unless its task is shown already."""
  missing = report['missing']
  found = _read(path, missing) or {}
  report['held_out'] = report['held_out'] or found.get('held_out')
  for key, to, form in (
    ('rows', 'evaluation', 'row'), ('choices', 'choices', 'choice'),
  ):  # fmt: skip
    rows = found.get(key) or []
    own = [row for row in rows if has_form(row, form)]
    name = f'{path.parent.name}/evaluation.json'
    if n_bad := len(rows) - len(own):
      missing.append(f'{name}: {n_bad} rows of another form')
    if {row['task'] for row in own} & {row['task'] for row in report[to]}:
      missing.append(f'{name}: another evaluation of its task is shown already')
    else:
      report[to] += own


def has_form(value: Any, form: Any) -> bool:
  """Whether a value that was read from JSON has a form.

  >>> form = {'name': 'str', 'limits?': ['number']}
  >>> has_form({'name': 'a', 'limits': [1, 2.5]}, form)
  True
  >>> has_form({'name': 'a', 'limits': None}, form), has_form({}, form)
  (True, False)

  Args:
    value: of any kind.
    form: 'str', 'number' and so on, or a name of forms.json; `{name: form}`
      for an object with these keys, where one that ends in `?` may be absent
      or null, and `*` stands for every key; `[form]` for a list, and
      `[form, form]` for one of that length.

  Returns:
    Whether it has. An object may have more keys.
  """
  if isinstance(form, str):
    if form not in _TYPES:
      return has_form(value, _forms()[form])
    # Python counts truth values among the integers.
    is_truth = isinstance(value, bool) == (form == 'bool')
    return isinstance(value, _TYPES[form]) and is_truth
  if isinstance(form, dict):
    return isinstance(value, dict) and all(
      (name.endswith('?') and item is None) or has_form(item, part)
      for name, part in form.items()
      for item in (
        value.values() if name[0] == '*' else [value.get(name.rstrip('?'))]
      )
    )
  if not isinstance(value, list):
    return False
  forms = form if len(form) > 1 else form * len(value)
  return len(value) == len(forms) and all(map(has_form, value, forms))


@functools.cache
def _forms() -> dict[str, Any]:
  """Forms of the artifacts by their file names, and of their parts."""
  path = pathlib.Path(__file__).parent / 'templates' / 'forms.json'
  return json.loads(path.read_text(encoding='utf-8'))


def series(rows: Iterable[Row]) -> dict[str, Series]:
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
      if name != 'step' and (value is None or has_form(value, 'number')):
        by_metric.setdefault(name, {})[row['step']] = value
  return {
    name: _binned(sorted(values.items())) for name, values in by_metric.items()
  }


def spread(rows: Iterable[Row]) -> list[dict[str, Any]]:
  """Choose samples from first to last step, a few prompts of each.

  Args:
    rows: lines of samples.jsonl: step, prompt, text, and perhaps mode.

  Returns:
    At most a page of them, in order of step, with the last step among them.
  """
  samples = []
  for own in _of_steps(rows, _MAX_SAMPLE_STEPS):
    # After a resume the same step is drawn again: the last one counts.
    by_prompt = {(row['prompt'], row.get('mode') or ''): row for row in own}
    samples += [
      {'step': row['step'], 'mode': mode, 'prompt': prompt, 'text': row['text']}
      for (prompt, mode), row in by_prompt.items()
    ][:_MAX_SAMPLES_PER_STEP]
  return samples


def rollouts(rows: Iterable[Row]) -> list[dict[str, Any]]:
  """Choose steps of rl from first to last, and the first answers of each.

  Args:
    rows: lines of rollouts.jsonl.

  Returns:
    For each step: step, of (answers that were sampled), and answers: prompt,
    text, reason, correct, reward, tokens, finished, trained.
  """
  shown = [name for name in _forms()['rollouts.jsonl'] if name not in _OF_STEP]
  return [
    {name: own[0][name] for name in _OF_STEP}
    | {
      'answers': [
        {name: row[name] for name in shown}
        for row in own[:_MAX_ROLLOUTS_PER_STEP]
      ]
    }
    for own in _of_steps(rows, _MAX_ROLLOUT_STEPS)
  ]


def _of_steps(rows: Iterable[Row], limit: int) -> list[list[Row]]:
  """The rows of at most so many steps, evenly, first and last among them."""
  by_step: dict[float, list[Row]] = {}
  for row in rows:
    by_step.setdefault(row['step'], []).append(row)
  steps = sorted(by_step)
  if len(steps) > limit:
    last = len(steps) - 1
    steps = [steps[round(i * last / (limit - 1))] for i in range(limit)]
  return [by_step[step] for step in steps]


def _stage_folders(
  run_dir: pathlib.Path, missing: list[str]
) -> list[tuple[pathlib.Path, str, dict[str, Any]]]:
  """Folders of the run in the order of the path, with stage and run.json."""
  found = []
  for folder in sorted(run_dir.iterdir()):
    if folder.is_dir() and (folder / 'run.json').exists():
      run = _read(folder / 'run.json', missing) or {}
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


def _read(path: pathlib.Path, missing: list[str]) -> Any:
  """The object in a JSON file or the objects of a JSONL file.

  Args:
    path: its name says which form it has.
    missing: takes a line that says what is wrong. A JSONL file may lack some
      lines, and gives the others.

  Returns:
    The object or list, or None.
  """
  form = _forms()[path.name]

  def checked(value):
    value = _finite(value)
    wrong = [key for key in form if not has_form(value, {key: form[key]})]
    if wrong:
      fields = ', '.join(key.rstrip('?') for key in wrong)
      raise TypeError(f'of another form in {fields}')
    return value

  errors: list[str] = []  # kill -9 in a write leaves a torn last line
  value = None
  try:
    if path.suffix == '.jsonl':
      value = list(files.read_jsonl(path, checked, errors))
    else:
      value = checked(files.read_json(path))
    said = f'{len(errors)} unreadable lines' if errors else ''
  except FileNotFoundError:
    said = 'missing'
  except TypeError as error:
    said = str(error)
  except (OSError, ValueError, RecursionError) as error:
    said = f'unreadable ({error})'
  if said:
    missing.append(f'{path.parent.name}/{path.name}: {said}')
  return value


def _binned(points: list[tuple[float, float | None]]) -> Series:
  """At most _MAX_POINTS points; a bin with a value that is None is None."""
  size = -(-len(points) // _MAX_POINTS)
  result: Series = []
  for start in range(0, len(points), max(size, 1)):
    part = points[start : start + size]
    known = [y for _, y in part if y is not None]
    # None is drawn as a gap and said to be one.
    is_whole = len(known) == len(part)
    mean = float(f'{sum(known) / len(known):.6g}') if is_whole else None
    result.append([part[-1][0], mean])
  return result
