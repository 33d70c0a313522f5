"""Log-probabilities of a batch's targets under a model, and their values.

Does not reduce them to a loss; see losses/.
"""

import jax

from llm_jax import types
from llm_jax.losses import next_token
from llm_jax.model import config, transformer, value_head


def target_logp(
  cfg: config.ModelConfig,
  params: types.Params,
  batch: types.Batch,
  chunk_length: int = 0,
  first: int = 0,
) -> jax.Array:
  """Run the model over the inputs and look up each target.

  Args:
    cfg: the model.
    params: its parameters.
    batch: inputs_BT, targets_BT, positions_BT, and segment_ids_BT where a row
      holds several documents.
    chunk_length: tokens of a row whose logits exist at once; 0: all.
    first: targets before this one are left out.

  Returns:
    logp_BT of the targets from first on, in nats, float32.
  """
  return target_logp_and_balance(cfg, params, batch, chunk_length, first)[0]


def target_logp_and_balance(
  cfg: config.ModelConfig,
  params: types.Params,
  batch: types.Batch,
  chunk_length: int = 0,
  first: int = 0,
) -> tuple[jax.Array, jax.Array | None]:
  """`target_logp`, and how evenly experts are used.

  Returns:
    logp_BT; and the mean over layers of the balance of experts.route, None
    without experts.
  """
  hidden_BTD, _, balance = transformer.apply_with_balance(
    cfg,
    params,
    batch['inputs_BT'],
    batch['positions_BT'],
    batch.get('segment_ids_BT'),
  )
  return _logp(cfg, params, hidden_BTD, batch, chunk_length, first), balance


def target_logp_and_value(
  cfg: config.ModelConfig,
  params: types.Params,
  batch: types.Batch,
  first: int = 0,
) -> tuple[jax.Array, jax.Array | None]:
  """`target_logp`, and the values before each target.

  Returns:
    logp_BT; and value_BT, None where params have no value head.
  """
  hidden_BTD, _ = transformer.apply(
    cfg,
    params,
    batch['inputs_BT'],
    batch['positions_BT'],
    batch.get('segment_ids_BT'),
  )
  logp_BT = _logp(cfg, params, hidden_BTD, batch, 0, first)
  if value_head.NAME not in params:
    return logp_BT, None
  head = params[value_head.NAME]
  return logp_BT, value_head.apply(head, hidden_BTD[:, first:])


def _logp(cfg, params, hidden_BTD, batch, chunk_length, first):
  return next_token.token_logp(
    hidden_BTD[:, first:],
    transformer.unembedding(cfg, params),
    batch['targets_BT'][:, first:],
    cfg.vocab_size,
    chunk_length,
    cfg.logit_softcap,
  )
