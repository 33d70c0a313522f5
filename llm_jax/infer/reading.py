"""What a model makes of given tokens; nothing is drawn.

Texts of similar length are computed together, in few shapes, so that little is
compiled. No text sees another, and what fills a row up changes nothing.
"""

import functools
from collections.abc import Callable, Iterator, Sequence

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
  for i, logp_T in _read(_logp, cfg, params, pairs=pairs, n_rows=batch_size):
    first, rest = pairs[i]
    found[i] = logp_T[len(first) - 1 :][: len(rest)]
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
  fn: Callable[..., jax.Array],
  cfg: model_config.ModelConfig,
  params: types.Params,
  pairs: Sequence[Pair],
  n_rows: int,
) -> Iterator[tuple[int, np.ndarray]]:
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
    found_BT = np.asarray(fn(cfg, params, ids_BT))
    for row, i in enumerate(chosen):
      yield i, found_BT[row, : lengths[i]]


@functools.partial(jax.jit, static_argnums=0)
def _logp(cfg, params, ids_BT):
  batch = {'inputs_BT': ids_BT[:, :-1], 'targets_BT': ids_BT[:, 1:]}
  return likelihood.of_targets(cfg, params, batch).logp_BT


@functools.partial(jax.jit, static_argnums=0)
def _hidden(cfg, params, ids_BT):
  hidden_BTD, *_ = transformer.apply(cfg, params, ids_BT)
  return hidden_BTD.astype(jnp.float32)


@functools.partial(jax.jit, static_argnums=0)
def _scores(cfg, params, ids_BT):
  return value_head.apply(params[value_head.NAME], _hidden(cfg, params, ids_BT))
