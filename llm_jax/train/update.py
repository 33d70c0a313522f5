"""The one update of every stage.

Does not build batches, log or save; see train/loop.py.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from llm_jax import types
from llm_jax.train import state as state_lib

LossFn = Callable[
  [types.Params, types.Batch, jax.Array], tuple[jax.Array, types.Metrics]
]


def make_update_fn(loss_fn: LossFn, tx: optax.GradientTransformation):
  """Compile the step from a state and a batch to the next state.

  A step whose loss or gradient norm is not finite leaves parameters and
  optimizer state bit-identical; its batch is spent and it is counted in
  n_skipped, which any finite step sets back to 0.

  Args:
    loss_fn: (params, batch, key) -> (scalar loss, metrics).
    tx: the optimizer.

  Returns:
    Jitted (state, batch) -> (state, metrics); the state is donated. Metrics
    gain loss, grad_norm (before clipping) and skipped (in a row).
  """

  def update(state: state_lib.TrainState, batch: types.Batch):
    key, loss_key = jax.random.split(state.key)
    (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(
      state.params, batch, loss_key
    )
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    grad_norm = optax.tree.norm(grads)
    finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)

    def keep(new, old):
      return jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)

    n_skipped = jnp.where(finite, 0, state.n_skipped + 1)
    metrics |= {'loss': loss, 'grad_norm': grad_norm, 'skipped': n_skipped}
    return dataclasses.replace(
      state,
      step=state.step + 1,
      params=keep(params, state.params),
      opt_state=keep(opt_state, state.opt_state),
      key=key,
      n_skipped=n_skipped,
    ), metrics

  return jax.jit(update, donate_argnums=0)
