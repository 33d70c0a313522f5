"""What choosing the best of n answers by a score gives, for every n at once.

Also how a proxy and what it stands for part, by how far a policy went: the two
forms of arXiv:2210.10760.
"""

import math
from collections.abc import Sequence

import numpy as np


def expected(score_PN: np.ndarray, value_PN: np.ndarray, n: int) -> float:
  """The mean value of the answer with the best score of n.

  The mean over all subsets of n of the N answers, without drawing any: of the
  answers in ascending order of score the i-th is the best of C(i-1, n-1) of
  the C(N, n) subsets.

  >>> expected(np.array([[1.0, 2.0, 3.0]]), np.array([[0.0, 0.0, 3.0]]), 2)
  2.0

  Args:
    score_PN: by which one chooses.
    value_PN: that one gets; score_PN itself for the score.
    n: answers that are compared, 1 to N.
  """
  size = score_PN.shape[1]
  weight_N = np.array([math.comb(i, n - 1) for i in range(size)], object)
  weight_N = (weight_N / math.comb(size, n)).astype(np.float64)
  order_PN = np.argsort(score_PN, axis=1, kind='stable')
  return float((np.take_along_axis(value_PN, order_PN, 1) @ weight_N).mean())


def divergence(n: int) -> float:
  """KL of the best of n answers to the policy, nats: an upper bound."""
  return math.log(n) - (n - 1) / n


# Of distance d = sqrt(KL): gold = d (a - b f(d)), f by how it was optimised.
FORMS = {'best of n': np.positive, 'rl': np.log}


def fit(
  form: str, kl_N: Sequence[float], gain_N: Sequence[float]
) -> tuple[float, float]:
  """a and b of a form by least squares.

  Args:
    form: of FORMS.
    kl_N: nats from the start; what is 0 says nothing.
    gain_N: gold above that of the start.
  """
  d_N = np.sqrt(np.maximum(kl_N, 0))
  there, d_N = np.asarray(gain_N)[d_N > 0], d_N[d_N > 0]
  columns = np.stack([d_N, -d_N * FORMS[form](d_N)], axis=1)
  (a, b), *_ = np.linalg.lstsq(columns, there, rcond=None)
  return float(a), float(b)
