"""How a policy that climbs a reward model parts from what the model stands for.

Pure functions of the record that `artifacts.collect` makes: of runs of rl that
a model rewarded while a task's own score, the gold, was written beside; and of
what else was measured so, such as the best of n answers by that model.

Source: arXiv:2210.10760 sections 2 and 3.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from llm_jax.evals import best_of_n
from llm_jax.report import findings

_SERIES = ('kl_of_answers', 'reward_mean', 'gold_mean')
# Of a step's answers, beside what they differ by: no turn is seen in noise.
_WINDOW = 5


class Curve(NamedTuple):
  """What was optimised, from its start to its end."""

  name: str
  distance: Sequence[float]  # root of the KL to the start, nats an answer
  proxy: Sequence[float]  # mean score of the reward model
  gold: Sequence[float]


def curves(report: Mapping[str, Any]) -> list[Curve]:
  """Of each recipe the mean over its seeds, then what else was measured."""
  runs: dict[str, list[list[list[float]]]] = {}
  for folder, found in report['training'].items():
    series = found['series']
    if found['stage'] == 'rl' and all(name in series for name in _SERIES):
      values = [[y for _, y in series[name]] for name in _SERIES]
      recipe = findings.recipe(folder) or folder
      runs.setdefault(recipe, []).append(values)
  result = []
  for name, seeds in runs.items():
    means = [
      [sum(x) / len(x) for x in zip(*of_seeds, strict=False)]
      for of_seeds in zip(*seeds, strict=True)
    ]
    kl, proxy, gold = map(_smooth, means)
    distance = [math.sqrt(max(x, 0)) for x in kl]
    result.append(Curve(name, distance, proxy=proxy, gold=gold))
  others: dict[str, list[Sequence[float]]] = {}
  for row in report['optimised']:
    root = math.sqrt(max(row['kl'], 0))
    others.setdefault(row['name'], []).append((root, row['proxy'], row['gold']))
  for name, points in others.items():
    result.append(Curve(name, *map(list, zip(*points, strict=True))))
  return result


def sentences(report: Mapping[str, Any]) -> list[str]:
  """Where the gold of each curve turned, and the form that is fitted to it."""
  said = []
  for curve in curves(report):
    gold, distance = curve.gold, curve.distance
    top = max(range(len(gold)), key=gold.__getitem__)
    rises = f'{gold[0]:.2f} to {gold[top]:.2f} at √KL {distance[top]:.2f}'
    lost = gold[top] - gold[-1]
    ends = f'it ends there, at {gold[-1]:.2f}'
    if lost > 0.1 * (gold[top] - gold[0]):
      ends = f'there it turned, and ends at {gold[-1]:.2f}'
      ends += ', below its start' if gold[-1] < gold[0] else ''
    text = (
      f'{curve.name}: gold rises from {rises}; {ends} at √KL '
      f'{distance[-1]:.2f}, while the reward model says '
      f'{curve.proxy[0]:.2f} to {curve.proxy[-1]:.2f}.'
    )
    if len(gold) > 2:
      form = 'best of n' if curve.name == 'best of n' else 'rl'
      gain = [x - gold[0] for x in gold]
      a, b = best_of_n.fit(form, [d * d for d in distance], gain)
      shape = 'd (a - b d)' if form == 'best of n' else 'd (a - b ln d)'
      text += f' Fitted, d = √KL: {shape}, a = {a:.2f}, b = {b:.2f}.'
    said.append(text)
  return said


def _smooth(values: Sequence[float]) -> list[float]:
  """Running means; the first value stays, from which all gain is measured."""
  parts = (
    values[max(1, i - _WINDOW + 1) : i + 1] for i in range(1, len(values))
  )
  return [values[0], *(sum(part) / len(part) for part in parts)]
