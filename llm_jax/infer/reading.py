"""What a model makes of given tokens; nothing is drawn.

Texts of similar length are computed together, in few shapes, so that little is
compiled. No text sees another, and what fills a row up changes nothing.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from llm_jax import types
from llm_jax.infer import engine, quantize, sampling
from llm_jax.model import config as model_config
from llm_jax.model import likelihood, transformer, value_head

# Ids that are read, one at least, and those behind them that are asked about.
Pair = tuple[Sequence[int], Sequence[int]]


def logp(
  cfg: model_config.ModelConfig,
  params: types.Params,
  pairs: Sequence[Pair],
  batch_size: int,
) -> list[np.ndarray]:
  """Log-probabilities of given tokens behind others.

  Args:
    cfg: the model.
    params: its parameters.
    pairs: the texts.
    batch_size: texts computed together.

  Returns:
    Of each pair log p(token | tokens before it) of the latter ids, in nats.

  Raises:
    ValueError: for a pair without ids, or longer than the model can read.
  """
  found = [np.zeros(0)] * len(pairs)
  for i, logp_T in _read(_logp, cfg, params, pairs=pairs, n_rows=batch_size):
    first, rest = pairs[i]
    found[i] = logp_T[len(first) - 1 :][: len(rest)]
  return found


def likely(
  cfg: model_config.ModelConfig,
  params: types.Params,
  texts: Sequence[Sequence[int]],
  n_top: int,
  batch_size: int,
) -> list[list[engine.Choice]]:
  """What the model thought of each token of texts but the first.

  Args:
    cfg: the model.
    params: its parameters, or quantize.int8 of them.
    texts: ids, two at least.
    n_top: most likely tokens that are told of each place.
    batch_size: texts computed together.

  Returns:
    One choice for each token behind the first, as if it had been drawn.

  Raises:
    ValueError: for a text of fewer than two ids, or more than can be read.
  """
  found: list[list[engine.Choice]] = [[] for _ in texts]
  read = _read(
    functools.partial(_likely, min(n_top, cfg.vocab_size)),
    cfg,
    params,
    pairs=[(ids[:1], ids[1:]) for ids in texts],
    n_rows=batch_size,
  )
  for i, lists in read:
    rows = (x_T[: len(texts[i]) - 1].tolist() for x_T in lists)
    found[i] = [*map(engine.Choice, *rows)]
  return found


def mean_hidden(
  cfg: model_config.ModelConfig,
  params: types.Params,
  pairs: Sequence[Pair],
  batch_size: int,
) -> np.ndarray:
  """The mean of the last layer's states over the latter ids of each pair.

  Args and errors are those of `logp`.

  Returns:
    mean_BD, float32.
  """
  mean_BD = np.zeros((len(pairs), cfg.d_model), np.float32)
  read = _read(_hidden, cfg, params, pairs=pairs, n_rows=batch_size)
  for i, hidden_TD in read:
    mean_BD[i] = hidden_TD[len(pairs[i][0]) :].mean(axis=0)
  return mean_BD


def scores(
  cfg: model_config.ModelConfig,
  params: types.Params,
  pairs: Sequence[Pair],
  batch_size: int,
) -> np.ndarray:
  """What a reward model makes of answers: its head's score of the last token.

  Args and errors are those of `logp`; the latter ids of a pair are the answer,
  and the parameters hold a value head.

  Returns:
    score_B, float32.
  """
  score_B = np.zeros(len(pairs), np.float32)
  for i, score_T in _read(_scores, cfg, params, pairs=pairs, n_rows=batch_size):
    score_B[i] = score_T[-1]
  return score_B


def _read(
  fn: Callable[..., Any],  # arrays over rows and tokens
  cfg: model_config.ModelConfig,
  params: types.Params,
  pairs: Sequence[Pair],
  n_rows: int,
) -> Iterator[tuple[int, Any]]:
  """Index of each pair, and what fn makes of its ids, without padding."""
  lengths = [len(first) + len(rest) for first, rest in pairs]
  for (first, rest), length in zip(pairs, lengths, strict=True):
    if not first or not rest or length > cfg.max_length:
      raise ValueError(
        f'{len(first)} tokens and {len(rest)} behind them: give one of each at '
        f'least, and no more than {cfg.max_length} together, which the model '
        'can read'
      )
  by_length = sorted(range(len(pairs)), key=lengths.__getitem__)
  for start in range(0, len(pairs), n_rows):
    chosen = by_length[start : start + n_rows]
    n_slots = min(engine.bucket(lengths[chosen[-1]]), cfg.max_length)
    ids_BT = np.zeros((n_rows, n_slots), np.int32)
    for row, i in enumerate(chosen):
      ids_BT[row, : lengths[i]] = [*pairs[i][0], *pairs[i][1]]
    found = jax.device_get(fn(cfg, params, ids_BT))
    for row, i in enumerate(chosen):
      yield i, jax.tree.map(lambda x, r=row, n=lengths[i]: x[r, :n], found)


@functools.partial(jax.jit, static_argnums=0)
def _logp(cfg, params, ids_BT):
  batch = {'inputs_BT': ids_BT[:, :-1], 'targets_BT': ids_BT[:, 1:]}
  return likelihood.of_targets(cfg, params, batch).logp_BT


@functools.partial(jax.jit, static_argnums=(0, 1))
def _likely(n_top, cfg, params, ids_BT):
  params = quantize.as_arrays(params, cfg.dtype)
  hidden_BTD, *_ = transformer.apply(cfg, params, ids_BT)

  def one(place):  # not all at once: of each text T V logits
    hidden_BD, next_B = place
    logits_BV = transformer.unembed(cfg, params, hidden_BD[:, None])[:, 0]
    token_BJ, logp_BJ = sampling.top(logits_BV, n_top)
    logp_BV = jax.nn.log_softmax(logits_BV, axis=-1)
    of_next_B1 = jnp.take_along_axis(logp_BV, next_B[:, None], axis=1)
    return of_next_B1[:, 0], token_BJ, logp_BJ

  places = hidden_BTD[:, :-1].swapaxes(0, 1), ids_BT[:, 1:].T
  found = jax.lax.map(one, places)
  return jax.tree.map(lambda x: x.swapaxes(0, 1), found)


@functools.partial(jax.jit, static_argnums=0)
def _hidden(cfg, params, ids_BT):
  hidden_BTD, *_ = transformer.apply(cfg, params, ids_BT)
  return hidden_BTD.astype(jnp.float32)


@functools.partial(jax.jit, static_argnums=0)
def _scores(cfg, params, ids_BT):
  return value_head.apply(params[value_head.NAME], _hidden(cfg, params, ids_BT))
