"""Multiplication of two numbers, answered directly or digit by digit.

Written thoughts are not verified, only the final answer is.
"""

import dataclasses
import random

from llm_jax.tasks import protocol, splits


@dataclasses.dataclass(frozen=True)
class Multiplication(splits.Made):
  """The task for zero-padded numbers.

  The products a*b and b*a are of one split.
  """

  n_left: int = 3  # digits of the first number
  n_right: int = 1  # digits of the second; together at most 12
  name: str = 'multiplication'

  def __post_init__(self):
    if min(self.n_left, self.n_right) < 1 or self.n_left + self.n_right > 12:
      raise ValueError(
        f'Multiplication.n_left = {self.n_left} and n_right = {self.n_right}: '
        'use 1 or more each and at most 12 together'
      )

  def _make(self, draw: random.Random) -> tuple[str, protocol.Problem]:
    a, b = draw.randrange(10**self.n_left), draw.randrange(10**self.n_right)
    return f'{min(a, b)}*{max(a, b)}', self._problem(a, b)

  def _problem(self, a: int, b: int) -> protocol.Problem:
    n, m = self.n_left, self.n_right
    prompt = f'{a:0{n}}*{b:0{m}}='
    return protocol.Problem(self.name, prompt, f'{a * b:0{n + m}}')

  def _thought(self, problem: protocol.Problem) -> list[str]:
    """Every product of two digits.

    >>> task = Multiplication(2, 2)
    >>> print(task.demonstrate(task._problem(98, 34), think=True))
    <think>
    840:32
    943:39
    0000+0392=0392
    830:24
    932:29
    0392+2940=3332
    </think>
    3332

    A line is the two digits and the carry in, then carry out and digit; after
    each digit of the second number its part is added to the sum so far.
    """
    a, b = problem.prompt.rstrip('=').split('*')
    width, lines, total = len(problem.reference), [], 0
    for place, y in enumerate(reversed(b)):
      carry = 0
      for x in reversed(a):
        product = int(x) * int(y) + carry
        lines.append(f'{x}{y}{carry}:{product // 10}{product % 10}')
        carry = product // 10
      if len(b) > 1:
        part = int(a) * int(y) * 10**place
        sums = (total, part, total + part)
        lines.append('{:0{n}}+{:0{n}}={:0{n}}'.format(*sums, n=width))
        total += part
    return lines
