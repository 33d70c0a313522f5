"""What a page tells crawlers: links, nofollow, noindex, its canonical address.

Tags come from libxml2's HTML parser as events, since building a tree needs
quadratic time on hostile nesting, and a crawler must not stop at one page. It
does NOT run scripts, and does not read frames, forms or meta refresh.

Source: RFC 8288 (Link), RFC 6596 (canonical), and robotstxt.org/meta.html.
"""

import dataclasses
import re
from collections.abc import Iterable

from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

from llm_jax.web.crawl import fetch, robots, urls
from llm_jax.web.extract import charset

_TAGS = ('a', 'area', 'base', 'link', 'meta')
_LINK_HEADER = re.compile(r'<([^<>]{0,4000})>([^<>]{0,400})')
_CANONICAL = re.compile(r'\brel\s*=\s*"?[^";]*\bcanonical\b', re.IGNORECASE)
_CHARSET = re.compile(
  r'charset\s{0,9}=\s{0,9}["\']?([\w.:-]{1,40})', re.IGNORECASE
)
# Directives of X-Robots-Tag with a value, which is no crawler's name.
_WITH_VALUE = ('max-', 'unavailable_after')


@dataclasses.dataclass(frozen=True)
class Signals:
  """What one page says.

  Attributes:
    links: absolute addresses that may be followed, in the order of the page.
    n_nofollow: links that the page or their `rel` asks not to follow.
    canonical: the address that the page calls its own, '' if it names none.
    noindex: it asks not to be stored.
  """

  links: tuple[str, ...]
  n_nofollow: int
  canonical: str
  noindex: bool


def read(response: fetch.Response, url: str, user_agent: str) -> Signals:
  """The signals of a page and of its headers.

  Args:
    response: the answer with the page.
    url: where it was found; a `<base href>` changes what links relate to.
    user_agent: the crawler's name, whose product token directives can name.

  Returns:
    The signals.
  """
  product = robots.token(user_agent)
  named_base, hrefs, n_nofollow = '', [], 0
  asked = [v for k, v in response.headers if k.lower() == 'x-robots-tag']
  directives = _directives(asked, product)
  canonical, canonical_base = _header_canonical(response), url
  said_charset = _CHARSET.search(response.header('Content-Type'))
  page = charset.decode(response.body, said_charset[1] if said_charset else '')
  for tag, said in _tags(page):
    href = said.get('href', '').strip()
    rel = said.get('rel', '').lower().split()
    if tag == 'meta':
      if said.get('name', '').strip().lower() in ('robots', product):
        directives |= _directives([said.get('content', '')], product)
    elif 'href' not in said:
      continue
    elif tag == 'base':
      named_base = named_base or href  # the first one holds for the page
    elif tag == 'link':
      if 'canonical' in rel and not canonical:
        canonical, canonical_base = href, ''
    elif 'nofollow' in rel:
      n_nofollow += 1
    else:
      hrefs.append(href)
  base = urls.join(url, named_base)
  if not base.startswith(('http:', 'https:')):
    base = url
  if canonical:
    canonical = urls.join(canonical_base or base, canonical)
  links = tuple(urls.join(base, href) for href in hrefs)
  if directives & {'nofollow', 'none'}:
    links, n_nofollow = (), n_nofollow + len(links)
  noindex = bool(directives & {'noindex', 'none'})
  return Signals(links, n_nofollow, canonical, noindex)


class _Collector:
  """What lxml hands tags to; keeps those that can hold a signal."""

  def __init__(self):
    self.found: list[tuple[str, dict[str, str]]] = []

  def start(self, tag: str, attributes):
    """Called for each start tag."""
    if tag in _TAGS:
      self.found.append((tag, dict(attributes)))

  def close(self):
    """Called at the end of the page."""
    return self.found


def _tags(page: str) -> list[tuple[str, dict[str, str]]]:
  """Name and attributes of the tags that can hold a signal, in order."""
  parser = etree.HTMLParser(
    target=_Collector(), encoding='utf-8', huge_tree=True
  )
  parser.feed(page.encode('utf-8', 'replace'))
  return parser.close()


def _header_canonical(response: fetch.Response) -> str:
  for name, value in response.headers:
    if name.lower() == 'link':
      for target, parameters in _LINK_HEADER.findall(value[:8000]):
        if _CANONICAL.search(parameters):
          return target
  return ''


def _directives(values: Iterable[str], product: str) -> set[str]:
  """Directives for all crawlers and for this one.

  >>> sorted(_directives(['noarchive, other: noindex, x: nofollow'], 'x'))
  ['noarchive', 'nofollow']
  """
  found = set()
  for value in values:
    agent = ''
    for part in value.lower().split(','):
      name, colon, rest = part.strip().partition(':')
      if colon and not name.startswith(_WITH_VALUE):
        agent, name = name.strip(), rest
      if agent in ('', product):
        found.add(name.strip())
  return found
