"""Drawing the next token from logits, one independent seed for each row.

Never sorts the vocabulary. Does not know about caches or stop tokens.
"""

import chex
import jax
import jax.numpy as jnp


def sample(
  logits_BV: jax.Array,
  temperature_B: jax.Array,
  seed_B: jax.Array,
  position_B: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Draw one token a row by inverting the distribution function.

  The draw of a row depends on its own seed, position and logits only, so a
  request gives the same tokens whatever its neighbours are.

  Args:
    logits_BV: float32; tokens never to be drawn hold -1e30.
    temperature_B: divisor of the logits, in [0, inf); 0 takes the most likely
      token.
    seed_B: uint32 seed of each request.
    position_B: position of the token to be drawn.

  Returns:
    token_B, and logp_B in nats under the distribution drawn from (under the
    untempered one where the temperature is 0).
  """
  chex.assert_rank(logits_BV, 2)
  chex.assert_equal_shape([temperature_B, seed_B, position_B])
  greedy_B = temperature_B <= 0
  scaled_BV = logits_BV / jnp.where(greedy_B, 1.0, temperature_B)[:, None]
  logp_BV = jax.nn.log_softmax(scaled_BV, axis=-1)

  def uniform(seed, position):
    return jax.random.uniform(
      jax.random.fold_in(jax.random.key(seed), position)
    )

  cdf_BV = jnp.cumsum(jnp.exp(logp_BV), axis=-1)
  total_B = cdf_BV[:, -1]
  # Rounding must not push the draw past the last token that has any mass.
  threshold_B = jnp.minimum(
    jax.vmap(uniform)(seed_B, position_B) * total_B,
    jnp.nextafter(total_B, jnp.zeros_like(total_B)),
  )
  drawn_B = jnp.sum(cdf_BV <= threshold_B[:, None], axis=-1)
  token_B = jnp.where(greedy_B, jnp.argmax(logits_BV, axis=-1), drawn_B)
  token_B = token_B.astype(jnp.int32)
  chosen_B1 = jnp.take_along_axis(logp_BV, token_B[:, None], axis=-1)
  return token_B, chosen_B1[:, 0]
