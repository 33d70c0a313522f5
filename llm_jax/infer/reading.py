"""What a model makes of given tokens; nothing is drawn.

Texts of similar length are computed together, in few shapes, so that little is
compiled. No text sees another, and what fills a row up changes nothing.
"""

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from llm_jax import types
from llm_jax.infer import engine
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
  for chosen, ids_BT in _batches(cfg, pairs, batch_size):
    logp_BT = np.asarray(_logp(cfg, params, ids_BT))
    for row, index in enumerate(chosen):
      first, rest = pairs[index]
      found[index] = logp_BT[row, len(first) - 1 :][: len(rest)]
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
  for chosen, ids_BT in _batches(cfg, pairs, batch_size):
    hidden_BTD = np.asarray(_hidden(cfg, params, ids_BT))
    for row, index in enumerate(chosen):
      first, rest = pairs[index]
      mean_BD[index] = hidden_BTD[row, len(first) :][: len(rest)].mean(axis=0)
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
  for chosen, ids_BT in _batches(cfg, pairs, batch_size):
    score_BT = np.asarray(_scores(cfg, params, ids_BT))
    for row, index in enumerate(chosen):
      score_B[index] = score_BT[row, sum(map(len, pairs[index])) - 1]
  return score_B


def _batches(
  cfg: model_config.ModelConfig, pairs: Sequence[Pair], batch_size: int
) -> Iterator[tuple[list[int], np.ndarray]]:
  """Indices of pairs of similar length, and their ids in rows."""
  lengths = [len(first) + len(rest) for first, rest in pairs]
  for (first, rest), length in zip(pairs, lengths, strict=True):
    if not first or not rest or length > cfg.max_length:
      raise ValueError(
        f'{len(first)} tokens and {len(rest)} behind them: give one of each at '
        f'least, and no more than {cfg.max_length} together, which the model '
        'can read'
      )
  by_length = sorted(range(len(pairs)), key=lengths.__getitem__)
  for start in range(0, len(pairs), batch_size):
    chosen = by_length[start : start + batch_size]
    n_slots = min(engine.bucket(lengths[chosen[-1]]), cfg.max_length)
    ids_BT = np.zeros((batch_size, n_slots), np.int32)
    for row, index in enumerate(chosen):
      first, rest = pairs[index]
      ids_BT[row, : lengths[index]] = [*first, *rest]
    yield chosen, ids_BT


def _positions(ids_BT: jax.Array) -> jax.Array:
  return jax.lax.broadcasted_iota(jnp.int32, ids_BT.shape, 1)


@functools.partial(jax.jit, static_argnums=0)
def _logp(
  cfg: model_config.ModelConfig, params: types.Params, ids_BT: jax.Array
) -> jax.Array:
  inputs_BT = ids_BT[:, :-1]
  batch = {
    'inputs_BT': inputs_BT,
    'targets_BT': ids_BT[:, 1:],
    'positions_BT': _positions(inputs_BT),
  }
  return likelihood.of_targets(cfg, params, batch).logp_BT


@functools.partial(jax.jit, static_argnums=0)
def _hidden(
  cfg: model_config.ModelConfig, params: types.Params, ids_BT: jax.Array
) -> jax.Array:
  hidden_BTD, *_ = transformer.apply(
    cfg, params, ids_BT, positions_BT=_positions(ids_BT)
  )
  return hidden_BTD.astype(jnp.float32)


@functools.partial(jax.jit, static_argnums=0)
def _scores(
  cfg: model_config.ModelConfig, params: types.Params, ids_BT: jax.Array
) -> jax.Array:
  return value_head.apply(params[value_head.NAME], _hidden(cfg, params, ids_BT))
