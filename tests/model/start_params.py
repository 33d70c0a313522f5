"""Parameters of a model as it starts, compiled at once instead of by pieces."""

import functools

import jax
import numpy as np

from llm_jax.model import transformer


@functools.partial(jax.jit, static_argnums=0)
def init(cfg, seed=0):
  """Those of transformer.init, which takes seconds where each step compiles."""
  return transformer.init(cfg, jax.random.key(seed))


def random_like(tree, seed=0, mean=0.0, scale=1.0):
  """Normal numbers in the shapes of a tree, float32."""
  random = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: random.normal(mean, scale, x.shape).astype(np.float32), tree
  )
