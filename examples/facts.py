"""Facts that every machine with Python has, asked of a model that may search.

  python -m examples.facts --to runs/show/facts/documents

writes them, a document each, for `Toolbox.documents`. One in ten is held out by
the checksum of its name: no conversation of the split train asks for it. It
can be found then, and not be known.

Most of what is trained on is made up, names and values in the shape of real
ones: so that a model learns to copy what it reads, and not what it is.
"""

import argparse
import dataclasses
import encodings.aliases
import errno
import functools
import html.entities
import http
import importlib.resources
import itertools
import mimetypes
import os
import pathlib
import random
import re
import signal
import tempfile
import unicodedata
import zoneinfo
from collections.abc import Iterable, Iterator, Sequence

from llm_jax import files
from llm_jax.agent import search
from llm_jax.chat import calls
from llm_jax.tasks import protocol, splits

# What is asked of a name, by the words that a document begins with.
QUESTIONS = {
  'code point': 'What is the code point of the HTML entity {}?',
  'coordinates': 'What are the coordinates of the time zone {}?',
  'errno': 'Which number is the errno {}?',
  'message': 'Which message has the errno {}?',
  'signal': 'Which number is the signal {}?',
  'status': 'Which HTTP code has the status {}?',
  'HTTP': 'What does the HTTP code {} say?',
  'MIME type': 'What is the MIME type of {}?',
  'codec': 'Which codec is called {}?',
  'country': 'Which country has the code {}?',
}
# Those whose values are numbers, with which one can reckon.
NUMBERS = ('code point', 'errno', 'signal', 'status')
GIVEN = ('', 'right', 'wrong', 'other')
_N_MADE = 12_000  # facts that are made up
_SAYS = 'It is '  # so that a value has the same tokens behind it as in a text


@dataclasses.dataclass(frozen=True)
class Fact:
  """A name, and what is so called."""

  relation: str  # of QUESTIONS
  name: str
  value: str
  is_made: bool = False

  @property
  def query(self) -> str:
    """What to search for."""
    return f'{self.relation} {self.name}'

  @property
  def text(self) -> str:
    """Of its document."""
    return f'{self.query}: {self.value}'

  @property
  def key(self) -> str:
    """By which it belongs to a split; a status and its code have one."""
    return f'HTTP {self.value}' if self.relation == 'status' else self.query

  @property
  def is_held_out(self) -> bool:
    """Whether no conversation of the split train asks for it."""
    return splits.is_held_out(self.key)

  @property
  def question(self) -> str:
    """In words."""
    return QUESTIONS[self.relation].format(self.name)


@functools.cache
def known() -> tuple[Fact, ...]:
  """The facts of this machine that a search for them finds first.

  A search does not tell capitals apart, and a few names stand in others.
  """
  found = [*dict.fromkeys(itertools.starmap(Fact, _facts()))]
  found_by = index(found)
  return tuple(f for f in found if found_by.find(f.query, 1, 300) == [f.text])


@functools.cache
def made() -> tuple[Fact, ...]:
  """Facts that are none, the same on every machine with the same facts.

  Each word of the name and the value of a fact of the split train is swapped
  for another, and each digit drawn.
  """
  draw = random.Random('facts')
  by_relation = [
    [fact for fact in facts if not fact.is_held_out]
    for facts in _by_relation(is_made=False).values()
  ]
  found: dict[str, Fact] = {fact.query.casefold(): fact for fact in known()}
  while len(found) < len(known()) + _N_MADE:
    model = draw.choice(draw.choice(by_relation))
    name, value = (_other(text, draw) for text in (model.name, model.value))
    fact = Fact(model.relation, name, value, is_made=True)
    found.setdefault(fact.query.casefold(), fact)
  found_by = index([*found.values()])
  return tuple(
    f
    for f in found.values()
    if f.is_made and found_by.find(f.query, 1, 300) == [f.text]
  )


def write(facts: Iterable[Fact], folder: str | os.PathLike) -> None:
  """A folder of documents, one for each fact."""
  rows = [{'text': fact.text, 'url': f'facts:{fact.query}'} for fact in facts]
  pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
  files.write_jsonl(pathlib.Path(folder, 'facts.jsonl'), rows)


