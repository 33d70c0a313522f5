"""A word from its last letter to its first."""

import dataclasses
import random

from llm_jax import dataclass_json
from llm_jax.tasks import protocol, questions, splits


@dataclasses.dataclass(frozen=True)
class Reversal(splits.Made):
  """The task for words of 2 to n_syllables syllables."""

  n_syllables: int = 4  # of a word at most, 2 at least
  name: str = 'reversal'

  def __post_init__(self):
    dataclass_json.require_at_least(self, 'n_syllables', 2)

  def _make(self, draw: random.Random) -> tuple[str, protocol.Problem]:
    word = questions.word(draw, self.n_syllables)
    return word, self._problem(word)

  def _problem(self, word: str) -> protocol.Problem:
    return protocol.Problem(self.name, f'reverse {word}=', word[::-1])

  def _thought(self, problem: protocol.Problem) -> list[str]:
    """Its spelling, forwards and backwards.

    >>> task = Reversal()
    >>> print(task.demonstrate(task._problem('bade'), think=True))
    <think>
    b a d e
    e d a b
    </think>
    edab
    """
    return [' '.join(problem.reference[::-1]), ' '.join(problem.reference)]

  def _reader(self, problem: protocol.Problem):
    del problem
    return str, 'a word'
