"""Sitemaps: XML, an index of others, or lines of text; gzip or not.

A sitemap comes from a stranger, so it is read up to the format's own limits,
no document type is accepted (it is what entity bombs and external entities
need), and what was listed before a fault is used. It does NOT fetch, read
feeds, or use dates and priorities.

Source: sitemaps.org/protocol.html.
"""

import dataclasses
import zlib
from xml.parsers import expat

MAX_BYTES = 50 << 20  # uncompressed; this and the next are the protocol's own
MAX_URLS = 50_000
_MAX_URL_LENGTH = 4000
_MAX_NESTING = 32


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


class _Refused(Exception):
  """Stops the parser; the message is the problem."""


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
    inflate = zlib.decompressobj(31)
    try:
      body = inflate.decompress(body, MAX_BYTES + 1)
      problem = '' if inflate.eof or len(body) > MAX_BYTES else 'gzip'
    except zlib.error:
      return Sitemap(problem='gzip')
  if len(body) > MAX_BYTES:
    body, problem = body[:MAX_BYTES], 'too_large'
  is_xml = body[:99].removeprefix(b'\xef\xbb\xbf').lstrip().startswith(b'<')
  # UTF-16 has its own mark, and text sitemaps are UTF-8 by definition.
  if is_xml or body.startswith((b'\xff\xfe', b'\xfe\xff')):
    listed, fault = _parse_xml(body)
  else:
    lines = (
      line.strip() for line in body.decode('utf-8-sig', 'replace').split()
    )
    found = [('url', s) for s in lines if s.startswith(('http://', 'https://'))]
    listed = found[:MAX_URLS]
    fault = 'too_many_urls' if len(found) > MAX_URLS else ''
  pages = tuple(address for parent, address in listed if parent == 'url')
  others = tuple(address for parent, address in listed if parent != 'url')
  empty = '' if listed else 'empty'
  return Sitemap(pages, others, problem or fault or empty)


def _parse_xml(body: bytes) -> tuple[list[tuple[str, str]], str]:
  """Pairs of `url` or `sitemap` and the address in it, and the problem."""
  found: list[tuple[str, str]] = []
  path: list[str] = []
  text: list[str] = []

  def start(name, _):
    path.append(name.rpartition(' ')[2])
    if len(path) > _MAX_NESTING:
      raise _Refused('xml')
    text.clear()

  def characters(data):
    if path[-1] == 'loc' and sum(map(len, text)) < _MAX_URL_LENGTH:
      text.append(data[:_MAX_URL_LENGTH])

  def end(_):
    parent = path[-2] if len(path) > 1 else ''
    if path.pop() == 'loc' and parent in ('url', 'sitemap'):
      if len(found) == MAX_URLS:
        raise _Refused('too_many_urls')
      found.append((parent, ''.join(text).strip()))

  def refuse(*_):
    raise _Refused('doctype')

  parser = expat.ParserCreate(namespace_separator=' ')
  parser.buffer_text = True
  parser.StartElementHandler = start
  parser.EndElementHandler = end
  parser.CharacterDataHandler = characters
  parser.StartDoctypeDeclHandler = refuse
  try:
    parser.Parse(body, True)
  except _Refused as refused:
    return found, str(refused)
  except (expat.ExpatError, ValueError, LookupError):  # or unknown encodings
    return found, 'xml'
  return found, ''
