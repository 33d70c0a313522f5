"""Estimates and intervals for accuracies measured on a sample of problems.

Does not test hypotheses and corrects nothing for multiple comparisons. Every
interval is about the draw of problems (or seeds) and nothing else: a mistake
in the verifier or a leak of held-out problems is not in it.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

_N_RESAMPLES = 4000
_MAX_DRAWS = 1_000_000  # held in memory together


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
  """95% score interval of a proportion from independent trials.

  (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n),  p = successes / n

  Unlike p ± z·√(p(1-p)/n) it stays inside 0..1 and has a width at p = 0:

  >>> low, high = wilson_interval(0, 400)
  >>> low, round(high, 4)
  (0.0, 0.0095)

  Args:
    successes: number of trials that succeeded, 0..n.
    n: number of trials, at least 1.

  Returns:
    Lower and upper limit.

  Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212.
  """
  limits = stats.binomtest(successes, n).proportion_ci(method='wilson')
  return float(limits.low), float(limits.high)


def pass_at_k(n: int, n_correct: int, k: int) -> float:
  """Probability that k answers drawn from these n hold a correct one.

  1 - C(n - c, k) / C(n, k), which is unbiased for a fresh draw of k answers;
  1 - (1 - c/n)^k is not, it is too low.

  >>> round(pass_at_k(n=4, n_correct=1, k=2), 6)
  0.5

  Args:
    n: number of answers sampled for the problem.
    n_correct: how many of them are correct.
    k: number of answers drawn, 1..n.

  Returns:
    The estimate for this problem; average over problems for a task.

  Source: arXiv:2107.03374 eq. 1.
  """
  return 1 - math.comb(n - n_correct, k) / math.comb(n, k)


def pass_at_powers(n: int, n_correct: Sequence[int]) -> dict[int, list[float]]:
  """pass@k of each problem for k = 1, 2, 4, ... up to n, and n itself.

  >>> pass_at_powers(4, [4, 1, 0])
  {1: [1.0, 0.25, 0.0], 2: [1.0, 0.5, 0.0], 4: [1.0, 1.0, 0.0]}

  Args:
    n: answers sampled for each problem.
    n_correct: how many of them are correct, for each problem.

  Returns:
    The estimates of all problems by k.
  """
  powers = {1 << power for power in range(n.bit_length())} | {n}
  return {k: [pass_at_k(n, c, k) for c in n_correct] for k in sorted(powers)}


def bootstrap_interval(
  values_by_problem: Sequence[Sequence[float]], seed: int
) -> tuple[float, float]:
  """95% percentile interval of the mean; whole problems are resampled.

  Samples of one problem are not independent, so the problem is the unit that
  is drawn, with all its samples. Eight copies of each answer therefore give
  the interval of one copy, and not one that is √8 narrower.

  Where every problem has the same mean the bootstrap has no width, though 400
  problems do not prove 0%. Then this is Wilson's interval with one trial a
  problem, which is wider than the truth if anything.

  Args:
    values_by_problem: for each problem its samples' scores in 0..1; at least
      one problem, and equally many samples of each.
    seed: of the resampling; the same seed gives the same interval.

  Returns:
    Lower and upper limit.

  Source: Davison and Hinkley, Bootstrap Methods and their Application
    (1997), section 3.8 (resampling clusters) and 5.3 (percentile limits).
  """
  means = np.asarray(values_by_problem, np.float64).mean(axis=1)
  n_problems = len(means)
  if np.ptp(means) == 0:
    return wilson_interval(round(means[0] * n_problems), n_problems)
  limits = stats.bootstrap(
    (means,),
    np.mean,
    n_resamples=_N_RESAMPLES,
    batch=max(1, _MAX_DRAWS // n_problems),
    method='percentile',
    rng=np.random.default_rng(seed),
  ).confidence_interval
  return float(limits.low), float(limits.high)


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
  """Mean of a few runs and its 95% interval by Student's t.

  mean ± t(0.975; n-1) · s / √n, with s the sample standard deviation. With
  three seeds t is 4.3, so the interval is wide; that is the honest width.

  >>> [round(x, 3) for x in mean_interval([1.0, 2.0, 3.0])]
  [2.0, -0.484, 4.484]

  Args:
    values: one number a run, at least two.

  Returns:
    Mean, lower and upper limit.

  Source: Student, Biometrika 6 (1908) 1-25.
  """
  n = len(values)
  mean = math.fsum(values) / n
  half_width = float(stats.t.ppf(0.975, n - 1) * stats.sem(values))
  return mean, mean - half_width, mean + half_width
