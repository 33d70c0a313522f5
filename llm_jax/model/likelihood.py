"""Log-probabilities of a batch's targets under a model.

Does not reduce them to a loss; see losses/.
"""

import jax

from llm_jax import types
from llm_jax.losses import next_token
from llm_jax.model import config, transformer


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
  logp_BT = next_token.token_logp(
    hidden_BTD[:, first:],
    transformer.unembedding(cfg, params),
    batch['targets_BT'][:, first:],
    cfg.vocab_size,
    chunk_length,
    cfg.logit_softcap,
  )
  return logp_BT, balance
