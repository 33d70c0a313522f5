r"""Where the answer stands in what a model wrote, for every verifier.

The last answer counts: what follows the last thought and, in that, the last
`#### ...` or \boxed{...}. What was thought is never judged.
"""

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from llm_jax.verify import verdict

THINK_START = '<think>'
THINK_END = '</think>'

_Value = TypeVar('_Value')


def thinks(answer: str) -> bool:
  """Whether an answer contains a thought, finished or not."""
  return THINK_START in answer


def with_thought(lines: Sequence[str], final: str) -> str:
  """An answer that thinks in lines before its end."""
  return '\n'.join([THINK_START, *lines, THINK_END, final])


def final(answer: str) -> str | None:
  """What follows the last thought; None if a thought does not end."""
  if thinks(answer) and THINK_END not in answer:
    return None
  return answer.rpartition(THINK_END)[2].strip()


def marked(text: str) -> str | None:
  r"""The last answer that is marked as one; None without a mark.

  >>> marked(r'#### 3, or rather \boxed{\frac{1}{2}}.')
  '\\frac{1}{2}'
  >>> marked('#### 1,379\nThat was all.')
  '1,379'

  Args:
    text: what follows the thoughts.

  Returns:
    The rest of the line of `####` or the braces of \boxed{}; '' if they do
    not close.
  """
  at_hashes, at_box = text.rfind('####'), text.rfind('\\boxed{')
  if at_hashes > at_box:
    return text[at_hashes + len('####') :].lstrip().partition('\n')[0].strip()
  if at_box < 0:
    return None
  start, depth = at_box + len('\\boxed{'), 1
  for brace in re.finditer('[{}]', text[start:]):
    depth += 1 if brace[0] == '{' else -1
    if not depth:
      return text[start : start + brace.start()].strip()
  return ''


def last(answer: str) -> str | None:
  """The last answer: what is marked, or all that follows the thoughts.

  Args:
    answer: anything a model wrote.

  Returns:
    Its text; None if a thought does not end.
  """
  text = final(answer)
  if text is None:
    return None
  mark = marked(text)
  return text if mark is None else mark


def whole_number(text: str) -> int | None:
  """Reads ASCII digits, zero-padded or not; None for anything else."""
  return int(text) if re.fullmatch('[0-9]{1,12}', text) else None


def compare(
  answer: str,
  reference: _Value,
  read: Callable[[str], _Value | None],
  what: str = 'a number',
) -> verdict.Score:
  """Compare the last answer in a text with the right one.

  Args:
    answer: anything a model wrote.
    reference: the value of the right answer.
    read: the value of the last answer, or None if it has none.
    what: what read reads, for the reason.

  Returns:
    Correct if the values are equal.
  """
  text = last(answer)
  if text is None:
    return verdict.Score(False, 'the thought does not end')
  value = read(text)
  if value is None:
    return verdict.Score(False, f'{text[:40]!r} is not {what}')
  if value != reference:
    return verdict.Score(False, f'{text[:40]!r} is not {reference!s:.80}')
  return verdict.Score(True, 'equal')
