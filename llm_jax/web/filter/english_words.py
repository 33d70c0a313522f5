"""Tables of spaCy's English tokenizer: character classes and exceptions.

They stand in english_words.toml, which names their source; words.py and
quality.py apply them. They do NOT follow later releases of spaCy.
"""

import functools
import itertools
import pathlib
import tomllib
import unicodedata
from typing import Any


@functools.cache
def _tables() -> dict[str, Any]:
  path = pathlib.Path(__file__).with_suffix('.toml')
  return tomllib.loads(path.read_text(encoding='utf-8'))


def table(name: str) -> str:
  """Characters or words of one table, as the file has them."""
  return _tables()[name]


def _characters(name: str) -> frozenset[str]:
  """The characters of a table of ranges."""
  found: set[str] = set()
  for part in table(name).split():
    first, _, last = part.partition('-')
    found.update(map(chr, range(int(first, 16), int(last or first, 16) + 1)))
  return frozenset(found)


def _as_class(ranges: str) -> str:
  """Ranges as the inside of a regular expression's [...]."""
  parts = []
  for part in ranges.split():
    first, _, last = part.partition('-')
    parts.append(rf'\U{first:0>8}-\U{last or first:0>8}')
  return ''.join(parts)


def _cased(category: str) -> str:
  """Cased letters of one Unicode category."""
  cased = sorted(_characters('cased'))
  return ''.join(c for c in cased if unicodedata.category(c) == category)


@functools.cache
def letters() -> tuple[str, str, str]:
  """Insides of [...] for lower-case, upper-case and all letters."""
  uncased = _as_class(table('uncased'))
  # The glottal stop has no case, U+03A2 is no letter; the table has them so.
  lower, upper = _cased('Ll') + 'ʔ', _cased('Lu') + '\u03a2'
  return lower + uncased, upper + uncased, _as_class(table('cased')) + uncased


@functools.cache
def icons() -> tuple[str, frozenset[str]]:
  """Symbols and emoji: the inside of [...], and the characters."""
  return _as_class(table('icons')), _characters('icons')


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
  found: dict[str, tuple[str, ...]] = {w: (w,) for w in table('whole').split()}
  found |= {f'{c}.': (f'{c}.',) for c in 'abcdefghijklmnopqrstuvwxyz'}
  uncut = table('words').split()
  for words, endings in _tables()['contractions']:
    for word, ending in itertools.product(words.split(), endings.split()):
      for stem in (word, word.title()):
        parts = (stem, *ending.split('|'))
        bare = tuple(part.replace("'", '') for part in parts)
        found[''.join(parts)] = parts
        if ''.join(bare).lower() not in uncut:
          found[''.join(bare)] = bare
  for cut in table('cut_with_title').split():
    for parts in (cut.split('|'), (cut[0].upper() + cut[1:]).split('|')):
      found[''.join(parts)] = tuple(parts)
  found |= {"y'all": ("y'", 'all'), 'yall': ('y', 'all')}
  for word in table('whole_with_title').split():
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
