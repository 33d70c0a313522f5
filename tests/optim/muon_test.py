"""The neuron's own scale against loops, matrix by matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optax import contrib

from llm_jax.optim import muon


def slow(updates, v):
  """One matrix, inputs by outputs: arXiv:2510.05491 algorithm 1, by loops."""
  n_in, n_out = updates.shape
  result = np.zeros_like(updates)
  for neuron in range(max(n_in, n_out)):
    row = (slice(None), neuron) if n_out >= n_in else (neuron,)
    mean_square = sum(x * x for x in updates[row]) / len(updates[row])
    v[neuron] = muon.B2 * v[neuron] + (1 - muon.B2) * mean_square
    result[row] = updates[row] / v[neuron] ** 0.5
  result *= np.linalg.norm(updates) / np.linalg.norm(result)
  return result * max(1, n_out / n_in) ** 0.5


@pytest.mark.parametrize(
  ('shape', 'numbers', 'n_in', 'n_out'),
  [
    ((3, 6, 6), ((1,), (2,)), 6, 6),
    ((3, 6, 10), ((1,), (2,)), 6, 10),
    ((3, 10, 6), ((1,), (2,)), 10, 6),
    ((3, 6, 2, 4), ((1,), (2, 3)), 6, 8),  # heads: one matrix of all of them
    ((3, 2, 4, 6), ((1, 2), (3,)), 8, 6),
    ((3, 2, 6, 4), ((2,), (3,)), 6, 4),  # experts: a matrix each
  ],
)
def test_equals_loops_over_neurons(shape, numbers, n_in, n_out):
  tx = muon.scale_by_neuron(
    lambda tree: {'w': contrib.MuonDimensionNumbers(*numbers)}
  )
  random = np.random.default_rng(0)
  state = tx.init({'w': jnp.zeros(shape)})
  n_matrices = int(np.prod(shape)) // (n_in * n_out)
  v = np.zeros((n_matrices, max(n_in, n_out)))
  # Some neurons always move more than others; v sees them over several steps.
  size = np.exp(random.normal(size=shape[-1]))
  for _ in range(3):
    updates = random.normal(size=shape) * size
    got, state = jax.jit(tx.update)({'w': jnp.asarray(updates)}, state)
    matrices = updates.reshape(n_matrices, n_in, n_out)
    expected = [slow(w, v[i]) for i, w in enumerate(matrices)]
    np.testing.assert_allclose(
      np.asarray(got['w']).reshape(n_matrices, n_in, n_out), expected, rtol=1e-5
    )


def test_a_neuron_without_a_gradient_stays():
  """As an expert that no token took: nothing is divided by zero."""
  tx = muon.scale_by_neuron(
    lambda tree: {'w': contrib.MuonDimensionNumbers((1,), (2,))}
  )
  w = jnp.ones((2, 3, 4)).at[0].set(0.0)
  updates, _ = tx.update({'w': w}, tx.init({'w': w}))
  assert (np.asarray(updates['w'][0]) == 0).all()
  assert np.isfinite(updates['w']).all()
