"""A linear head on the hidden states that predicts what reward will come.

Kept beside the parameters of the model under NAME, so that one update trains
both; whoever asks for tokens need not know of it. Does not define the loss.
"""

import jax
import jax.numpy as jnp

from llm_jax import types
from llm_jax.model import config, params

NAME = 'value_head'


def init(cfg: config.ModelConfig) -> types.Params:
  """A head whose values are 0, as far from each reward as from another."""
  both = params.abstract(params.table(cfg, has_value_head=True))[NAME]
  return jax.tree.map(lambda x: jnp.zeros(x.shape), both)


def apply(head: types.Params, hidden_BTD: jax.Array) -> jax.Array:
  """Expected return before the token that follows each position.

  Args:
    head: from init, or trained.
    hidden_BTD: of transformer.apply.

  Returns:
    value_BT, float32.
  """
  value_BT = jnp.einsum(
    'BTD,D->BT', hidden_BTD.astype(jnp.float32), head['w_D']
  )
  return value_BT + head['bias'][None, None]
