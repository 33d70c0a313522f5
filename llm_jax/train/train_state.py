"""The state that training carries from step to step.

The optimizer and the model are functions, and no part of it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import Mesh

from llm_jax import types
from llm_jax.model import lora, params


@struct.dataclass
class TrainState:
  """Everything an update reads and writes."""

  step: jax.Array  # updates done, skipped ones included
  params: types.Params  # what is trained: the model's, or its adapters
  opt_state: optax.OptState
  key: jax.Array  # random key, split at each step
  n_skipped: jax.Array  # steps in a row that were skipped as non-finite
  base: types.Params | None = None  # the fixed model below adapters
  adapters: lora.Lora = struct.field(pytree_node=False, default=lora.Lora())


def model_params(state: TrainState) -> types.Params:
  """The parameters of the model, with its adapters merged if it has any."""
  if state.base is None:
    return state.params
  return lora.merge(state.adapters, state.base, state.params)


def merged(state: TrainState) -> types.Params:
  """`model_params` as arrays, computed once; not a copy without adapters."""
  return state.params if state.base is None else _merged(state)


_merged = jax.jit(model_params)


def create(
  init_params: Callable[[jax.Array], types.Params],
  tx: optax.GradientTransformation,
  seed: int,
  mesh: Mesh,
  lines: params.Table,
  given: types.Params | None = None,
) -> TrainState:
  """Make the first state of a run, born sharded over the mesh.

  Args:
    init_params: function from a key to parameters; not called where some are
      given.
    tx: the optimizer.
    seed: seed of the parameters and of all later randomness.
    mesh: the mesh; the values do not depend on its shape.
    lines: of the parameters, which say how the mesh splits them.
    given: parameters to start from, which the optimizer sees too.

  Returns:
    A state at step 0.
  """
  make, key = _maker(init_params, tx), jax.random.key(seed)
  shapes = abstract(init_params, tx, mesh=mesh, lines=lines, given=given)
  shardings = jax.tree.map(lambda x: x.sharding, shapes)
  return jax.jit(make, out_shardings=shardings)(key, given)


def abstract(
  init_params: Callable[[jax.Array], types.Params],
  tx: optax.GradientTransformation,
  mesh: Mesh,
  lines: params.Table,
  given: types.Params | None = None,
) -> TrainState:
  """The shapes, dtypes and shardings of the state that `create` makes."""
  state = jax.eval_shape(_maker(init_params, tx), jax.random.key(0), given)
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    state,
    params.state_shardings(lines, mesh, state),
  )


def _maker(init_params, tx):
  def make(key, given):
    init_key, key = jax.random.split(key)
    first = init_params(init_key) if given is None else given
    return TrainState(
      step=jnp.int32(0),
      params=first,
      opt_state=tx.init(first),
      key=key,
      n_skipped=jnp.int32(0),
    )

  return make
