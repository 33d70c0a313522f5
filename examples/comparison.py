"""Which of two decimal numbers is larger, such as 9.11 and 9.9.

Two numbers are never equal, and mostly share what stands before the point.
"""

import dataclasses
import random

from llm_jax.tasks import protocol, splits
from llm_jax.verify import equality


@dataclasses.dataclass(frozen=True)
class Comparison(splits.Made):
  """The task for numbers with 1 to n_decimals digits after the point.

  Both orders of a pair are of one split.
  """

  n_decimals: int = 3  # digits after the point, at most
  max_whole: int = 99  # largest number before the point
  name: str = 'comparison'

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
      lengths = [draw.randint(1, self.n_decimals) for _ in range(2)]
      a, b = (
        f'{w}.{draw.randrange(10**n):0{n}}'
        for w, n in zip(whole, lengths, strict=True)
      )
      if equality.number(a) != equality.number(b):
        return ' '.join(sorted([a, b])), self._problem(a, b)

  def _problem(self, a: str, b: str) -> protocol.Problem:
    reference = max(a, b, key=lambda text: equality.number(text) or 0)
    return protocol.Problem(self.name, f'larger of {a} and {b}=', reference)

  def _thought(self, problem: protocol.Problem) -> list[str]:
    """Both with equally many digits on each side of the point.

    >>> task = Comparison()
    >>> print(task.demonstrate(task._problem('9.11', '9.9'), think=True))
    <think>
    9.11
    9.90
    </think>
    9.9
    """
    _, _, a, _, b = problem.prompt.rstrip('=').split(' ')
    parts = [text.split('.') for text in (a, b)]
    n_whole, n_decimals = (
      max(map(len, side)) for side in zip(*parts, strict=True)
    )
    return [f'{w:0>{n_whole}}.{d:0<{n_decimals}}' for w, d in parts]

  def _reader(self, problem: protocol.Problem):
    del problem
    return equality.number, 'a number'
