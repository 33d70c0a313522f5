"""Ratings of models by votes on pairs of their answers.

A vote is a line of JSON: the models `a` and `b`, `vote` (a, b, tie, both_bad),
and what was asked and answered. Of a tie, as of two bad answers, each side has
half a win.
"""

import collections
import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csgraph
from scipy.special import expit

from llm_jax import journal

VOTES = {'a': 1.0, 'b': 0.0, 'tie': 0.5, 'both_bad': 0.5}  # what a has won
_SCALE = 400 / np.log(10)  # so that 400 points are odds of 10 to 1
_MEAN = 1000
_N_SAMPLES = 400  # of the votes, for the intervals
# Who says one of these of itself is not unnamed any more.
_MAKERS = r'llm_jax|chatgpt|gpt-?\d|claude|gemini|llama|qwen|deepseek|smollm'
_SAYS = r"\b(?:i am|i'm|my name is|i am called)\s+(?:an? |the )?"


@dataclasses.dataclass(frozen=True)
class Rating:
  """Of one model; None: no battles connect it with the ranked ones."""

  model: str
  rating: float | None
  low: float | None  # of the interval that 95% of samples of the votes give
  high: float | None
  battles: int


class Ratings(NamedTuple):
  """Of all models, best first, and the votes that do not count."""

  models: list[Rating]
  n_named: int  # in which a model says who it is


def read(path: str) -> list[dict[str, Any]]:
  """The votes of a file, without a last one that a kill left half written.

  Raises:
    ValueError: with the line that is no vote.
  """
  return journal.read(pathlib.Path(path), check)


def append(path: str, vote: Mapping[str, Any]) -> None:
  """Add a vote, which is on disk once this returns."""
  journal.append(pathlib.Path(path), check(dict(vote)))


def check(vote: dict[str, Any]) -> dict[str, Any]:
  """The vote itself.

  Raises:
    ValueError: if it is none.
  """
  for side in 'ab':
    if not isinstance(vote.get(side), str) or not vote[side]:
      raise ValueError(f'{side} = {vote.get(side)!r} is no name of a model')
  if vote['a'] == vote['b']:
    raise ValueError(f'{vote["a"]} against itself says nothing')
  if vote.get('vote') not in VOTES:
    raise ValueError(
      f'vote = {vote.get("vote")!r}; use one of {", ".join(VOTES)}'
    )
  return vote


def names_itself(vote: Mapping[str, Any]) -> bool:
  """Whether one of the answers says which model gave it."""
  names = '|'.join([_MAKERS, re.escape(vote['a']), re.escape(vote['b'])])
  said = (vote.get('answers') or {}).values()
  pattern = re.compile(rf'{_SAYS}(?:{names})\b', re.IGNORECASE)
  return any(pattern.search(str(text)) for text in said)


def ratings(votes: Sequence[Mapping[str, Any]]) -> Ratings:
  """Bradley-Terry ratings: the log of strengths s, P(a wins) = sa / (sa + sb).

  Those of the largest group that battles connect; their mean is 1000. Where
  some models only win against others, so that no finite strengths are the
  likeliest, half a tie is added to each pair that has met.

  Source: Bradley and Terry 1952; the intervals are those of Chiang et al.
  2024, arXiv:2403.04132 section 4, a bootstrap of votes.
  """
  counted = [vote for vote in votes if not names_itself(vote)]
  names = sorted({vote[side] for vote in votes for side in 'ab'})
  battles = collections.Counter(vote[side] for vote in counted for side in 'ab')
  ranked = _largest_group(names, counted)
  cells = collections.Counter(
    (ranked.index(vote['a']), ranked.index(vote['b']), VOTES[vote['vote']])
    for vote in counted
    if vote['a'] in ranked
  )
  points: dict[str, list[float]] = {}
  if ranked:
    counts = np.array([*cells.values()])
    wins = _wins(cells, counts, len(ranked))
    draw = np.random.default_rng(0)
    samples = draw.multinomial(
      counts.sum(), counts / counts.sum(), size=_N_SAMPLES
    )
    theta = [fit(_wins(cells, x, len(ranked)), met=wins) for x in samples]
    low, high = np.percentile([*map(to_ratings, theta)], [2.5, 97.5], axis=0)
    found = np.stack([to_ratings(fit(wins, met=wins)), low, high], axis=1)
    points = dict(zip(ranked, found.tolist(), strict=True))
  models = [
    Rating(name, *points.get(name, [None] * 3), battles=battles[name])
    for name in names
  ]
  models.sort(key=lambda one: -(one.rating or -np.inf))
  return Ratings(models, len(votes) - len(counted))


def _largest_group(
  names: Sequence[str], votes: Sequence[Mapping[str, Any]]
) -> list[str]:
  """The most models that battles connect; none if there are no battles."""
  met = np.zeros((len(names), len(names)))
  for vote in votes:
    met[names.index(vote['a']), names.index(vote['b'])] = 1
  if not met.any():
    return []
  groups = csgraph.connected_components(met, directed=False)[1]
  largest = np.bincount(groups).argmax()
  return [x for x, group in zip(names, groups, strict=True) if group == largest]


def _wins(cells, counts, n_models: int) -> np.ndarray:
  """How often the model of a row has won against that of a column."""
  wins = np.zeros((n_models, n_models))
  for (a, b, won), count in zip(cells, counts, strict=True):
    wins[a, b] += won * count
    wins[b, a] += (1 - won) * count
  return wins


def fit(wins: np.ndarray, met: np.ndarray) -> np.ndarray:
  """The likeliest log-strengths of models that battles connect.

  Args:
    wins: of the model of each row against that of each column.
    met: the same; not 0 where two models have met, in these wins or others.

  Returns:
    One number for each; their mean is 0.
  """
  if csgraph.connected_components(wins, connection='strong')[0] > 1:
    wins = wins + 0.25 * (met + met.T > 0)
  total, theta = wins + wins.T, np.zeros(len(wins))
  for _ in range(100):  # Newton's steps, none of them too far
    p = expit(theta[:, None] - theta)
    slope = (wins - total * p).sum(axis=1)
    curve = total * p * (1 - p)
    # Ones, because only differences matter.
    hessian = np.diag(curve.sum(axis=1)) - curve + 1 / len(wins)
    step = np.clip(np.linalg.lstsq(hessian, slope, rcond=None)[0], -1, 1)
    theta += step
    if np.abs(step).max() < 1e-10:
      break
  return theta - theta.mean()


def to_ratings(theta: np.ndarray) -> np.ndarray:
  """Log-strengths in points: 400 for odds of 10 to 1, 1000 in the mean."""
  return _MEAN + _SCALE * (theta - theta.mean())
