"""Tables of spaCy's English tokenizer: character classes and exceptions.

They stand in english_words.toml, which names their source; words.py and
quality.py apply them. They do NOT follow later releases of spaCy.
"""

import functools
import itertools
import unicodedata
from collections.abc import Iterator

from llm_jax import files

# Characters and words by the name of their table, as the file has them.
tables = functools.partial(files.tables_of, __file__)


def _ranges(name: str) -> Iterator[tuple[int, int]]:
  """First and last code of each range of a table."""
  for part in tables()[name].split():
    first, _, last = part.partition('-')
    yield int(first, 16), int(last or first, 16)


def characters(name: str) -> frozenset[str]:
  """The characters of a table of ranges."""
  codes = (range(first, last + 1) for first, last in _ranges(name))
  return frozenset(map(chr, itertools.chain(*codes)))


def as_class(name: str) -> str:
  """A table of ranges as the inside of a regular expression's [...]."""
  return ''.join(
    rf'\U{first:08x}-\U{last:08x}' for first, last in _ranges(name)
  )


@functools.cache
def letters() -> tuple[str, str, str]:
  """Insides of [...] for lower-case, upper-case and all letters."""
  cased, uncased = sorted(characters('cased')), as_class('uncased')
  lower, upper = (
    ''.join(c for c in cased if unicodedata.category(c) == category)
    for category in ('Ll', 'Lu')
  )
  # The glottal stop has no case, U+03A2 is no letter; the table has them so.
  lower, upper = f'{lower}ʔ{uncased}', f'{upper}\u03a2{uncased}'
  return lower, upper, as_class('cased') + uncased


@functools.cache
def sentence_ends() -> frozenset[str]:
  """Characters that end a sentence when they are a word of their own."""
  return characters('sentence_ends')


@functools.cache
def line_ends() -> frozenset[str]:
  """Characters that end a line that is a sentence: datatrove's set."""
  return sentence_ends() | characters('more_line_ends')


@functools.cache
def symbols() -> frozenset[str]:
  """Characters that make no word by themselves: datatrove's set."""
  return line_ends() | characters('more_symbols')


@functools.cache
def exceptions() -> dict[str, tuple[str, ...]]:
  """Chunks of text that are not cut by rule, and their words."""
  entries = [(word,) for word in tables()['whole'].split()]
  entries += [tuple(entry.split('|')) for entry in tables()['cut'].split()]
  entries += [tuple(w.replace("'", '’') for w in words) for words in entries]
  return {''.join(words): words for words in entries}
