"""Log-probabilities of a batch's targets under a model, and their values.

Does not reduce them to a loss; see losses/.
"""

from typing import NamedTuple

import jax

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
    batch: inputs_BT, targets_BT, positions_BT, and segment_ids_BT where a row
      holds several documents.
    chunk_length: tokens of a row whose logits exist at once; 0: all.
    first: targets of a row before this one are left out.
    temperature: divisor of the logits.
  """
  hidden_BTD, _, balance = transformer.apply(
    cfg,
    params,
    batch['inputs_BT'],
    positions_BT=batch['positions_BT'],
    segment_ids_BT=batch.get('segment_ids_BT'),
  )
  hidden_BTD = hidden_BTD[:, first:]
  logp_BT = next_token.token_logp(
    hidden_BTD,
    transformer.unembedding(cfg, params),
    batch['targets_BT'][:, first:],
    vocab_size=cfg.vocab_size,
    unused_ids=cfg.unused_ids,
    chunk_length=chunk_length,
    softcap=cfg.logit_softcap,
    temperature=temperature,
  )
  value_BT = None
  if value_head.NAME in params:
    value_BT = value_head.apply(params[value_head.NAME], hidden_BTD)
  return Likelihood(logp_BT, value_BT, balance)
