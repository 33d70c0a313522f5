"""A sum of given numbers that makes a target, every number exactly once.

There are many right answers: the verifier evaluates the one that was given,
by a parser and not as code. Parts of a sum may be negative or fractions.
"""

import dataclasses
import fractions
import random
import re
from collections.abc import Sequence

from llm_jax.tasks import protocol, splits
from llm_jax.verify import arithmetic, grading


@dataclasses.dataclass(frozen=True)
class Countdown(splits.Made):
  """The task for n_numbers numbers from 1 to max_number.

  A target and its numbers in any order are of one split.
  """

  n_numbers: int = 3  # that a sum is made of
  max_number: int = 25  # the largest of them
  max_target: int = 99  # the largest value asked for
  n_tries: int = 3  # wrong sums in a demonstrated thought, at most
  name: str = 'countdown'

  def __post_init__(self):
    if not (2 <= self.n_numbers <= 8 and 2 <= self.max_number <= 999):
      raise ValueError(
        f'Countdown.n_numbers = {self.n_numbers} and max_number = '
        f'{self.max_number}: use 2 to 8 numbers of 2 to 999'
      )
    if self.max_target < self.max_number:
      raise ValueError(
        f'Countdown.max_target = {self.max_target} is less than max_number = '
        f'{self.max_number}; use at least that'
      )

  def _make(self, draw: random.Random) -> tuple[str, protocol.Problem]:
    while True:
      numbers = [
        draw.randint(1, self.max_number) for _ in range(self.n_numbers)
      ]
      reference = _random_sum(draw, numbers)
      target = _value(reference)
      if target is None or target.denominator != 1:
        continue
      if 0 < target <= self.max_target:
        key = f'{target} from {sorted(numbers)}'
        return key, self._problem(int(target), numbers, reference)

  def _problem(
    self, target: int, numbers: list[int], reference: str
  ) -> protocol.Problem:
    prompt = f'make {target} from {" ".join(map(str, numbers))}='
    return protocol.Problem(self.name, prompt, reference)

  def _thought(self, problem: protocol.Problem) -> list[str]:
    """Some sums that are not right, and one that is.

    >>> task = Countdown(n_tries=2)
    >>> problem = task._problem(60, [3, 5, 25], '(25-5)*3')
    >>> print(task.demonstrate(problem, think=True))
    <think>
    25*3+5=80
    5/(25+3)=5/28
    (25-5)*3=60
    </think>
    (25-5)*3
    """
    target, numbers = _read(problem.prompt)
    draw = random.Random(problem.prompt)
    sums = [_random_sum(draw, numbers) for _ in range(self.n_tries)]
    wrong = [text for text in sums if _value(text) not in (target, None)]
    return [f'{text}={_value(text)}' for text in [*wrong, problem.reference]]

  def score(self, problem: protocol.Problem, answer: str) -> grading.Score:
    """Evaluate the last answer, a sum with or without `= target`.

    Args:
      problem: a problem of this task.
      answer: anything a model wrote.

    Returns:
      Correct if the sum is the target and uses every number exactly once.
    """
    target, numbers = _read(problem.prompt)

    def read(text: str) -> tuple[fractions.Fraction, list] | None:
      text, equals, right = text.partition('=')
      is_other = equals and right.strip() != str(target)
      return None if is_other else _evaluated(text)

    reference = fractions.Fraction(target), sorted(numbers)
    return grading.compare(answer, reference, read=read, what='a sum')


def _read(prompt: str) -> tuple[int, list[int]]:
  """The target and the numbers of a prompt."""
  target, *numbers = map(int, re.findall('[0-9]+', prompt))
  return target, numbers


def _evaluated(text: str) -> tuple[fractions.Fraction, list] | None:
  """The value of a sum and its numbers, sorted; None if it is none."""
  try:
    value, used = arithmetic.evaluate(text)
  except ValueError:
    return None
  return value, sorted(used)


def _value(text: str) -> fractions.Fraction | None:
  """The value of a sum; None where it divides by zero."""
  found = _evaluated(text)
  return found and found[0]


def _random_sum(draw: random.Random, numbers: Sequence[int]) -> str:
  """Joins two parts by a random sign until one is left."""
  parts = [(str(number), 3) for number in numbers]  # text, rank of its sign
  while len(parts) > 1:
    draw.shuffle(parts)
    (left, left_rank), (right, right_rank) = parts.pop(), parts.pop()
    sign = draw.choice('+-*/')
    rank = 1 if sign in '+-' else 2
    if left_rank < rank:
      left = f'({left})'
    if right_rank < rank or (right_rank == rank and sign in '-/'):
      right = f'({right})'
    parts.append((f'{left}{sign}{right}', rank))
  return parts[0][0]
