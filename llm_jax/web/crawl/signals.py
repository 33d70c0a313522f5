"""What a page tells crawlers: links, nofollow, noindex, its canonical address.

Tags are found by bounded regular expressions, not by a parser: parsers need
quadratic time on hostile nesting, and a crawler must not stop at one page. It
does NOT run scripts, and does not read frames, forms or meta refresh.

Source: RFC 8288 (Link), RFC 6596 (canonical), and robotstxt.org/meta.html.
"""

import dataclasses
import html
import re
from collections.abc import Iterable

from llm_jax.web.crawl import fetch, urls
from llm_jax.web.extract import charset

# '<' ends a match, so each part of a page is looked at once.
_TAG = re.compile(
  r'<(a|area|base|link|meta)\s([^<>]{0,8000})', re.IGNORECASE | re.ASCII
)
_ATTRIBUTE = re.compile(
  r'(?<![\w:.-])([\w:.-]{1,40})\s{0,9}=\s{0,9}'
  r'("[^"]{0,4000}"|\'[^\']{0,4000}\'|[^\s"\'<>]{1,4000})',
  re.IGNORECASE | re.ASCII,
)
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


def read(response: fetch.Response, url: str, product: str) -> Signals:
  """The signals of a page and of its headers.

  Args:
    response: the answer with the page.
    url: where it was found; a `<base href>` changes what links relate to.
    product: the crawler's product token, which directives can name.

  Returns:
    The signals.
  """
  base, links, n_nofollow, canonical = url, [], 0, _header_canonical(response)
  canonical = urls.join(url, canonical) if canonical else ''
  asked = [v for k, v in response.headers if k.lower() == 'x-robots-tag']
  directives = _directives(asked, product)
  said_charset = _CHARSET.search(response.header('Content-Type'))
  page = charset.decode(response.body, said_charset[1] if said_charset else '')
  for match in _TAG.finditer(_without_comments(page)):
    tag = match[1].lower()
    said: dict[str, str] = {}
    for name, value in _ATTRIBUTE.findall(match[2]):
      said.setdefault(name.lower(), html.unescape(value.strip('"\'').strip()))
    rel = said.get('rel', '').lower().split()
    if tag == 'meta':
      if said.get('name', '').lower() in ('robots', product.lower()):
        directives |= _directives([said.get('content', '')], product)
    elif 'href' not in said:
      continue
    elif tag == 'base':
      base = urls.join(base, said['href'])
    elif tag == 'link':
      if 'canonical' in rel and not canonical:
        canonical = urls.join(base, said['href'])
    elif 'nofollow' in rel:
      n_nofollow += 1
    else:
      links.append(urls.join(base, said['href']))
  if directives & {'nofollow', 'none'}:
    links, n_nofollow = [], n_nofollow + len(links)
  noindex = bool(directives & {'noindex', 'none'})
  return Signals(tuple(links), n_nofollow, canonical, noindex)


def _header_canonical(response: fetch.Response) -> str:
  for name, value in response.headers:
    if name.lower() == 'link':
      for target, parameters in _LINK_HEADER.findall(value[:8000]):
        if _CANONICAL.search(parameters):
          return target
  return ''


def _directives(values: Iterable[str], product: str) -> set[str]:
  """Directives for all crawlers and for this one.

  >>> sorted(_directives(['noarchive, other: noindex, x: nofollow'], 'X'))
  ['noarchive', 'nofollow']
  """
  found = set()
  for value in values:
    agent = ''
    for part in value.lower().split(','):
      name, colon, rest = part.strip().partition(':')
      if colon and not name.startswith(_WITH_VALUE):
        agent, name = name.strip(), rest
      if agent in ('', product.lower()):
        found.add(name.strip())
  return found


def _without_comments(page: str) -> str:
  """The page without comments; one that never ends takes the rest.

  Not a regular expression: it would look for the end again and again.
  """
  kept, position = [], 0
  while (start := page.find('<!--', position)) >= 0:
    kept.append(page[position:start])
    end = page.find('-->', start + 4)
    if end < 0:
      return ''.join(kept)
    position = end + 3
  return ''.join([*kept, page[position:]])