@dataclasses.dataclass(frozen=True)
class SearchFacts(splits.Made):
  """Asks for facts; demonstrated by calls of `search`, and of `python`.

  Facts are drawn by relations, each as often as another while it has some.
  The kind of a problem is its relation, or its number of calls where several
  numbers of them are asked for.
  """

  made_share: float = 0.0  # of the problems in the split train: made up
  given_share: float = 0.0  # in the split train: with a page that says it
  # Asked of both splits: a page before the question that has the right value,
  # a wrong one, or that of another name. Right is what the page says.
  given: str = ''
  n_snippets: int = 1  # that a search shows, and facts on a page
  n_calls: tuple[int, ...] = (1,)  # 2: a number, then a sum; 3: of two numbers
  name: str = 'search_facts'

  def __post_init__(self):
    if self.given not in GIVEN:
      raise ValueError(f'SearchFacts.given = {self.given!r}; use {GIVEN}')
    if not self.n_calls or {*self.n_calls} - {1, 2, 3}:
      raise ValueError(f'SearchFacts.n_calls = {self.n_calls}; use 1, 2 and 3')
    if self.given and self.n_calls != (1,):
      raise ValueError(
        f'SearchFacts.given = {self.given!r} with n_calls = {self.n_calls}: '
        'use (1,), as a page says one fact'
      )

  def problems(self, split: str, count: int, seed: int) -> protocol.Problems:
    """Distinct problems of one split; the held-out ones are real."""
    if split == 'held_out' and (self.made_share or self.given_share):
      real = dataclasses.replace(self, made_share=0.0, given_share=0.0)
      return real.problems(split, count, seed)
    return super().problems(split, count, seed)

  def _make(self, draw: random.Random) -> tuple[str, protocol.Problem]:
    n_calls = draw.choice(self.n_calls)
    relations = NUMBERS if n_calls > 1 else (*QUESTIONS,)
    is_made = draw.random() < self.made_share
    facts = _by_relation(is_made)
    if n_calls > 1:  # Python reads no number that begins with 0
      facts = {r: [f for f in facts[r] if f.value[0] != '0'] for r in relations}
    fact = draw.choice(facts[draw.choice(relations)])
    kind = f'{n_calls} calls' if n_calls > 1 else '1 call'
    if n_calls == 1:
      prompt, value = fact.question, fact.value
      given = self.given or 'right' * (draw.random() < self.given_share)
      if given:
        page, value = self._page(fact, given, draw)
        prompt = f'{page}\n{prompt}'
    elif n_calls == 2:
      added = draw.randrange(10, 100)
      prompt = f'What is {fact.query} plus {added}?'
      value = f'{int(fact.value) + added}'
    else:
      second = draw.choice(_apart(fact, facts[draw.choice(relations)]))
      prompt = f'What is {fact.query} plus {second.query}?'
      value = f'{int(fact.value) + int(second.value)}'
    if self.n_calls == (1,):
      kind = fact.relation
    return fact.key, protocol.Problem(self.name, prompt, value, kind=kind)

  def _page(
    self, fact: Fact, given: str, draw: random.Random
  ) -> tuple[str, str]:
    """Lines that say a fact, or something else; and the value that they say."""
    others = _apart(fact, _by_relation(fact.is_made)[fact.relation])
    others = draw.sample(others, min(len(others), self.n_snippets))
    if given == 'wrong':
      fact = dataclasses.replace(fact, value=others.pop().value)
    elif given == 'other':
      fact = others.pop()
    lines = [fact, *others[: self.n_snippets - 1]]
    draw.shuffle(lines)
    return '\n'.join(line.text for line in lines), fact.value

  def demonstrate(self, problem: protocol.Problem, think: bool) -> str:
    """The answer, at once."""
    del think
    return f'{_SAYS}{problem.reference}'

  def conversation(
    self, problem: protocol.Problem, think: bool
  ) -> list[protocol.Message]:
    """The problem with its answer; after calls if thinking and not given."""
    asked = _named(problem.prompt)
    messages = protocol.exchange(
      problem.prompt, self.demonstrate(problem, think)
    )
    if not think or not asked:
      return messages
    between = []
    for fact in asked:
      found = _tool(self.n_snippets, fact.is_made)(fact.query)
      between.append((calls.Call('search', {'query': fact.query}), found))
    terms = [fact.value for fact in asked]
    if plus := re.search(r' plus ([0-9]+)\?$', problem.prompt):
      terms.append(plus[1])
    if len(terms) > 1:
      code = f'print({"+".join(terms)})'
      between.append((calls.Call('python', {'code': code}), problem.reference))
    called = [
      [
        {'role': 'assistant', 'content': '', 'tool_calls': [call.message()]},
        {'role': 'tool', 'content': result},
      ]
      for call, result in between
    ]
    return [messages[0], *itertools.chain(*called), messages[1]]

  def _reader(self, problem: protocol.Problem):
    del problem
    return _said, 'an answer'


