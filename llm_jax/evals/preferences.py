"""How well scores agree with rankings, and how much of that is length.

An answer's score is a reward model's, or made of its log-probability.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llm_jax import types
from llm_jax.data import preferences
from llm_jax.evals import statistics
from llm_jax.infer import reading
from llm_jax.model import config

_BATCH_SIZE = 32  # answers read together
_N_BINS = 5  # of confidence, between 1/2 and 1
_BUCKETS = ('better is longer', 'equal', 'better is shorter')


def scores(
  cfg: config.ModelConfig,
  params: types.Params,
  groups: Sequence[preferences.Group],
) -> list[list[float]]:
  """What a reward model makes of each answer, each by itself."""
  pairs = [answer.parts for group in groups for answer in group]
  found = iter(reading.scores(cfg, params, pairs, batch_size=_BATCH_SIZE))
  return [[float(next(found)) for _ in group] for group in groups]


def logps(
  cfg: config.ModelConfig,
  params: types.Params,
  groups: Sequence[preferences.Group],
) -> list[list[float]]:
  """The log-probability of each answer, summed over what is learnt of it."""
  pairs = [answer.parts for group in groups for answer in group]
  found = iter(reading.logp(cfg, params, pairs, batch_size=_BATCH_SIZE))

  def one(answer: preferences.Answer) -> float:
    before, ids = map(len, answer.parts)
    return float(next(found) @ answer.loss_mask[before : before + ids])

  return [[one(answer) for answer in group] for group in groups]


def agreement(
  groups: Sequence[preferences.Group],
  scores: Sequence[Sequence[float]],
  seed: int,
) -> dict[str, Any]:
  """Accuracy, calibration, and accuracy by which answer is longer.

  Args:
    groups: the answers to each prompt; ties are not compared.
    scores: of each answer.
    seed: of the bootstrap.

  Returns:
    JSON-able: prompts, pairs; accuracy and its interval (95%), a mean over
    prompts, equal scores being half right; loss (Bradley-Terry's, in nats);
    calibration (of each bin of confidence sigmoid(|difference|) its mean, the
    share that is right, and n) and calibration_error, the mean of how far they
    are apart; by_length (of each bucket n, accuracy, interval), and
    length_accuracy, of always preferring the longer answer.
  """
  pairs = [
    (prompt, scores[prompt][i] - scores[prompt][j], a.n_tokens - b.n_tokens)
    for prompt, group in enumerate(groups)
    for (i, a), (j, b) in itertools.permutations(enumerate(group), 2)
    if a.rank < b.rank
  ]
  prompt_X, lead_X, length_X = map(np.array, zip(*pairs, strict=True))
  right_X, longer_X = (0.5 + 0.5 * np.sign(x) for x in (lead_X, length_X))
  by_prompt = [[right_X[prompt_X == p].mean()] for p in np.unique(prompt_X)]
  confidence_X = 1 / (1 + np.exp(-abs(lead_X)))
  bin_X = np.minimum((confidence_X - 0.5) * 2 * _N_BINS, _N_BINS - 1).astype(
    int
  )
  bins = [
    {
      'confidence': float(confidence_X[bin_X == i].mean()),
      'accuracy': float(right_X[bin_X == i].mean()),
      'n': int((bin_X == i).sum()),
    }
    for i in np.unique(bin_X)
  ]
  error = sum(b['n'] * abs(b['confidence'] - b['accuracy']) for b in bins)
  by_length = {}
  for name, sign in zip(_BUCKETS, (1, 0, -1), strict=True):
    own = right_X[np.sign(length_X) == sign]
    if len(own):
      low_high = statistics.wilson_interval(math.floor(own.sum()), len(own))
      by_length[name] = {
        'n': len(own), 'accuracy': own.mean().item(), 'interval': low_high
      }  # fmt: skip
  return {
    'prompts': len(by_prompt),
    'pairs': len(pairs),
    'accuracy': float(np.mean(by_prompt)),
    'interval': statistics.bootstrap_interval(by_prompt, seed),
    'loss': float(np.logaddexp(0, -lead_X).mean()),
    'calibration': bins,
    'calibration_error': error / len(pairs),
    'by_length': by_length,
    'length_accuracy': float(longer_X.mean()),
  }


def sentence(result: Mapping[str, Any]) -> str:
  """What was measured, in words."""
  low, high = (f'{100 * x:.1f}' for x in result['interval'])
  lengths = ', '.join(
    f'{found["accuracy"]:.1%} of {found["n"]} where {name}'
    for name, found in result['by_length'].items()
  )
  return (
    f'{result["accuracy"]:.1%} of {result["pairs"]} held-out pairs right (95%: '
    f'{low} to {high}); {lengths}; the longer one is better in '
    f'{result["length_accuracy"]:.1%}; calibration error '
    f'{result["calibration_error"]:.3f}'
  )
