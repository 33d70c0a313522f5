r"""Whether two written answers are the same number or the same text.

First as text without LaTeX's dress, then as exact fractions. It does not know
that \sqrt{12} is 2\sqrt{3}: formulas.py does. It computes nothing that a model
left undone (48+24 is not 72, but 48+24=72 is) and runs no text as code.
"""

import fractions
import re

MAX_LENGTH = 1000  # characters; a longer answer equals nothing
_WHOLE = (
  r'(?:[0-9]{1,3}(?:,[0-9]{3}){1,9}|[0-9]{1,3}(?: [0-9]{3}){1,9}|[0-9]{1,30})'
)
_NUMBER = re.compile(
  rf'(?P<sign>[-+]?)\s*(?:'
  rf'(?P<decimal>{_WHOLE}(?:\.[0-9]{{0,30}})?|\.[0-9]{{1,30}})\s*(?P<percent>%?)'
  r'|(?:(?P<whole>[0-9]{1,30})\s+)?(?P<top>-?[0-9]{1,30})/(?P<bottom>-?[0-9]{1,30})'
  r'|(?:(?P<factor>[0-9]{1,30}(?:\.[0-9]{0,30})?) ?(?:\*|×|\\times|\\cdot) ?)?'
  r'10 ?\^ ?(?P<power>-?[0-9]{1,3})'
  r')'
)
# In a text with words a dash after a letter or digit is no sign.
_IN_TEXT = re.compile(
  r'(?:(?<![0-9a-zA-Z)-])-)?(?:(?:[0-9]+ )?[0-9]+/[0-9]+'
  r'|[0-9](?:[0-9,]*[0-9])?(?:\.[0-9]+)?|\.[0-9]+)(?:\s?%)?'
)
_NAME = re.compile(r'[\s$*]*([a-zA-Z]) ?= ?')
# What makes the last number in a text a part of something larger.
_BEFORE = re.compile(
  r'(?:[0-9)%] ?(?:[-+*/×÷^]|\\times|\\cdot|\\div)|[√^_{\\]|\\[a-z]+\{?'
  r'|(?<![a-z])(?:sqrt|log|ln)\(?|[0-9]%? (?:or|and)) ?$'
)
_AFTER = re.compile(
  r' ?(?:[/×÷^√π_]|\*+ ?[0-9(a-z\\]|\\(?!\))[a-zA-Z]|[-+] ?[0-9(\\]|pi\b'
  r'|(?:sqrt|million|thousand|billion|dozen)\b)|[(a-fi-kn-rt-z](?![a-z])'
)
# Sums before an answer, such as `3000+1=3001, `.
_WORKED = re.compile(r'(?:[0-9. ()]+[-+*/][-+*/0-9. ()]+=[-0-9. ]+, )+')
# One side of `x = 48+24 = 72`: a name without factors or powers, or a sum.
_SIDE = re.compile(
  r'(?!.*\\(?:sqrt|log|ln|exp|not)(?![a-z]))(?!-)'
  r'(?:_ ?[0-9]|_ ?\{[0-9]+\}|\([^()]*\)|[^0-9^<>,;=!≠≤≥])+'
  r'|(?:[-+*/×÷()., 0-9{}^%]|\\(?:times|cdot|div|frac|sqrt)(?![a-z]))+'
)
_UNIT = re.compile(
  r'(?P<number>.*[0-9%])(?P<unit> ?(?:[ckmd]?m|[mk]?g|m[lL]|km/h|mph|kph|in|ft'
  r'|yd|mi|lbs?|oz|hrs?|min|secs?|k?Hz|USD|EUR|(?<= )(?:[a-zA-Z]{3,}'
  r'|[mgslLhVWJNKCF]))(?![a-zA-Z])(?: ?\^ ?-?[0-9])?'
  r'(?:[ ./*-]+[a-zA-Z]+(?: ?\^ ?-?[0-9])?)*\.?)'
)
# Words behind a number that change its value or add another answer.
NO_UNIT = re.compile(
  r'\b(?:or|and|not|pi|sqrt|squared|cubed|factorial|times|plus|minus|divided'
  r'|choose|over|mod|base|to the|log|sin|cos|tan|exp|inf|infinity|dozens?|score'
  r'|(?:hundred|thousand|million|billion|trillion)s?|hal(?:f|ves)'
  r'|(?:third|quarter|fourth|fifth|sixth|eighth|tenth|hundredth|thousandth)s?)\b'
)
_DRESS = (
  (r'[−–]', '-'),
  (r'\\[dtc]frac', r'\\frac'),
  (r'\\(?:displaystyle|textstyle|left|right|[bB]igg?[lr]?)(?![a-zA-Z])', ''),
  (r'(?<=[0-9])(?:\{,\}|,\s*\\!\s*|\\,)(?=[0-9]{3}(?![0-9]))', ','),
  (r'\\(?:textdollar|pounds|euro)(?![a-zA-Z])|\\\(|\\\)', ''),
)
_REPLACED = (
  (
    r'\\(?:text|mathrm|textbf|mathbf|mbox|textit|operatorname)\s*\{([^{}]*)\}',
    r' \1',
  ),
  (r'\\frac\s*(\{[^{}]*\}|[0-9])\s*(\{[^{}]*\}|[0-9])', r' \1/\2'),
  (r'\{ *(-?[0-9]+) *\\over *(-?[0-9]+) *\}', r' \1/\2'),
  (r'\{\s*(-?[0-9.]+)\s*\}', r'\1'),
  (r'^\s*\{(.*)\}\s*$', r'\1'),
  (r'\\([%$])', r'\1'),
  (r'[$€£¥]', ''),
  (r'\\[!,;: ]|~', ' '),
  (r'\s+', ' '),
  (r' ?\b(?:percent(?:age points?)?|pct)\b', '%'),
  (r'(?<=[(\[{]) | (?=[)\]},])', ''),
  (r' ?: ?', ':'),
  (r'^ ?([-+]?) ?\( ?([^(),]*)\) ?$', r'\1\2'),
  (r'^( ?[0-9]+)_10$', r'\1'),
  (r'^ ?[a-zA-Z] ?= ?', ''),  # x = 5
)
_DEGREE = re.compile(
  r' ?\^ ?(?:\\circ|\{ ?(?:\\circ|o) ?\})|\\degree(?![a-z])|°'
)
_REPEATING = re.compile(
  r'([0-9]{0,20})\.([0-9]{0,20})\\(?:overline|bar)\s*\{?([0-9]{1,20})\}?'
)


