r"""Whether two written answers are the same number or the same text.

First as text without LaTeX's dress, then as exact fractions. It does not know
that \sqrt{12} is 2\sqrt{3}: the third layer, symbolic.py, does. It computes
nothing that a model left undone (48+24 is not 72) and runs no text as code.
"""

import fractions
import re

MAX_LENGTH = 1000  # characters; a longer answer equals nothing
_WHOLE = r'(?:[0-9]{1,3}(?:,[0-9]{3}){1,9}|[0-9]{1,30})'
_NUMBER = re.compile(
  rf'(?P<sign>[-+]?)\s*(?:'
  rf'(?P<decimal>{_WHOLE}(?:\.[0-9]{{0,30}})?|\.[0-9]{{1,30}})\s*(?P<percent>%?)'
  r'|(?:(?P<whole>[0-9]{1,30})\s+)?(?P<top>[0-9]{1,30})/(?P<bottom>[0-9]{1,30})'
  r')'
)
# In a text with words a dash after a letter or digit is no sign.
_IN_TEXT = re.compile(
  r'(?:(?<![0-9a-zA-Z)-])-)?(?:(?:[0-9]+ )?[0-9]+/[0-9]+'
  r'|[0-9](?:[0-9,]*[0-9])?(?:\.[0-9]+)?|\.[0-9]+)(?:\s?%)?'
)
_NAME = re.compile(r'[\s$*]*([a-zA-Z]) ?= ?')
_AFTER_SIGN = re.compile(r'[0-9)%] ?(?:[-+*/×÷^]|\\times|\\cdot|\\div) ?$')
_REPLACED = (
  (r'−', '-'),
  (r'\\[dt]frac', r'\\frac'),
  (r'\\frac\s*\{\s*(-?[0-9]+)\s*\}\s*\{\s*([0-9]+)\s*\}', r' \1/\2'),
  (r'\\frac\s*([0-9])\s*([0-9])', r' \1/\2'),
  (r'\\(?:text|mathrm|textbf|mathbf)\s*\{([^{}]*)\}', r' \1'),
  (r'\{,\}', ','),
  (r'\\([%$])', r'\1'),
  (r'\\(?:left|right)(?![a-z])|[$€£]', ''),
  (r'\\[!,;: ]|~', ' '),
  (r'\s+', ' '),
  (r'(?<=[(\[]) | (?=[)\],])', ''),
  (r'^ ?[a-zA-Z] ?= ?', ''),  # x = 5
)


def normalise(text: str) -> str:
  r"""The text without what does not change its meaning.

  >>> normalise(r'$x = -\dfrac{1}{2}$.')
  '- 1/2'

  Args:
    text: an answer of at most MAX_LENGTH characters.

  Returns:
    LaTeX's fractions as a/b, without currency, spacing commands, emphasis and
    a full stop.
  """
  text = text.strip().strip('*').removesuffix('.')
  for pattern, replacement in _REPLACED:
    text = re.sub(pattern, replacement, text)
  return text.strip().removesuffix('.')


def number(text: str) -> fractions.Fraction | None:
  """Reads one number, exactly: 1,379 or -0.5 or 3/4 or 1 3/4 or 25%.

  Args:
    text: anything.

  Returns:
    Its value; None for anything else, and for a division left undone, such
    as 144/2.
  """
  if len(text) > MAX_LENGTH:
    return None
  match = _NUMBER.fullmatch(normalise(text))
  if not match:
    return None
  if match['decimal']:
    value = fractions.Fraction(match['decimal'].replace(',', ''))
    value /= 100 if match['percent'] else 1
  elif (
    int(match['bottom']) == 0 or int(match['top']) % int(match['bottom']) == 0
  ):
    return None
  else:
    value = fractions.Fraction(int(match['top']), int(match['bottom']))
    value += int(match['whole'] or 0)
  return -value if match['sign'] == '-' else value


def last_number(text: str) -> str:
  r"""The last number in a text, as it is written there; '' without one.

  >>> last_number(r'Of 20 eggs $\frac{3}{4}$, that is 15 eggs, are left.')
  '15'

  Args:
    text: anything; of a long one the last MAX_LENGTH characters are read.

  Returns:
    The number, for `number` to read: it may be too long or have commas at
    wrong places. '' if it ends a sum left undone, such as 10-72.
  """
  if len(text) > MAX_LENGTH:  # from a whole word on
    text = text[-MAX_LENGTH:].partition(' ')[2]
  text = normalise(text)
  found = list(_IN_TEXT.finditer(text))
  if not found or _AFTER_SIGN.search(text[: found[-1].start()]):
    return ''
  return found[-1][0]


def equal(answer: str, reference: str) -> bool:
  """Whether an answer says what the reference says.

  A percent sign on one side alone may be a hundredth or the unit asked for:
  50% equals both 0.5 and 50. A name on one side alone may be left out: x = 5
  equals 5, but not y = 5.

  Args:
    answer: anything a model wrote.
    reference: the right answer.

  Returns:
    Whether they are one text or one number.
  """
  if max(len(answer), len(reference)) > MAX_LENGTH:
    return False
  name, its_name = map(_NAME.match, (answer, reference))
  if name and its_name and name[1] != its_name[1]:
    return False
  if normalise(answer) == normalise(reference) != '':
    return True
  value, right = number(answer), number(reference)
  if value is None or right is None:
    return False
  if ('%' in answer) == ('%' in reference):
    return value == right
  as_unit = 100 if '%' in answer else fractions.Fraction(1, 100)
  return right in (value, value * as_unit)
