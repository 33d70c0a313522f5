"""Servers that are slow, endless, broken or lying: each is one counted line."""

import collections
import contextlib
import functools
import gzip
import pathlib
import random
import shutil
import socket
import sqlite3
import ssl
import struct
import subprocess
import time
import tracemalloc
import zlib

import pytest

from llm_jax.web.crawl import fetch
from tests.web import bad_site

OK = b'HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n'
CONTINUE = b'HTTP/1.1 100 Go\r\n\r\n'
TEN = b'HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n'
CHUNKED = OK + b'Transfer-Encoding: chunked\r\n\r\n'
GZIP = OK + b'Content-Encoding: gzip\r\n'
# A stored block of no bytes: a gzip stream can hold any number of them.
EMPTY_BLOCK = b'\x00' + struct.pack('<HH', 0, 0xFFFF)
GZIP_HEAD = b'\x1f\x8b\x08' + bytes(7)
LENGTH = b'Content-Length: %d\r\n\r\n'
HTML = bad_site.HTML
raw = bad_site.raw

CASES = {
  # Slow: a byte now and then in each part of an answer, or nothing at all.
  'slow_status': (raw(b'H', b'x', every_s=0.1, n_times=40), 'timeout'),
  'slow_head': (raw(OK, b'x', every_s=0.1, n_times=40), 'timeout'),
  'slow_body': (raw(OK + b'\r\n', b'x', every_s=0.1, n_times=40), 'timeout'),
  'slow_chunk': (raw(CHUNKED, b'1\r\nx\r\n', every_s=0.2, n_times=9),
   'timeout'),
  'silent': (lambda handler: time.sleep(3), 'timeout'),
  # Endless.
  'endless_body': (raw(OK + b'\r\n', b'y' * 9999, n_times=999), 'stored'),
  'endless_head': (raw(OK, b'X-%d: 1\r\n' % 7, n_times=9999), 'bad_http'),
  'endless_line': (raw(OK + b'X: ', b'y' * 9999, n_times=99), 'bad_http'),
  'endless_status': (raw(b'HTTP/1.1 ', b'y' * 9999, n_times=99), 'bad_http'),
  'endless_100': (raw(CONTINUE * 999, n_times=9999), 'timeout'),
  'endless_trailer': (raw(CHUNKED + b'0\r\n', b'X: 1\r\n' * 999, n_times=9999),
   'timeout'),
  'endless_gzip': (
    raw(GZIP + b'\r\n' + GZIP_HEAD, EMPTY_BLOCK * 9999, n_times=9999),
    'timeout',
  ),
  # Lying lengths. One that is too short is the length all the same.
  'length_long': (raw(OK + LENGTH % 99 + b'x'), 'disconnect'),
  'length_short': (raw(OK + LENGTH % 5 + b'short and more'), 'stored'),
  'length_negative': (raw(OK + LENGTH % -5 + b'negative'), 'stored'),
  'length_huge': (raw(OK + LENGTH % 10**30 + b'huge'), 'disconnect'),
  'length_junk': (raw(OK + b'Content-Length: x\r\n\r\njunk'), 'stored'),
  'length_missing': (raw(OK + b'\r\nmissing'), 'stored'),
  # Broken.
  'chunk_junk': (raw(CHUNKED + b'3\r\nabc\r\nzz\r\n', b'x' * 99), 'disconnect'),
  'chunk_cut': (raw(CHUNKED + b'5\r\nab'), 'disconnect'),
  'chunk_none': (raw(CHUNKED + b'5\r\nabcde\r\n'), 'disconnect'),
  'gzip_bad': (raw(GZIP + b'\r\nno gzip'), 'content_encoding'),
  'gzip_cut': (
    raw(GZIP + LENGTH % 40 + gzip.compress(b'q' * 999 + bytes(range(99)))[:40]),
    'content_encoding',
  ),
  'gzip_ok': (raw(GZIP + b'\r\n' + gzip.compress(b'fine')), 'stored'),
  'gzip_bomb': (raw(GZIP + b'\r\n' + gzip.compress(bytes(9_000_000))),
   'stored'),
  'reset': (bad_site.reset, 'disconnect'),
  'nothing': (raw(b''), 'disconnect'),
  'garbage': (raw(b'\x16\x03\x01\x02\x00\x01\x00\xff\r\n\r\n'), 'bad_http'),
  'old': (raw(b'<html>HTTP/0.9'), 'bad_http'),
  'ten': (raw(TEN + b'ten'), 'stored'),
  'bare': (raw(b'HTTP/1.1 200\nContent-Type: text/html\n\nbare'), 'stored'),
  'folded': (raw(OK + b'X-A: 1\r\n  2\r\nX\xe9: \xff\r\n\r\nfolded'), 'stored'),
  'status': (raw(b'HTTP/1.1 999 Odd\r\n\r\n'), 'http_999'),
  'type': ((200, {'Content-Type': 'image/png'}, b'x'), 'type_image/png'),
  'no_type': ((200, {}, b'x'), 'type_missing'),
  'slow_404': (
    raw(b'HTTP/1.1 404 No\r\n' + LENGTH % 9, b'x', every_s=0.6, n_times=5),
    'http_404',
  ),
  'shouted': ((200, {'Content-Type': 'TEXT/HTML; x=y'}, b'loud'), 'stored'),
  'br': ((200, {**HTML, 'Content-Encoding': 'br'}, b'x'), 'content_encoding'),
  'gone': ((404, HTML, b''), 'http_404'),
  'broken': ((500, HTML, b''), 'http_500'),
  'flaky': (bad_site.in_turn((500, HTML, b''), (200, HTML, b'at last')),
   'stored'),
  'nowhere': ((302, {'Location': 'http://[x/'}, b''), 'redirect'),
  'self': ((302, {'Location': '/self'}, b''), 'redirect'),
  'no_location': ((302, {}, b''), 'http_302'),
}  # fmt: skip


