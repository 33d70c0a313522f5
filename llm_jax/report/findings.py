"""What the record of a run says, in the words and numbers of the report.

Pure functions of the record that `artifacts.collect` makes; tables, charts and
the page take their sentences from here. A value that the record lacks is left
out of a sentence or is None.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from llm_jax.evals import statistics

RL_AFTER_SFT = r'(?s)^rl(?!.*zero)'
# rl_seed0, rl_seed1, ... are runs of one recipe that differ in the seed only.
_SEED = re.compile(r'(?P<recipe>.+?)_?seed_?\d+')
_AVERAGED = 'greedy sampled think_share call_share mean_tokens pass_at_k kinds'


class Estimate(NamedTuple):
  """A share in 0..1 with the limits of its interval, where it has one."""

  share: float
  limits: Sequence[float] | None


@dataclasses.dataclass(frozen=True)
class Accuracy:
  """One line of the accuracy table; shares in 0..1."""

  name: str
  n: int | None  # problems; None for a mean over seeds
  greedy: Estimate
  sampled: Estimate
  think_share: float | None
  call_share: float | None
  mean_tokens: float | None
  pass_at_k: Mapping[int, Estimate]  # in ascending order of k
  n_seeds: int = 1
  kinds: Mapping[str, Estimate] = dataclasses.field(default_factory=dict)


def accuracies(
  report: Mapping[str, Any], mode: str, task: str = ''
) -> list[Accuracy]:
  """Accuracy of each checkpoint, and the mean after each group of seeds.

  Args:
    report: the record of a run.
    mode: 'free' as the model likes, 'direct' without thinking.
    task: name of the task; '': the first that was evaluated.

  Returns:
    Lines in the order of the evaluation. The interval of one checkpoint is
    over problems; that of a mean is over seeds (Student's t), cut to 0..1.
  """
  main = report['evaluation'][0]['task'] if report['evaluation'] else ''
  lines = [
    _accuracy(row)
    for row in report['evaluation']
    if row.get('mode') == mode and row['task'] == (task or main)
  ]
  result: list[Accuracy] = []
  for line in lines:
    result.append(line)
    recipe = _recipe(line)
    group = [other for other in lines if _recipe(other) == recipe]
    if recipe and line is group[-1] and len(group) > 1:
      result.append(_mean(recipe, group))
  return result


def one_a_recipe(lines: Sequence[Accuracy]) -> list[Accuracy]:
  """The lines without those of which a mean over seeds is among them."""
  means = {
    line.name.partition(', mean of')[0] for line in lines if line.n_seeds > 1
  }
  return [line for line in lines if _recipe(line) not in means]


def learnt(report: Mapping[str, Any]) -> list[str]:
  """What is learnt, and by which model, in sentences."""
  first = next(iter(report['evaluation']), {})
  sentences = []
  if about := first.get('about'):
    sentences.append(f'What is learnt: {about[0].lower()}{about[1:]}')
  for name, run in report['provenance'].items():
    if sizes := run.get('model'):
      n = len(re.findall(r'(\w+)\(', run.get('devices') or ''))
      kind = re.sub(r'\W*(\w+?)(Device)?\(.*', r'\1', run.get('devices') or '')
      sentences.append(
        f'The model: a Transformer with {count(sizes["parameters"])} '
        f'parameters in {sizes["n_layers"]} layers of width '
        f'{sizes["d_model"]}, over {count(sizes["vocab_size"])} tokens, '
        f'trained on {n} {kind.upper()} device{"s" * (n != 1)} ({name}).'
      )
      break
  return sentences


def named(
  report: Mapping[str, Any], mode: str, patterns: Sequence[str]
) -> Accuracy | None:
  """The line whose checkpoint name matches one of the patterns.

  Args:
    report: the record of a run.
    mode: 'free' or 'direct'.
    patterns: that are searched for in names, the preferred one first.

  Returns:
    The mean of its seeds if there, else the first such line, or None if no
    such checkpoint was evaluated.
  """
  lines = accuracies(report, mode)
  for pattern in patterns:
    found = [line for line in lines if re.search(pattern, line.name)]
    means = [line for line in found if line.n_seeds > 1]
    if found:
      return (means or found)[0]
  return None


def headline(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
  """The few numbers that a reader wants first.

  Args:
    report: the record of a run.

  Returns:
    (what, number, explanation) of each that the record holds.
  """
  found = []
  for what, mode, patterns in (
    ('Base model', 'free', ('base', 'pretrain')),
    ('After SFT', 'free', ('sft',)),
    ('After RL', 'free', (RL_AFTER_SFT,)),
    ('RL from base', 'free', ('zero',)),
    ('RL, not thinking', 'direct', (RL_AFTER_SFT,)),
  ):
    if line := named(report, mode, patterns):
      shown = (
        'when the same model must answer at once'
        if mode == 'direct'
        else f'of sampled answers are right; greedy {line.greedy.share:.1%}'
      )
      found.append((what, f'{line.sampled.share:.1%}', shown))
  held_out = report['held_out'] or {}
  models = held_out.get('models') or {}
  name = next((n for n in models if 'base' in n or 'pretrain' in n), None)
  if name:
    gzip = (held_out.get('compressors') or {}).get('gzip -9')
    beside = f'; gzip -9 needs {gzip:.2f}' if gzip else ''
    shown = f'bits per byte, base model{beside}'
    found.append(('Held-out text', f'{models[name]:.2f}', shown))
  return found


def achieved(report: Mapping[str, Any]) -> dict[str, str]:
  """One sentence for each stage that ran, by its folder."""
  return {stage['name']: _sentence(report, stage) for stage in report['stages']}


def funnel_steps(funnel: Mapping[str, Any] | None) -> list[dict[str, Any]]:
  """The steps of cleaning with what each removed, in order.

  Args:
    funnel: what funnel.json held; None: there was none.

  Returns:
    Steps as in funnel.json, each with all its keys; empty without a funnel.
  """
  counts = ('documents_in', 'bytes_in', 'documents_kept', 'bytes_kept')
  return [
    {
      'name': step['name'].replace('_', ' '),
      'tokens_kept': step.get('tokens_kept'),
      **{key: step.get(key) or 0 for key in counts},
      **{key: step.get(key) or {} for key in ('removed', 'replaced', 'others')},
    }
    for step in (funnel or {}).get('steps') or []
  ]


def duration(seconds: float | None) -> str:
  """Write seconds for people.

  >>> duration(7.31), duration(75), duration(None)
  ('7.3 s', '1 min 15 s', '–')

  Args:
    seconds: a duration, or None if it is not known.

  Returns:
    The text.
  """
  if seconds is None:
    return '–'
  if seconds < 60:
    return f'{seconds:.1f} s'
  minutes, rest = divmod(round(seconds), 60)
  return f'{minutes} min {rest:02} s'


def cut(text: str, length: int = 600, ending: str = '') -> str:
  """The beginning of a long text.

  >>> cut('abcdef', 4), cut('abcdef', 4, '…'), cut('abcd', 4)
  ('abcd… (2 more characters)', 'abc…', 'abcd')

  Args:
    text: of any length.
    length: the most characters of it that are shown.
    ending: stands for the rest, and counts; else its length is said.

  Returns:
    The text itself if it is short.
  """
  if len(text) <= length:
    return text
  if ending:
    return text[: length - len(ending)] + ending
  return f'{text[:length]}… ({len(text) - length:,} more characters)'


def count(value: float | None) -> str:
  """Write a count with thin groups, as in 1,234,567.

  Args:
    value: a count, or None if it is not known.

  Returns:
    The text.
  """
  return '–' if value is None else f'{value:,.0f}'


def plain_values(
  values: Mapping[str, Any], length: int, form: str
) -> dict[str, str]:
  """Texts and numbers for people, by name, without what is composed.

  >>> plain_values({'n_pages': 1200, 'speed': 2.5, 'sizes': [1]}, 40, '.2f')
  {'n pages': '1,200', 'speed': '2.50'}

  Args:
    values: of any kind.
    length: the most characters of a text.
    form: of a number that is not whole.

  Returns:
    The texts.
  """

  def shown(value):
    if isinstance(value, str):
      return cut(value, length, '…')
    return count(value) if isinstance(value, int) else format(value, form)

  return {
    name.replace('_', ' '): shown(value)
    for name, value in values.items()
    if isinstance(value, str | int | float)
  }


def _accuracy(row: Mapping[str, Any]) -> Accuracy:
  limits = row['interval']
  limits_by_k = limits.get('pass_at_k') or {}
  return Accuracy(
    name=row['checkpoint'],
    n=row['n'],
    greedy=Estimate(row['greedy'], limits['greedy']),
    sampled=Estimate(row['sampled'], limits['sampled']),
    think_share=row.get('think_share'),
    call_share=row.get('call_share'),
    mean_tokens=row.get('mean_length'),
    pass_at_k={
      int(k): Estimate(share, limits_by_k.get(k))
      for k, share in (row.get('pass_at_k') or {}).items()
      if k.isdecimal()
    },
    kinds={
      kind: Estimate(found['greedy'], found['interval'])
      for kind, found in (row.get('kinds') or {}).items()
    },
  )


def _recipe(line: Accuracy) -> str:
  """What runs that differ in the seed only have in common; '' of others."""
  match = _SEED.fullmatch(line.name)
  return match['recipe'] if match else ''


def _mean(recipe: str, group: Sequence[Accuracy]) -> Accuracy:
  """The mean over seeds with an interval over seeds."""
  return Accuracy(
    name=f'{recipe}, mean of {len(group)} seeds',
    n=None,
    n_seeds=len(group),
    **{
      name: _over_seeds([getattr(line, name) for line in group])
      for name in _AVERAGED.split()
    },
  )


def _over_seeds(values: Sequence[Any]) -> Any:
  """The mean of numbers or estimates, or of each that all tables hold."""
  first = values[0]
  if isinstance(first, Mapping):
    common = [key for key in first if all(key in each for each in values)]
    return {key: _over_seeds([each[key] for each in values]) for key in common}
  if isinstance(first, Estimate):
    center, low, high = statistics.mean_interval([x.share for x in values])
    return Estimate(center, (max(low, 0.0), min(high, 1.0)))
  return None if None in values else sum(values) / len(values)


def _sentence(report: Mapping[str, Any], stage: Mapping[str, Any]) -> str:
  """What one stage achieved: as measured on all checkpoints, or as it said."""
  if stage['status'] != 'done':
    return 'not finished'
  for line in accuracies(report, 'free'):
    if line.name == stage['name'] and stage['stage'] in ('sft', 'rl'):
      return (
        f'{line.sampled.share:.1%} of sampled and {line.greedy.share:.1%} of '
        f'greedy answers right on {line.n} held-out problems'
      )
  if said := stage['summary'].get('result'):
    return str(said)
  plain = plain_values(stage['summary'], 40, '.4g')
  return ', '.join(f'{value} {name}' for name, value in plain.items())
