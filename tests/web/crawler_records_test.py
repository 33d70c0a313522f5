"""The records of a crawl: read by others, whole, and each there once."""

import collections
import contextlib
import functools
import gzip
import os
import signal
import sqlite3
import subprocess
import sys

import fastwarc
import pytest

from llm_jax.web.crawl import crawler, frontier, warc_write
from tests.web import bad_site, corpus

HTML = bad_site.HTML
POINTS = ('written', 'sync', 'before_commit')
PROFILE = 'http://netpreserve.org/warc/1.1/revisit/identical-payload-digest'


@pytest.fixture
def site(site):
  """Nine pages; /1, /4 and /7 are the same, /8 is cut, /2 a redirect."""
  site.page('/', 'root', *(f'/{i}' for i in range(9)))
  for i in range(9):
    same = b'the same page' if i in (1, 4, 7) else b'page %d ' % i * 99
    body = gzip.compress(same, mtime=0)
    headers = {**HTML, 'Content-Encoding': 'gzip', 'X-Number': str(i)}
    site.answers[f'/{i}'] = (200, headers, body)
  site.answers['/2'] = (301, {'Location': '/moved'}, b'')
  site.page('/moved', 'moved')
  site.answers['/8'] = (200, HTML, b'x' * 2000)
  return site


crawl = functools.partial(bad_site.crawl, max_page_bytes=1500)


def records(folder) -> list[tuple[str, dict[str, str], bytes]]:
  """Type, WARC headers and block of each record, as fastwarc reads them."""
  found = []
  for file in sorted(folder.glob('*.warc.gz')):
    with open(file, 'rb') as stream:
      for record in fastwarc.ArchiveIterator(stream, parse_http=False):
        assert record.verify_block_digest(consume=False)
        headers = dict(record.headers.items())
        found.append((headers['WARC-Type'], headers, record.reader.read()))
  return found


def check_whole(site, folder):
  """Each page has one response or revisit and one request that fit."""
  answers, requests = {}, collections.Counter()
  ids = collections.Counter()
  for kind, headers, block in records(folder):
    ids[headers['WARC-Record-ID']] += 1
    if kind == 'request':
      requests[headers['WARC-Concurrent-To']] += 1
    elif kind != 'warcinfo':
      assert headers['WARC-Target-URI'] not in answers
      answers[headers['WARC-Target-URI']] = kind, headers, block
  assert requests == {h['WARC-Record-ID']: 1 for _, h, _ in answers.values()}
  originals = {h['WARC-Record-ID']: h for _, h, _ in answers.values()}
  for kind, headers, _ in answers.values():
    if kind == 'revisit':
      first = originals[headers['WARC-Refers-To']]
      for name, value in [
        ('WARC-Target-URI', headers['WARC-Refers-To-Target-URI']),
        ('WARC-Date', headers['WARC-Refers-To-Date']),
        ('WARC-Payload-Digest', headers['WARC-Payload-Digest']),
        ('WARC-Type', 'response'),
      ]:
        assert first[name] == value
  kinds = {
    url.removeprefix(site.url): kind for url, (kind, *_) in answers.items()
  }
  pages = ('/', '/0', '/1', '/3', '/4', '/5', '/6', '/7', '/8', '/moved')
  assert kinds == {
    p: 'revisit' if p in ('/4', '/7') else 'response' for p in pages
  }
  assert max(ids.values()) == 1
  with contextlib.closing(sqlite3.connect(folder / 'frontier.sqlite')) as base:
    rows = base.execute(
      'SELECT outcome, count(*) FROM urls GROUP BY 1 ORDER BY 1'
    )
    assert dict(rows) == {'redirect': 1, 'revisit': 2, 'stored': 8}


def test_records_hold_what_went_over_the_wire(site, tmp_path):
  summary = crawl(site, tmp_path)
  check_whole(site, tmp_path)
  assert summary['pages'] == 10
  by_key = {
    (kind, headers.get('WARC-Target-URI', '').removeprefix(site.url)): (
      headers,
      b,
    )
    for kind, headers, b in records(tmp_path)
  }
  agent = crawler.Crawl().user_agent
  headers, block = by_key['request', '/1']
  assert headers['Content-Type'] == 'application/http; msgtype=request'
  assert (
    block
    == (
      f'GET /1 HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\n'
      f'User-Agent: {agent}\r\nAccept-Encoding: gzip\r\n'
      'Connection: close\r\n\r\n'
    ).encode()
  )
  headers, block = by_key['response', '/1']
  assert block.endswith(b'\r\n\r\nthe same page')
  # printf 'the same page' | openssl sha1 -binary | base32
  digest = 'sha1:PKLQPKXC5OAJTWBNQZBIVYEPU5WERYLY'
  assert headers['WARC-Payload-Digest'] == digest
  headers, block = by_key['revisit', '/4']
  assert headers['WARC-Profile'] == PROFILE
  assert headers['WARC-Truncated'] == 'length'
  assert headers['WARC-Payload-Digest'] == digest
  # The head is this answer's own.
  assert b'X-Number: 4\r\n' in block
  assert block.endswith(b'\r\n\r\n')
  _, info = by_key['warcinfo', '']
  assert f'software: {agent}\r\n'.encode() in info
  assert b'robots: obeyed' in info


