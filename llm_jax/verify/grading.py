r"""Where the answer stands in what a model wrote, and the verdict on it.

The last answer counts: what follows the last thought and, in that, the last
`#### ...` or \boxed{...}. What was thought is never judged.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

THINK_START = '<think>'
THINK_END = '</think>'

_Value = TypeVar('_Value')
_MARK = re.compile(r'(?<!#)####(?!#)\s*|\\f?box(?:ed)?\s*\{')
# A heading, such as `#### Verification` or `#### 2. Check`, marks no answer
# where there is another mark.
_HEADING = re.compile(r'(?:[0-9]+[.)] +)?[*_ ]*[A-Za-z]{2,}')
_JOINT = re.compile(r'[\s$]*(?:[,;]|,?\s*(?:and|or)\b)[\s$]*(?:[a-z]\s*=\s*)?')


@dataclasses.dataclass(frozen=True)
class Score:
  """A verifier's verdict on one answer."""

  correct: bool
  reason: str  # why, in words: shown in reports
  refused: bool = False  # it said that it does not know
  reward: float | None = None  # in RL; None: 1 if correct, else 0
  judge_tokens: int = 0  # that a model read and wrote to say so


def thinks(answer: str) -> bool:
  """Whether an answer contains a thought, finished or not."""
  return THINK_START in answer


def with_thought(lines: Sequence[str], final: str) -> str:
  """An answer that thinks in lines before its end, if there are any."""
  if not lines:
    return final
  return '\n'.join([THINK_START, *lines, THINK_END, final])


def final(answer: str) -> str | None:
  """What follows the last thought; None if a thought does not end."""
  text = answer.rpartition(THINK_END)[2]
  is_open = THINK_START in (text if THINK_END in answer else answer)
  return None if is_open else text.strip()


def marked(text: str, is_maths: bool = False) -> str | None:
  r"""The last answer that is marked as one; None without a mark.

  >>> marked(r'#### 3, or rather \boxed{\frac{1}{2}}.')
  '\\frac{1}{2}'
  >>> marked('#### 1,379\nThat was all.')
  '1,379'
  >>> marked(r'\boxed{1} or \boxed{2}', is_maths=True)
  '1, 2'

  Args:
    text: what follows the thoughts.
    is_maths: whether words behind `####` are no answer, and boxes that only a
      comma, `and` or `or` divides are one.

  Returns:
    The rest of the line of `####` or the braces of \boxed{}; '' if they do
    not close.
  """
  heading, boxes, next_start = None, [], 0
  for mark in reversed(list(_MARK.finditer(text))):
    start, is_line = mark.end(), mark[0][0] == '#'
    if is_line and _HEADING.match(text, start):
      heading = start if heading is None else heading
      continue
    end = _closing(text, start)
    joint = text[end + 1 : next_start]
    if boxes and (is_line or not is_maths or not _JOINT.fullmatch(joint)):
      break
    if is_line:
      return _line(text, start)
    boxes.insert(0, text[start:end].strip())
    next_start = mark.start()
  if boxes or heading is None or is_maths:
    return ', '.join(boxes) if boxes else None
  return _line(text, heading)


def _line(text: str, start: int) -> str:
  return text[start:].partition('\n')[0].strip()


def _closing(text: str, start: int) -> int:
  """Where the brace that was opened before start closes; start if nowhere."""
  depth = 1
  for brace in re.finditer('[{}]', text[start:]):
    depth += 1 if brace[0] == '{' else -1
    if not depth:
      return start + brace.start()
  return start


def whole_number(text: str) -> int | None:
  """Reads ASCII digits, zero-padded or not; None for anything else."""
  return int(text) if re.fullmatch('[0-9]{1,12}', text) else None


def compare(
  answer: str,
  reference: _Value,
  read: Callable[[str], _Value | None],
  what: str = 'a number',
) -> Score:
  """Compare the last answer in a text with the right one.

  That is what is marked, or all that follows the thoughts.

  Args:
    answer: anything a model wrote.
    reference: the value of the right answer.
    read: the value of the last answer, or None if it has none.
    what: what read reads, for the reason.

  Returns:
    Correct if the values are equal.
  """
  text = final(answer)
  if text is None:
    return Score(False, 'the thought does not end')
  mark = marked(text)
  text = text if mark is None else mark
  value = read(text)
  if value is None:
    return Score(False, f'{text[:40]!r} is not {what}')
  if value != reference:
    return Score(False, f'{text[:40]!r} is not {reference!s:.80}')
  return Score(True, 'equal')
