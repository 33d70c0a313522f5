"""The same words in a form that is asked for.

Nothing has to be known or computed: only the form can be wrong.
"""

import dataclasses
import json
import random

from llm_jax.tasks import letters, protocol, splits
from llm_jax.verify import grading

_FORMS = (
  'a JSON list',
  'a numbered list',
  'a list with dashes',
  'capitals with commas',
)


@dataclasses.dataclass(frozen=True)
class Format(splits.Made):
  """The task for 2 to n_words words.

  The same words are of one split in every form.
  """

  n_words: int = 4
  name: str = 'format'
  think_start: str = grading.THINK_START

  def __post_init__(self):
    if self.n_words < 2:
      raise ValueError(f'Format.n_words = {self.n_words}; use 2 or more')

  def _make(self, draw: random.Random) -> tuple[str, protocol.Problem]:
    n_words = draw.randint(2, self.n_words)
    words = [letters.word(draw, n_syllables=2) for _ in range(n_words)]
    return ' '.join(words), self._problem(words, draw.choice(_FORMS))

  def _problem(self, words: list[str], form: str) -> protocol.Problem:
    prompt = f'{" ".join(words)} as {form}='
    return protocol.Problem(self.name, prompt, _written(words, form))

  def demonstrate(self, problem: protocol.Problem, think: bool) -> str:
    """Write the words in their form; there is nothing to think about.

    >>> task = Format()
    >>> problem = task._problem(['kiwi', 'fig'], 'a numbered list')
    >>> print(task.demonstrate(problem, think=False))
    1. kiwi
    2. fig

    Args:
      problem: a problem of this task.
      think: of no effect.

    Returns:
      The text of the answer.
    """
    del think
    return problem.reference

  def score(self, problem: protocol.Problem, answer: str) -> grading.Score:
    """Correct if the last answer has the form and words asked for.

    JSON may be spaced and escaped as it likes, other forms as demonstrated.

    Args:
      problem: a problem of this task.
      answer: anything a model wrote.

    Returns:
      The verdict.
    """
    form = problem.prompt.rpartition(' as ')[2].rstrip('=')
    read = _json_list if form == 'a JSON list' else _lines
    return grading.compare(answer, problem.reference, read, form)


def _written(words: list[str], form: str) -> str:
  if form == 'a JSON list':
    return json.dumps(words)
  if form == 'a numbered list':
    return '\n'.join(f'{n}. {word}' for n, word in enumerate(words, 1))
  if form == 'a list with dashes':
    return '\n'.join(f'- {word}' for word in words)
  return ', '.join(words).upper()


def _lines(text: str) -> str:
  """The text without spaces at the ends of its lines."""
  return '\n'.join(line.rstrip() for line in text.split('\n'))


def _json_list(text: str) -> str | None:
  """A JSON list of strings in Python's own spacing; None for anything else."""
  try:
    value = json.loads(text)
  except (ValueError, RecursionError):
    return None
  if type(value) is not list or any(type(item) is not str for item in value):
    return None
  return json.dumps(value)
