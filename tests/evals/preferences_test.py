"""Agreement of scores with rankings, counted by hand."""

import math

import pytest

from llm_jax.data import preferences
from llm_jax.evals import preferences as preference_evals


def group(*lengths_ranks):
  return [
    preferences.Answer([0] * (n + 1), [0] + [1] * n, rank)
    for n, rank in lengths_ranks
  ]


def test_by_hand():
  groups = [
    group((5, 0), (3, 1)),  # right, and the better one is longer
    group((2, 1), (2, 0)),  # wrong, equally long
    group((1, 0), (4, 1), (4, 1)),  # one right, one a draw; both shorter
  ]
  scores = [[1.0, 0.0], [2.0, 0.0], [0.5, 0.0, 0.5]]
  found = preference_evals.agreement(groups, scores, seed=0)
  assert (found['prompts'], found['pairs']) == (3, 4)
  assert found['accuracy'] == pytest.approx((1 + 0 + 0.75) / 3)
  assert found['interval'][0] < found['accuracy'] < found['interval'][1]
  leads = 1.0, -2.0, 0.5, 0.0
  loss = sum(math.log1p(math.exp(-x)) for x in leads) / 4
  assert found['loss'] == pytest.approx(loss)
  assert {
    k: (v['n'], v['accuracy']) for k, v in found['by_length'].items()
  } == {
    'better is longer': (1, 1.0),
    'equal': (1, 0.0),
    'better is shorter': (2, 0.75),
  }
  assert found['length_accuracy'] == pytest.approx((1 + 0.5 + 0 + 0) / 4)
  # Confidences .731, .881, .622 and .5 fall into four bins of width .1.
  assert [b['n'] for b in found['calibration']] == [1, 1, 1, 1]
  gaps = 1 - 0.731059, 0.880797, 1 - 0.622459, 0.0
  assert found['calibration_error'] == pytest.approx(sum(gaps) / 4, abs=1e-5)
