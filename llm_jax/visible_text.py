"""Text of unknown origin made safe to show: no character acts, all are seen.

Does not escape HTML and does not judge what the text says. Look-alike letters
of other scripts stay as they are.
"""

import unicodedata

# Line feed and tab are layout and stay. Cf (format) holds the direction
# overrides that make text read differently from what it is, and also the
# joiners below that Persian, Indic scripts and emoji need to read right.
_LAYOUT = {'\n', '\t'}
_JOINERS = {'\u200c', '\u200d'}
_HIDDEN = {'Cc', 'Cf', 'Cs', 'Co', 'Cn', 'Zl', 'Zp'}


def visible(text: str) -> str:
  r"""Replace control and other invisible characters by visible escapes.

  An escape sequence would let a model move the cursor, set the window title
  or fill the clipboard of whoever reads its answer.

  >>> print(visible('red \x1b[31m, back \r, reversed \u202e'))
  red \x1b[31m, back \r, reversed \u202e

  Args:
    text: anything, from a model or the web.

  Returns:
    The text with each such character written as Python would write it.
  """
  return ''.join(
    char
    if char in _LAYOUT
    or char in _JOINERS
    or unicodedata.category(char) not in _HIDDEN
    else char.encode('unicode_escape').decode('ascii')
    for char in text
  )
