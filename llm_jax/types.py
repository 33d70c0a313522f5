"""The dimension letters that every array name ends in, and the shared types.

Holds no functions and imports nothing of this package.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

# Query and key lengths differ in letter even where they are equal in size.
DIMENSIONS = {
  'A': 'answers in a row, ranked within their prompt',
  'B': 'batch: sequences, or rollouts, or slots of the cache',
  'T': 'tokens of the queries',
  'S': 'slots of the keys and values',
  'D': 'model width',
  'H': 'query heads',
  'G': 'key and value heads',
  'M': 'query heads of one key and value head, H = G * M',
  'K': 'width of one head',
  'F': 'width of the feed-forward layer',
  'E': 'experts of a layer',
  'J': 'experts that one token takes, or a few tokens of the vocabulary',
  'X': 'rows of a matrix: tokens, or tokens times J',
  'V': 'vocabulary, padded',
  'N': 'layers',
  'C': 'chunks of the sequence, blocks of rows or tokens, or a chunk',
  'P': 'prompts of one step, B = P * R',
  'R': 'rollouts of one prompt',
  'O': 'the same answers, as those that another one is compared with',
  '1': 'broadcast',
}

Array = jax.Array | np.ndarray
Params = Any  # a nested dict of arrays
Batch = Mapping[str, Array]
Metrics = dict[str, jax.Array]
