"""robots.txt as RFC 9309 defines it, with Crawl-delay beside it.

Protego groups the lines and matches the patterns. What it leaves to its
callers is done before: product tokens with a version, lines that are no rules
and must not interfere, dot segments, and characters that mean something else
when they are percent-encoded. It does NOT read directives of single search
engines (Clean-param, Host, Request-rate).

Source: RFC 9309, sections 2.2 and 2.3; the spellings that Google's parser
takes.
"""

import dataclasses
import re
import urllib.parse

import protego

from llm_jax.web.crawl import urls

MAX_BYTES = 512 << 10  # RFC 9309 2.5 asks for at least 500 KiB
MAX_REDIRECTS = 5

_LINE = re.compile(
  r'\s*(?:(?P<agent>user[ -]?agent)|(?P<sitemap>site-?maps?)'
  r'|(?P<disallow>dis+al+ow|diasllow|disallaw)|(?P<allow>allow)'
  r'|(?P<delay>crawl[ -]delay))(?:\s*:|\s)(?P<value>[^#]*)',
  re.IGNORECASE,
)
_TOKEN = re.compile(r'[\w-]+|\*', re.ASCII)
# Names under which protego knows this crawler and all others: it would take
# the token `llm` for one that names `llm_jax`.
_US, _OTHERS = 'us', 'others'


@dataclasses.dataclass(frozen=True)
class Rules:
  """What one host lets one crawler do.

  Attributes:
    parsed: the file, None if there is none.
    unavailable: nobody knows what the host lets, so it lets nothing.
  """

  parsed: protego.Protego | None = None
  unavailable: bool = False

  def allows(self, url: str) -> bool:
    """True if the longest pattern that matches allows, or none matches."""
    parts = urllib.parse.urlsplit(urls.normalize(url))
    path = parts.path + ('?' + parts.query if parts.query else '')
    if path == '/robots.txt':
      return True
    if not self.parsed:
      return not self.unavailable
    path = path.replace('*', '%2A').replace('$', '%24')
    return self.parsed.can_fetch(f'http://h{_escape(path)}', _US)

  @property
  def crawl_delay_s(self) -> float:
    """Seconds that the host asks for between two requests."""
    return (self.parsed and self.parsed.crawl_delay(_US)) or 0.0

  @property
  def sitemaps(self) -> tuple[str, ...]:
    """Addresses of sitemaps as written, for all crawlers."""
    return tuple(self.parsed.sitemaps) if self.parsed else ()


def from_response(status: int, text: str, user_agent: str) -> Rules:
  """Rules that follow from the answer to a request for /robots.txt.

  Args:
    status: HTTP status after redirects; 0 if the host did not answer.
    text: the body.
    user_agent: the crawler's name, such as `llm_jax/0.1 (research)`.

  Returns:
    The rules of the file for 2xx, everything allowed for 4xx, nothing
    allowed otherwise, as long as the host cannot say what it wants. 429 is
    a host that cannot answer now, not one without rules.
  """
  if 200 <= status < 300:
    return parse(text, user_agent)
  return Rules(unavailable=not 400 <= status < 500 or status == 429)


def parse(text: str, user_agent: str) -> Rules:
  """The rules for one crawler.

  >>> parse('User-agent: *\\nDisallow: /a', 'x').allows('http://h/a/b')
  False

  Args:
    text: a robots.txt file, in any state.
    user_agent: the crawler's name; what stands before a '/' counts, without
      case.

  Returns:
    The rules of all groups that name the crawler, else of all groups for
    `*`, else none.
  """
  ours, lines = token(user_agent), []
  for line in re.split('[\r\n]', text.lstrip('\ufeff')):
    match = _LINE.match(line)
    if not match:
      continue  # RFC 9309 2.2.4: other records do not end a group
    kind, value = match.lastgroup, match['value'].strip()
    if match['agent']:
      name = token(value)
      kind, value = 'user-agent', name if name == '*' else _OTHERS
      value = _US if name == ours else value
    elif match['disallow'] or match['allow']:
      kind = 'disallow' if match['disallow'] else 'allow'
      value = _spell(value)
    else:
      kind = 'sitemap' if match['sitemap'] else 'crawl-delay'
    lines.append(f'{kind}: {value}')
  return Rules(protego.Protego.parse('\n'.join(lines)))


def token(user_agent: str) -> str:
  """The product token of a crawler's name.

  >>> token('Llm_Jax/0.1 (research crawler)')
  'llm_jax'
  """
  match = _TOKEN.match(user_agent)
  return match[0].lower() if match else ''


def _spell(pattern: str) -> str:
  """A pattern in the spelling of paths; its last segment may go on."""
  path, mark, query = pattern.partition('?')
  path = urls.spell(path)
  if path.startswith('/'):
    folder, _, last = path.rpartition('/')
    path = urls.without_dots(f'{folder}/') + last
  body = path + mark + urls.spell(query)
  end = '$' if body.endswith('$') else ''
  return _escape(body.removesuffix('$').replace('$', '%24')) + end


def _escape(path: str) -> str:
  """Escapes once more: protego takes %3F for ?, which RFC 3986 2.2 forbids."""
  return path.replace('%', '%25')
