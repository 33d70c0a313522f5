"""Addition of two n-digit numbers, answered directly or column by column.

A small Transformer cannot learn to write the sum at once, but can learn the
columns: a task on which thinking decides. Written thoughts are not verified,
only the final answer is.
"""

import dataclasses
import random
import re
import zlib
from collections.abc import Iterator

from llm_jax.tasks import problem as problem_lib

THINK_START = '<think>'
THINK_END = '</think>'
HELD_OUT_SHARE = 10  # one prompt in ten, by checksum, is never trained on


@dataclasses.dataclass(frozen=True)
class Addition:
  """The task for numbers of n_digits digits, zero-padded."""

  n_digits: int = 3
  name: str = 'addition'
  think_start: str = THINK_START

  def problems(
    self, split: str, count: int, seed: int
  ) -> list[problem_lib.Problem]:
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
    if split not in ('train', 'held_out'):
      raise ValueError(f'split {split!r} is unknown; use train or held_out')
    n_all = 10 ** (2 * self.n_digits)
    if count > n_all // (2 * HELD_OUT_SHARE):
      raise ValueError(
        f'{count} distinct problems asked of {n_all} with {self.n_digits} '
        f'digits; use at most {n_all // (2 * HELD_OUT_SHARE)}'
      )
    draw = random.Random(f'{self.name}/{split}/{seed}')
    chosen: dict[str, problem_lib.Problem] = {}
    while len(chosen) < count:
      a, b = (draw.randrange(10**self.n_digits) for _ in range(2))
      problem = self._problem(a, b)
      if is_held_out(problem.prompt) == (split == 'held_out'):
        chosen[problem.prompt] = problem
    return list(chosen.values())

  def _problem(self, a: int, b: int) -> problem_lib.Problem:
    n = self.n_digits
    return problem_lib.Problem(
      self.name, f'{a:0{n}}+{b:0{n}}=', f'{a + b:0{n + 1}}'
    )

  def demonstrate(self, problem: problem_lib.Problem, think: bool) -> str:
    """Write the answer, with one line a column from the right if thinking.

    >>> task = Addition(3)
    >>> print(task.demonstrate(task._problem(988, 391), think=True))
    <think>
    810:09
    890:17
    931:13
    </think>
    1379

    Each line is the two digits and the carry in, then carry out and digit.

    Args:
      problem: a problem of this task.
      think: whether the columns come before the answer.

    Returns:
      The text of the answer.
    """
    if not think:
      return problem.reference
    a, b = problem.prompt.rstrip('=').split('+')
    lines, carry = [THINK_START], 0
    for x, y in zip(reversed(a), reversed(b), strict=True):
      total = int(x) + int(y) + carry
      lines.append(f'{x}{y}{carry}:{total // 10}{total % 10}')
      carry = total // 10
    return '\n'.join([*lines, THINK_END, problem.reference])

  def score(
    self, problem: problem_lib.Problem, answer: str
  ) -> problem_lib.Score:
    """Compare the digits after the last thought with the sum.

    Args:
      problem: a problem of this task.
      answer: anything a model wrote.

    Returns:
      Correct if the text after the last '</think>' is the sum, zero-padded or
      not, and nothing else.
    """
    final = answer.rpartition(THINK_END)[2].strip()
    if THINK_START in answer and THINK_END not in answer:
      return problem_lib.Score(False, 'the thought does not end')
    if not re.fullmatch(r'[0-9]{1,12}', final):
      return problem_lib.Score(False, f'{final[:40]!r} is not a number')
    if int(final) != int(problem.reference):
      return problem_lib.Score(
        False, f'{final} is not {int(problem.reference)}'
      )
    return problem_lib.Score(True, 'equal')

  def thinks(self, answer: str) -> bool:
    """Whether an answer contains a thought, finished or not."""
    return THINK_START in answer


def is_held_out(prompt: str) -> bool:
  """Whether a prompt belongs to the split that no stage trains on."""
  return zlib.crc32(prompt.encode()) % HELD_OUT_SHARE == 0


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
