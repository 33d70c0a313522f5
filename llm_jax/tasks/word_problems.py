"""Word problems in GSM8K's form, read from a file here.

A row holds a question and an answer: a worked solution whose last line is
`#### n`, with <<48/2=24>> for what a calculator was asked, or the number
alone, with an equation beside it if there is one. Only the number is judged.
"""

import dataclasses
import fractions
import re
from typing import Any

from llm_jax.tasks import answers, equality, published
from llm_jax.tasks import problem as problem_lib


@dataclasses.dataclass(frozen=True)
class WordProblems:
  """The task for the problems of a file."""

  path: str = ''  # JSONL or JSONL.gz
  held_out_path: str = ''  # such as the published test set; '': a tenth of path
  calculator_marks: bool = True  # are demonstrated
  name: str = 'word_problems'
  think_start: str = answers.THINK_START

  def problems(
    self, split: str, count: int, seed: int
  ) -> list[problem_lib.Problem]:
    """Distinct problems; one story with other numbers is of one split."""
    return published.problems(
      self.path, self.held_out_path, self.read, split, count, seed
    )

  def read(self, row: dict[str, Any]) -> problem_lib.Problem | None:
    """A row as a problem, or None if its answer holds no readable number."""
    question, answer = row['question'], row['answer']
    if not isinstance(question, str) or not question.strip():
      raise ValueError(f'the question is {question!r}; write text')
    if isinstance(answer, int | float):
      answer = (
        f'{row.get("equation", "")}\n#### {str(answer).removesuffix(".0")}'
      )
    solution, _, number = answer.rpartition('####')
    if equality.number(number) is None:
      return None
    if not self.calculator_marks:
      solution = re.sub('<<[^>]*>>', '', solution)
    reference = f'{solution.strip()}\n#### {number.strip()}'.lstrip()
    return problem_lib.Problem(self.name, question.strip(), reference)

  def demonstrate(self, problem: problem_lib.Problem, think: bool) -> str:
    """Write the number, after the worked solution if thinking.

    >>> task = WordProblems(calculator_marks=False)
    >>> problem = task.read({
    ...   'question': 'How many are 2 pairs?',
    ...   'answer': '2 pairs are 2*2=<<2*2=4>>4.\\n#### 4',
    ... })
    >>> print(task.demonstrate(problem, think=True))
    <think>
    2 pairs are 2*2=4.
    </think>
    #### 4

    Args:
      problem: a problem of this task.
      think: whether the solution, if the file has one, comes before.

    Returns:
      The text of the answer.
    """
    solution, mark, number = problem.reference.rpartition('####')
    if not think or not solution:
      return mark + number
    return answers.with_thought([solution.strip()], mark + number)

  def score(
    self, problem: problem_lib.Problem, answer: str
  ) -> problem_lib.Score:
    r"""Compare the last number with the reference, exactly.

    Args:
      problem: a problem of this task.
      answer: anything a model wrote.

    Returns:
      Correct if the last number is equal: in the last `#### n` or \boxed{n},
      or anywhere after the thoughts if nothing is marked.
    """
    reference = problem.reference.rpartition('####')[2]
    right = equality.number(reference)

    def read(text: str) -> fractions.Fraction | None:
      if equality.number(text) is None:
        text = equality.last_number(text)
      is_equal = equality.equal(text, reference)
      return right if is_equal else equality.number(text)

    return answers.verdict(answer, right, read)

  thinks = staticmethod(answers.thinks)
