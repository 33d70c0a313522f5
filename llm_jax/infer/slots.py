"""The device's part of generation: rows in which answers come and go.

Three compiled functions: `prefill` reads prompts, `admit` starts answers to
them in free rows, as many to one prompt as are wanted, `decode` draws tokens.
Each row has its own position, rules, stop tokens and limit. Which request is in
which row is known to the host only; see engine.py.
"""

import contextlib
import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from llm_jax import types
from llm_jax.infer import quantize, sampling
from llm_jax.model import config, kv_cache, transformer
from llm_jax.parallel import device_mesh

MAX_STOP_IDS = 8
# What is given of each answer that starts; see `start` and `with_features`.
GIVEN = {
  *('n_left_B', 'stop_BJ', 'seed_B', 'offset_B', 'temperature_B'),
  *('top_k_B', 'top_p_B', 'min_p_B', 'repetition_penalty_B', 'banned_BV'),
}
State = dict[str, Any]


class Plan(NamedTuple):
  """What is compiled for: the same for the life of an engine."""

  cfg: config.ModelConfig
  n_rows: int  # answers that are made at once
  n_slots: int  # tokens that a row can hold, a prompt and its answer
  max_chunk: int = 16  # tokens that a row draws in one call of decode
  n_top: int = 0  # most likely tokens of each draw that are kept
  int8_cache: bool = False  # halve the memory of keys and values
  # Where the parameters live, to split rows over it; None: one device.
  mesh: Mesh | None = None


class Prefix(NamedTuple):
  """Prompts that were read, ready to be answered."""

  prompt_PT: jax.Array
  length_P: jax.Array
  cache: types.Params
  hidden_PD: jax.Array  # behind the last token of each


def _on(mesh):
  if mesh is None:
    return contextlib.nullcontext()
  return jax.sharding.use_abstract_mesh(mesh.abstract_mesh)


def start(plan: Plan) -> State:
  """All rows empty."""

  def make():
    rows, width = plan.n_rows, plan.max_chunk + 1
    state = {
      'cache': kv_cache.init(
        plan.cfg, rows, n_slots=plan.n_slots, int8=plan.int8_cache
      ),
      'token_B': jnp.zeros(rows, jnp.int32),  # the last one, not yet read
      'position_B': jnp.zeros(rows, jnp.int32),  # its slot
      'done_B': jnp.ones(rows, bool),
      'n_left_B': jnp.zeros(rows, jnp.int32),
      'stop_BJ': jnp.full((rows, MAX_STOP_IDS), -1, jnp.int32),
      'seed_B': jnp.zeros(rows, jnp.uint32),
      'offset_B': jnp.zeros(rows, jnp.int32),  # tokens that have slid out
      'temperature_B': jnp.ones(rows, jnp.float32),
      # What was drawn since the last call of decode.
      'n_out_B': jnp.zeros(rows, jnp.int32),
      'out_token_BC': jnp.zeros((rows, width), jnp.int32),
      'out_logp_BC': jnp.zeros((rows, width), jnp.float32),
    }
    if plan.n_top:
      state |= {
        'out_model_logp_BC': jnp.zeros((rows, width)),
        'out_top_token_BCJ': jnp.zeros((rows, width, plan.n_top), jnp.int32),
        'out_top_logp_BCJ': jnp.zeros((rows, width, plan.n_top)),
      }
    return state

  if plan.mesh is None:
    return make()
  mesh, n_leading = plan.mesh, 0 if plan.cfg.unroll_layers else 1

  def sharding(path, x):
    axes: list[Any] = [device_mesh.BATCH[0]]
    if getattr(path[0], 'key', '') == 'cache':
      axes = [None] * n_leading + [*axes, 'tensor']
    spec = device_mesh.fit(mesh, PartitionSpec(*axes), x.shape)
    return NamedSharding(mesh, spec)

  shardings = jax.tree_util.tree_map_with_path(sharding, jax.eval_shape(make))
  return jax.jit(make, out_shardings=shardings)()


