r"""Problems in the forms of GSM8K and MATH, read from a file here.

GSM8K's rows hold a question and an answer: a worked solution whose last line is
`#### n`, with <<48/2=24>> for what a calculator was asked, or the number alone,
with an equation beside it if there is one. MATH's hold a problem and a solution
with its answer, which may be a formula, in the last \boxed{}. Only that answer
is judged; a row where it is neither a number nor a formula is dropped.
"""

import dataclasses
import fractions
import re
from typing import Any

from llm_jax.tasks import protocol, published
from llm_jax.verify import answers, equality, symbolic_pool, verdict


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
  ) -> list[protocol.Problem]:
    """Distinct problems; one story with other numbers is of one split."""
    return published.problems(
      self.path, self.held_out_path, self.read, split, count, seed
    )

  def read(self, row: dict[str, Any]) -> protocol.Problem | None:
    """A row as a problem, or None if its answer cannot be read."""
    if 'problem' in row:
      question, solution = row['problem'], row['solution']
      answer = f'{solution}\n#### {answers.marked(solution) or ""}'
    else:
      question, answer = row['question'], row['answer']
    if not isinstance(question, str) or not question.strip():
      raise ValueError(f'the question is {question!r}; write text')
    if isinstance(answer, int | float):
      answer = (
        f'{row.get("equation", "")}\n#### {str(answer).removesuffix(".0")}'
      )
    solution, _, right = answer.rpartition('####')
    right = right.strip()
    if equality.number(right) is None and not _is_formula(right):
      return None
    if not self.calculator_marks:
      solution = re.sub('<<[^>]*>>', '', solution)
    reference = f'{solution.strip()}\n#### {right}'.lstrip()
    return protocol.Problem(self.name, question.strip(), reference)

  def demonstrate(self, problem: protocol.Problem, think: bool) -> str:
    """Write the answer, after the worked solution if thinking.

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
    solution, mark, right = problem.reference.rpartition('####')
    if not think or not solution:
      return mark + right
    return answers.with_thought([solution.strip()], mark + right)

  def score(self, problem: protocol.Problem, answer: str) -> verdict.Score:
    r"""Compare the last answer with the reference, exactly.

    A number must have been worked out: 48+24 and \sqrt{4} are none. A formula
    may have any form.

    Args:
      problem: a problem of this task.
      answer: anything a model wrote.

    Returns:
      Correct if the last answer is equal: in the last `#### n` or \boxed{n},
      or anywhere after the thoughts if nothing is marked; for a formula, there
      between the last two $.
    """
    reference = problem.reference.rpartition('####')[2].strip()
    right = equality.number(reference)
    if right is None:
      return _score_formula(answer, reference)

    def read(text: str) -> fractions.Fraction | None:
      if equality.number(text) is None:
        text = equality.last_number(text)
      is_equal = equality.equal(text, reference)
      return right if is_equal else equality.number(text)

    return answers.compare(answer, right, read)

  thinks = staticmethod(answers.thinks)


def _is_formula(text: str) -> bool:
  return bool(text) and symbolic_pool.shared().is_readable(text)


def _score_formula(answer: str, reference: str) -> verdict.Score:
  text = answers.last(answer)
  if text is None:
    return verdict.Score(False, 'the thought does not end')
  if text == answers.final(answer):  # nothing is marked
    text = (re.findall(r'\$([^$]+)\$', text) or [text])[-1]
  if equality.equal(text, reference):
    return verdict.Score(True, 'equal')
  reason = symbolic_pool.shared().difference(text, reference)
  return verdict.Score(not reason, reason or 'equal as formulas')
