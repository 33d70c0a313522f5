"""Addition of two n-digit numbers, answered directly or column by column.

A small Transformer cannot learn to write the sum at once, but can learn the
columns: a task on which thinking decides. Written thoughts are not verified,
only the final answer is.
"""

import dataclasses
import random
from collections.abc import Iterator

from llm_jax.tasks import protocol, splits
from llm_jax.verify import grading


@dataclasses.dataclass(frozen=True)
class Addition(splits.Made):
  """The task for numbers of n_digits digits, zero-padded."""

  n_digits: int = 3  # of each number
  name: str = 'addition'
  think_start: str = grading.THINK_START

  def problems(
    self, split: str, count: int, seed: int
  ) -> list[protocol.Problem]:
    """Distinct problems of one split, in an order that the seed decides.

    Args:
      split: 'train' or 'held_out'; a prompt belongs to one of them for ever,
        by the checksum of its text.
      count: how many.
      seed: seed of the order.

    Returns:
      The problems.

    Raises:
      ValueError: if the split is unknown or has fewer problems than count.
    """
    n_all = 10 ** (2 * self.n_digits)
    n_most = n_all // (2 * splits.HELD_OUT_SHARE)
    if count > n_most:
      raise ValueError(
        f'{count} distinct problems asked of {n_all} with {self.n_digits} '
        f'digits; use at most {n_most}'
      )
    return super().problems(split, count, seed)

  def _make(self, draw: random.Random) -> tuple[str, protocol.Problem]:
    a, b = (draw.randrange(10**self.n_digits) for _ in range(2))
    problem = self._problem(a, b)
    return problem.prompt, problem

  def _problem(self, a: int, b: int) -> protocol.Problem:
    n = self.n_digits
    return protocol.Problem(
      self.name, f'{a:0{n}}+{b:0{n}}=', f'{a + b:0{n + 1}}'
    )

  def _thought(self, problem: protocol.Problem) -> list[str]:
    """One line a column, from the right.

    >>> task = Addition(3)
    >>> print(task.demonstrate(task._problem(988, 391), think=True))
    <think>
    810:09
    890:17
    931:13
    </think>
    1379

    Each line is the two digits and the carry in, then carry out and digit.
    """
    a, b = problem.prompt.rstrip('=').split('+')
    lines, carry = [], 0
    for x, y in zip(reversed(a), reversed(b), strict=True):
      total = int(x) + int(y) + carry
      lines.append(f'{x}{y}{carry}:{total // 10}{total % 10}')
      carry = total // 10
    return lines


def text_documents(
  n_digits: int, split: str, count: int, seed: int, think_share: float
) -> Iterator[tuple[str, str]]:
  """Problems with answers as plain text for pretraining.

  Args:
    n_digits: digits of each number.
    split: 'train' or 'held_out'.
    count: documents.
    seed: seed of the problems and of which are answered with thinking.
    think_share: share of the answers with a thought, in [0, 1].

  Yields:
    (prompt, answer), to be encoded apart so that no merge crosses them.
  """
  task = Addition(n_digits)
  draw = random.Random(f'think/{split}/{seed}')
  for problem in task.problems(split, count, seed):
    yield problem.prompt, task.demonstrate(problem, draw.random() < think_share)