def outcomes(folder: pathlib.Path) -> dict[str, str]:
  with contextlib.closing(sqlite3.connect(folder / 'frontier.sqlite')) as base:
    rows = base.execute('SELECT url, outcome FROM urls')
    return {url.split('/', 3)[3]: outcome for url, outcome in rows}


crawl = functools.partial(
  bad_site.crawl,
  page_timeout_s=0.5,
  max_page_bytes=100_000,
  max_host_errors=999,
)


def bodies(folder: pathlib.Path) -> dict[str, bytes]:
  pages = bad_site.stored(folder)
  return {path[1:]: page.body for path, page in pages.items()}


def test_each_is_counted_and_the_crawl_ends(site, tmp_path):
  links = [f'/{name}' for name in CASES]
  site.page('/', 'root', *links, 'mailto:a@b.c', '/last')
  site.page('/last', 'last')
  for name, (answer, _) in CASES.items():
    site.answers[f'/{name}'] = answer
  summary = crawl(site, tmp_path)
  assert summary['stopped'] == 'done'
  expected = {name: outcome for name, (_, outcome) in CASES.items()}
  assert outcomes(tmp_path) == {**expected, '': 'stored', 'last': 'stored'}
  found = bodies(tmp_path)
  assert set(found) - {'', 'last'} == {
    name for name, outcome in expected.items() if outcome == 'stored'
  }
  assert found['endless_body'] == b'y' * 100_000
  assert found['gzip_bomb'] == bytes(100_000)
  assert found['length_short'] == b'short'
  assert found['length_negative'] == b'negative'
  assert found['flaky'] == b'at last'
  assert found['bare'] == b'bare'
  assert summary['counts']['links_unusable'] == 1
  # What is cut is marked so.
  assert summary['counts']['pages_cut_at_max_page_bytes'] == 2
  written = gzip.decompress(next(tmp_path.glob('*.gz')).read_bytes())
  assert written.count(b'WARC-Truncated: length') == 2
  # What may pass is tried again once, not for ever.
  times = {path: site.paths().count(path) for path in site.paths()}
  assert max(times.values()) == times['/broken'] == times['/slow_body'] == 2
  assert times['/gone'] == 1


