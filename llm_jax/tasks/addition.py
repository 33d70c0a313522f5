"""Addition of two numbers, asked in many ways, with a thought or without.

A small Transformer cannot learn to write longer sums at once, but can learn
the columns: a task on which thinking decides. Written thoughts are not
verified, only the final answer is.
"""

import dataclasses
import random
import re
from collections.abc import Iterator

from llm_jax.tasks import protocol, questions, splits


@dataclasses.dataclass(frozen=True)
class Addition(splits.Made):
  """The task for numbers of min_digits to n_digits digits, unpadded.

  A pair of numbers is of one split in every phrasing and in both orders.
  """

  n_digits: int = 3  # of the longest number
  min_digits: int = 1  # of the shortest
  # Names of questions.of('addition'); (): all of them.
  phrasings: tuple[str, ...] = ()
  name: str = 'addition'

  def __post_init__(self):
    if not 1 <= self.min_digits <= self.n_digits:
      raise ValueError(
        f'Addition.min_digits = {self.min_digits} with n_digits = '
        f'{self.n_digits}; use 1 to n_digits'
      )
    known = [*questions.of('addition')]
    for name in set(self.phrasings) - set(known):
      raise ValueError(
        f'Addition.phrasings names {name!r}; use some of {known}'
      )

  def _make(self, draw: random.Random) -> tuple[str, protocol.Problem]:
    lengths = range(self.min_digits, self.n_digits + 1)
    # Weighted, as there are more of the longer numbers.
    a, b = (
      draw.randrange(10 ** (n - 1) * (n > 1), 10**n)
      for n in draw.choices(lengths, weights=lengths, k=2)
    )
    phrasings = questions.of('addition')
    kind = draw.choice(self.phrasings or [*phrasings])
    text = draw.choice(phrasings[kind]).format(a=a, b=b)
    key = f'{min(a, b)}+{max(a, b)}'
    return key, self._problem(a, b, text=varied(text, draw), kind=kind)

  def _problem(
    self, a: int, b: int, text: str, kind: str = ''
  ) -> protocol.Problem:
    return protocol.Problem(self.name, text, f'{a + b}', kind=kind)

  def _thought(self, problem: protocol.Problem) -> list[str]:
    """The sum with numbers of one length, then a line a column.

    >>> task = Addition(3)
    >>> problem = task._problem(988, 91, 'What is 988 plus 91?')
    >>> print(task.demonstrate(problem, think=True))
    <think>
    988+091
    810:09
    890:17
    901:10
    </think>
    1079

    Columns begin at the right; each line is the two digits and the carry in,
    then carry out and digit.
    """
    numbers = re.findall('[0-9]+', problem.prompt)
    return columns(*(f'{x:0>{self.n_digits}}' for x in numbers))


def columns(a: str, b: str) -> list[str]:
  """The lines of an addition by columns, of two equally long numbers."""
  lines, carry = [f'{a}+{b}'], 0
  for x, y in zip(reversed(a), reversed(b), strict=True):
    total = int(x) + int(y) + carry
    lines.append(f'{x}{y}{carry}:{total // 10}{total % 10}')
    carry = total // 10
  return lines


def varied(text: str, draw: random.Random) -> str:
  """The text as people type it: now and then in lower case, without marks."""
  if draw.random() < 0.3 and not text.startswith('I '):
    text = text[0].lower() + text[1:]
  if draw.random() < 0.3 and re.search('[a-z].*[.?]$', text):
    text = text[:-1]
  if draw.random() < 0.3:
    text = text.replace("'", '')
  return text


def text_documents(
  task: Addition, split: str, count: int, seed: int, think_share: float
) -> Iterator[tuple[str, str]]:
  """Problems with answers as plain text for pretraining.

  Args:
    task: whose problems.
    split: 'train' or 'held_out'.
    count: documents.
    seed: seed of the problems and of which are answered with thinking.
    think_share: share of the answers with a thought, in [0, 1].

  Yields:
    (prompt, answer), to be encoded apart so that no merge crosses them. The
    answer begins a line of its own.
  """
  draw = random.Random(f'think/{split}/{seed}')
  for problem in task.problems(split, count, seed):
    think = draw.random() < think_share
    yield problem.prompt, '\n' + task.demonstrate(problem, think)
