"""A task of one's own: which of two numbers is larger, asked in words.

--import examples/larger.py lets any recipe use it as @Larger().
"""

import dataclasses
import random

from llm_jax.tasks import protocol, splits
from llm_jax.verify import equality, grading


@dataclasses.dataclass(frozen=True)
class Larger(splits.Made):
  """Two different numbers of two digits; the last number said counts."""

  name: str = 'larger'
  think_start: str = grading.THINK_START

  def _make(self, draw: random.Random) -> tuple[str, protocol.Problem]:
    a, b = draw.sample(range(10, 100), 2)
    prompt = f'Which is larger: {a} or {b}? Answer with the larger number.'
    problem = protocol.Problem(self.name, prompt, str(max(a, b)))
    return f'{min(a, b)} {max(a, b)}', problem

  def _reader(self, problem: protocol.Problem):
    return (lambda text: equality.number(equality.last_number(text))), 'right'
