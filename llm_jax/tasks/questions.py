"""What tasks ask in words: sums, who the assistant is, what it cannot do.

The words stand in questions.toml; each task draws from them by its own rules.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import yaml

from llm_jax import files

_PERSONA = {'name': str, 'maker': str, 'facts': list}  # keys of its file
_FACT = {'questions': list, 'answer': str}


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
  values = {'facts': []} | values if isinstance(values, dict) else values
  _check(values, _PERSONA, path)
  for i, fact in enumerate(values['facts']):
    _check(fact, _FACT, f'{path}, facts[{i}]')
    for j, question in enumerate(fact['questions']):
      _check({j: question}, {j: str}, f'{path}, facts[{i}].questions')
  return values


def _check(values: Any, kinds: Mapping[Any, type], where: str) -> None:
  if not isinstance(values, dict) or values.keys() - kinds.keys():
    raise ValueError(f'{where}: {values!r:.80} has other keys than {[*kinds]}')
  for key, kind in kinds.items():
    value = values.get(key)
    if not isinstance(value, kind) or not (value or key == 'facts'):
      what = 'a text in quotes' if kind is str else 'a list'
      raise ValueError(f'{where}: {key} is {value!r:.80}; give {what}')
