"""Addresses of pages: one spelling for each, and the links of a page.

Links are found by a bounded regular expression, not by a parser: parsers need
quadratic time on hostile nesting, and a crawler must not stop at one page. It
does NOT run scripts, and does not read `rel`, frames or sitemaps.
"""

import html
import re
import urllib.parse
from collections.abc import Iterator

MAX_URL_LENGTH = 2000

_DEFAULT_PORTS = {'http': 80, 'https': 443}
# The quantifier is bounded and never crosses '<', so the scan is linear.
_LINK = re.compile(
  r'<(a|area|base)\s[^<>]{0,1000}?\bhref\s{0,9}=\s{0,9}'
  r'("[^"<>]{0,4000}"|\'[^\'<>]{0,4000}\'|[^\s"\'<>]{1,4000})',
  re.IGNORECASE,
)
# What RFC 3986 allows in a path or query, and '%' itself, so that text which
# is already percent-encoded stays as it is.
_SAFE = "/:@!$&'()*+,;=-._~%"


def normalize(url: str) -> str:
  """The one spelling of an address that the crawler uses.

  Scheme and host in lower case, no default port, no fragment, no user, an
  empty path as '/', and characters outside RFC 3986 percent-encoded.

  >>> normalize('HTTP://Example.org:80/a b#top')
  'http://example.org/a%20b'

  Args:
    url: an absolute address.

  Returns:
    The address in that spelling.

  Raises:
    ValueError: it is no http(s) address with a host, or it is too long.
  """
  if len(url) > MAX_URL_LENGTH:
    raise ValueError(
      f'URL of {len(url)} characters; at most {MAX_URL_LENGTH} are used'
    )
  parts = urllib.parse.urlsplit(url.strip())
  if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
    raise ValueError(
      f'{url!r} is not an http(s) address; write it as http://host/path'
    )
  host = parts.hostname.encode('idna').decode('ascii')
  if ':' in host:
    host = f'[{host}]'
  if parts.port not in (None, _DEFAULT_PORTS[parts.scheme]):
    host = f'{host}:{parts.port}'
  path = urllib.parse.quote(parts.path or '/', safe=_SAFE)
  query = urllib.parse.quote(parts.query, safe=_SAFE + '?')
  return urllib.parse.urlunsplit((parts.scheme, host, path, query, ''))


def host_of(url: str) -> str:
  """Scheme, host and port of a normalised address: `http://host:port`.

  robots.txt and the delay between requests hold for this unit (RFC 9309).
  """
  parts = urllib.parse.urlsplit(url)
  return f'{parts.scheme}://{parts.netloc}'


def join(base: str, target: str) -> str:
  """An address relative to another one; unusable ones come back as they are.

  >>> join('http://h/a/b', '../c')
  'http://h/c'
  """
  try:
    return urllib.parse.urljoin(base, target)
  except ValueError:  # such as 'http://[half'; normalize refuses it
    return target


def links(page: str, page_url: str) -> Iterator[str]:
  """Addresses that a page links to, absolute, in the order of the page.

  Args:
    page: the HTML source.
    page_url: where it was found; a `<base href>` changes it.

  Yields:
    Absolute addresses, not normalised, with repetitions.
  """
  base = page_url
  for match in _LINK.finditer(_without_comments(page)):
    target = html.unescape(match.group(2).strip('"\'').strip())
    absolute = join(base, target)
    if match.group(1).lower() == 'base':
      base = absolute
    else:
      yield absolute


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
