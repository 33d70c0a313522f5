"""Words and sentences of English text, for rules that count them.

They are the tokens and sentences of spaCy's blank English pipeline, which
FineWeb's rules count, without spaCy: each run of visible characters is looked
up among the exceptions, loses prefixes and suffixes, and is cut at infixes.
It does NOT handle languages that write without spaces, and a run of
characters that stands over and over is remembered, so memory grows to a bound.

Source: spaCy 3.8's algorithm, spacy.io/usage/linguistic-features#tokenization,
as datatrove's SpaCyTokenizer('en') calls it.
"""

import functools
import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence

from llm_jax.web.filter import english_words

_UNIT = re.compile(r'[0-9]([^0-9]+)\Z')
_SPACE = re.compile(r'(\s+)')


class _Rules:
  """Compiled tables.

  Attributes:
    exceptions: chunks and their words.
    longest: characters of the longest exception.
    joined: words of an exception when cut by rule -> its own words, where
      both differ or may hide another.
    longest_joined: words of the longest of them.
    joined_lengths: first words of them -> how many words they have.
    prefix: one prefix, to match.
    one_suffix: characters that are a suffix wherever they stand last.
    dot: a last dot that is a suffix, to search.
    units: suffixes of a number.
    longest_unit: characters of the longest of them.
    infix: one infix, to split at; a group, so that it stays.
    url: a whole address, to match.
  """

  def __init__(self):
    self.exceptions = english_words.exceptions()
    self.longest = max(map(len, self.exceptions))
    lower, upper, letter = english_words.letters()
    icons = english_words.as_class('icons')
    icon_set = english_words.characters('icons')
    tables = english_words.tables()
    punctuation, quote_set = tables['punctuation'], tables['quotes']
    currency = tables['currency']
    signs, quotes = re.escape(punctuation), re.escape(quote_set)
    money = re.escape(currency)
    self.prefix = re.compile(
      rf'[§%=—–{signs}{quotes}{money}{icons}]|\+(?![0-9])|\.\.+|(?:US|C|A)\$'
    )
    self.one_suffix = icon_set.union(punctuation, quote_set, '—–')
    self.dot = re.compile(
      rf'(?:°[FfCcKk]|[0-9{lower}%²\-+|(?:){signs}{quotes}]'
      rf'|[{upper}][{upper}])\.\Z'
    )
    self.units = {'+', *currency, 'US$', 'C$', 'A$'}
    self.units.update(tables['units'].split())
    self.longest_unit = max(map(len, self.units))
    # What an infix starts with comes first, as it is found fast.
    self.infix = re.compile(
      rf'([.…+\-*^,–—~:<>=/{icons}](?:(?<=\.)\.+|(?<=[…{icons}])'
      rf'|(?<=[0-9][+\-*^])(?=[0-9-])'
      rf'|(?<=[{lower}{quotes}]\.)(?=[{upper}{quotes}])'
      rf'|(?<=[{letter}],)(?=[{letter}])'
      rf'|(?<=[{letter}0-9][\-–—~:<>=/])'
      rf'(?:(?<=-)-{{0,2}}|(?<=—)—?|(?<![\-—]))(?=[{letter}])))'
    )
    self.url = _url(lower)
    self.joined: dict[tuple[str, ...], tuple[str, ...]] = {}
    self.joined_lengths: dict[str, set[int]] = {}
    for exception, words in self.exceptions.items():
      cut = _cut(self, exception, {})
      if len(cut) > 1:
        self.joined[cut] = words
        self.joined_lengths.setdefault(cut[0], set()).add(len(cut))
    self.longest_joined = max(map(len, self.joined))


def split(text: str) -> list[str]:
  """The words of a text, punctuation included.

  >>> split("It isn't 3.5km, is it?")
  ['It', 'is', "n't", '3.5', 'km', ',', 'is', 'it', '?']
  """
  words: list[str] = []
  for line in text.splitlines():
    cuts = [_known(chunk) for chunk in line.split()]
    if all(cut is pieces for cut, pieces in cuts):
      words += itertools.chain(*(cut for cut, _ in cuts))
    else:
      words += _split_line(line)
  return words