def undressed(text: str) -> str:
  r"""The text without what LaTeX adds to its looks alone.

  >>> undressed(r'$\left(0.\overline{3}, 10,\!080\right)$.')
  '$(\\frac{3}{9}, 10,080)$'
  """
  text = re.sub(r'^\*\*|\*\*$', '', text.strip()).removesuffix('.')
  for pattern, replacement in _DRESS:
    text = re.sub(pattern, replacement, text)
  return _REPEATING.sub(_as_fraction, text)


def _as_fraction(match: re.Match[str]) -> str:
  whole, fixed, again = match.groups()
  top = int(whole + fixed + again) - int('0' + whole + fixed)
  return rf'\frac{{{top}}}{{{10 ** len(fixed) * (10 ** len(again) - 1)}}}'


def normalise(text: str) -> str:
  r"""The text without what does not change its meaning.

  >>> normalise(r'$x = -\dfrac{1}{2}$.')
  '- 1/2'

  Args:
    text: an answer of at most MAX_LENGTH characters.

  Returns:
    LaTeX's fractions as a/b, without currency, spacing commands, emphasis
    and a full stop.
  """
  text = undressed(text)
  for pattern, replacement in _REPLACED:
    text = re.sub(pattern, replacement, text)
  return text.strip().removesuffix('.')


def number(text: str) -> fractions.Fraction | None:
  r"""Reads one number, exactly: 1,379, -0.5, 3/4, 1 3/4, 25%, 3\times10^5.

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
    value = fractions.Fraction(re.sub('[, ]', '', match['decimal']))
    value /= 100 if match['percent'] else 1
  elif match['power']:
    value = fractions.Fraction(match['factor'] or 1)
    value *= fractions.Fraction(10) ** int(match['power'])
  else:
    top, bottom = int(match['top']), int(match['bottom'])
    if bottom == 0 or top % bottom == 0:
      return None
    value = fractions.Fraction(top, bottom) + int(match['whole'] or 0)
  return -value if match['sign'] == '-' else value


def value(text: str) -> fractions.Fraction | None:
  r"""Reads one number with its name, its unit or the sum that led to it.

  >>> value(r'\text{Area} = 3 \cdot 4 = 12\text{ cm}^2')
  Fraction(12, 1)

  Args:
    text: anything.

  Returns:
    The value that is worked out; None for anything else.
  """
  if len(text) > MAX_LENGTH:
    return None
  *sides, last = _WORKED.sub('', normalise(text), count=1).split('=')
  if not all(_SIDE.fullmatch(side.strip()) for side in sides):
    return None
  last = _DEGREE.sub('', last)
  unit = _UNIT.fullmatch(last.strip())
  if unit and not NO_UNIT.search(unit['unit']):
    last = unit['number']
  return number(last)


def last_number(text: str) -> str:
  r"""The last number in a text, as it is written there; '' without one.

  >>> last_number(r'Of 20 eggs $\frac{3}{4}$, that is 15 eggs, are left.')
  '15'

  Args:
    text: anything; of a long one the last MAX_LENGTH characters are read.

  Returns:
    The number, for `number` to read: it may be too long or have commas at
    wrong places. '' if it is a part of something, such as 10-72 or 2π.
  """
  if len(text) > MAX_LENGTH:  # from a whole word on
    text = text[-MAX_LENGTH:].partition(' ')[2]
  text = normalise(text)
  found = list(_IN_TEXT.finditer(text))
  if not found:
    return ''
  start, end = found[-1].span()
  is_part = _BEFORE.search(text[:start]) or _AFTER.match(text, end)
  return '' if is_part else found[-1][0]


def equal(answer: str, reference: str) -> bool:
  """Whether an answer says what the reference says.

  A percent sign on one side alone may be a hundredth or the unit asked for:
  50% equals both 0.5 and 50. A name or a unit on one side alone may be left
  out: x = 5 equals 5, but not y = 5.

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
  ours, right = map(normalise, (answer, reference))
  if ours == right != '':
    return True
  number, expected = value(answer), value(reference)
  if number is None or expected is None:
    return False
  if ('%' in ours) == ('%' in right):
    return number == expected
  as_unit = 100 if '%' in ours else fractions.Fraction(1, 100)
  return expected in (number, number * as_unit)
