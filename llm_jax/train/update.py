"""The one update of every stage, and the sums over micro-batches in it."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import stages
from jax.sharding import Mesh

from llm_jax import types
from llm_jax.train import train_state

LossFn = Callable[
  [types.Params, types.Batch, jax.Array], tuple[jax.Array, types.Metrics]
]

# (state, batch) -> (state, metrics), jitted.
UpdateFn = stages.Wrapped


def make_update_fn(
  loss_fn: LossFn,
  tx: optax.GradientTransformation,
  mesh: Mesh,
  n_micro: int = 1,
) -> UpdateFn:
  """Compile the step from a state and a batch to the next state.

  A step whose loss or gradient norm is not finite leaves parameters and
  optimizer state bit-identical; its batch is spent and it is counted in
  n_skipped, which any finite step sets back to 0.

  Args:
    loss_fn: (params, batch, key) -> (scalar loss, metrics). The loss is a mean
      over loss_mask_BT if there are micro-batches; other weights come with the
      batch and multiply the terms. A metric is a number that adds up over
      micro-batches, or a pair of such, of which the quotient is reported; of
      one named max_* or min_* the largest or smallest is. Its params are the
      model's, also where only adapters are trained.
    tx: the optimizer.
    mesh: where state and batch live.
    n_micro: parts of the batch that are computed one after the other.

  Returns:
    Jitted (state, batch) -> (state, metrics); the state is donated. Metrics
    gain loss, grad_norm (before clipping) and skipped (in a row).
  """

  def update(state: train_state.TrainState, batch: types.Batch):
    def trained_loss(params, batch, key):
      params = train_state.model_params(
        dataclasses.replace(state, params=params)
      )
      return loss_fn(params, batch, key)

    key, loss_key = jax.random.split(state.key)
    value_and_grad = jax.value_and_grad(trained_loss, has_aux=True)
    if n_micro > 1:
      value_and_grad = accumulated(value_and_grad, n_micro)
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      (loss, metrics), grads = value_and_grad(state.params, batch, loss_key)
    metrics = {
      name: value[0] / value[1] if isinstance(value, tuple) else value
      for name, value in metrics.items()
    }
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


def accumulated(value_and_grad: Callable, n_micro: int) -> Callable:
  """`value_and_grad` of a batch from those of its micro-batches.

  Gradients and losses are added up weighted by the tokens that loss_mask_BT
  keeps, so that each token of the batch counts the same: the step of the whole
  batch, but for the order of its sums.

  Args:
    value_and_grad: (params, batch, key) -> ((loss, metrics), gradients), as
      `jax.value_and_grad` makes it.
    n_micro: parts of the batch, computed one after the other.

  Returns:
    A function of the same arguments and results.
  """

  def of_whole(params, batch, key):
    n_tokens = jnp.maximum(batch['loss_mask_BT'].sum(), 1)

    def add(sums, xs):
      part, part_key = xs
      (loss, metrics), grads = value_and_grad(params, part, part_key)
      share = part['loss_mask_BT'].sum() / n_tokens
      shared = jax.tree.map(lambda x: share * x, (loss, grads))
      return jax.tree.map(jnp.add, sums, shared), metrics

    start = jax.tree.map(jnp.zeros_like, (jnp.float32(0), params))
    xs = micro_batches(batch, n_micro), jax.random.split(key, n_micro)
    (loss, grads), metrics = jax.lax.scan(add, start, xs)
    joined = {name: _join(name, parts) for name, parts in metrics.items()}
    return (loss, joined), grads

  return of_whole


def _join(name, parts):
  """A metric of the batch from those of its micro-batches."""
  fns = {'max_': jnp.max, 'min_': jnp.min}
  return jax.tree.map(lambda x: fns.get(name[:4], jnp.sum)(x, axis=0), parts)


def micro_batches(batch: types.Batch, n_micro: int) -> types.Batch:
  """A batch with a leading axis of parts: every n-th row, so none moves."""
  return {
    name: jnp.swapaxes(x.reshape(-1, n_micro, *x.shape[1:]), 0, 1)
    for name, x in batch.items()
  }


def map_micro_batches(
  fn: Callable[[types.Batch], types.Batch], batch: types.Batch, n_micro: int
) -> types.Batch:
  """What fn gives of each row, for micro-batches one after the other.

  Args:
    fn: from rows of a batch to arrays with as many rows.
    batch: all rows.
    n_micro: parts.

  Returns:
    The arrays, in the order of the batch's rows.
  """
  if n_micro == 1:
    return fn(batch)
  return jax.tree.map(
    lambda x: jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:]),
    jax.lax.map(fn, micro_batches(batch, n_micro)),
  )
