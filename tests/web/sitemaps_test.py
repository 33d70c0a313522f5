"""Sitemaps of every form, and those that were made to do harm."""

import gzip
import random
import time
import tracemalloc

import pytest

from llm_jax.web.crawl import sitemaps

NAMESPACE = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'
URLS = (
  f'<?xml version="1.0"?>\n<urlset {NAMESPACE} xmlns:image="i">'
  '<url><loc> http://h/a?x=1&amp;y=2\n</loc><lastmod>2020</lastmod>'
  '<image:image><image:loc>http://h/i.png</image:loc></image:image></url>'
  '<url><loc><![CDATA[http://h/b]]></loc></url></urlset>'
).encode()
INDEX = (
  f'<sitemapindex {NAMESPACE}><sitemap><loc>http://h/1.xml.gz</loc></sitemap>'
  '</sitemapindex>'
).encode()
PAGES = ('http://h/a?x=1&y=2', 'http://h/b')


def entry(i: int) -> bytes:
  return b'<url><loc>http://h/%d</loc></url>' % i


Map = sitemaps.Sitemap
FORMS = [
  (URLS, Map(PAGES)),
  (b'\xef\xbb\xbf ' + URLS[22:], Map(PAGES)),
  (gzip.compress(URLS), Map(PAGES)),
  (URLS[22:].decode().encode('utf-16'), Map(PAGES)),
  (INDEX, Map((), ('http://h/1.xml.gz',))),
  (b'\xef\xbb\xbfhttp://h/a\r\nfile:///etc/passwd\n\nhttps://h/\xc3\xa9\n',
   Map(('http://h/a', 'https://h/é'))),
  (b'', Map(problem='empty')),
  (random.Random(1).randbytes(9999), Map(problem='empty')),
  (b'<html><body><p>not found', Map(problem='xml')),
  ('<?xml version="1.0" encoding="windows-1251"?><urlset><url><loc>'
   'http://h/мир</loc></url></urlset>'.encode('cp1251'),
   Map(('http://h/мир',))),
  (b'<?xml version="1.0" encoding="hex"?><a:urlset xmlns:a="s"><a:url>'
   b'<a:loc>http://h/a</a:loc><loc>http://h/b</loc></a:url></a:urlset>',
   Map(('http://h/a',))),
  # What came before the end counts, but not the half of an address.
  (URLS[: URLS.index(b'</url>') + 20], Map(PAGES[:1], (), 'xml')),
  (b'<urlset><url><loc>http://h/ha', Map(problem='xml')),
  (b'<urlset>' + entry(1) + b'<!--</urlset>', Map(('http://h/1',), (), 'xml')),
  (URLS[:-9], Map(PAGES, problem='xml')),
  (gzip.compress(URLS)[:-9], Map(PAGES, problem='gzip')),
  (b'\x1f\x8bnonsense', Map(problem='gzip')),
]  # fmt: skip


@pytest.mark.parametrize(('body', 'expected'), FORMS)
def test_forms(body, expected):
  assert sitemaps.parse(body) == expected


