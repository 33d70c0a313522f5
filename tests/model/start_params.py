"""Parameters of a model as it starts, compiled at once instead of by pieces."""

import functools

import jax

from llm_jax.model import transformer


@functools.partial(jax.jit, static_argnums=0)
def init(cfg, seed=0):
  """Those of transformer.init, which takes seconds where each step compiles."""
  return transformer.init(cfg, jax.random.key(seed))
