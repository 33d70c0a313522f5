"""What tasks ask in words: sums, who the assistant is, what it cannot do.

The words stand in questions.toml; each task draws from them by its own rules.
"""

from llm_jax import files


def of(subject: str) -> dict[str, list[str]]:
  """The questions of one part of the file, in its order.

  Args:
    subject: 'addition', by the names under which accuracy is reported;
      'identity', by their answers; or 'refused', by kind.
  """
  return files.tables_of(__file__)[subject]


def identity() -> list[tuple[str, str]]:
  """Questions about the assistant, each with its answer.

  They have no held-out split: the answers are meant to be learnt by heart.
  """
  facts = of('identity').items()
  return [(question, answer) for answer, asked in facts for question in asked]
