"""Spelling a word, or counting a letter in it.

Tokens hide the letters of a word. The words are made of syllables, so that
there are many, letters repeat, and none needs a list.
"""

import dataclasses
import random
from typing import Literal

from llm_jax import dataclass_json
from llm_jax.tasks import protocol, questions, splits


@dataclasses.dataclass(frozen=True)
class Letters(splits.Made):
  """The task for words of 2 to n_syllables syllables.

  A word is of one split, for every letter and kind.
  """

  kind: Literal['count', 'spell'] = 'count'  # what is asked of a word
  n_syllables: int = 4  # of a word at most, 2 at least
  name: str = 'letters'

  def __post_init__(self):
    dataclass_json.require_at_least(self, 'n_syllables', 2)

  def _make(self, draw: random.Random) -> tuple[str, protocol.Problem]:
    text = questions.word(draw, self.n_syllables)
    # One letter in five is any, so that the answer may be 0.
    any_letter = draw.random() < 0.2
    letter = draw.choice(
      questions.CONSONANTS + questions.VOWELS if any_letter else text
    )
    return text, self._problem(text, letter)

  def _problem(self, text: str, letter: str) -> protocol.Problem:
    if self.kind == 'spell':
      return protocol.Problem(self.name, f'spell {text}=', ' '.join(text))
    reference = str(text.count(letter))
    return protocol.Problem(self.name, f'{letter} in {text}=', reference)

  def _thought(self, problem: protocol.Problem) -> list[str]:
    """Each letter with the count so far; spelling needs no thought.

    >>> task = Letters()
    >>> print(task.demonstrate(task._problem('baba', 'a'), think=True))
    <think>
    b0
    a1
    b1
    a2
    </think>
    2
    """
    if self.kind == 'spell':
      return []
    letter, _, text = problem.prompt.rstrip('=').split(' ')
    return [
      f'{other}{text[:end].count(letter)}' for end, other in enumerate(text, 1)
    ]

  def _reader(self, problem: protocol.Problem):
    is_count = self.kind == 'count'
    return super()._reader(problem) if is_count else (spelt, 'a spelling')


def spelt(text: str) -> str | None:
  """Letters with one space, comma or dash between them, as `b a n`."""
  letters = text.replace(', ', ' ').replace('-', ' ').split(' ')
  are_letters = all(len(letter) == 1 for letter in letters)
  return ' '.join(letters).lower() if are_letters else None
