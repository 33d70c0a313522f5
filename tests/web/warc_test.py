"""WARC files written, cut, damaged and lied about."""

import datetime
import gzip
import io

import pytest

from llm_jax.web.crawl import fetch, warc_write
from llm_jax.web.extract import warc

DATE = datetime.datetime(2026, 3, 4, 5, 6, 7, tzinfo=datetime.UTC)
BODY = b'<p>hello</p>' * 60


def response(body: bytes = BODY, truncated: bool = False) -> fetch.Response:
  headers = (
    ('Content-Type', 'text/html; charset=latin-1'),
    ('Transfer-Encoding', 'chunked'),
  )
  return fetch.Response(200, 'OK', headers, body, truncated, '127.0.0.1', DATE)


MEMBERS = [
  warc_write.encode_response(f'http://h/{i}', response(BODY + b'%d' % i))
  for i in range(6)
]
STARTS = [sum(map(len, MEMBERS[:i])) for i in range(7)]
WHOLE = b''.join(MEMBERS)
PLAIN = gzip.decompress(WHOLE)


def read(tmp_path, data: bytes, max_bytes: int = 1 << 20) -> list[str]:
  """For each record its number, or its problem."""
  path = tmp_path / 'a.warc'
  path.write_bytes(data)
  found = []
  for record in warc.read(path, max_bytes):
    if record.problem:
      found.append(record.problem)
    else:
      number = record.url[-1]
      assert record.body == BODY + number.encode()
      found.append(number)
  return found


def flip(data: bytes, position: int) -> bytes:
  return data[:position] + bytes([data[position] ^ 255]) + data[position + 1 :]


def test_record_holds_what_was_fetched(tmp_path):
  path = tmp_path / 'a.warc.gz'
  path.write_bytes(MEMBERS[0])
  (record,) = warc.read(path, 1 << 20)
  assert record == warc.Record(
    kind='response',
    url='http://h/0',
    record_id=record.record_id,
    date='2026-03-04T05:06:07Z',
    status=200,
    content_type='text/html',
    charset='latin-1',
    body=BODY + b'0',
    n_bytes=record.n_bytes,
  )
  raw = gzip.decompress(MEMBERS[0])
  assert raw.startswith(b'WARC/1.1\r\nWARC-Type: response\r\n')
  assert b'X-Crawl-Transfer-Encoding: chunked\r\n' in raw
  assert b'WARC-Block-Digest: sha1:' in raw
  assert b'WARC-Truncated' not in raw
  cut = gzip.decompress(
    warc_write.encode_response('http://h/', response(b'', True))
  )
  assert b'WARC-Truncated: length\r\n' in cut
  # The same page fetched at the same time has the same id.
  assert MEMBERS[0] == warc_write.encode_response(
    'http://h/0', response(BODY + b'0')
  )


EVERY = ['0', '1', '2', '3', '4', '5']
WITHOUT_2 = ['0', '1', 'damaged_file', '3', '4', '5']


@pytest.mark.parametrize(
  ('data', 'expected'),
  [
    (WHOLE, EVERY),
    (PLAIN, EVERY),
    (gzip.compress(PLAIN, mtime=0), EVERY),
    (b'', []),
    (b'hello world', ['damaged_file']),
    (gzip.compress(b'no record at all', mtime=0), ['damaged_file']),
    (MEMBERS[0] + gzip.compress(b'\r\n' * 4, mtime=0), ['0']),
    # A file cut inside its last record: that record is lost and said so.
    (WHOLE[:-30], [*EVERY[:5], 'short_record']),
    (PLAIN[:-50], [*EVERY[:5], 'short_record']),
    (WHOLE[: STARTS[5] + 5], [*EVERY[:5], 'damaged_file']),
    # Damage in the middle takes its own record only.
    (flip(WHOLE, STARTS[2] + 40), WITHOUT_2),
    (flip(WHOLE, STARTS[3] - 6), WITHOUT_2),  # the checksum
    (
      WHOLE[: STARTS[2]] + b'garbage' * 9 + WHOLE[STARTS[2] :],
      ['0', '1', 'damaged_file', '2', '3', '4', '5'],
    ),
    (MEMBERS[0] + b'\0' * 100, ['0', 'damaged_file']),
    # Readers that trust an empty member to be the end see nothing here.
    (gzip.compress(b'', mtime=0) + WHOLE, EVERY),
    (MEMBERS[0] + gzip.compress(b'', mtime=0) + b''.join(MEMBERS[1:]), EVERY),
  ],
)
def test_damage_loses_its_own_records_only(tmp_path, data, expected):
  assert read(tmp_path, data) == expected


