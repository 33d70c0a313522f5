"""The same words in a form that is asked for.

Nothing has to be known or computed: only the form can be wrong.
"""

import dataclasses
import json
import random
from collections.abc import Callable

from llm_jax import dataclass_json
from llm_jax.tasks import protocol, questions, splits

# How each form is written.
_FORMS: dict[str, Callable[[list[str]], str]] = {
  'a JSON list': json.dumps,
  'a numbered list': lambda words: '\n'.join(
    f'{n}. {word}' for n, word in enumerate(words, 1)
  ),
  'a list with dashes': lambda words: '\n'.join(f'- {word}' for word in words),
  'capitals with commas': lambda words: ', '.join(words).upper(),
}


@dataclasses.dataclass(frozen=True)
class Format(splits.Made):
  """The task for 2 to n_words words.

  The same words are of one split in every form. There is nothing to think
  about, and only the last answer's form and words count: JSON may be spaced and
  escaped as it likes, other forms are as demonstrated.

  >>> task = Format()
  >>> problem = task._problem(['kiwi', 'fig'], 'a numbered list')
  >>> print(task.demonstrate(problem, think=False))
  1. kiwi
  2. fig
  """

  n_words: int = 4  # at most, 2 at least
  name: str = 'format'

  def __post_init__(self):
    dataclass_json.require_at_least(self, 'n_words', 2)

  def _make(self, draw: random.Random) -> tuple[str, protocol.Problem]:
    n_words = draw.randint(2, self.n_words)
    words = [questions.word(draw, n_syllables=2) for _ in range(n_words)]
    return ' '.join(words), self._problem(words, draw.choice([*_FORMS]))

  def _problem(self, words: list[str], form: str) -> protocol.Problem:
    prompt = f'{" ".join(words)} as {form}='
    return protocol.Problem(self.name, prompt, _FORMS[form](words))

  def _reader(self, problem: protocol.Problem):
    form = problem.prompt.rpartition(' as ')[2].rstrip('=')
    return (_json_list if form == 'a JSON list' else _lines), form


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
