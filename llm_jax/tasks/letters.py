"""Spelling a word, or counting a letter in it.

Tokens hide the letters of a word. The words are made of syllables, so that
there are many, letters repeat, and none needs a list.
"""

import dataclasses
import random
from typing import Literal

from llm_jax.tasks import protocol, splits
from llm_jax.verify import grading

_CONSONANTS = 'bcdfghjklmnprstvwz'
_VOWELS = 'aeiou'


def word(draw: random.Random, n_syllables: int) -> str:
  """A word such as 'banana', of 2 to n_syllables syllables."""
  return ''.join(
    draw.choice(_CONSONANTS) + draw.choice(_VOWELS)
    for _ in range(draw.randint(2, n_syllables))
  )


@dataclasses.dataclass(frozen=True)
class Letters(splits.Made):
  """The task for words of 2 to n_syllables syllables.

  A word is of one split, for every letter and kind.
  """

  kind: Literal['count', 'spell'] = 'count'
  n_syllables: int = 4
  name: str = 'letters'
  think_start: str = grading.THINK_START

  def __post_init__(self):
    if self.n_syllables < 2:
      raise ValueError(
        f'Letters.n_syllables = {self.n_syllables}; use 2 or more'
      )

  def _make(self, draw: random.Random) -> tuple[str, protocol.Problem]:
    text = word(draw, self.n_syllables)
    # One letter in five is any, so that the answer may be 0.
    any_letter = draw.random() < 0.2
    letter = draw.choice(_CONSONANTS + _VOWELS if any_letter else text)
    return text, self._problem(text, letter)

  def _problem(self, text: str, letter: str) -> protocol.Problem:
    if self.kind == 'spell':
      return protocol.Problem(self.name, f'spell {text}=', ' '.join(text))
    reference = str(text.count(letter))
    return protocol.Problem(self.name, f'{letter} in {text}=', reference)

  def demonstrate(self, problem: protocol.Problem, think: bool) -> str:
    """Write the answer; counting goes letter by letter if thinking.

    >>> task = Letters()
    >>> print(task.demonstrate(task._problem('baba', 'a'), think=True))
    <think>
    b0
    a1
    b1
    a2
    </think>
    2

    Args:
      problem: a problem of this task.
      think: whether a count comes before the answer; spelling needs none.

    Returns:
      The text of the answer.
    """
    if not think or self.kind == 'spell':
      return problem.reference
    letter, _, text = problem.prompt.rstrip('=').split(' ')
    lines = [
      f'{other}{text[:end].count(letter)}' for end, other in enumerate(text, 1)
    ]
    return grading.with_thought(lines, problem.reference)

  def score(self, problem: protocol.Problem, answer: str) -> grading.Score:
    """Correct if the last answer is the count, or the spelling."""
    if self.kind == 'spell':
      return grading.compare(answer, problem.reference, spelt, 'a spelling')
    reference = int(problem.reference)
    return grading.compare(answer, reference, grading.whole_number)


def spelt(text: str) -> str | None:
  """Letters with one space, comma or dash between them, as `b a n`."""
  letters = text.replace(', ', ' ').replace('-', ' ').split(' ')
  are_letters = all(len(letter) == 1 for letter in letters)
  return ' '.join(letters).lower() if are_letters else None