def with_features(plan: Plan, state: State, names: Iterable[str]) -> State:
  """Compile features in, where they are not yet: rows in flight lack them.

  Args:
    plan: the engine's.
    state: of all rows.
    names: of truncation, repetition_penalty and banned.
  """
  rows = plan.n_rows
  table = (rows, plan.cfg.padded_vocab_size)
  arrays = {
    'truncation': {
      'top_k_B': (0, rows, jnp.int32),
      'top_p_B': (1, rows, jnp.float32),
      'min_p_B': (0, rows, jnp.float32),
    },
    'repetition_penalty': {
      'repetition_penalty_B': (1, rows, jnp.float32),
      'seen_BV': (0, table, bool),
    },
    'banned': {'banned_BV': (0, table, bool)},
  }
  wanted = {k: x for name in names for k, x in arrays[name].items()}
  return state | {
    name: jnp.full(shape, value, dtype)
    for name, (value, shape, dtype) in wanted.items()
    if name not in state
  }


@functools.partial(jax.jit, static_argnums=0)
def prefill(
  plan: Plan, params: types.Params, prompt_PT: jax.Array, length_P: jax.Array
) -> Prefix:
  """Read prompts, padded on the right.

  Args:
    plan: the engine's.
    params: of the model, or quantize.int8 of them.
    prompt_PT: token ids; what stands behind a prompt is not seen by it.
    length_P: tokens of each, at least 1.

  Returns:
    The prefix of each.
  """
  with _on(plan.mesh):
    params = quantize.as_arrays(params, plan.cfg.dtype)
    n_rows, length = prompt_PT.shape
    cache = kv_cache.init(
      plan.cfg, n_rows, n_slots=length, int8=plan.int8_cache
    )
    # Slots behind a prompt hold rubbish until its answer overwrites them; no
    # query sees a slot beyond its own position.
    hidden_PTD, cache, _ = transformer.apply(
      plan.cfg, params, prompt_PT, cache=cache, n_read=0
    )
    last_P11 = (length_P - 1)[:, None, None]
    hidden_P1D = jnp.take_along_axis(hidden_PTD, last_P11, axis=1)
    return Prefix(prompt_PT, length_P, cache=cache, hidden_PD=hidden_P1D[:, 0])


@functools.partial(jax.jit, static_argnames='plan', donate_argnames='state')
def admit(
  plan: Plan,
  params: types.Params,
  state: State,
  prefix: Prefix,
  row_B: jax.Array,
  new: dict[str, jax.Array],
) -> State:
  """Start answers in free rows, each with its first token.

  Args:
    plan: the engine's.
    params: of the model.
    state: of all rows.
    prefix: P prompts.
    row_B: the prompt that a row answers from now on; -1: it goes on as it was.
    new: n_left_B, stop_BJ, seed_B, offset_B and the rules of the new answers.

  Returns:
    The state.
  """
  with _on(plan.mesh):
    params = quantize.as_arrays(params, plan.cfg.dtype)
    is_new_B, at_B = row_B >= 0, jnp.maximum(row_B, 0)
    if 'seen_BV' in state:
      n_tokens = state['seen_BV'].shape[1]
      is_prompt_PT = (
        jnp.arange(prefix.prompt_PT.shape[1])[None] < prefix.length_P[:, None]
      )
      token_PT = jnp.where(is_prompt_PT, prefix.prompt_PT, n_tokens)
      rows_P1 = jnp.arange(len(token_PT))[:, None]
      seen_PV = jnp.zeros((len(token_PT), n_tokens), bool)
      seen_PV = seen_PV.at[rows_P1, token_PT].set(True, mode='drop')
      new = new | {'seen_BV': seen_PV[at_B]}
    new = new | {
      'position_B': prefix.length_P[at_B] - 1,
      'done_B': jnp.zeros_like(is_new_B),
    }
    merged = {
      name: jnp.where(is_new_B.reshape(-1, *[1] * (x.ndim - 1)), x, state[name])
      for name, x in new.items()
    }
    cache = kv_cache.copy_rows(state['cache'], prefix.cache, row_B)
    logits_P1V = transformer.unembed(
      plan.cfg, params, prefix.hidden_PD[:, None]
    )
    state = state | merged | {'cache': cache}
    return _draw(plan, state, logits_BV=logits_P1V[at_B, 0], live_B=is_new_B)


