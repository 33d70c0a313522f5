"""What tasks ask in words: sums, who the assistant is, what it cannot do.

The words stand in questions.toml; each task draws from them by its own rules.
"""

import pathlib
import random
from typing import Any

import jsonschema
import yaml

from llm_jax import files

CONSONANTS, VOWELS = 'bcdfghjklmnprstvwz', 'aeiou'


def word(draw: random.Random, n_syllables: int) -> str:
  """A made-up word such as 'banana', of 2 to n_syllables syllables."""
  return ''.join(
    draw.choice(CONSONANTS) + draw.choice(VOWELS)
    for _ in range(draw.randint(2, n_syllables))
  )


def of(subject: str) -> dict[str, list[str]]:
  """The questions of one part of the file, in its order.

  Args:
    subject: 'addition', by the names under which accuracy is reported;
      'identity', by their answers; or 'refused', by kind.
  """
  return files.tables_of(__file__)[subject]


def identity(persona: str = '') -> list[tuple[str, str]]:
  """Questions about the assistant, each with its answer.

  They have no held-out split: the answers are meant to be learnt by heart.

  Args:
    persona: YAML file of a user's own, see `read_persona`, whose facts come
      before ours; '': ours.
  """
  facts = of('identity')
  if persona:
    who = read_persona(persona)
    own = {fact['answer']: fact['questions'] for fact in who['facts']}
    said = files.tables_of(__file__)['persona'].items()
    facts = {text.format(**who): facts[ours] for text, ours in said} | own
  asked = {question: text for text, own in facts.items() for question in own}
  return [*asked.items()]


def read_persona(path: str) -> dict[str, Any]:
  """A persona: `name`, `maker`, and `facts` if any.

  A fact has `questions` and an `answer`.

  Raises:
    ValueError: if the file is no YAML or a key is missing, unknown or wrong.
  """
  try:
    values = yaml.safe_load(pathlib.Path(path).read_text('utf-8'))
  except (yaml.YAMLError, UnicodeDecodeError) as error:
    raise ValueError(f'{path} is no YAML: {error}') from None
  try:
    jsonschema.validate(values, files.tables_of(__file__)['persona_form'])
  except jsonschema.ValidationError as error:
    where = error.json_path[2:] or 'it'
    raise ValueError(f'{path}: {where}: {error.message:.200}') from None
  return {'facts': [], **values}
