"""Damaged files and pages: nothing crashes, nothing is unsaid.

Eleven thousand by night, every tenth of them on every change.
"""

import collections
import contextlib
import gzip
import io
import random
import re
import time

import pytest

from llm_jax.web.extract import charset, html_text, warc

N_RECORDS = 8
N_WARCS = 2200  # of each layout
N_PAGES = {'resiliparse': 2400, 'trafilatura': 900, 'cascade': 300}
MAX_BYTES = 1 << 16
PART = pytest.mark.parametrize(
  'part', [0.1, pytest.param(1.0, marks=pytest.mark.nightly)]
)


def body_of(i: int) -> bytes:
  return b'<p>page %d</p>\r\n' % i * (20 + i)


def warc_record(i: int) -> bytes:
  head = b'HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d'
  block = head % len(body_of(i)) + b'\r\n\r\n' + body_of(i)
  return (
    b'WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://h/%d\r\n'
    b'WARC-Record-ID: <urn:uuid:%d>\r\nContent-Length: %d\r\n\r\n%s\r\n\r\n'
  ) % (i, i, len(block), block)


RECORDS = [warc_record(i) for i in range(N_RECORDS)]
LAYOUTS = {
  'plain': RECORDS,
  'members': [gzip.compress(data, mtime=0) for data in RECORDS],
  'one_member': RECORDS,  # compressed behind the damage
}


def mutate(generator: random.Random, data: bytes) -> tuple[int, int, bytes]:
  """A stretch to replace, and by what."""
  lengths = [m.span(1) for m in re.finditer(rb'Content-Length: (\d+)', data)]
  if lengths and generator.random() < 0.15:
    lies = [b'-1', b'', b'9' * 20, b'%d' % generator.randrange(6000)]
    return *generator.choice(lengths), generator.choice(lies)
  start, other = (generator.randrange(len(data)) for _ in range(2))
  end = min(len(data), start + 1 + int(generator.expovariate(1 / 60)))
  flipped = bytearray(data[start:end])
  for _ in range(generator.randrange(1, 5)):
    flipped[generator.randrange(len(flipped))] ^= 1 << generator.randrange(8)
  news = [
    bytes(flipped),
    b'',
    generator.randbytes(end - start) + data[start:end],  # inserted
    data[other : other + generator.randrange(800)],
    generator.choice([b'\0', b'\r\n', b'WARC/1.0\r\n']) * 9,
  ]
  is_cut = generator.random() < 0.15
  return start, len(data) if is_cut else end, generator.choice(news)


@PART
@pytest.mark.parametrize('layout', LAYOUTS)
def test_warc_files(layout, part):
  generator = random.Random(layout)
  parts = LAYOUTS[layout]
  whole = b''.join(parts)
  outcomes = collections.Counter()
  started = time.monotonic()
  n_files = int(part * N_WARCS)
  for _ in range(n_files):
    start, end, new = mutate(generator, whole)
    data = whole[:start] + new + whole[end:]
    position, touched, left = 0, set(), new
    for i, part in enumerate(parts):
      behind = position + len(part)
      if start < behind and (position < end or position < start):
        touched.add(i)
        left += whole[position : max(start, position)]
        left += whole[min(end, behind) : behind]
      position = behind
    if layout == 'one_member':
      data = gzip.compress(data, 1, mtime=0)
    good = collections.Counter()
    bad = []
    for item in warc.read(io.BytesIO(data), MAX_BYTES):
      if item.problem:
        bad.append(item.problem)
      else:
        good[item.url, item.body] += 1
    for i in set(range(N_RECORDS)) - touched:
      key = f'http://h/{i}', body_of(i)
      assert good[key] >= 1, (start, end, new)
    # What is left of the touched ones may look like one whole record.
    n_there = N_RECORDS - len(touched) + bool(left.strip())
    assert bad or sum(good.values()) >= n_there, (start, end, new)
    outcomes.update(bad or ['unharmed'])
  assert time.monotonic() - started < 30
  assert outcomes['damaged_file']
  assert outcomes['unharmed'] < 0.5 * n_files


@PART
def test_compressed_streams(part):
  """Where a flip in one gzip member may spoil all records behind it."""
  generator = random.Random(1)
  whole = gzip.compress(b''.join(RECORDS), mtime=0)
  for _ in range(int(part * 1500)):
    start, end, new = mutate(generator, whole)
    data = whole[:start] + new + whole[end:]
    items = list(warc.read(io.BytesIO(data), MAX_BYTES))
    n_good = sum(not item.problem for item in items)
    assert n_good <= N_RECORDS + 4
    assert n_good < len(items) or n_good >= N_RECORDS or not data


