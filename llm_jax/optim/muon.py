"""What NorMuon adds to Muon: neurons that all move alike.

An orthogonal update still moves some neurons of a wide matrix far more than
others. Follows optax.contrib.scale_by_muon in a chain. Does not orthogonalize.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from llm_jax import types

B2 = 0.9  # what a neuron's mean square keeps in a step


class State(NamedTuple):
  """Mean squares of each neuron's updates, with axes of 1 where averaged."""

  square: types.Params


def scale_by_neuron(
  dimension_numbers: Callable[[types.Params], Any],
) -> optax.GradientTransformation:
  """Divide each neuron's update O by the root of its own mean square.

    v <- B2 v + (1 - B2) mean(O^2),  O' = O / sqrt(v) * |O| / |O / sqrt(v)|

  The mean is over the shorter side of the matrix, so that a neuron is a row of
  the longer one; |O| is the Frobenius norm of the matrix, which is kept, and
  then scaled by sqrt(max(1, fan_out / fan_in)) as optax.contrib.muon does.

  Args:
    dimension_numbers: from a tree of updates to one of MuonDimensionNumbers;
      other axes hold matrices of their own.

  Returns:
    The transformation.

  Source: arXiv:2510.05491 algorithm 1, with the norm kept and the longer side
  chosen as in nanochat/optim.py.
  """

  def square(x, numbers):
    rows, columns = numbers
    is_wide = _size(x, columns) >= _size(x, rows)
    return jnp.square(x).mean(rows if is_wide else columns, keepdims=True)

  def init(params):
    zeros = jax.tree.map(
      lambda x, numbers: jnp.zeros_like(square(x, numbers)),
      params,
      dimension_numbers(params),
    )
    return State(zeros)

  def update(updates, state, params=None):
    del params
    numbers = dimension_numbers(updates)
    v = jax.tree.map(
      lambda x, v, axes: B2 * v + (1 - B2) * square(x, axes),
      updates,
      state.square,
      numbers,
    )

    def one(x, v, axes):
      rows, columns = axes
      y = x * jax.lax.rsqrt(v + 1e-10)
      kept = _norm(x, rows + columns) / (_norm(y, rows + columns) + 1e-10)
      widening = _size(x, columns) / _size(x, rows)
      return y * kept * max(1, widening) ** 0.5

    return jax.tree.map(one, updates, v, numbers), State(v)

  return optax.GradientTransformation(init, update)


def _size(x, axes):
  return math.prod(x.shape[axis] for axis in axes)


def _norm(x, axes):
  return jnp.sqrt(jnp.square(x).sum(axes, keepdims=True))
