"""Sitemaps: XML, an index of others, or lines of text; gzip or not.

A sitemap comes from a stranger and is often not well-formed, so the addresses
are looked up between their tags: a fault costs the entry that it is in, where
an XML parser in recovery mode loses what follows. No document type is accepted,
and no entity but the named characters. It does NOT fetch, read feeds, or use
dates and priorities.

Source: sitemaps.org/protocol.html.
"""

import codecs
import dataclasses
import html
import re
from html import entities

from llm_jax.web.extract import charset, http_body

MAX_BYTES = 50 << 20  # uncompressed; this and the next are the protocol's own
MAX_URLS = 50_000

# A root may have a prefix, and then the tags that count have the same.
_ROOT = re.compile(rb'<((?:[\w.-]+:)?)(?:urlset|sitemapindex)\b')
_ENCODING = re.compile(
  rb'<\?xml[^>]{0,99}\bencoding\s{0,9}=\s{0,9}["\']([\w.:-]{1,40})'
)
_ENTITY = re.compile(r'&(#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|\w{1,30});')
# Possessive quantifiers and bounds: each byte is looked at a few times.
_TAGS = (
  rb'<!--.*?(?:-->|\Z)|<%b(?P<parent>url|sitemap)\b'
  rb'|(?P<loc><%bloc\b[^<>]{0,999}+>)(?:(?:\s{0,99}+<!\[CDATA\['
  rb'(?P<cdata>(?:[^<\]]|\](?!\]>)){0,4000}+)\]\]>\s{0,99}+'
  rb'|(?P<text>[^<]{0,4000}+))</)?'
)


@dataclasses.dataclass(frozen=True)
class Sitemap:
  """What a sitemap lists.

  Attributes:
    pages: addresses as written, in order.
    sitemaps: addresses of further sitemaps.
    problem: '', or why the rest is not used: `gzip`, `too_large`, `doctype`,
      `xml`, `too_many_urls`, or `empty` if nothing is listed.
  """

  pages: tuple[str, ...] = ()
  sitemaps: tuple[str, ...] = ()
  problem: str = ''


def parse(body: bytes) -> Sitemap:
  r"""Reads a sitemap of any of its forms.

  >>> parse(b'http://h/a\nhttp://h/b').pages
  ('http://h/a', 'http://h/b')

  Args:
    body: the file.

  Returns:
    What could be read, and the first problem.
  """
  problem = ''
  if body.startswith(b'\x1f\x8b'):
    try:
      body, is_whole = http_body.read_capped([body], MAX_BYTES, is_packed=True)
    except http_body.ERRORS:
      return Sitemap(problem='gzip')
    problem = '' if is_whole else 'gzip'
  if len(body) > MAX_BYTES:
    body, problem = body[:MAX_BYTES], 'too_large'
  if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
    body = body.decode('utf-16', 'replace').encode()
  root = _ROOT.search(body)
  if root:
    listed, fault = _parse_xml(body, root)
  elif body.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b'<'):
    listed, fault = [], 'xml'
  else:
    lines = body.decode('utf-8-sig', 'replace').split()
    listed = [
      ('url', s) for s in lines if s.startswith(('http://', 'https://'))
    ]
    fault = ''
  if len(listed) > MAX_URLS:
    listed, fault = listed[:MAX_URLS], 'too_many_urls'
  pages = tuple(address for parent, address in listed if parent == 'url')
  others = tuple(address for parent, address in listed if parent != 'url')
  empty = '' if listed else 'empty'
  return Sitemap(pages, others, problem or fault or empty)


def _parse_xml(body: bytes, root: re.Match[bytes]):
  """Pairs of `url` or `sitemap` and the address in it, and the problem."""
  prefix, prolog = root[1], body[: root.start()]
  if b'<!doctype' in prolog.lower():
    return [], 'doctype'
  encoding = _ENCODING.search(prolog)
  codec = charset.codec(encoding[1].decode() if encoding else '') or 'utf-8'
  # A comment often follows the end.
  end = re.search(rb'</%b(urlset|sitemapindex)\s*>' % prefix, body[-2000:])
  fault = '' if end else 'xml'
  found, parent = [], ''
  tags = re.compile(_TAGS % (prefix, prefix), re.DOTALL)
  for match in tags.finditer(body, root.end()):
    if match['parent']:
      parent = match['parent'].decode()
    elif match['loc']:
      raw = match['text'] if match['cdata'] is None else match['cdata']
      address = (raw or b'').decode(codec, 'replace').strip()
      if match['cdata'] is None:
        address = _ENTITY.sub(_character, address)
      if address and parent:
        found.append((parent, address))
      else:
        fault = 'xml'
      if len(found) > MAX_URLS:
        break
    elif not match[0].endswith(b'-->'):
      fault = 'xml'
  return found, fault


def _character(entity: re.Match) -> str:
  known = entity[1][0] == '#' or f'{entity[1]};' in entities.html5
  return html.unescape(entity[0]) if known else entity[0]
