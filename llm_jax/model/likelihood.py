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
  temperature: float = 1.0,
) -> jax.Array:
  """Run the model over the inputs and look up each target.

  Args:
    cfg: the model.
    params: its parameters.
    batch: inputs_BT, targets_BT, positions_BT, and segment_ids_BT where a row
      holds several documents.
    chunk_length: tokens of a row whose logits exist at once; 0: all.
    temperature: divisor of the logits.

  Returns:
    logp_BT of the targets, in nats, float32.
  """
  hidden_BTD, _ = _run(cfg, params, batch)
  return _logp(
    cfg,
    params,
    hidden_BTD=hidden_BTD,
    batch=batch,
    chunk_length=chunk_length,
    temperature=temperature,
  )


def target_logp_and_balance(
  cfg: config.ModelConfig,
  params: types.Params,
  batch: types.Batch,
  chunk_length: int = 0,
) -> tuple[jax.Array, jax.Array | None]:
  """`target_logp`, and how evenly experts are used.

  Returns:
    logp_BT; and the mean over layers of the balance of experts.route, None
    without experts.
  """
  hidden_BTD, balance = _run(cfg, params, batch)
  logp_BT = _logp(
    cfg, params, hidden_BTD=hidden_BTD, batch=batch, chunk_length=chunk_length
  )
  return logp_BT, balance


def target_logp_and_value(
  cfg: config.ModelConfig,
  params: types.Params,
  batch: types.Batch,
  first: int = 0,
  temperature: float = 1.0,
) -> tuple[jax.Array, jax.Array | None]:
  """`target_logp`, and the values before each target.

  Args:
    cfg: the model.
    params: its parameters.
    batch: as of `target_logp`.
    first: targets of a row before this one are left out.
    temperature: divisor of the logits.

  Returns:
    logp_BT; and value_BT, None where params have no value head.
  """
  hidden_BTD, _ = _run(cfg, params, batch)
  logp_BT = _logp(
    cfg,
    params,
    hidden_BTD=hidden_BTD,
    batch=batch,
    first=first,
    temperature=temperature,
  )
  if value_head.NAME not in params:
    return logp_BT, None
  head = params[value_head.NAME]
  return logp_BT, value_head.apply(head, hidden_BTD[:, first:])


def _run(cfg, params, batch):
  """hidden_BTD, and the balance of experts."""
  hidden_BTD, _, balance = transformer.apply_with_balance(
    cfg,
    params,
    batch['inputs_BT'],
    batch['positions_BT'],
    batch.get('segment_ids_BT'),
  )
  return hidden_BTD, balance


def _logp(
  cfg, params, *, hidden_BTD, batch, chunk_length=0, first=0, temperature=1.0
):
  return next_token.token_logp(
    hidden_BTD[:, first:],
    transformer.unembedding(cfg, params),
    batch['targets_BT'][:, first:],
    vocab_size=cfg.vocab_size,
    chunk_length=chunk_length,
    softcap=cfg.logit_softcap,
    temperature=temperature,
  )
