"""Addresses of pages: one spelling for each, and the marks of a trap.

It does NOT look an address up, and does not sort or drop the parameters of a
query, which mean what a site wants them to mean; only session ids go.
"""

import collections
import ipaddress
import re
import urllib.parse

import idna

MAX_URL_LENGTH = 2000

_DEFAULT_PORTS = {'http': 80, 'https': 443}
_HOST = re.compile(r'(?=.{1,253}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*')
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
# An endless row of addresses often repeats a part, or gets deeper each time.
_MAX_SEGMENTS, _MAX_REPEATS = 20, 3


def normalize(url: str) -> str:
  """The one spelling of an address that the crawler uses.

  Scheme and host in lower case, the host in ASCII, no default port, no
  fragment, no user, an empty path as '/', no dot segments, characters outside
  RFC 3986 percent-encoded, and those that need no encoding decoded.

  >>> normalize('HTTP://Example.org:80/x/%2e%2e/a b#top')
  'http://example.org/a%20b'

  Args:
    url: an absolute address.

  Returns:
    The address in that spelling.

  Raises:
    ValueError: it is no http(s) address with a host, or it is too long.

  Source: RFC 3986 6.2.2; UTS 46 without transitional mapping, as browsers do.
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
  host = _spell_host(parts.hostname, is_ipv6='[' in parts.netloc)
  if parts.port not in (None, _DEFAULT_PORTS[parts.scheme]):
    host = f'{host}:{parts.port}'
  path = without_dots(spell(parts.path or '/', _SAFE))
  return urllib.parse.urlunsplit(
    (parts.scheme, host, path, spell(parts.query), '')
  )


def _spell_host(host: str, is_ipv6: bool) -> str:
  if is_ipv6:
    return f'[{ipaddress.IPv6Address(host)}]'
  mapped = idna.uts46_remap(
    urllib.parse.unquote(host), std3_rules=False, transitional=False
  )
  # 'h.' and 'h' are one host.
  labels = mapped.removesuffix('.').split('.')
  host = '.'.join(
    label if label.isascii() else 'xn--' + label.encode('punycode').decode()
    for label in labels
  )
  if not _HOST.fullmatch(host):
    raise ValueError(
      f'{host[:99]!r} is no host of an http(s) address: parts of 1 to 63 '
      'letters, digits, - and _, at most 253 in all'
    )
  return host


def spell(text: str, safe: str = _SAFE + '?') -> str:
  """The one percent-encoding of a path or query (RFC 3986 6.2.2.1 and 2).

  >>> spell('/%7ejoe/%2f/a b')
  '/~joe/%2F/a%20b'
  """

  def one(match: re.Match) -> str:
    character = chr(int(match[0][1:], 16))
    plain = _UNRESERVED.fullmatch(character)
    return character if plain else match[0].upper()

  return _ESCAPE.sub(one, urllib.parse.quote(text, safe=safe))


def without_dots(path: str) -> str:
  """An absolute path without `.` and `..` (RFC 3986 5.2.4).

  >>> without_dots('/a/./b/../c/..')
  '/a/'
  """
  kept, segments = [], path.split('/')[1:]
  for segment in segments:
    if segment == '..':
      del kept[-1:]
    elif segment != '.':
      kept.append(segment)
  if segments[-1:] in (['.'], ['..']):
    kept.append('')
  return '/' + '/'.join(kept)


def host_of(url: str) -> str:
  """Scheme, host and port of a normalised address: `http://host:port`.

  robots.txt and the delay between requests hold for this unit (RFC 9309).
  """
  parts = urllib.parse.urlsplit(url)
  return f'{parts.scheme}://{parts.netloc}'


def name_of(url: str) -> str:
  """The host's name alone, which stays in a step from http to https."""
  return urllib.parse.urlsplit(url).hostname or ''


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


def trap(url: str) -> str:
  """Why a normalised address looks like one of an endless row, '' if not.

  >>> trap('http://h/a/b/a/b/a/b/a/b')
  'path_repeats'
  """
  segments = [s for s in urllib.parse.urlsplit(url).path.split('/') if s]
  if len(segments) > _MAX_SEGMENTS:
    return 'path_depth'
  counts = collections.Counter(segments)
  repeats = max(counts.values(), default=0)
  return 'path_repeats' if repeats > _MAX_REPEATS else ''
