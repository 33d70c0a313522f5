"""Sampling of answers from a model: batches of prompts, or one as a stream.

Takes token ids, never text. Rows have their own positions and are padded on
the right; slots of finished rows are not refilled.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from llm_jax import types
from llm_jax.infer import sampling
from llm_jax.model import attention, config, transformer
from llm_jax.parallel import mesh as mesh_lib

_MIN_BUCKET = 16  # prompts are padded to a power of two, at least this


@dataclasses.dataclass(frozen=True)
class Request:
  """How to continue a prompt."""

  max_new_tokens: int
  stop_ids: tuple[int, ...]  # any of them ends an answer, and is kept in it
  temperature: float = 1.0  # 0: always the most likely token
  banned_ids: tuple[int, ...] = ()  # never drawn


@dataclasses.dataclass(frozen=True)
class Answer:
  """The continuation of one prompt."""

  token_ids: list[int]  # without the prompt; ends in the stop token if any
  logps: list[float]  # nats of each token under the distribution drawn from
  stopped: bool  # False: cut off by max_new_tokens


def generate(
  cfg: config.ModelConfig,
  params: types.Params,
  prompts: Sequence[Sequence[int]],
  seeds: Sequence[int],
  request: Request,
  batch_size: int,
  mesh: Mesh | None = None,
  on_answer: Callable[[int, Answer], None] | None = None,
) -> list[Answer]:
  """Continue prompts, batch_size at a time, in shapes that do not vary.

  Args:
    cfg: the model.
    params: its parameters.
    prompts: token ids of each prompt, at least one id each.
    seeds: one for each prompt, in [0, 2^32); the same prompt, seed and
      request give the same answer in any batch.
    request: length limit, stop tokens and temperature of all of them.
    batch_size: rows that run together.
    mesh: where the parameters live, to split rows over it; None: one device.
    on_answer: called with a prompt's index and answer as soon as it is there.

  Returns:
    One answer a prompt, in order.

  Raises:
    ValueError: if a prompt is empty or leaves no room for max_new_tokens.
  """
  if len(prompts) != len(seeds):
    raise ValueError(
      f'{len(prompts)} prompts but {len(seeds)} seeds; give one seed a prompt'
    )
  check(cfg, prompts, request)
  bucket = _bucket(max(map(len, prompts)))
  answers: list[Answer] = []
  for start in range(0, len(prompts), batch_size):
    rows = list(prompts[start : start + batch_size])
    n_rows = len(rows)
    rows += [rows[-1]] * (batch_size - n_rows)  # dummies, finished at once
    row_seeds = list(seeds[start : start + n_rows]) + [0] * (
      batch_size - n_rows
    )
    state = _start(cfg, params, rows, row_seeds, request, bucket, n_rows, mesh)
    state = _decode(cfg, request.max_new_tokens, params, state)
    answers += _collect(state, n_rows)
    if on_answer is not None:
      for i in range(start, start + n_rows):
        on_answer(i, answers[i])
  return answers


def stream(
  cfg: config.ModelConfig,
  params: types.Params,
  prompt: Sequence[int],
  seed: int,
  request: Request,
  chunk: int = 4,
) -> Iterator[int]:
  """Continue one prompt, token by token as they come.

  Args:
    cfg: the model.
    params: its parameters.
    prompt: token ids.
    seed: seed of the request; gives the same tokens as `generate`.
    request: length limit, stop tokens and temperature.
    chunk: tokens drawn between two looks of the host.

  Yields:
    Token ids; the stop token is the last if one was drawn.
  """
  check(cfg, [prompt], request)
  state = _start(
    cfg, params, [prompt], [seed], request, _bucket(len(prompt)), 1, None
  )
  n_sent = 0
  while True:
    answer = _collect(state, 1)[0]
    yield from answer.token_ids[n_sent:]
    n_sent = len(answer.token_ids)
    if bool(np.asarray(state['done_B'])[0]):
      return
    state = _decode(cfg, chunk, params, state)


def check(
  cfg: config.ModelConfig,
  prompts: Sequence[Sequence[int]],
  request: Request,
) -> None:
  """Refuse prompts that cannot be continued as asked.

  Args:
    cfg: the model.
    prompts: token ids of each prompt.
    request: how they are to be continued.

  Raises:
    ValueError: if there is no prompt, or one is empty or leaves no room for
      max_new_tokens.
  """
  if not prompts:
    raise ValueError('no prompts to continue; give at least one')
  if request.max_new_tokens < 1:
    raise ValueError(f'max_new_tokens {request.max_new_tokens}; use 1 or more')
  for i, prompt in enumerate(prompts):
    if not prompt:
      raise ValueError(f'prompt {i} is empty; start it with an end-of-text id')
    if len(prompt) + request.max_new_tokens > cfg.max_length:
      raise ValueError(
        f'prompt {i} has {len(prompt)} tokens; with max_new_tokens '
        f'{request.max_new_tokens} it exceeds max_length {cfg.max_length}; '
        'shorten the prompt or ask for fewer tokens'
      )


def _bucket(length: int) -> int:
  return max(_MIN_BUCKET, 1 << (length - 1).bit_length())


def _start(cfg, params, prompts, seeds, request, bucket, n_live, mesh):
  """Read the prompts and draw the first token of each row."""
  batch_size = len(prompts)
  prompt_BT = np.zeros((batch_size, bucket), np.int32)
  for row, prompt in enumerate(prompts):
    prompt_BT[row, : len(prompt)] = prompt
  bias_V = np.zeros(cfg.padded_vocab_size, np.float32)
  bias_V[list(request.banned_ids)] = attention.MASKED
  rows = {
    'prompt_BT': prompt_BT,
    'length_B': np.array([len(p) for p in prompts], np.int32),
    'seed_B': np.array(seeds, np.uint32),
    'temperature_B': np.full(batch_size, request.temperature, np.float32),
    'done_B': np.arange(batch_size) >= n_live,
  }
  if mesh is not None:
    rows = mesh_lib.put_batch(mesh, rows)
  stop_V = np.zeros(cfg.padded_vocab_size, bool)
  stop_V[list(request.stop_ids)] = True
  return _prefill(cfg, request.max_new_tokens, params, rows, bias_V, stop_V)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _prefill(cfg, n_new, params, rows, bias_V, stop_V):
  prompt_BT, length_B = rows['prompt_BT'], rows['length_B']
  batch_size, bucket = prompt_BT.shape
  cache = transformer.init_cache(cfg, batch_size, bucket + n_new)
  positions_BT = jnp.broadcast_to(
    jnp.arange(bucket, dtype=jnp.int32)[None], prompt_BT.shape
  )
  # Slots past a row's prompt hold rubbish until its own tokens overwrite
  # them; no query sees a slot beyond its own position.
  hidden_BTD, cache = transformer.apply(
    cfg, params, prompt_BT, positions_BT, cache=cache
  )
  last_B11 = (length_B - 1)[:, None, None]
  hidden_B1D = jnp.take_along_axis(hidden_BTD, last_B11, axis=1)
  state = {
    'cache': cache,
    'bias_V': bias_V,
    'stop_V': stop_V,
    'length_B': length_B,
    'seed_B': rows['seed_B'],
    'temperature_B': rows['temperature_B'],
    'done_B': rows['done_B'],
    'n_new_B': jnp.zeros_like(length_B),
    'token_BT': jnp.zeros((batch_size, n_new), jnp.int32),
    'logp_BT': jnp.zeros((batch_size, n_new), jnp.float32),
  }
  return _draw(cfg, params, state, hidden_B1D)


def _draw(cfg, params, state, hidden_B1D):
  """Draw a token for each row that is not done and append it."""
  logits_B1V = transformer.unembed(cfg, params, hidden_B1D)
  live_B, n_new_B = ~state['done_B'], state['n_new_B']
  token_B, logp_B = sampling.sample(
    logits_B1V[:, 0] + state['bias_V'][None],
    state['temperature_B'],
    state['seed_B'],
    state['length_B'] + n_new_B,
  )
  rows_B = jnp.arange(token_B.shape[0])
  # Finished rows keep their last entry: it is rewritten with itself.
  at_B = jnp.where(live_B, n_new_B, jnp.maximum(n_new_B - 1, 0))

  def append(x_BT, new_B):
    return x_BT.at[rows_B, at_B].set(
      jnp.where(live_B, new_B, x_BT[rows_B, at_B])
    )

  n_new_B = n_new_B + live_B
  limit = state['token_BT'].shape[1]
  return state | {
    'token_BT': append(state['token_BT'], token_B),
    'logp_BT': append(state['logp_BT'], logp_B),
    'n_new_B': n_new_B,
    'done_B': state['done_B'] | state['stop_V'][token_B] | (n_new_B >= limit),
  }


@functools.partial(jax.jit, static_argnums=0, donate_argnums=3)
def _decode(cfg, n_steps, params, state):
  """Draw up to n_steps tokens a row; stops early when every row is done."""
  rows_B = jnp.arange(state['done_B'].shape[0])

  def step(carry):
    n_done, state = carry
    last_B = jnp.maximum(state['n_new_B'] - 1, 0)
    token_B1 = state['token_BT'][rows_B, last_B][:, None]
    position_B1 = (state['length_B'] + last_B)[:, None]
    hidden_B1D, cache = transformer.apply(
      cfg, params, token_B1, position_B1, cache=state['cache']
    )
    return n_done + 1, _draw(cfg, params, state | {'cache': cache}, hidden_B1D)

  def more(carry):
    n_done, state = carry
    return (n_done < n_steps) & ~jnp.all(state['done_B'])

  return jax.lax.while_loop(more, step, (0, state))[1]


def _collect(state, n_rows) -> list[Answer]:
  names = ('token_BT', 'logp_BT', 'n_new_B', 'stop_V')
  fetched = multihost_utils.process_allgather(
    {k: state[k] for k in names}, tiled=True
  )
  answers = []
  for row in range(n_rows):
    n = int(fetched['n_new_B'][row])
    ids = [int(i) for i in fetched['token_BT'][row, :n]]
    logps = [float(x) for x in fetched['logp_BT'][row, :n]]
    answers.append(Answer(ids, logps, bool(ids and fetched['stop_V'][ids[-1]])))
  return answers