TEXT = 'The river rises in the hills, and runs to the sea. '
SEEDS = [
  '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>T</title>'
  f'<script type="application/ld+json">{{"@type": "Article", "articleBody": '
  f'"{TEXT}"}}</script><style>p {{ color: red }}</style></head><body><nav><ul>'
  f'<li><a href="/a">Home</a></ul></nav><main><article class="post" id="p1">'
  f'<h1>River</h1><p>{TEXT * 3}</p><p>{TEXT * 2}<br>{TEXT}</p><ul><li>one<li>'
  f'two</ul></article></main><footer>&copy; 2026</footer></body></html>',
  f'<html><body><table><tr><th>a<td>{TEXT * 2}</table><pre>def f(x):\n  return '
  f'x</pre><form><input type=text><select><option>1</select></form><div><div>'
  f'{TEXT * 4}</div><img src="a.png" alt="A picture"></div><!-- c --></body>',
  f'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><body><p>'
  f'Größe naïve — “{TEXT}”</p><blockquote><p>{TEXT * 3}</p></blockquote><svg>'
  f'<path d="M0 0"/></svg><iframe src="x"></iframe><p>{TEXT * 3}</p></body>',
]
PIECES = (
  '<div>', '</div>', '<p>', '<table>', '<tr>', '<td>', '</table>', '<b>', '<a ',
  '<select>', '<template>', '<svg>', '<math>', '<script>', '</script>', '<!--',
  '-->', '<![CDATA[', ']]>', '&#x0;', '&#xD800;', '&#9999999;', '&amp', '"',
  "'", '<frameset>', '<body>', '</html>', '\0', '\ud800', '\uffff', '﷐',
  '\u202e', '=', '/>', '<x:y>', '<title>', '<textarea>', '<plaintext>', TEXT,
  '\n',
)  # fmt: skip
CHARSETS = (
  *('', 'utf-8', 'latin-1', 'utf-16', 'shift_jis', 'gb18030', 'iso-2022-jp'),
  *('cp037', 'punycode', 'idna', 'rot13', 'x' * 300, 'é', '\0'),
)


def mutate_page(generator: random.Random) -> bytes:
  source = generator.choice(SEEDS)
  for _ in range(generator.randrange(4)):
    start = generator.randrange(len(source))
    end = start + generator.randrange(1, 40)
    soup = generator.choices(PIECES, k=generator.randrange(60))
    repeated = source[start:end] * generator.choice([2, 20, 200])
    nested = generator.choice(PIECES[:16]) * generator.choice([10, 300, 3000])
    pieces = generator.choice(PIECES), ''.join(soup), repeated, nested, ''
    source = source[:start] + generator.choice(pieces) + source[end:]
  name = generator.choice(['utf-8', 'utf-8', 'cp1252', 'utf-16', 'koi8-r'])
  errors = 'surrogatepass' if name.startswith('utf') else 'replace'
  body = bytearray((source or ' ').encode(name, errors))
  for _ in range(generator.choice([0, 0, 1, 9, 99])):
    body[generator.randrange(len(body))] = generator.randrange(256)
  return bytes(body)


def _judge(text: str) -> tuple[None, bool]:
  return None, len(text) % 2 == 0


@PART
@pytest.mark.parametrize('extractor', N_PAGES)
def test_pages(extractor, part):
  generator = random.Random(extractor)
  cfg = html_text.Extraction(extractor, deadline_s=5.0, max_wall_s=60.0)
  outcomes = collections.Counter()
  n_pages = int(part * N_PAGES[extractor])
  with contextlib.closing(html_text.Extractor(cfg, _judge)) as child:
    for _ in range(n_pages):
      body = mutate_page(generator)
      name = generator.choice(CHARSETS)
      started = time.monotonic()
      page = warc.Record(body=body, charset=name)
      text, reason, _ = child.extract(page)
      assert bool(text) != bool(reason)
      text.encode()  # no half characters
      outcomes[reason or 'text'] += 1
      assert time.monotonic() - started < 60
  assert sum(outcomes.values()) == n_pages
  assert outcomes['text'] > 0.5 * n_pages, outcomes
  lost = n_pages - outcomes['text'] - outcomes['no_text']
  assert lost <= 0.01 * n_pages, outcomes
  assert not outcomes['parser_hang']


@PART
def test_charsets(part):
  generator = random.Random(2)
  for _ in range(int(part * 1000)):
    body = mutate_page(generator)
    text = charset.decode(body, generator.choice(CHARSETS))
    assert text.encode().decode() == text  # no half characters
    assert len(text) <= len(body)
