"""robots.txt as RFC 9309 defines it, with Crawl-delay beside it.

It decides from text; it does NOT fetch. Directives of single search engines
(Clean-param, Host, Request-rate) are not read.

Source: RFC 9309, sections 2.2 and 2.3.
"""

import dataclasses
import math
import urllib.parse

MAX_BYTES = 512 << 10  # RFC 9309 2.5 asks for at least 500 KiB
MAX_REDIRECTS = 5


@dataclasses.dataclass(frozen=True)
class Rules:
  """What one host lets one crawler do.

  Attributes:
    rules: pairs of a path pattern and whether it allows.
    crawl_delay_s: seconds that the host asks for between two requests.
    sitemaps: addresses of sitemaps as written, for all crawlers.
    unavailable: nobody knows what the host lets, so it lets nothing.
  """

  rules: tuple[tuple[str, bool], ...] = ()
  crawl_delay_s: float = 0.0
  sitemaps: tuple[str, ...] = ()
  unavailable: bool = False

  def allows(self, url: str) -> bool:
    """True if the longest pattern that matches allows, or none matches."""
    parts = urllib.parse.urlsplit(url)
    path = _spell(parts.path or '/')
    if parts.query:
      path += '?' + _spell(parts.query)
    if path == '/robots.txt':
      return True
    matching = [
      (len(pattern), allow)
      for pattern, allow in self.rules
      if _matches(pattern, path)
    ]
    # Equal lengths: allow wins, as True sorts after False (RFC 9309 2.2.2).
    return max(matching)[1] if matching else True


DISALLOW_ALL = Rules(rules=(('/', False),), unavailable=True)


def from_response(status: int, text: str, product: str) -> Rules:
  """Rules that follow from the answer to a request for /robots.txt.

  Args:
    status: HTTP status after redirects; 0 if the host did not answer.
    text: the body.
    product: the crawler's product token, such as `llm_jax`.

  Returns:
    The rules of the file for 2xx, everything allowed for 4xx, nothing
    allowed otherwise, as long as the host cannot say what it wants. 429 is
    a host that cannot answer now, not one without rules.
  """
  if 200 <= status < 300:
    return parse(text, product)
  if 400 <= status < 500 and status != 429:
    return Rules()
  return DISALLOW_ALL


def parse(text: str, product: str) -> Rules:
  """The rules for one crawler.

  >>> parse('User-agent: *\\nDisallow: /a', 'x').allows('http://h/a/b')
  False

  Args:
    text: a robots.txt file, in any state.
    product: the crawler's product token, compared without case.

  Returns:
    The rules of all groups that name the product, else of all groups for
    `*`, else none.
  """
  groups: dict[str, list[tuple[str, str]]] = {}
  agents: list[str] = []
  sitemaps: list[str] = []
  in_rules = False
  for line in text.removeprefix('\ufeff').splitlines():
    name, colon, value = line.partition('#')[0].partition(':')
    name, value = name.strip().lower(), value.strip()
    if not colon:
      continue
    if name == 'user-agent':
      if in_rules:  # this line opens a new group
        agents, in_rules = [], False
      agents.append(value.lower())
      groups.setdefault(value.lower(), [])
    elif name == 'sitemap':
      sitemaps.append(value)
    elif name in ('allow', 'disallow', 'crawl-delay'):
      in_rules = True
      for agent in agents:
        groups[agent].append((name, value))
  lines = groups.get(product.lower(), groups.get('*', []))
  rules = tuple(
    (_spell(value), name == 'allow')
    for name, value in lines
    if name != 'crawl-delay' and value  # an empty Disallow forbids nothing
  )
  delays = [_seconds(value) for name, value in lines if name == 'crawl-delay']
  return Rules(rules, max(delays, default=0.0), tuple(sitemaps))


def _seconds(value: str) -> float:
  try:
    seconds = float(value)
  except ValueError:
    return 0.0
  return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


def _spell(path: str) -> str:
  """One percent-encoding for patterns and paths alike (RFC 9309 2.2.2)."""
  decoded = urllib.parse.unquote(path.replace('%2F', '%252F'))
  return urllib.parse.quote(decoded, safe="/:@!$&'()*+,;=-._~?")


def _matches(pattern: str, path: str) -> bool:
  """Match with `*` for any run of characters and a final `$` for the end.

  One find for each piece between stars, so a pattern of many stars costs no
  more than its length, unlike a regular expression.
  """
  anchored = pattern.endswith('$')
  first, *pieces = pattern.removesuffix('$').split('*')
  if not path.startswith(first):
    return False
  if not pieces:
    return not anchored or path == first
  position = len(first)
  last = pieces.pop() if anchored else ''
  for piece in pieces:
    found = path.find(piece, position)
    if found < 0:
      return False
    position = found + len(piece)
  return path.endswith(last) and len(path) - len(last) >= position
