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
_DRESS = re.compile(
  r'\\(?:text(?:bf|it|rm)?|math(?:bf|rm|sf)|f?box(?:ed)?)(?![a-z])|\\[()\[\]]'
  r'|[{}$*_`"“”#]|(?<![A-Za-z])\'|\'(?![A-Za-z])'
)
_LETTER = r'[(\[]?([A-Za-z])(?![A-Za-z\'])([)\]]?)'
_NAMED = re.compile(
  r'\b(?:answer|option|choice)'
  r'(?:\s+(?:is|would be|should be|must be)\b\s*:?|\s*:)'
  rf'\s*(?:(?:option|choice|letter)\s+)?(?=(?P<rest>.*))(?:{_LETTER})?'
  rf'|\b{_LETTER} (?:is|would be) (?:the )?(?:correct|right|best)\b',
  re.IGNORECASE,
)
_ALONE = re.compile(
  rf'\s*(?:[-•] )?(?:(?:answer|option|choice) )?{_LETTER}([.:)]*)'
  r'(?: +([-–] +)?(?P<rest>\S.*))?\s*',
  re.IGNORECASE,
)
_JOINT = r'\s*(?:[,;/&]|,?\s*\b(?:and|or|nor)\b)\s*'
_ANOTHER = re.compile(
  rf'{_JOINT}(?:maybe |perhaps )?[(\[]?(?:[A-Z]\b|[a-z](?=[)\].]|\s*$))', re.M
)
_ONE_BEFORE = re.compile(rf'(?:\b[A-Z]|[(\[][A-Za-z])[)\]]?{_JOINT}$')
_ONE_WITHIN = re.compile(r'(?:^|[\s,;/&])(?:[(\[][A-Za-z][)\]]|[A-Z][).:])')


@dataclasses.dataclass(frozen=True)
class MultipleChoice(published.Published):
  """The task for the questions of a file."""

  path: str = ''  # JSONL or JSONL.gz
  held_out_path: str = ''  # such as the published test set; '': a tenth of path
  name: str = 'multiple_choice'

  def read(self, row: dict[str, Any]) -> protocol.Problem | None:
    """A row as a problem, or None if its answer is none of its choices."""
    question, right = row['question'].strip(), row['answer']
    choices = tuple(str(choice) for choice in row['choices'])
    if not 2 <= len(choices) <= 26:
      raise ValueError(f'there are {len(choices)} choices; use 2 to 26')
    if not all(choice.strip() for choice in choices):
      raise ValueError(f'the choices {choices} are not all text; write each')
    lines = [
      f'{letter}. {choice}'
      for letter, choice in zip(string.ascii_uppercase, choices, strict=False)
    ]
    if type(right) is not int or not 0 <= right < len(choices):
      return None
    prompt = '\n'.join([question, *lines, 'Answer:'])
    return protocol.Problem(
      task=self.name,
      prompt=prompt,
      reference=lines[right],
      question=question,
      choices=choices,
    )

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
      letter in a sentence is none, and two letters or all choices are none.
    """
    final = grading.final(answer)
    if final is None:
      return grading.Score(False, 'the thought does not end')
    text = grading.marked(final, is_maths=True) or final
    letter, choice = problem.reference[0], _same(problem.reference[3:])
    found = _letter(_DRESS.sub('', text[-_MAX_LENGTH:]), letter, choice)
    if found is None:
      return grading.Score(False, f'{text[:40]!r} is not a letter')
    is_right = found == letter
    reason = 'equal' if is_right else f'{text[:40]!r} is not {letter}'
    return grading.Score(is_right, reason)


def _same(text: str) -> str:
  return _DRESS.sub('', text).strip(' .').casefold()


def _letter(text: str, right: str, choice: str) -> str | None:
  """The letter that an answer gives, as a capital; None without exactly one."""
  if _same(text) == choice:
    return right
  found: list[tuple[int, str | None]] = []
  for match in _NAMED.finditer(text):
    letter, closing = match[2] or match[4], match[3] or match[5]
    after = text[match.end() :]
    if _same(match['rest'] or '') == choice:
      letter = right
    elif not letter:
      continue
    elif _ANOTHER.match(after) or _ONE_BEFORE.search(text[: match.start()]):
      letter = None
    elif letter.islower() and not closing and after[:1] not in ('', *'.,;:!\n'):
      continue  # the answer is a cat
    found.append((match.start(), letter))
  position, before = 0, None
  for line in text.split('\n'):
    letter = None
    if match := _ALONE.fullmatch(line):
      letter, closing, mark, dash, rest = match.groups()
      is_marked = closing or (letter.isupper() and (mark or dash))
      is_other = _same(rest or '') != choice and _ONE_WITHIN.search(rest or '')
      if rest and (not is_marked or is_other):
        letter = None
    if letter:
      are_all = before not in (None, letter)  # the choices again
      found.append((position, None if are_all else letter))
    before = letter if line.strip() else before
    position += len(line) + 1
  last = max(found, default=(0, None), key=lambda pair: pair[0])[1]
  return last and last.upper()
