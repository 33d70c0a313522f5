"""Words and sentences of English text, for rules that count them.

A word is a run of letters, digits and underscores, with an inner apostrophe;
every other visible character is a word of its own. FineWeb's own counts come
from spaCy's rules, so a verdict near a threshold can differ from FineWeb's. It
does NOT handle languages that write without spaces.
"""

import re

_WORD = re.compile(r"\w+(?:['’]\w+)?|\.\.\.|[^\w\s]")
_SENTENCE_END = re.compile(r'[.!?]["\')\]]*(?=\s+["\'(\[]?[A-Z0-9])')


def split(text: str) -> list[str]:
  """The words of a text, punctuation included.

  >>> split("It isn't 3.5!")
  ['It', "isn't", '3', '.', '5', '!']
  """
  return _WORD.findall(text)


def count_sentences(line: str) -> int:
  """Sentences in a line that is not empty; at least one.

  >>> count_sentences('It rains. Go home! i.e. now')
  2
  """
  return 1 + len(_SENTENCE_END.findall(line.rstrip()))
