"""Best of n by enumeration, and the forms of over-optimisation."""

import itertools
import math

import numpy as np
import pytest

from llm_jax.evals import best_of_n


@pytest.mark.parametrize('n', [1, 2, 3, 6])
def test_it_is_the_mean_over_all_subsets(n):
  score_PN, value_PN = np.random.default_rng(0).normal(size=(2, 4, 6))
  expected = np.mean(
    [
      value_N[max(chosen, key=lambda i: score_N[i])]
      for score_N, value_N in zip(score_PN, value_PN, strict=True)
      for chosen in itertools.combinations(range(6), n)
    ]
  )
  found = best_of_n.expected(score_PN, value_PN, n)
  assert found == pytest.approx(expected)


def test_many_answers_do_not_overflow():
  score_PN = np.arange(2048.0)[None]
  assert best_of_n.expected(score_PN, score_PN, 1024) == pytest.approx(
    2048 * 1024 / 1025, rel=1e-3
  )


def test_divergence():
  assert best_of_n.divergence(1) == 0
  assert best_of_n.divergence(64) == pytest.approx(3.174508, abs=1e-6)


@pytest.mark.parametrize(
  ('form', 'shape'),
  [('best of n', lambda d: d), ('rl', math.log)],
)
def test_the_forms_are_found_again(form, shape):
  """arXiv:2210.10760 section 3.1; what is not gone says nothing."""
  kl = [0.0, 0.25, 1.0, 4.0, 9.0]
  gain = [0.0]
  gain += [d * (1.5 - 0.4 * shape(d)) for d in (0.5, 1.0, 2.0, 3.0)]
  assert best_of_n.fit(form, kl, gain) == pytest.approx((1.5, 0.4))