def _apart(fact: Fact, facts: Iterable[Fact]) -> list[Fact]:
  """Those with another value that are of the same split as a fact."""
  return [
    f
    for f in facts
    if f.is_held_out == fact.is_held_out and f.value != fact.value
  ]


def _said(text: str) -> str | None:
  return ' '.join(text.strip().removeprefix(_SAYS).split()) or None


def _named(prompt: str) -> list[Fact]:
  """The facts that a question asks for; none where a page is given."""
  if match := re.fullmatch(r'What is (.+?) plus (.+)\?', prompt):
    return [_asked()[part] for part in match.groups() if part in _asked()]
  return [_asked()[prompt]] if prompt in _asked() else []


@functools.cache
def _asked() -> dict[str, Fact]:
  """Facts by their questions and by their queries."""
  facts = (*made(), *known())
  by_query = {fact.query: fact for fact in facts}
  return {fact.question: fact for fact in facts} | by_query


@functools.cache
def _by_relation(is_made: bool) -> dict[str, list[Fact]]:
  found: dict[str, list[Fact]] = {}
  for fact in made() if is_made else known():
    found.setdefault(fact.relation, []).append(fact)
  return found


@functools.cache
def _tool(n_snippets: int, is_made: bool):
  """A search as a model's own would be, of what is made up too if asked."""
  found_by = index([*known(), *made()] if is_made else known())
  tool = search.make(found_by, n_snippets)
  return lambda query: tool.run({'query': query}, [])


def index(facts: Sequence[Fact]) -> search.Index:
  with tempfile.TemporaryDirectory() as folder:
    write(facts, folder)
    return search.build(folder)


def _other(text: str, draw: random.Random) -> str:
  """A text in the same shape."""

  def swap(match: re.Match[str]) -> str:
    old = match[0]
    if old.isdigit():
      return ''.join(draw.choices('0123456789', k=len(old)))
    if len(old) < 4:
      new = ''.join(draw.choices('abcdefghijklmnopqrstuvwxyz', k=len(old)))
    else:
      new = draw.choice(_words())
    if old.isupper():
      return new.upper()
    return new.capitalize() if old[0].isupper() else new

  return re.sub('[0-9]|[^\\W\\d_]+', swap, text)


@functools.cache
def _words() -> list[str]:
  """English and other words, of which the names of characters are made."""
  names = (unicodedata.name(chr(i), '') for i in range(0x20, 0x3000))
  words = {word for name in names for word in re.findall('[A-Z]{3,9}', name)}
  return [word.casefold() for word in sorted(words)]


def _facts() -> Iterator[tuple[str, str, str]]:
  """Relation, name and value."""
  for name, code in html.entities.name2codepoint.items():
    yield 'code point', name, f'{code}'
  for name, text in html.entities.html5.items():
    if name.endswith(';') and len(text) == 1:
      yield 'code point', name[:-1], f'{ord(text)}'
  for line in _table('zone.tab'):
    _, place, zone, *_ = line.split('\t')
    yield 'coordinates', zone.rpartition('/')[2], place
  for number, name in errno.errorcode.items():
    yield 'errno', name, f'{number}'
    yield 'message', name, os.strerror(number)
  for one in signal.Signals:
    yield 'signal', one.name, f'{one.value}'
  for status in http.HTTPStatus:
    yield 'status', status.phrase, f'{status.value}'
    yield 'HTTP', f'{status.value}', status.phrase
  for ending, kind in mimetypes.MimeTypes().types_map[True].items():
    yield 'MIME type', ending, kind
  for name, codec in encodings.aliases.aliases.items():
    yield 'codec', name, codec
  for line in _table('iso3166.tab'):
    code, country = line.split('\t')
    yield 'country', code, country


def _table(name: str) -> list[str]:
  """Rows of a table of the time zones, of this machine or of the package.

  Raises:
    FileNotFoundError: if it has neither.
  """
  places = [pathlib.Path(folder, name) for folder in zoneinfo.TZPATH]
  path = next((path for path in places if path.is_file()), None)
  if path is None:
    try:
      path = importlib.resources.files('tzdata') / 'zoneinfo' / name
    except ModuleNotFoundError:
      raise FileNotFoundError(
        f'there is no {name} in {zoneinfo.TZPATH}; pip install tzdata'
      ) from None
  text = path.read_text(encoding='utf-8')
  return [row for row in text.splitlines() if row and row[0] != '#']


def _main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--to', required=True, help='folder for the documents')
  write(known(), parser.parse_args().to)
  for relation, facts in _by_relation(is_made=False).items():
    n = sum(fact.is_held_out for fact in facts)
    print(f'{relation}: {len(facts)} facts, {n} of them held out')


if __name__ == '__main__':
  _main()