ROBOTS = [
  ((500, {}, b''), 2, 'robots_unavailable'),
  ((429, {}, b''), 2, 'robots_unavailable'),
  ((503, {}, b''), 2, 'robots_unavailable'),
  ((200, {}, b'User-agent: *\nCrawl-delay: 3600'), 1,
   'crawl_delay_too_long'),
  (bad_site.in_turn((500, {}, b''), (404, {}, b'')), 2, 'stored'),
  (raw(b'HTTP/1.1 200 OK\r\n\r\n', b'x', every_s=0.1, n_times=9), 2,
   'robots_unavailable'),
  (bad_site.reset, 2, 'robots_unavailable'),
  ((301, {'Location': '/elsewhere'}, b''), 1, 'robots_disallowed'),
  ((301, {'Location': '/robots.txt'}, b''), 6, 'stored'),
  ((301, {'Location': 'http://[x/'}, b''), 2, 'robots_unavailable'),
  ((200, {}, bytes(range(256)) * 99), 1, 'stored'),
  ((200, {}, b'User-agent: *\nDisallow: /\n' + b'#' * 9_000_000), 1,
   'robots_disallowed'),
  ((200, HTML, b'<html><p>Disallow: /</p>'), 1, 'stored'),
]  # fmt: skip


@pytest.mark.parametrize(('answer', 'n_requests', 'outcome'), ROBOTS)
def test_robots_of_any_kind(site, tmp_path, answer, n_requests, outcome):
  site.answers['/robots.txt'] = answer
  site.answers['/elsewhere'] = (200, {}, b'User-agent: *\nDisallow: /')
  site.page('/', 'root')
  assert crawl(site, tmp_path)['addresses'] == {outcome: 1}
  assert site.paths().count('/robots.txt') == n_requests


def test_addresses_that_are_not_ascii(site, tmp_path):
  page = '<a href="/é?ü=1">x</a><a href="/%C3%a9?%c3%bc=1">x</a><a href="/a b">'
  site.answers['/'] = (200, HTML, page.encode())
  site.answers['/%C3%A9?%C3%BC=1'] = (200, HTML, b'one')
  # A Location in raw UTF-8 or Latin-1 is sent by many servers.
  site.answers['/a%20b'] = raw(
    b'HTTP/1.1 302 Found\r\nLocation: /\xc3\xa9t\xc3\xa9\r\n\r\n'
  )
  site.answers['/%C3%A9t%C3%A9'] = (200, HTML, b'two')
  summary = crawl(site, tmp_path)
  assert summary['addresses'] == {'redirect': 1, 'stored': 3}


def test_cookies_that_change_addresses(site, tmp_path):
  """A client without the cookie gets links with another visit each time."""

  def page(handler):
    visit = f'{len(site.requests):032x}'
    links = ''.join(f'<a href="/{i}?sid={visit}">x</a>' for i in range(3))
    headers = {**HTML, 'Set-Cookie': f'sid={visit}'}
    bad_site.send(handler, 200, headers, f'{handler.path}{links}'.encode())

  for path in ('/', '/0', '/1', '/2'):
    site.answers[path] = page
  summary = crawl(site, tmp_path)
  assert summary['addresses'] == {'stored': 4}
  raw_files = b''.join(map(pathlib.Path.read_bytes, tmp_path.glob('*.gz')))
  assert b'\r\nCookie:' not in gzip.decompress(raw_files)
  assert sorted(site.paths()) == ['/', '/0', '/1', '/2', '/robots.txt']


