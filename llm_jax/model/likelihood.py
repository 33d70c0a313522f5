"""Log-probabilities of a batch's targets under a model, and their values.

Does not reduce them to a loss; see losses/.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from llm_jax import types
from llm_jax.losses import next_token
from llm_jax.model import config, transformer, value_head


class Likelihood(NamedTuple):
  """What a model makes of a batch."""

  logp_BT: jax.Array  # of the targets, in nats, float32
  value_BT: jax.Array | None  # before each target; None without a value head
  # How evenly experts are used: the mean over layers of the balance of
  # experts.route; None without experts.
  balance: jax.Array | None


def of_targets(
  cfg: config.ModelConfig,
  params: types.Params,
  batch: types.Batch,
  chunk_length: int = 0,
  first: int = 0,
  temperature: float = 1.0,
) -> Likelihood:
  """Run the model over the inputs and look up each target.

  Args:
    cfg: the model.
    params: its parameters.
    batch: inputs_BT, targets_BT, and positions_BT and segment_ids_BT where a
      row holds several documents.
    chunk_length: tokens of a row whose logits exist at once; 0: all.
    first: targets of a row before this one are left out.
    temperature: divisor of the logits.
  """
  hidden_BTD, balance = _hidden(cfg, params, batch)
  hidden_BTD = hidden_BTD[:, first:]
  logp_BT = next_token.token_logp(
    hidden_BTD,
    transformer.head(cfg, params),
    batch['targets_BT'][:, first:],
    chunk_length=chunk_length,
    temperature=temperature,
  )
  value_BT = None
  if value_head.NAME in params:
    value_BT = value_head.apply(params[value_head.NAME], hidden_BTD)
  return Likelihood(logp_BT, value_BT, balance)


def _hidden(cfg, params, batch):
  hidden_BTD, _, balance = transformer.apply(
    cfg,
    params,
    batch['inputs_BT'],
    positions_BT=batch.get('positions_BT'),
    segment_ids_BT=batch.get('segment_ids_BT'),
  )
  return hidden_BTD, balance


def of_answers(
  cfg: config.ModelConfig,
  params: types.Params,
  batch: types.Batch,
  chunk_length: int = 0,
) -> tuple[jax.Array, jax.Array]:
  """Log-probability of each answer of a batch of ranked ones, and its tokens.

  Args:
    cfg: the model.
    params: its parameters.
    batch: as data/preferences.py lays it out.
    chunk_length: see `of_targets`.

  Returns:
    logp_BA, summed over the tokens of the answer, in nats, and n_tokens_BA.
  """
  logp_BT = of_targets(cfg, params, batch, chunk_length=chunk_length).logp_BT
  n_places = batch['group_BA'].shape[1]
  place_BTA = jax.nn.one_hot(batch['segment_ids_BT'] - 1, n_places)
  learnt_BTA = place_BTA * (batch['loss_mask_BT'] > 0)[:, :, None]
  return jnp.einsum('BT,BTA->BA', logp_BT, learnt_BTA), learnt_BTA.sum(axis=1)


def scores_of_answers(
  cfg: config.ModelConfig, params: types.Params, batch: types.Batch
) -> jax.Array:
  """score_BA: the value head's on the last token of each answer.

  It is read by index, so that neither padding nor a pad id that also ends
  answers can move it. Empty places hold any number. Args as of `of_answers`.
  """
  hidden_BTD, _ = _hidden(cfg, params, batch)
  end_BA1 = jnp.asarray(batch['end_BA'])[:, :, None]
  last_BAD = jnp.take_along_axis(hidden_BTD, end_BA1, axis=1)
  return value_head.apply(params[value_head.NAME], last_BAD)
