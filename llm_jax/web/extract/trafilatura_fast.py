"""Trafilatura at the same text in less time, by what it lets one exchange.

Half of its time goes into XPath expressions that ask each element of a page
for words in its attributes. Sites repeat their attributes, so here each set of
values is asked once.

It does NOT change what trafilatura finds and holds none of its rules: they are
read from it. It changes the trafilatura of the whole process.
"""

import copy
import dataclasses
import functools
import importlib
import itertools
import re
import types
from collections.abc import Iterator
from typing import Any

import lxml.etree
import lxml.html

# Lists of expressions of which trafilatura deletes what any of them finds.
PATHS = (
  'DISCARD_IMAGE_ELEMENTS',
  'OVERALL_DISCARD_XPATH',
  'PRECISION_DISCARD_XPATH',
  'RAW_TREE_PRUNE_XPATH',
  'REMOVE_COMMENTS_AND_LISTS_XPATH',
  'REMOVE_COMMENTS_XPATH',
  'TEASER_DISCARD_XPATH',
)
_EXSLT = 'http://exslt.org/regular-expressions'
_STRING = lxml.etree.XPath('string()', regexp=False, smart_strings=False)
_LENGTH = lxml.etree.XPath('string-length(normalize-space())', regexp=False)
# Verdicts of one expression. Four times as many are as fast, and a child grows
# by 28 MB until it has met them.
_MAX_REMEMBERED = 1 << 12
_MAX_REMEMBERED_CHARS = 300  # in the attributes of one verdict
_LITERAL = re.compile('"[^"]*"|\'[^\']*\'')
_NUMBERED = re.compile(r'"(\d+)"')
_FIRST = re.compile(r'(?<!\w)\((?=\.//)|\)?\s*\[1\]')
_PART = re.compile(r'\s*\.//(\*|\w+)\s*((?:\[[^][]*\]\s*)*)(?:\||$)')
_CONDITION = re.compile(r'\[([^][]*)\]')
_OF_TAGS = re.compile(r'\s*self::\w+(?:\s+or\s+self::\w+)*\s*')
_TAG = re.compile(r'self::(\w+)')
_DESCENDANT = re.compile(r'\.//\w+')
# What depends on an element's own tag and attributes, and is no number, which
# would be a position.
_OF_ATTRIBUTES = re.compile(
  r'(?:self::\w+|@[\w-]+|(?:contains|starts-with|translate|re:test|not)\('
  r'|\b(?:and|or)\b|[\s|=,()]|"\d+")*'
)
_ATTRIBUTE = re.compile(r'@([\w-]+)')


class AttributePath:
  """An XPath expression for descendants with certain tags and attributes.

  It reads `.//tag[condition][condition]` and unions of such, with `*` for any
  tag. Conditions may name attributes, `self::tag` and a descendant `.//tag`.

  Finds the same elements as the expression, which is tested for each of
  trafilatura's. They are found by a walk in Python, which is faster than
  libxml2's, and asked only where a combination of values is new.
  """

  def __init__(self, path: str, first_only: bool = False):
    """Reads an expression.

    Args:
      path: the expression.
      first_only: only the first element is of use, so that `(...)[1]` and
        `...[1]` may be read as well.

    Raises:
      ValueError: the expression is of another kind.
    """
    self.path = path
    literals: list[str] = []

    def number(literal: re.Match) -> str:
      literals.append(literal[0])
      return f'"{len(literals) - 1}"'

    plain = _LITERAL.sub(number, path)
    if first_only:
      plain = _FIRST.sub('', plain)
    parts, start = [], 0
    while start < len(plain):
      part = _PART.match(plain, start)
      if part is None:
        raise ValueError(f'not a path of attributes: {path}')
      parts.append((part[1], _CONDITION.findall(part[2])))
      start = part.end()

    tags, own, whole, used = set[frozenset[str]](), [], [], ''
    for tag, conditions in parts:
      of_tags = [c for c in conditions if _OF_TAGS.fullmatch(c)]
      tags.add(frozenset(_TAG.findall(of_tags[0]) if of_tags else [tag]))
      others = [c for c in conditions if c not in of_tags]
      for condition in others:
        if not _OF_ATTRIBUTES.fullmatch(_DESCENDANT.sub('', condition)):
          raise ValueError(f'not a path of attributes: {path}')
      of_attributes = [c for c in others if not _DESCENDANT.search(c)]
      used += ' '.join(of_attributes)
      own.append(_select(tag, of_tags + of_attributes))
      whole.append(_select(tag, of_tags + others))

    def compiled(selects: list[str]) -> lxml.etree.XPath:
      text = _NUMBERED.sub(lambda m: literals[int(m[1])], '|'.join(selects))
      return lxml.etree.XPath(f'boolean({text})', namespaces={'re': _EXSLT})

    every = sorted(frozenset().union(*tags))
    self._tags = ['*'] if '*' in every else every
    self._is_by_tag = len(tags) > 1 or 'self::' in used
    self._names = frozenset(_ATTRIBUTE.findall(used))
    self._ask = compiled(own)
    self._ask_whole = compiled(whole) if whole != own else None
    self._verdicts: dict[tuple, bool] = {}

  def __call__(self, tree: Any) -> list:
    """The elements below one, in the order of the page."""
    return list(self.iterate(tree))

  def iterate(self, tree: Any) -> Iterator:
    """The same one by one, for those who need the first."""
    names, verdicts, is_by_tag = self._names, self._verdicts, self._is_by_tag
    for element in tree.iterdescendants(*self._tags):
      key: tuple = ()
      if items := element.items():
        # In the order of the page: string(@id|@class) is the first of both.
        key = tuple([item for item in items if item[0] in names])
      if is_by_tag:
        key += (element.tag,)
      try:
        verdict = verdicts[key]
      except KeyError:
        verdict = self._remember(key, element)
      if verdict and (self._ask_whole is None or self._ask_whole(element)):
        yield element

  def _remember(self, key: tuple, element: Any) -> bool:
    verdict = self._ask(element)
    if sum(map(len, itertools.chain(*key))) <= _MAX_REMEMBERED_CHARS:
      if len(self._verdicts) >= _MAX_REMEMBERED:
        self._verdicts.clear()
      self._verdicts[key] = verdict
    return verdict