def certificate(folder: pathlib.Path, name: str) -> pathlib.Path:
  """A self-signed certificate and its key in one file."""
  if not shutil.which('openssl'):
    pytest.skip('needs the openssl command to make a certificate')
  key, file = folder / f'{name}.key', folder / f'{name}.pem'
  subprocess.run(
    [
      *('openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes'),
      *('-days', '1', '-subj', f'/CN={name}'),
      *('-addext', f'subjectAltName=DNS:{name}'),
      *('-keyout', str(key), '-out', str(file)),
    ],
    check=True,
    capture_output=True,
  )
  file.write_text(key.read_text() + file.read_text())
  return file


def test_tls(tmp_path):
  good, other = certificate(tmp_path, 'localhost'), certificate(tmp_path, 'h')
  context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
  context.load_cert_chain(good)
  with bad_site.serve(context) as site:
    site.answers['/robots.txt'] = (404, {}, b'')
    site.page('/', 'root', '/a', '/cut')
    site.page('/a', 'a')
    site.answers['/cut'] = raw(OK + LENGTH % 9 + b'x')
    url = f'https://localhost:{site.port}/'
    refused = {'robots_unavailable': 1}
    for name, ca_file, host, expected in [
      ('good', good, 'localhost', {'disconnect': 1, 'stored': 2}),
      ('unknown', None, 'localhost', refused),
      ('other', other, 'localhost', refused),
      ('name', good, '127.0.0.1', refused),
    ]:
      seeds = [url.replace('localhost', host)]
      summary = crawl(site, tmp_path / name, seeds, ca_file=ca_file)
      assert summary['addresses'] == expected, name
      refusals = summary['counts'].get('robots_certificate', 0)
      assert refusals == (2 if expected is refused else 0)
    assert len(site.requests) == 5  # the cut page twice
    client = fetch.Client('x', 1.0, ca_file=other)
    with pytest.raises(fetch.FetchError, match='^certificate'):
      client.get(url, 9)
  with bad_site.serve() as plain, pytest.raises(fetch.FetchError, match='^tls'):
    client.get(f'https://localhost:{plain.port}/', 9)
  with socket.create_server(('127.0.0.1', 0)) as mute:
    url = f'https://127.0.0.1:{mute.getsockname()[1]}/'
    with pytest.raises(fetch.FetchError, match='^timeout'):
      client.get(url, 9)
  with pytest.raises(fetch.FetchError, match='^connection'):
    client.get(url, 9)  # nobody listens there any more


def test_damaged_answers_are_answers_or_failures():
  source = random.Random(0)
  page = gzip.compress(b'<a href="/x">page</a>' * 9, mtime=0)
  whole = [
    OK + b'Connection: close\r\n' + LENGTH % 6 + b'length',
    CHUNKED + b'5\r\nchunk\r\n3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n',
    GZIP + LENGTH % len(page) + page,
  ]
  client = fetch.Client('x', 1.0)
  reasons = collections.Counter()
  with bad_site.serve() as site:
    for i in range(1500):
      answer = bytearray(whole[i % 3])
      for _ in range(source.randint(1, 6)):
        answer[source.randrange(len(answer))] = source.randrange(256)
      site.answers['/'] = raw(bytes(answer[: source.randint(20, 999)]))
      try:
        reasons[client.get(f'{site.url}/', 9999).status] += 1
      except fetch.FetchError as error:
        reasons[error.reason] += 1
  assert reasons['timeout'] == 0
  assert set(reasons) > {200, 'disconnect', 'bad_http', 'content_encoding'}


def test_memory_of_a_bomb_stays_small():
  """The cap holds while a body is decoded, not after."""
  bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
  data = (
    b''.join(bomb.compress(bytes(1 << 20)) for _ in range(200)) + bomb.flush()
  )
  with bad_site.serve() as site:
    site.answers['/'] = raw(GZIP + b'\r\n' + data)
    tracemalloc.start()
    answer = fetch.Client('x', 5.0).get(f'{site.url}/', 1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
  assert peak < 5_000_000
  assert answer.truncated
  assert answer.body == bytes(1000)
