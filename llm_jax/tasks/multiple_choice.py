"""Questions with lettered choices in MMLU's form, read from a file here.

A row holds a question, its choices, and the place of the right one from 0 on.
"""

import dataclasses
import re
import string
from typing import Any

from llm_jax.tasks import protocol, published
from llm_jax.verify import grading

_MAX_LENGTH = 2000  # characters; of a longer answer the last ones are read
# `B` or `b` alone on a line; `(B)`, `B.`, `B)` before its text; `answer is B`.
_LETTER = re.compile(
  r'^[ *]*(?:\(([A-Z])\)|([A-Z])[.):]|([A-Za-z])[ *]*$)'
  r'|(?i:answer(?: is:?|:))[ *]*\(?([A-Z])(?![A-Za-z])',
  re.MULTILINE,
)


@dataclasses.dataclass(frozen=True)
class MultipleChoice:
  """The task for the questions of a file."""

  path: str = ''  # JSONL or JSONL.gz
  held_out_path: str = ''  # such as the published test set; '': a tenth of path
  name: str = 'multiple_choice'
  think_start: str = grading.THINK_START

  def problems(
    self, split: str, count: int, seed: int
  ) -> list[protocol.Problem]:
    """Distinct problems of one split of the file."""
    return published.problems(
      self.path, self.held_out_path, self.read, split, count, seed
    )

  def read(self, row: dict[str, Any]) -> protocol.Problem | None:
    """A row as a problem, or None if its answer is none of its choices."""
    question, choices, right = row['question'], row['choices'], row['answer']
    if not 2 <= len(choices) <= 26:
      raise ValueError(f'there are {len(choices)} choices; use 2 to 26')
    lines = [
      f'{letter}. {choice}'
      for letter, choice in zip(string.ascii_uppercase, choices, strict=False)
    ]
    if type(right) is not int or not 0 <= right < len(choices):
      return None
    prompt = '\n'.join([question.strip(), *lines, 'Answer:'])
    return protocol.Problem(self.name, prompt, lines[right])

  def demonstrate(self, problem: protocol.Problem, think: bool) -> str:
    """Write the letter; the file has no thoughts.

    >>> task = MultipleChoice()
    >>> row = {'question': '2+2?', 'choices': ['3', '4'], 'answer': 1}
    >>> problem = task.read(row)
    >>> problem.prompt, task.demonstrate(problem, think=False)
    ('2+2?\\nA. 3\\nB. 4\\nAnswer:', 'B')

    Args:
      problem: a problem of this task.
      think: of no effect.

    Returns:
      The text of the answer.
    """
    del think
    return problem.reference[0]

  def score(self, problem: protocol.Problem, answer: str) -> grading.Score:
    """Compare the last letter, or the text of a choice in full.

    Args:
      problem: a problem of this task.
      answer: anything a model wrote.

    Returns:
      Correct if the last letter that stands as an answer is the right one; a
      letter in a sentence is none.
    """
    right = problem.reference[0]

    def read(text: str) -> str | None:
      if text.strip().rstrip('.') == problem.reference[3:].strip().rstrip('.'):
        return right
      found = _LETTER.findall(text[-_MAX_LENGTH:])
      return ''.join(found[-1]).upper() if found else None

    return grading.compare(answer, right, read, 'a letter')

  thinks = staticmethod(grading.thinks)
