"""Addresses of pages: one spelling for each, and the marks of a trap.

It does NOT look an address up, and does not sort or drop the parameters of a
query, which mean what a site wants them to mean; only session ids go.
"""

import collections
import re
import urllib.parse

MAX_URL_LENGTH = 2000

_DEFAULT_PORTS = {'http': 80, 'https': 443}
# Names that servers give to a visit; a value so long is no page number.
_SESSION_NAMES = r'(?:jsessionid|phpsessid|aspsessionid\w*|session_?id|sid)'
_SESSION = re.compile(
  rf';{_SESSION_NAMES}=[^/?;]*'  # servlets
  r'|/\((?:[a-z]\([0-9a-z]{24}\))+\)(?=/)'  # ASP.NET
  rf'|(?<=[?&]){_SESSION_NAMES}=[\w.-]{{16,}}(?:&|$)',
  re.IGNORECASE | re.ASCII,
)
_ESCAPE = re.compile('%[0-9a-fA-F]{2}')
_UNRESERVED = re.compile('[A-Za-z0-9._~-]')
# What RFC 3986 allows in a path or query, and '%' itself, so that text which
# is already percent-encoded stays as it is.
_SAFE = "/:@!$&'()*+,;=-._~%"


def normalize(url: str) -> str:
  """The one spelling of an address that the crawler uses.

  Scheme and host in lower case, no default port, no fragment, no user, an
  empty path as '/', characters outside RFC 3986 percent-encoded, and those
  that need no encoding decoded (RFC 3986 6.2.2).

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
  path = _spell(parts.path or '/', _SAFE)
  query = _spell(parts.query, _SAFE + '?')
  return urllib.parse.urlunsplit((parts.scheme, host, path, query, ''))


def _spell(text: str, safe: str) -> str:
  def one(match: re.Match) -> str:
    character = chr(int(match[0][1:], 16))
    plain = _UNRESERVED.fullmatch(character)
    return character if plain else match[0].upper()

  return _ESCAPE.sub(one, urllib.parse.quote(text, safe=safe))


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


def without_session(url: str) -> str:
  """A normalised address without the id of a visit.

  >>> without_session('http://h/a;jsessionid=1F?x=1&PHPSESSID=0123456789abcdef')
  'http://h/a?x=1'
  """
  stripped = _SESSION.sub('', url)
  return url if stripped == url else stripped.rstrip('?&')


def trap(url: str, max_segments: int, max_repeats: int) -> str:
  """Why an address looks like one of an endless row, '' if it does not.

  >>> trap('http://h/a/b/a/b/a/b', 20, 2)
  'path_repeats'

  Args:
    url: a normalised address.
    max_segments: parts of a path between its slashes.
    max_repeats: times that one part may occur in a path.
  """
  segments = [s for s in urllib.parse.urlsplit(url).path.split('/') if s]
  if len(segments) > max_segments:
    return 'path_depth'
  counts = collections.Counter(segments)
  return 'path_repeats' if max(counts.values(), default=0) > max_repeats else ''
