"""What tasks ask in words: sums, who the assistant is, what it cannot do.

The words stand in questions.toml; each task draws from them by its own rules.
"""

import functools
import pathlib
import tomllib


@functools.cache
def of(subject: str) -> dict[str, list[str]]:
  """The questions of one part of the file, in its order.

  Args:
    subject: 'addition', by the names under which accuracy is reported;
      'identity', by their answers; or 'refused', by kind.
  """
  path = pathlib.Path(__file__).with_suffix('.toml')
  return tomllib.loads(path.read_text(encoding='utf-8'))[subject]


def identity() -> list[tuple[str, str]]:
  """Questions about the assistant, each with its answer.

  They have no held-out split: the answers are meant to be learnt by heart.
  """
  facts = of('identity').items()
  return [(question, answer) for answer, asked in facts for question in asked]
