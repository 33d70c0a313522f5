r"""Problems in the forms of GSM8K and MATH, read from a file here.

GSM8K's rows hold a question and an answer: a worked solution whose last line is
`#### n`, with <<48/2=24>> for what a calculator was asked, or the number alone,
with an equation beside it if there is one. MATH's hold a problem and a solution
with its answer, which may be a formula or words, in the last \boxed{}. Only
that answer is judged; a row where it is none of these is dropped.
"""

import dataclasses
import re
from typing import Any

from llm_jax.tasks import protocol, published
from llm_jax.verify import equality, formula_pool, grading

_MAX_LENGTH = 4000  # characters; of a longer unmarked answer the last are read
_MATHS = re.compile(
  r'\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)|\$((?:[^$\n\\]|\\.)+)\$',
  re.DOTALL,
)
_JOINT = re.compile(r'\s*(?:,|,?\s*(?:and|or))\s*')
_SAID = re.compile(r'(?s:.*)(?:\b(?:is|are|be)|[:=]) +')  # before the answer
_TEXT = re.compile(r'\\(?:text|mathrm|mbox|textbf)\s*\{[^{}]*\}')


@dataclasses.dataclass(frozen=True)
class WordProblems(published.Published):
  """The task for the problems of a file."""

  path: str = ''  # JSONL or JSONL.gz
  held_out_path: str = ''  # such as the published test set; '': a tenth of path
  calculator_marks: bool = True  # are demonstrated
  name: str = 'word_problems'

  def read(self, row: dict[str, Any]) -> protocol.Problem | None:
    """A row as a problem, or None if its answer cannot be read."""
    if 'problem' in row:
      question, solution = row['problem'], row['solution']
      answer = f'{solution}\n#### {grading.marked(solution) or ""}'
    else:
      question, answer = row['question'], row['answer']
    if not isinstance(question, str) or not question.strip():
      raise ValueError(f'the question is {question!r}; write text')
    if isinstance(answer, int | float):
      number = str(answer).removesuffix('.0')
      answer = f'{row.get("equation", "")}\n#### {number}'
    solution, _, right = answer.rpartition('####')
    right = right.strip()
    is_words = 'problem' in row and _words(right)
    if not (is_words or _is_number(right) or _is_formula(right)):
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
    lines = [solution.strip()] if think and solution else []
    return grading.with_thought(lines, mark + right)

  def score(self, problem: protocol.Problem, answer: str) -> grading.Score:
    r"""Compare the last answer with the reference, exactly.

    A number must have been worked out: 48+24 and \sqrt{4} are none. A formula
    may have any form.

    Args:
      problem: a problem of this task.
      answer: anything a model wrote.

    Returns:
      Correct if all that stands in the last `#### ...` or \boxed{...} is equal;
      if nothing is marked, the last formula between $ or the last number.
    """
    reference = problem.reference.rpartition('####')[2].strip()
    final = grading.final(answer)
    if final is None:
      return grading.Score(False, 'the thought does not end')
    text = grading.marked(final, is_maths=True)
    if text is None:
      text = _stated(final, reference)
    if equality.equal(text, reference):
      return grading.Score(True, 'equal')
    if _is_number(reference):
      is_other = equality.value(text) is not None
      wanted = reference if is_other else 'a number'
      return grading.Score(False, f'{text[:40]!r} is not {wanted:.80}')
    if words := _words(reference):
      if words == _words(text, reference):
        return grading.Score(True, 'equal as words')
      return grading.Score(False, f'{text[:40]!r} is not {reference:.80}')
    reason = formula_pool.shared().difference(text, reference)
    return grading.Score(not reason, reason or 'equal as formulas')


def _is_number(text: str) -> bool:
  return equality.value(text) is not None


def _is_formula(text: str) -> bool:
  return bool(text) and formula_pool.shared().is_readable(text)


def _words(text: str, reference: str = '') -> str:
  """The letters and digits of an answer in words; '' if it is none.

  What has an operator or a LaTeX command outside \\text{} is a formula. An
  answer may leave out \\text{} if its reference has it.
  """
  if len(text) > equality.MAX_LENGTH:
    return ''
  plain = equality.normalise(text)
  is_words = re.search('[a-zA-Z]{3}', plain) or _TEXT.fullmatch(
    reference or text
  )
  if not is_words or re.search(r'[\\^_{}=<>*+|\[\]]', plain):
    return ''
  plain = re.sub('^ ?(?:an?|the) ', '', plain.casefold())
  return re.sub('[^0-9a-z:/,-]', '', plain)


def _stated(text: str, reference: str) -> str:
  """The last answer of a text without a mark.

  That is its last formula; for a number its last number, if that comes later;
  without both what follows the last `is` or colon. Formulas that a comma,
  `and` or `or` joins are one answer if the reference has several.
  """
  text = text[-_MAX_LENGTH:]
  found = list(_MATHS.finditer(text))
  is_number = _is_number(reference)
  if found and not (is_number and re.search('[0-9]', text[found[-1].end() :])):
    parts = [''.join(filter(None, match.groups())) for match in found]
    n = 1
    if ',' in reference or 'and' in reference:
      while n < len(found) and _JOINT.fullmatch(
        text[found[-n - 1].end() : found[-n].start()]
      ):
        n += 1
    return ', '.join(parts[-n:])
  if is_number:
    return equality.last_number(text)
  return _SAID.sub('', text) or text