@functools.partial(
  jax.jit, static_argnames=('plan', 'n_read'), donate_argnames='state'
)
def decode(
  plan: Plan,
  n_read: int,
  params: types.Params,
  state: State,
  released_B: jax.Array,
) -> tuple[State, dict[str, Any]]:
  """Draw up to max_chunk tokens a row; ends early when every row is done.

  Args:
    plan: the engine's.
    n_read: slots that are read; those of live rows must stay below it.
    params: of the model.
    state: of all rows.
    released_B: rows whose answers nobody wants any more.

  Returns:
    The state; and what was drawn since the last call, with n_out_B, done_B and
    n_steps, the steps that were done.
  """
  state = state | {'done_B': state['done_B'] | released_B}
  if plan.cfg.unroll_layers:
    params = transformer.unstack(params)

  def step(carry):
    n_done, state = carry
    # In here, so that the compiler need not keep all weights as floats.
    floats = quantize.as_arrays(params, plan.cfg.dtype)
    hidden_B1D, cache, _ = transformer.apply(
      plan.cfg,
      floats,
      tokens_BT=state['token_B'][:, None],
      positions_BT=state['position_B'][:, None],
      cache=state['cache'],
      n_read=n_read,
    )
    logits_B1V = transformer.unembed(plan.cfg, floats, hidden_B1D)
    state, live_B = state | {'cache': cache}, ~state['done_B']
    state = _draw(plan, state, logits_BV=logits_B1V[:, 0], live_B=live_B)
    return n_done + 1, state

  def more(carry):
    n_done, state = carry
    return (n_done < plan.max_chunk) & ~jnp.all(state['done_B'])

  with _on(plan.mesh):
    n_done, state = jax.lax.while_loop(more, step, (0, state))
  drawn = {name: x for name, x in state.items() if name.startswith('out_')}
  drawn |= {'n_out_B': state['n_out_B'], 'done_B': state['done_B']}
  state = state | {'n_out_B': jnp.zeros_like(state['n_out_B'])}
  return state, drawn | {'n_steps': n_done}


def _draw(plan, state, logits_BV, live_B):
  """Draw a token for each live row and append it."""
  rules = sampling.Rules(
    **{n: state[n] for n in sampling.Rules._fields if n in state}
  )
  position_B = state['position_B'] + 1
  token_B, logp_B = sampling.sample(
    logits_BV,
    rules,
    seed_B=state['seed_B'],
    position_B=position_B + state['offset_B'],
  )
  rows_B = jnp.arange(plan.n_rows)
  # Rows that are not live write what is not counted.

  def put(name, new):
    return {name: state[name].at[rows_B, state['n_out_B']].set(new)}

  changed = put('out_token_BC', token_B) | put('out_logp_BC', logp_B)
  if plan.n_top:
    top_token_BJ, top_logp_BJ = sampling.top(logits_BV, plan.n_top)
    logp_BV = jax.nn.log_softmax(logits_BV, axis=-1)
    model_logp_B1 = jnp.take_along_axis(logp_BV, token_B[:, None], axis=-1)
    changed |= put('out_top_token_BCJ', top_token_BJ)
    changed |= put('out_top_logp_BCJ', top_logp_BJ)
    changed |= put('out_model_logp_BC', model_logp_B1[:, 0])
  if 'seen_BV' in state:
    new_BV = state['seen_BV'].at[rows_B, token_B].set(True)
    changed['seen_BV'] = jnp.where(live_B[:, None], new_BV, state['seen_BV'])
  n_left_B = state['n_left_B'] - live_B
  is_stop_B = jnp.any(state['stop_BJ'] == token_B[:, None], axis=1)
  is_done_B = is_stop_B | (n_left_B <= 0)
  changed |= {
    'token_B': jnp.where(live_B, token_B, state['token_B']),
    'position_B': jnp.where(live_B, position_B, state['position_B']),
    'n_left_B': n_left_B,
    'n_out_B': state['n_out_B'] + live_B,
    'done_B': jnp.where(live_B, is_done_B, state['done_B']),
  }
  return state | changed