def _select(tag: str, conditions: list[str]) -> str:
  return f'self::{tag}' + ''.join(f'[{c}]' for c in conditions)


class _Element(lxml.html.HtmlElement):
  """An element whose most frequent questions have a short way in C."""

  def text_content(self) -> str:
    return _STRING(self) if len(self) else self.text or ''

  def find(self, path: str, namespaces: Any = None):
    if path[:3] == './/' and path[3:].isalnum():
      return next(self.iterdescendants(path[3:]), None)
    return super().find(path, namespaces)

  def findall(self, path: str, namespaces: Any = None):
    if path[:3] == './/' and path[3:].isalnum():
      return list(self.iterdescendants(path[3:]))
    return super().findall(path, namespaces)


class _Invalid:
  """The pattern of characters that XML forbids; hardly a page has one."""

  def __init__(self, pattern: re.Pattern):
    self._pattern = pattern
    characters = map(chr, range(1 << 16))
    self._characters = [c for c in characters if pattern.match(c)]

  def sub(self, new: str, text: str) -> str:
    if any(c in text for c in self._characters):
      return self._pattern.sub(new, text)
    return text


@dataclasses.dataclass(frozen=True)
class _OwnTree:
  """A tree that extraction may change; it copies a tree as such."""

  tree: lxml.html.HtmlElement


def load_tree(page: str) -> lxml.html.HtmlElement | None:
  """The tree of a page without what is never text, or None if it has none."""
  tree = load().load_html(page)
  if tree is None:
    return None
  # Nothing of these is ever read, but copies of the tree are made.
  for script in list(tree.iter('script')):
    if script.get('type') != 'application/ld+json':
      script.drop_tree()
  for element in list(tree.iter('style', 'svg', 'link')):
    element.drop_tree()
  return tree


def n_visible(tree: lxml.html.HtmlElement | None) -> int:
  """Characters of all text of a page's body, with single spaces."""
  if tree is None:
    return 0
  body = tree.find('body')
  return int(_LENGTH(tree if body is None else body))


def extract(
  tree: lxml.html.HtmlElement | None, favor: str, fast: bool, is_first: bool
) -> str:
  """Trafilatura's text of a tree, which is of no use afterwards.

  Args:
    tree: from `load_tree`.
    favor: '', `precision` or `recall`.
    fast: without two other algorithms' texts to compare with.
    is_first: another run follows if this one finds little.

  Returns:
    The text, '' if there is none.
  """
  if tree is None:
    return ''
  options = _options(favor, fast, is_first)
  return load().extract(_OwnTree(tree), options=options) or ''


@functools.cache
def _options(favor: str, fast: bool, is_first: bool):
  options = load().settings.Extractor(
    fast=fast,
    precision=favor == 'precision',
    recall=favor == 'recall',
    comments=False,
  )
  if is_first and not favor:
    # Only under the name `balanced` a second attempt follows, at the price
    # of another text of the whole page; here the full run is that attempt.
    options.focus = 'first'
  return options


@functools.cache
def load() -> types.ModuleType:
  """Trafilatura, changed; takes a second of CPU time in each process."""
  import trafilatura
  from trafilatura import settings, utils, xpaths

  # Any, for names that they import; `trafilatura.baseline` is a function.
  core: Any = importlib.import_module('trafilatura.core')
  baseline: Any = importlib.import_module('trafilatura.baseline')

  for name in PATHS:
    paths = [expression.path for expression in getattr(xpaths, name)]
    getattr(xpaths, name)[:] = [AttributePath('|'.join(paths))]
  xpaths.BODY_XPATH[:] = [
    AttributePath(expression.path, first_only=True).iterate
    for expression in xpaths.BODY_XPATH
  ]
  baseline.BASIC_CLEAN_XPATH = AttributePath(settings.BASIC_CLEAN_XPATH.path)

  # A look-up in C; lxml.html's calls Python for every element of every copy.
  utils.HTML_PARSER.set_element_class_lookup(
    lxml.etree.ElementDefaultClassLookup(element=_Element)
  )

  utils.INVALID_XML_CHARS = _Invalid(utils.INVALID_XML_CHARS)
  load_html = core.load_html

  def load_or_take(content: Any, max_size: int | None = None):
    if isinstance(content, _OwnTree):
      return content.tree
    return load_html(content, max_size)

  core.load_html = load_or_take

  def prepare_tree(tree: Any, options: settings.Extractor, url: str | None):
    # Only the full run and the search for comments read the second tree.
    cleaned = core.tree_cleaning(copy.copy(tree), options)
    is_read = options.comments or not options.fast
    second = copy.copy(cleaned) if is_read else None
    return core.convert_tags(cleaned, options, url), second

  core._prepare_tree = prepare_tree
  return trafilatura