def cut(chunk: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
  """A chunk of text, without spaces, cut by itself.

  Returns:
    Its words, and what they were before exceptions were put together again;
    neighbours can hinder that, see `_split_line`.
  """
  rules = _rules()
  words = rules.exceptions.get(chunk)
  if not words and chunk.isalpha() and chunk.isascii():
    words = (chunk,)  # no rule cuts these
  if words:
    return words, words
  pieces = _cut(rules, chunk, rules.exceptions)
  if rules.joined_lengths.keys().isdisjoint(pieces):
    return pieces, pieces
  return _join_exceptions(rules, pieces), pieces


_known = functools.lru_cache(maxsize=1 << 15)(cut)


def sentences(text: str) -> list[str]:
  """The text cut at the ends of its sentences.

  >>> sentences('It rains. Go home!')
  ['It rains.', ' Go home!']
  """
  ends = english_words.sentence_ends()
  if ends.isdisjoint(text):
    return [text]
  cuts, last_end, ended = [0], 0, False
  for start, word in _positions(text):
    if word in ends:
      ended = True
    elif ended and not _is_punctuation(word):
      cuts.append(last_end)
      ended = False
    last_end = start + len(word)
  return [text[a:b] for a, b in zip(cuts, [*cuts[1:], len(text)], strict=True)]


def _is_punctuation(word: str) -> bool:
  return all(unicodedata.category(c)[0] == 'P' for c in word)


def _positions(text: str) -> Iterator[tuple[int, str]]:
  """Words and where they start, with runs of space that are words to spaCy.

  One space after a chunk belongs to it; what is left of the run is a word.
  """
  end = 0
  for word in [*split(text), '']:
    start = text.index(word, end) if word else len(text)
    first = end + (text[end : end + 1] == ' ' and end > 0)
    if start > first:
      yield first, text[first:start]
    if word:
      yield start, word
    end = start + len(word)


def _split_line(line: str) -> list[str]:
  """The words of a line in which cuts of chunks are put together again.

  Words on both sides of a single space can hide, though not make, such a
  match: `( =(` has no `=(`, as `( =` comes first.
  """
  rules = _rules()
  pieces = _SPACE.split(line.strip())
  cuts, spaces = [*map(_known, pieces[::2])], pieces[1::2]
  words: list[str] = []
  n = rules.longest_joined
  for i, cut in enumerate(cuts):
    if cut[0] == cut[1]:
      words += cut[0]
      continue
    first = last = i
    before, after = [], []
    while first and spaces[first - 1] == ' ' and len(before) < n:
      first -= 1
      before = [*cuts[first][1], *before]
    while last < len(spaces) and spaces[last] == ' ' and len(after) < n:
      last += 1
      after += cuts[last][1]
    words += _join_exceptions(rules, cut[1], before[-n:], after=after[:n])
  return words


def _cut(
  rules: _Rules, chunk: str, exceptions: dict[str, tuple[str, ...]]
) -> tuple[str, ...]:
  """Takes prefixes and suffixes off, then cuts what is left at infixes."""
  prefixes, suffixes = [], []
  start, end = 0, len(chunk)

  def is_exception(a: int, b: int) -> bool:
    return 0 < b - a <= rules.longest and chunk[a:b] in exceptions

  while start < end and not is_exception(start, end):
    match = rules.prefix.match(chunk, start, end)
    after = match.end() if match else start
    if match and is_exception(after, end):
      prefixes.append(match[0])
      start = after
      break
    before = _suffix_start(rules, chunk, after, end=end)
    if before < end and is_exception(start, before):
      suffixes.append(chunk[before:end])
      end = before
      break
    if after == start and before == end:
      break
    if match:
      prefixes.append(match[0])
    if before < end:
      suffixes.append(chunk[before:end])
    start, end = after, before
  middle = chunk[start:end]
  suffixes.reverse()
  return (*prefixes, *_cut_middle(rules, middle, exceptions), *suffixes)


def _suffix_start(rules: _Rules, chunk: str, start: int, end: int) -> int:
  """Where the suffix of chunk[start:end] starts; `end` without one."""
  if start >= end:
    return end
  if chunk[end - 1].isdecimal():
    return end
  last, last_two = chunk[end - 1], chunk[max(start, end - 2) : end]
  if last_two in ("'s", "'S", '’s', '’S', '……'):
    return end - 2
  if last in rules.one_suffix:
    return end - 1
  if last_two == '..':
    return start + len(chunk[start:end].rstrip('.'))
  if last == '.':
    is_suffix = rules.dot.search(chunk[max(start, end - 3) : end])
    return end - 1 if is_suffix else end
  number = _UNIT.search(chunk, max(start, end - rules.longest_unit - 1), end)
  if number and number[1] in rules.units:
    return number.start(1)
  return end


def _cut_middle(
  rules: _Rules, middle: str, exceptions: dict[str, tuple[str, ...]]
) -> tuple[str, ...]:
  if not middle:
    return ()
  if middle in exceptions:
    return exceptions[middle]
  if middle.isalnum() and middle.isascii():
    return (middle,)
  if '.' in middle and rules.url.match(middle):
    return (middle,)
  return tuple(filter(None, rules.infix.split(middle)))


def _join_exceptions(
  rules: _Rules,
  chunk: Sequence[str],
  before: Sequence[str] = (),
  after: Sequence[str] = (),
) -> tuple[str, ...]:
  """Puts exceptions of a chunk back together that the cuts took apart.

  As in `nice:)`, whose two suffixes are an exception together. Of matches
  that overlap the longest wins, and of equals the first, and those that lose
  hide others all the same.
  """
  words = (*before, *chunk, *after)
  found = []
  for i, word in enumerate(words):
    for n in rules.joined_lengths.get(word, ()):
      if i + n <= len(words) and words[i : i + n] in rules.joined:
        found.append((-n, i))
  if not found:
    return tuple(chunk)
  taken: set[int] = set()
  lengths: dict[int, int] = {}
  for n, i in sorted(found):
    if i not in taken and i - n - 1 not in taken:
      lengths[i] = -n
    taken.update(range(i, i - n))
  result, i, end = [], len(before), len(before) + len(chunk)
  while i < end:
    n = lengths.get(i, 1)
    joined = n > 1 and i + n <= end
    result += rules.joined[words[i : i + n]] if joined else [words[i]]
    i += n if joined else 1
  return tuple(result)


@functools.cache
def _rules() -> _Rules:
  """The one that all share; 0.1 s, once a process."""
  return _Rules()


def _url(lower: str) -> re.Pattern:
  """A whole web address, its scheme optional, its last label in `lower` case.

  Private and loopback addresses are none, nor are those that start at 0 or
  over 223 or end in 0 or 255.
  """
  name = r'[A-Za-z0-9\u00a1-\uffff]'
  return re.compile(
    r'(?:[\w+\-.]{2,}://)?(?:\S+@)?'
    r'(?:(?!1(?:0|27)(?:\.\d{1,3}){3})(?!(?:169\.254|192\.168)(?:\.\d{1,3}){2})'
    r'(?!172\.(?:1[6-9]|2\d|3[01])(?:\.\d{1,3}){2})'
    r'(?:[1-9]\d?|1\d\d|2[01]\d|22[0-3])'
    r'(?:\.(?:1?\d{1,2}|2[0-4]\d|25[0-5])){2}'
    r'\.(?:[1-9]\d?|1\d\d|2[0-4]\d|25[0-4])'
    rf'|(?:(?:{name}(?:{name}|[_\-]){{0,62}})?{name}\.)+[{lower}]{{2,63}})'
    r'(?::\d{2,5})?(?:[/?#]\S*)?\Z'
  )
