"""Mixture of experts: which experts a token takes, and what they make of it.

No token is dropped, however uneven the choice: arrays are as large as the
worst case. Does not hold parameters and has no shared expert; see layer.py.
"""

import functools
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from llm_jax.parallel import device_mesh

_MAX_BLOCK = 512  # rows of a block, see `_lay_out`


def route(
  logits_BTE: jax.Array, n_chosen: int, is_normalized: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Choose the likeliest experts of each token.

  p = softmax(logits); weights are the n largest p, over their sum if
  normalized. balance = E sum_e (share of choices that fell on e) (mean p of
  e): 1 when experts are used evenly, E / n when all tokens take the same n.

  Args:
    logits_BTE: float32, of the router.
    n_chosen: experts of a token.
    is_normalized: whether the weights of a token add up to 1.

  Returns:
    weight_BTJ and expert_BTJ of the chosen ones, and the scalar balance.
    Padding tokens count in it too.

  Source: softmax before top-k as in arXiv:2401.04088 and Qwen3's report,
  arXiv:2505.09388; balance arXiv:2101.03961 eq. 4, over the whole batch.
  """
  chex.assert_rank(logits_BTE, 3)
  p_BTE = jax.nn.softmax(logits_BTE, axis=-1)
  weight_BTJ, expert_BTJ = jax.lax.top_k(p_BTE, n_chosen)
  if is_normalized:
    weight_BTJ = weight_BTJ / weight_BTJ.sum(axis=-1, keepdims=True)
  n_experts = logits_BTE.shape[-1]
  share_E = jax.nn.one_hot(expert_BTJ, n_experts).mean(axis=(0, 1, 2))
  balance = n_experts * jnp.sum(share_E * p_BTE.mean(axis=(0, 1)))
  return weight_BTJ, expert_BTJ, balance


def mix(
  x_BTD: jax.Array,
  weight_BTJ: jax.Array,
  expert_BTJ: jax.Array,
  matrices: dict[str, jax.Array],
  act: Callable[[jax.Array], jax.Array],
) -> jax.Array:
  """Weighted sum of what each token's experts make of it.

  sum_j weight_j (act(x gate) * (x up)) down of expert j; act(x up) down where
  there is no gate. On a mesh every part of the axis `expert` gathers the
  tokens of all parts, runs its own experts on them, and the results are added.

  Args:
    x_BTD: activations.
    weight_BTJ: from `route`.
    expert_BTJ: from `route`.
    matrices: gate (if any) and up, E x D x F; down, E x F x D.
    act: the activation.

  Returns:
    y_BTD. Slow twin: `_mlp` of tests/model/slow_transformer.py.

  Raises:
    ValueError: if the axis `expert` does not divide the experts, or `tensor`
      their width.
  """
  run = functools.partial(_mix_local, act=act)
  mesh = device_mesh.current()
  if mesh is None:
    return run(
      x_BTD, weight_BTJ, expert_BTJ, matrices=matrices, first=jnp.int32(0)
    )
  n_experts, _, d_ff = matrices['up'].shape
  for name, size, axis in (
    ('n_experts', n_experts, 'expert'),
    ('d_ff', d_ff, 'tensor'),
  ):
    if size % mesh.shape[axis]:
      raise ValueError(
        f'{name} {size} is not a multiple of the mesh axis {axis} = '
        f'{mesh.shape[axis]}; use a divisor of {size} there'
      )

  def part(x_BTD, weight_BTJ, expert_BTJ, matrices):
    n_here = matrices['up'].shape[0]
    first = jax.lax.axis_index('expert') * n_here
    y_BTD = run(x_BTD, weight_BTJ, expert_BTJ, matrices=matrices, first=first)
    return jax.lax.psum(y_BTD, ('expert', 'tensor'))

  rows = device_mesh.fit(mesh, device_mesh.EXPERT_ROWS, x_BTD.shape)
  specs = dict.fromkeys(matrices, PartitionSpec('expert', None, 'tensor'))
  specs['down'] = PartitionSpec('expert', 'tensor', None)
  return jax.shard_map(
    part, in_specs=(rows, rows, rows, specs), out_specs=rows
  )(x_BTD, weight_BTJ, expert_BTJ, matrices)


def _mix_local(x_BTD, weight_BTJ, expert_BTJ, matrices, first, act):
  """`mix` over the experts first, first + 1, ... whose matrices are given."""
  batch, length, d_model = x_BTD.shape
  n_chosen = expert_BTJ.shape[-1]
  slot_X, token_X, expert_C, size_E = _lay_out(
    expert_BTJ.reshape(-1) - first, n_chosen, matrices['up'].shape[0]
  )
  x_XD = x_BTD.reshape(-1, d_model)
  x_XD = jnp.concatenate([x_XD, jnp.zeros_like(x_XD[:1])])[token_X]
  project = functools.partial(_project, expert_C=expert_C, size_E=size_E)
  y_XF = project(x_XD, matrices['up'])
  if 'gate' in matrices:
    y_XF = act(project(x_XD, matrices['gate'])) * y_XF
  else:
    y_XF = act(y_XF)
  y_XD = project(y_XF, matrices['down'])
  y_XD = jnp.concatenate([y_XD, jnp.zeros_like(y_XD[:1])])[slot_X]
  y_BTJD = y_XD.reshape(batch, length, n_chosen, d_model)
  return jnp.einsum('BTJD,BTJ->BTD', y_BTJD, weight_BTJ.astype(y_XD.dtype))


def _lay_out(expert_X, n_chosen, n_experts):
  """Give each choice a slot, in blocks of one expert each, sorted by expert.

  Args:
    expert_X: the choices of all tokens; not in [0, n_experts): left out.
    n_chosen: choices of a token; those of token i are i * n_chosen and after.
    n_experts: experts that are here.

  Returns:
    slot_X of each choice, or the number of slots where it is left out; token_X
    of each slot, or the number of tokens where it is empty; expert_C of each
    block; size_E, the slots of each expert, empty ones at its end with them.
  """
  n_choices = expert_X.size
  # Half a block an expert is empty on average: small blocks waste less, large
  # ones read the matrices less often.
  per_expert = max(n_choices // n_experts, 1)
  block = min(_MAX_BLOCK, max(8, 1 << (per_expert // 2).bit_length()))
  n_blocks = n_choices // block + min(n_experts, n_choices)
  chosen_XE = expert_X[:, None] == jnp.arange(n_experts)[None]
  rank_XE = jnp.cumsum(chosen_XE, axis=0, dtype=jnp.int32)  # from 1
  size_E = -(-rank_XE[-1] // block) * block
  end_E = jnp.cumsum(size_E)
  slot_XE = (end_E - size_E)[None] + rank_XE - 1
  slot_X = jnp.min(slot_XE, axis=1, where=chosen_XE, initial=n_blocks * block)
  token_X = jnp.full(n_blocks * block, n_choices // n_chosen)
  token_X = token_X.at[slot_X].set(
    jnp.arange(n_choices) // n_chosen, mode='drop'
  )
  at_C1 = block * jnp.arange(n_blocks)[:, None]
  expert_C = jnp.sum(end_E[None] <= at_C1, axis=1)
  return slot_X, token_X, jnp.minimum(expert_C, n_experts - 1), size_E


def _project(x_XD, w_EDF, expert_C, size_E):
  """Each slot times the matrix of its expert.

  A TPU has a kernel that skips what is empty; elsewhere the same call would
  multiply each row with every expert, so there it is a product for each block.
  Held equal by tests/model/experts_test.py.
  """
  return jax.lax.platform_dependent(
    x_XD, w_EDF, expert_C, size_E, tpu=by_ragged_dot, default=by_blocks
  )


def by_ragged_dot(x_XD, w_EDF, expert_C, size_E):
  """`_project` by the product that XLA has for groups of rows."""
  del expert_C
  return jax.lax.ragged_dot(x_XD, w_EDF, size_E)


def by_blocks(x_XD, w_EDF, expert_C, size_E):
  """`_project` by a product for each block."""
  del size_E
  n_blocks, (n_rows, width) = expert_C.size, x_XD.shape
  x_CXD = x_XD.reshape(n_blocks, n_rows // n_blocks, width)
  y_CXF = jnp.einsum('CXD,CDF->CXF', x_CXD, w_EDF[expert_C])
  return y_CXF.reshape(n_rows, -1)