def test_same_site_gives_the_same_records_in_the_same_order(site, tmp_path):
  listings = []
  for name in ('first', 'second'):
    crawl(site, tmp_path / name)
    found = records(tmp_path / name)
    listings.append([(k, h.get('WARC-Target-URI')) for k, h, _ in found])
  assert listings[0] == listings[1]


def test_cut_pages_are_not_called_the_same(site, tmp_path):
  for i in range(9):
    site.answers[f'/{i}'] = (200, HTML, b'x' * (2000 + i))
  summary = crawl(site, tmp_path)
  assert summary['addresses'] == {'stored': 10}


def test_warcio_has_no_complaint(site, tmp_path):
  pytest.importorskip('warcio', reason='warcio is not installed')
  from warcio import archiveiterator, checker

  crawl(site, tmp_path)
  assert len(bad_site.records(tmp_path)) == 8  # our reader has none either
  kinds = collections.Counter()
  for file in tmp_path.glob('*.warc.gz'):
    with open(file, 'rb') as stream:
      for record in archiveiterator.ArchiveIterator(
        stream, check_digests='raise'
      ):
        kinds[record.rec_type] += 1
        record.content_stream().read()
    check = checker.Checker(_CheckArguments([str(file)]))
    check.process_all()
    assert check.exit_value == 0
  assert kinds == {'warcinfo': 1, 'response': 8, 'revisit': 2, 'request': 10}


class _CheckArguments:
  def __init__(self, inputs):
    self.inputs, self.verbose = inputs, False


# Each writes half of what it was asked to, or nothing, and the process dies.
_KILLED = """
import os, pathlib, signal, sys
from llm_jax.web.crawl import crawler, frontier, warc_write

calls, point, at = 0, sys.argv[3], int(sys.argv[4])

def is_now(name):
  global calls
  calls += name == point
  return name == point and calls == at

def die():
  os.kill(os.getpid(), signal.SIGKILL)

def write(file, data, write=warc_write._write_all):
  if is_now('write'):
    write(file, data[: len(data) // 2])
    die()
  write(file, data)
  if is_now('written'):
    die()

def sync(file, sync=os.fsync):
  if is_now('sync'):
    die()
  sync(file)

def do(self, sql, *values, do=frontier.Frontier._do):
  if sql == 'COMMIT' and is_now('before_commit'):
    die()
  cursor = do(self, sql, *values)
  if sql == 'COMMIT' and is_now('commit'):
    die()
  return cursor

warc_write._write_all, os.fsync, frontier.Frontier._do = write, sync, do
cfg = crawler.Crawl(
  delay_s=0.0, warc_bytes=900, max_page_bytes=1500, retry_delay_s=0.0
)
crawler.crawl(cfg, [sys.argv[1]], pathlib.Path(sys.argv[2]))
"""


def test_records_are_on_the_disk_before_they_count(site, tmp_path, monkeypatch):
  """No commit follows a write without a sync between them."""
  events = []

  def note(owner, name, event):
    real = getattr(owner, name)

    def noted(*arguments):
      events.append('c' if 'COMMIT' in arguments else event)
      return real(*arguments)

    monkeypatch.setattr(owner, name, noted)

  note(warc_write, '_write_all', 'w')
  note(os, 'fsync', 's')
  note(frontier.Frontier, '_do', '')
  crawl(site, tmp_path)
  order = ''.join(events)
  assert order.count('w') == 11
  assert 'wc' not in order


@pytest.mark.parametrize(
  'point',
  [
    'write',
    'commit',
    *(pytest.param(p, marks=pytest.mark.nightly) for p in POINTS),
  ],
)
def test_killed_in_each_kind_of_write(site, tmp_path, point):
  words = [_KILLED, f'{site.url}/', str(tmp_path), point]
  command = [sys.executable, '-c', *words]
  codes = []
  for at in (1, 2, 3, 5, 99):
    done = subprocess.run([*command, str(at)], cwd=corpus.ROOT)
    codes.append(done.returncode)
    if not done.returncode:
      break
  assert codes[-1] == 0
  assert codes.count(-signal.SIGKILL) >= 3
  check_whole(site, tmp_path)
  assert len(list(tmp_path.glob('*.gz'))) > 1
  # A kill costs the requests under way and those not yet on the disk.
  assert len(site.requests) <= 13 + 3 * codes.count(-signal.SIGKILL)