@pytest.mark.parametrize(
  ('between', 'found', 'problem'),
  [
    ('<loc>http://h/?a&b=1&copy=2&nope;</loc>', '?a&b=1&copy=2&nope;', ''),
    ('<loc>http://h/&eacute;&#x41;&amp;lt;</loc>', 'éA&lt;', ''),
    ('<loc><![CDATA[http://h/?a&amp;b]]]></loc>', '?a&amp;b]', ''),
    ('<loc>http://h/2</lo></url>', '2', ''),
    ('<loc\n x="1">http://h/2</loc\n>', '2', ''),
    ('</url></urlset>', None, ''),
    ('<x y=1 z></x>< <1/></x><![CDATA[ <? <a b="<">', None, ''),
    ('<!DOCTYPE a><!-- & -- <url><loc>no</loc> -->', None, ''),
    ('<loc>http://h/not closed<url>', None, 'xml'),
    ('<loc>http://h/a<b</loc>', None, 'xml'),
    ('<loc/>', None, 'xml'),
    ('<loc><b>http://h/x</b></loc>', None, 'xml'),
    ('<image:loc>http://h/i</image:loc><locus>x</locus>', None, ''),
  ],
)
@pytest.mark.parametrize(
  ('before', 'behind'),
  [
    ('<urlset>', '</urlset>'),
    ('\ufeff\n\n <?xml version="1.0"?><urlset>', '</urlset>\n<!-- 0.3 s -->'),
    ('<br>Warning: x\n<?xml version="1.0"?>\n<urlset a="b">', '</urlset >'),
  ],
)
def test_a_fault_costs_its_entry(before, behind, between, found, problem):
  body = (
    f'{before}<url><loc>http://h/1</loc></url><url>{between}'
    f'<url><loc>http://h/3</loc></url>{behind}'
  )
  pages = [f'http://h/{i}' for i in (1, found, 3) if i is not None]
  expected = Map(tuple(pages), problem=problem)
  assert sitemaps.parse(body.encode()) == expected


@pytest.mark.parametrize(
  'prolog',
  [
    '<!DOCTYPE urlset [<!ENTITY a "x"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>',
    '<!DOCTYPE urlset [<!ENTITY b SYSTEM "file:///etc/hostname">]>',
    '<!DOCTYPE urlset SYSTEM "http://127.0.0.1:1/x.dtd">',
    '<!DOCTYPE urlset [<!ENTITY % b SYSTEM "http://127.0.0.1:1/"> %b;]>',
  ],
)
def test_document_types_are_refused(prolog):
  body = f'{prolog}<urlset><url><loc>http://h/&b;</loc></url></urlset>'
  assert sitemaps.parse(body.encode()).problem == 'doctype'


def test_limits():
  n_urls = sitemaps.MAX_URLS
  many = b''.join(entry(i) for i in range(n_urls + 1))
  found = sitemaps.parse(b'<urlset>' + many + b'</urlset>')
  assert len(found.pages) == n_urls
  assert found.problem == 'too_many_urls'
  lines = b'\n'.join(b'http://h/%d' % i for i in range(n_urls + 1))
  assert len(sitemaps.parse(lines).pages) == n_urls
  assert sitemaps.parse(b'<a>' * 1_000_000).problem == 'xml'
  nested = b'<a>' * 40 + entry(1) + b'</a>' * 40
  assert sitemaps.parse(nested) == Map(problem='xml')
  long = b'<urlset><url><loc>' + b'x' * 9_000_000 + b'</loc></url></urlset>'
  assert sitemaps.parse(long) == Map(problem='xml')
  bomb = gzip.compress(b'<urlset>' + b' ' * (4 * sitemaps.MAX_BYTES), 1)
  tracemalloc.start()
  assert sitemaps.parse(bomb).problem == 'too_large'
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 3 * sitemaps.MAX_BYTES


UNITS = (
  b'<loc><![CDATA[', b'<loc>' + b' ' * 4000, b'<loc ', b'<!--', b'<!-', b'&a',
  b'<loc><![CDATA[' + b']' * 3999, b'<?xml ', b'<url>', b'x',
)  # fmt: skip


@pytest.mark.parametrize('unit', UNITS)
def test_linear_time(unit):
  for start in (b'<urlset>', b'<a>'):
    begin = time.process_time()
    sitemaps.parse(start + unit * (4_000_000 // len(unit)))
    assert time.process_time() - begin < 5


def test_damage_never_raises():
  source = random.Random(0)
  problems = set()
  wide = URLS[22:].decode().encode('utf-16')
  bodies = [URLS, INDEX, gzip.compress(URLS), wide]
  for i in range(2000):
    body = bytearray(bodies[i % 4])
    for _ in range(source.randint(1, 9)):
      body[source.randrange(len(body))] = source.randrange(256)
    problems.add(sitemaps.parse(bytes(body)).problem)
  assert {'', 'xml', 'gzip'} <= problems
