"""A task of one's own: how many vowels does a word have?

A recipe takes it by `--import examples/vowels.py`; docs/how-to/own_task.md.
"""

import dataclasses

from llm_jax.tasks import protocol, questions, splits


@dataclasses.dataclass(frozen=True)
class Vowels(splits.Made):
  """The task for words of n_syllables syllables."""

  n_syllables: int = 3  # of a word
  name: str = 'vowels'

  def _make(self, draw):
    word = questions.word(draw, self.n_syllables)
    n_vowels = sum(letter in 'aeiou' for letter in word)
    return word, protocol.Problem(self.name, f'{word}=', str(n_vowels))

  def _thought(self, problem):
    return [' '.join(letter for letter in problem.prompt if letter in 'aeiou')]