@pytest.mark.parametrize('length', [10**15, 5000, -5, 3])
def test_length_that_lies_loses_one_record(tmp_path, length):
  first = gzip.decompress(MEMBERS[0])
  head, _, tail = first.partition(b'Content-Length: ')
  lie = head + b'Content-Length: %d' % length + tail[tail.index(b'\r\n') :]
  rest = gzip.decompress(b''.join(MEMBERS[1:]))
  for data in (
    gzip.compress(lie, mtime=0) + b''.join(MEMBERS[1:]),
    lie + rest,  # without members it reaches into the next records
    gzip.compress(lie + rest, mtime=0),
  ):
    found = read(tmp_path, data)
    assert [n for n in found if n.isdigit()] == EVERY[1:]
    assert len(found) > 5


def test_other_records_and_bad_answers_are_told(tmp_path):
  info = warc_write.encode_info(DATE, {'software': 'test'})
  bomb = gzip.compress(b'x' * 3_000_000, mtime=0)
  answers = [
    b'HTTP/1.1 404 Not Found\r\n\r\n',
    b'no http at all',
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nzz\r\n',
    b'HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n' + bomb,
    b'HTTP/1.1 200 OK\r\n\r\n' + b'x' * 3_000_000,
  ]
  path = tmp_path / 'a.warc.gz'
  kind = 'application/http; msgtype=response'
  path.write_bytes(
    info
    + b''.join(
      warc_write._encode(warc_write.warc_record.response, kind, DATE, {}, a)
      for a in answers
    )
    + MEMBERS[0]
  )
  records = list(warc.read(path, 1 << 20))
  assert [record.problem for record in records] == [
    'type_warcinfo',
    '',
    'bad_http',
    'bad_http',
    'body_too_large',
    'body_too_large',
    '',
  ]
  assert records[1].status == 404
  assert records[-1].url == 'http://h/0'


def test_writer_cuts_what_does_not_count(tmp_path):
  def open_writer(ends, max_bytes):
    return warc_write.Writer(
      folder=tmp_path, ends=ends, max_bytes=max_bytes, fields={'a': 'b'}
    )

  writer = open_writer({}, 10)
  ends = dict([writer.append(MEMBERS[0])])
  file, end = writer.append(MEMBERS[1])  # opens a second file
  ends[file] = end
  _, uncounted = writer.append(MEMBERS[2])  # a third, never counted
  writer.close()
  with open(tmp_path / file, 'ab') as second:
    second.write(MEMBERS[3][:20])
  again = open_writer(ends, 1 << 20)
  assert again.cut_bytes == 20 + uncounted
  again.append(MEMBERS[4])
  again.close()
  found = []
  for path in sorted(tmp_path.glob('crawl-*.warc.gz')):
    found += [r.problem or r.url[-1] for r in warc.read(path, 1 << 20)]
  assert found == ['type_warcinfo', '0', 'type_warcinfo', '1', '4']


def test_warcio_reads_the_same():
  archiveiterator = pytest.importorskip(
    'warcio.archiveiterator', reason='pip install warcio'
  )
  found = [
    (item.rec_headers['WARC-Target-URI'], item.content_stream().read())
    for item in archiveiterator.ArchiveIterator(io.BytesIO(WHOLE))
  ]
  records = warc.read(io.BytesIO(WHOLE), 1 << 20)
  assert found == [(record.url, record.body) for record in records]


def test_texts_of_wet_files():
  header = (
    'WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: http://h/\r\n'
    'WARC-Record-ID: <urn:uuid:1>\r\nWARC-Date: 2026-01-02T03:04:05Z\r\n'
    'Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n\r\n'
  )
  text = 'Zwei Wörter.\n'.encode()
  data = (header % len(text)).encode() + text + b'\r\n\r\n'
  for file in (data, gzip.compress(data)):
    (record,) = warc.read(io.BytesIO(file), 100)
    assert (record.problem, record.kind, record.status) == (
      '',
      'conversion',
      200,
    )
    assert (record.content_type, record.charset) == ('text/plain', 'utf-8')
    assert record.body == text
    (record,) = warc.read(io.BytesIO(file), 5)
    assert record.problem == 'body_too_large'


def test_open_files_are_read_and_left_open(tmp_path):
  path = tmp_path / 'a.warc.gz'
  path.write_bytes(WHOLE)
  with open(path, 'rb') as file:
    file.read(100)
    records = list(warc.read(file, 1 << 20))
    assert records == list(warc.read(path, 1 << 20))
    assert not file.closed
