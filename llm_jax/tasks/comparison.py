"""Which of two decimal numbers is larger, such as 9.11 and 9.9.

Two numbers are never equal, and mostly share what stands before the point.
"""

import dataclasses
import random

from llm_jax.tasks import protocol, splits
from llm_jax.verify import equality, grading


@dataclasses.dataclass(frozen=True)
class Comparison(splits.Made):
  """The task for numbers with 1 to n_decimals digits after the point.

  Both orders of a pair are of one split.
  """

  n_decimals: int = 3
  max_whole: int = 99  # before the point
  name: str = 'comparison'
  think_start: str = grading.THINK_START

  def __post_init__(self):
    if not 1 <= self.n_decimals <= 12 or not 0 <= self.max_whole < 10**12:
      raise ValueError(
        f'Comparison.n_decimals = {self.n_decimals} and max_whole = '
        f'{self.max_whole}: use 1 to 12 and at most 12 digits'
      )

  def _make(self, draw: random.Random) -> tuple[str, protocol.Problem]:
    while True:
      whole = [draw.randint(0, self.max_whole) for _ in range(2)]
      if draw.random() < 0.75:
        whole[1] = whole[0]
      a, b = (
        f'{w}.{draw.randrange(10**n):0{n}}'
        for w, n in zip(whole, self._lengths(draw), strict=True)
      )
      if equality.number(a) != equality.number(b):
        return ' '.join(sorted([a, b])), self._problem(a, b)

  def _lengths(self, draw: random.Random) -> list[int]:
    return [draw.randint(1, self.n_decimals) for _ in range(2)]

  def _problem(self, a: str, b: str) -> protocol.Problem:
    reference = max(a, b, key=lambda text: equality.number(text) or 0)
    return protocol.Problem(self.name, f'larger of {a} and {b}=', reference)

  def demonstrate(self, problem: protocol.Problem, think: bool) -> str:
    """Write the larger number, both with equally many digits if thinking.

    >>> task = Comparison()
    >>> print(task.demonstrate(task._problem('9.11', '9.9'), think=True))
    <think>
    9.11
    9.90
    </think>
    9.9

    Args:
      problem: a problem of this task.
      think: whether the padded numbers come before the answer.

    Returns:
      The text of the answer.
    """
    if not think:
      return problem.reference
    _, _, a, _, b = problem.prompt.rstrip('=').split(' ')
    return grading.with_thought(_padded(a, b), problem.reference)

  def score(self, problem: protocol.Problem, answer: str) -> grading.Score:
    """Correct if the last answer is the larger number and nothing else."""
    reference = equality.number(problem.reference)
    return grading.compare(answer, reference, equality.number)


def _padded(a: str, b: str) -> list[str]:
  """Both with equally many digits on each side of the point."""
  parts = [text.split('.') for text in (a, b)]
  n_whole, n_decimals = (
    max(map(len, side)) for side in zip(*parts, strict=True)
  )
  return [f'{w:0>{n_whole}}.{d:0<{n_decimals}}' for w, d in parts]
