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
  options = {'chunk_length': chunk_length, 'temperature': temperature}
  return _run(cfg, params, batch, **options)[0]


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
  logp_BT, _, balance = _run(cfg, params, batch, chunk_length=chunk_length)
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
  options = {'first': first, 'temperature': temperature}
  logp_BT, hidden_BTD, _ = _run(cfg, params, batch, **options)
  if value_head.NAME not in params:
    return logp_BT, None
  return logp_BT, value_head.apply(params[value_head.NAME], hidden_BTD)


def _run(cfg, params, batch, chunk_length=0, first=0, temperature=1.0):
  """logp_BT and hidden_BTD from `first` on, and the balance of experts."""
  hidden_BTD, _, balance = transformer.apply_with_balance(
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
  return logp_BT, hidden_BTD, balance
