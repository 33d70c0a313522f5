"""Likelihood and mean states of given tokens, against one text at a time."""

import math

import numpy as np
import pytest

from llm_jax.infer import reading
from llm_jax.model import transformer
from tests.evals import tiny_checkpoint
from tests.model import start_params

CFG = tiny_checkpoint.MODEL
LENGTHS = ((1, 1), (5, 3), (40, 7), (2, 9))


@pytest.fixture(name='params', scope='module')
def _params():
  return start_params.init(CFG)


@pytest.fixture(name='pairs', scope='module')
def _pairs():
  draw = np.random.default_rng(0)
  return [
    (draw.integers(0, 256, n).tolist(), draw.integers(0, 256, m).tolist())
    for n, m in LENGTHS
  ]


def _hidden(params, pair):
  """Of one text alone, without padding."""
  ids_1T = np.array([[*pair[0], *pair[1]]], np.int32)
  positions_1T = np.arange(ids_1T.shape[1])[None]
  return transformer.apply(CFG, params, ids_1T, positions_1T)[0]


def test_logp_is_that_of_the_logits(params, pairs):
  found = reading.logp(CFG, params, pairs, batch_size=3)
  for pair, logp in zip(pairs, found, strict=True):
    logits_1TV = transformer.unembed(CFG, params, _hidden(params, pair))
    logits_TV = np.asarray(logits_1TV, np.float64)[0, len(pair[0]) - 1 : -1]
    expected = [
      row[token] - row.max() - math.log(np.exp(row - row.max()).sum())
      for row, token in zip(logits_TV, pair[1], strict=True)
    ]
    np.testing.assert_allclose(logp, expected, atol=1e-4)


def test_mean_hidden(params, pairs):
  found = reading.mean_hidden(CFG, params, pairs, batch_size=3)
  for pair, mean in zip(pairs, found, strict=True):
    hidden = np.asarray(_hidden(params, pair))[0, len(pair[0]) :]
    np.testing.assert_allclose(mean, hidden.mean(axis=0), atol=1e-5)
  assert reading.mean_hidden(CFG, params, [], batch_size=3).shape == (0, 16)


@pytest.mark.parametrize('pair', [([], [1]), ([1], []), ([1] * 100, [1] * 29)])
def test_what_cannot_be_read(pair, params):
  with pytest.raises(ValueError, match='give one of each at least, and no mor'):
    reading.logp(CFG, params, [pair], batch_size=1)
