"""Estimates against hand arithmetic, enumeration and simulated coverage."""

import itertools

import numpy as np
import pytest

from llm_jax.evals import statistics


@pytest.mark.parametrize(
  ('successes', 'n', 'limits'),
  [
    # Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3.
    (81, 263, (0.2553, 0.3662)),
    (15, 148, (0.0624, 0.1605)),
    (0, 20, (0.0, 0.1611)),
    (1, 29, (0.0061, 0.1718)),
  ],
)
def test_wilson_by_hand(successes, n, limits):
  found = statistics.wilson_interval(successes, n)
  assert found == pytest.approx(limits, abs=5e-5)


def test_wilson_is_symmetric_and_touches_the_ends():
  low, high = statistics.wilson_interval(0, 400)
  assert low == 0
  # At p = 0 the upper limit is z²/(n + z²) exactly.
  z2 = 1.959963984540054**2
  assert high == pytest.approx(z2 / (400 + z2), rel=1e-12)
  assert statistics.wilson_interval(400, 400) == pytest.approx((1 - high, 1.0))


@pytest.mark.parametrize('n_correct', range(6))
@pytest.mark.parametrize('k', range(1, 6))
def test_pass_at_k_is_the_share_of_draws(n_correct, k):
  """Equal to drawing every subset of k of the five answers."""
  answers = [1] * n_correct + [0] * (5 - n_correct)
  draws = [any(draw) for draw in itertools.combinations(answers, k)]
  assert statistics.pass_at_k(5, n_correct, k) == pytest.approx(
    sum(draws) / len(draws)
  )


def test_bootstrap_counts_problems_and_not_samples():
  """Eight copies of each answer carry no more information than one."""
  rng = np.random.default_rng(0)
  once = [[float(value)] for value in rng.random(200) < 0.4]
  copies = [values * 8 for values in once]
  assert statistics.bootstrap_interval(
    copies, seed=1
  ) == statistics.bootstrap_interval(once, seed=1)


def test_bootstrap_is_a_loop_over_resamples():
  """As written down slowly, draw by draw, and in several batches."""
  means = np.random.default_rng(4).random(700)
  rng = np.random.default_rng(9)
  drawn = [means[rng.integers(0, 700, 700)].mean() for _ in range(4000)]
  assert statistics.bootstrap_interval(
    [[m] for m in means], seed=9
  ) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), rel=1e-12)


def test_bootstrap_covers_the_truth():
  """95% intervals hold the true mean in about 95% of repetitions."""
  rng = np.random.default_rng(5)
  n_held = 0
  for seed in range(200):
    chances = rng.beta(0.5, 0.5, 100)  # problems are mostly easy or hard
    scores = rng.random((100, 4)) < chances[:, None]
    scores = scores.astype(float).tolist()
    low, high = statistics.bootstrap_interval(scores, seed)
    n_held += low <= 0.5 <= high
  # Binomial(200, .95) lies in 179..198 with probability 0.999. Treating the
  # samples as independent gives 155 here.
  assert 179 <= n_held <= 198


def test_bootstrap_of_all_wrong_is_not_certain():
  assert statistics.bootstrap_interval(
    [[0.0] * 8] * 400, seed=0
  ) == statistics.wilson_interval(0, 400)


def test_mean_interval_by_hand():
  # t(0.975; 2) = 4.302653 (any table); s = 0.01, so ± 4.302653·0.01/√3.
  mean, low, high = statistics.mean_interval([0.84, 0.85, 0.86])
  assert mean == pytest.approx(0.85)
  assert high - mean == pytest.approx(0.0248414, abs=1e-7)
  assert mean - low == pytest.approx(high - mean)
