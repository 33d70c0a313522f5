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


def _characters(name: str) -> frozenset[str]:
  codes = (range(first, last + 1) for first, last in _ranges(name))
  return frozenset(map(chr, itertools.chain(*codes)))


def _as_class(name: str) -> str:
  """A table of ranges as the inside of a regular expression's [...]."""
  return ''.join(
    rf'\U{first:08x}-\U{last:08x}' for first, last in _ranges(name)
  )


@functools.cache
def letters() -> tuple[str, str, str]:
  """Insides of [...] for lower-case, upper-case and all letters."""
  cased, uncased = sorted(_characters('cased')), _as_class('uncased')
  lower, upper = (
    ''.join(c for c in cased if unicodedata.category(c) == category)
    for category in ('Ll', 'Lu')
  )
  # The glottal stop has no case, U+03A2 is no letter; the table has them so.
  lower, upper = f'{lower}ʔ{uncased}', f'{upper}\u03a2{uncased}'
  return lower, upper, _as_class('cased') + uncased


@functools.cache
def icons() -> tuple[str, frozenset[str]]:
  """Symbols and emoji: the inside of [...], and the characters."""
  return _as_class('icons'), _characters('icons')


@functools.cache
def sentence_ends() -> frozenset[str]:
  """Characters that end a sentence when they are a word of their own."""
  return _characters('sentence_ends')


@functools.cache
def line_ends() -> frozenset[str]:
  """Characters that end a line that is a sentence: datatrove's set."""
  return sentence_ends() | _characters('more_line_ends')


@functools.cache
def symbols() -> frozenset[str]:
  """Characters that make no word by themselves: datatrove's set."""
  return line_ends() | _characters('more_symbols')


@functools.cache
def exceptions() -> dict[str, tuple[str, ...]]:
  """Chunks of text that are not cut by rule, and their words."""
  found: dict[str, tuple[str, ...]] = {
    w: (w,) for w in tables()['whole'].split()
  }
  found |= {f'{c}.': (f'{c}.',) for c in 'abcdefghijklmnopqrstuvwxyz'}
  uncut = tables()['words'].split()
  for words, endings in tables()['contractions']:
    for word, ending in itertools.product(words.split(), endings.split()):
      for stem in (word, word.title()):
        parts = (stem, *ending.split('|'))
        bare = tuple(part.replace("'", '') for part in parts)
        found[''.join(parts)] = parts
        if ''.join(bare).lower() not in uncut:
          found[''.join(bare)] = bare
  for cut in tables()['cut_with_title'].split():
    for parts in (cut.split('|'), (cut[0].upper() + cut[1:]).split('|')):
      found[''.join(parts)] = tuple(parts)
  found |= {"y'all": ("y'", 'all'), 'yall': ('y', 'all')}
  for word in tables()['whole_with_title'].split():
    found[word] = (word,)
    found[word.title()] = (word.title(),)
  for hour, half in itertools.product(range(1, 13), 'ap'):
    for period in (f'{half}m', f'{half}.m.'):
      found[f'{hour}{period}'] = (str(hour), period)
  for unit in 'cfkCFK':
    found[f'°{unit}.'] = ('°', unit, '.')
  curly = {
    word.replace("'", '’'): tuple(part.replace("'", '’') for part in parts)
    for word, parts in found.items()
  }
  return found | curly
