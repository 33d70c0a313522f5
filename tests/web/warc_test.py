"""WARC files written, cut, damaged and lied about."""

import datetime
import gzip
import io
import zlib

import brotli
import pytest
from warcio import archiveiterator

from llm_jax.web.crawl import fetch, warc_write
from llm_jax.web.extract import http_body, warc

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
WHOLE = b''.join(MEMBERS)


def flip(data: bytes, position: int) -> bytes:
  return data[:position] + bytes([data[position] ^ 255]) + data[position + 1 :]


def test_record_holds_what_was_fetched():
  (record,) = warc.read(io.BytesIO(MEMBERS[0]), 1 << 20)
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
    file = io.BytesIO(path.read_bytes())
    found += [r.problem or r.url[-1] for r in warc.read(file, 1 << 20)]
  assert found == ['type_warcinfo', '0', 'type_warcinfo', '1', '4']


def as_warcio(data: bytes) -> list[tuple[str, bytes]]:
  return [
    (
      item.rec_headers['WARC-Target-URI'].replace('%20', ' '),
      item.content_stream().read(),
    )
    for item in archiveiterator.ArchiveIterator(io.BytesIO(data), arc2warc=True)
    if (item.rec_headers['WARC-Target-URI'] or '').startswith('http')
  ]


HEAD = b'HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n'
PAGE = 'A page of 1 línea.\n'.encode() * 20


def as_record(block: bytes, head: bytes = b'') -> bytes:
  return (
    b'WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://h/\r\n'
    b'WARC-Date: 2026-01-02T03:04:05Z\r\nWARC-Record-ID: <urn:uuid:1>\r\n'
    b'Content-Type: application/http; msgtype=response\r\n%b'
    b'Content-Length: %d\r\n\r\n%b\r\n\r\n'
  ) % (head, len(block), block)


def encoded(name: str, body: bytes, header: str = 'Content-Encoding') -> bytes:
  """An answer whose body is said to be encoded so."""
  return HEAD + f'{header}: {name}\r\n\r\n'.encode() + body


def with_lf(data: bytes) -> bytes:
  """The record with LF after each line of the archive's own."""
  head, _, rest = data.partition(b'\r\n\r\n')
  return head.replace(b'\r\n', b'\n') + b'\n\n' + rest[:-4] + b'\n\n'


ANSWER = HEAD + b'\r\n' + PAGE
PLAIN_RECORD = as_record(ANSWER)
MANY = b''.join(b'X-%d: y\r\n' % i for i in range(500))
ARC = (
  b'filedesc://a.arc 127.0.0.1 20260102030405 text/plain 68\n1 0 Crawler\n'
  b'URL IP-address Archive-date Content-type Archive-length\n\n'
  b'dns:h 127.0.0.1 20260102030405 text/dns 9\n20260102\n\n'
  b'http://h/ 127.0.0.1 20260102030405 text/html %d\n%b\n'
) % (len(ANSWER), ANSWER)
GZIP, ZSTD = gzip.compress, http_body.zstd.compress
ENCODINGS = {
  'gzip': GZIP,
  'deflate': zlib.compress,
  'br': brotli.compress,
  'zstd': ZSTD,
}
BAD_CHUNK = b'bad\n' + b'<p>x</p>' * 900


@pytest.mark.parametrize(
  'data',
  [
    PLAIN_RECORD,
    with_lf(PLAIN_RECORD),
    as_record(ANSWER.replace(b'\r\n', b'\n')),
    with_lf(as_record(ANSWER.replace(b'\r\n', b'\n'))),
    as_record(HEAD + b'\n' + PAGE),
    as_record(HEAD.replace(b'\r\n', b'\n') + b'\r\n' + PAGE),
    as_record(HEAD + b'no colon\r\n: no name\r\n\r\n' + PAGE),
    as_record(HEAD + b'X: folded\r\n  twice\r\n\r\n' + PAGE),
    as_record(HEAD + b'X\xe9: \xff\r\n\r\n' + PAGE),
    as_record(HEAD + MANY + b'\r\n' + PAGE),
    as_record(HEAD.replace(b'HTTP/1.1 200 OK', b'HTTP/2 200') + b'\r\n' + PAGE),
    as_record(HEAD.replace(b' OK', b'') + b'\r\n' + PAGE),
    as_record(ANSWER, b'no colon\r\n' + MANY),
    PLAIN_RECORD.replace(b'Content-Length', b'content-length'),
    PLAIN_RECORD.replace(b'Content-Length:', b'CONTENT-LENGTH :\t'),
    PLAIN_RECORD.replace(b'WARC-Type', b'warc-type'),
    PLAIN_RECORD.replace(b'WARC/1.0', b'WARC/0.18'),
    PLAIN_RECORD[:-2],
    PLAIN_RECORD + b'\r\n' * 5,
    ARC,
    ARC.replace(b'http://h/ ', b'http://h/a b ', 1),
    *(
      as_record(encoded(name, PAGE))
      for name in ('gzip', 'deflate', 'x-unknown', 'identity')
    ),
    *(
      as_record(encoded(name, ENCODINGS[name](PAGE)))
      for name in ('gzip', 'deflate')  # what warcio decodes here
    ),
    as_record(encoded('chunked', PAGE, 'Transfer-Encoding')),
  ],
)
def test_variants_are_read_as_warcio_reads_them(data):
  twice = data if data is ARC else data * 2
  ways = [twice, gzip.compress(data) * 2, gzip.compress(twice)]
  for way in ways if data[:4] == b'WARC' else [data, gzip.compress(data)]:
    records = list(warc.read(io.BytesIO(way), 1 << 20))
    found = [(r.url, r.body) for r in records if not r.problem]
    assert {body for _, body in found} == {PAGE}
    if way is data or way[:4] == b'WARC':
      assert found == as_warcio(way)
    others = {r.problem for r in records if r.problem}
    assert others <= {'type_warcinfo', 'not_http'}
    assert {r.status for r in records if not r.problem} == {200}
    assert {r.content_type for r in records if not r.problem} == {'text/html'}


@pytest.mark.parametrize(
  ('block', 'problem'),
  [
    # Interim answers, and lines before the head, which browsers pass over.
    (b'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n' + ANSWER, ''),
    (b'HTTP/1.1 100 Continue\r\n\r\n' * 3 + ANSWER, ''),
    (b'HTTP/1.1 100 Continue\n\n' + ANSWER.replace(b'\r\n', b'\n'), ''),
    (b'\r\n' + ANSWER, ''),
    (b'ICY 200 OK' + ANSWER[ANSWER.index(b'\r') :], ''),
    # A body under the headers of another one.
    *(
      (encoded(name, PAGE), '')
      for name in ('br', 'zstd', 'BR, gzip', 'x-gzip', 'deflate, br')
    ),
    (encoded('gzip', ZSTD(PAGE)), ''),
    (HEAD + b'\r\n' + GZIP(PAGE), ''),
    (HEAD + b'\r\n' + ZSTD(PAGE), ''),
    # More than one encoding, in one header or in two.
    (encoded('gzip, br', brotli.compress(GZIP(PAGE))), ''),
    (encoded('zstd\r\nContent-Encoding: gzip', GZIP(ZSTD(PAGE))), ''),
    (encoded('zstd', ZSTD(PAGE[:9]) * 2), 'other'),
    (
      encoded(
        'gzip, chunked',
        b'%x\r\n%b\r\n0\r\n\r\n' % (len(GZIP(PAGE)), GZIP(PAGE)),
        'Transfer-Encoding',
      ),
      '',
    ),
    (encoded('compress', PAGE), ''),
    (encoded('compress', b'\x1f\x9d\x90<'), 'bad_http'),
    (encoded('br', bytes(range(40))), 'bad_http'),
    # A text that begins as a chunk does.
    (encoded('chunked', BAD_CHUNK, 'Transfer-Encoding'), 'other'),
    *(
      (encoded(name, pack(PAGE * 50)[:-9]), 'bad_http')
      for name, pack in ENCODINGS.items()
    ),
    *(
      (encoded(name, pack(b'x' * 9_000_000)), 'body_too_large')
      for name, pack in ENCODINGS.items()
    ),
  ],
)
def test_answers_as_browsers_read_them(block, problem):
  for data in (as_record(block), with_lf(as_record(block))):
    (record,) = warc.read(io.BytesIO(data), 1 << 20)
    assert record.problem == problem.replace('other', '')
    if not problem:
      assert (record.status, record.body) == (200, PAGE)
    if problem == 'other':
      assert record.body in (BAD_CHUNK, PAGE[:9] * 2)


def test_charset_in_quotes():
  block = ANSWER.replace(b'text/html', b'Text/HTML; charset="UTF-8"')
  (record,) = warc.read(io.BytesIO(as_record(block)), 1 << 20)
  assert (record.content_type, record.charset) == ('text/html', 'utf-8')


def test_arc_records():
  records = list(warc.read(io.BytesIO(ARC), 1 << 20))
  assert [r.problem for r in records] == ['type_warcinfo', 'not_http', '']
  assert records[-1].date == '2026-01-02T03:04:05Z'
  lie = ARC.replace(b'text/html %d' % len(ANSWER), b'text/html 99') + b'\n'
  lie += ARC[ARC.index(b'http:') :]
  problems = [r.problem for r in warc.read(io.BytesIO(lie), 1 << 20)]
  assert problems == ['type_warcinfo', 'not_http', 'bad_length', '']


def test_zstd_archives():
  """Frames of their own, one for all, with a dictionary, and damaged ones."""
  pages = [as_record(HEAD + b'\r\n' + PAGE + b'%d' % i) for i in range(9)]
  dictionary = http_body.zstd.train_dict(pages * 9, 2000)
  content = dictionary.dict_content
  for packed in (content, ZSTD(content)):
    frame = b'\x5d\x2a\x4d\x18' + len(packed).to_bytes(4, 'little') + packed
    with_dictionary = [ZSTD(p, zstd_dict=dictionary) for p in pages]
    for members in ([*map(ZSTD, pages)], with_dictionary):
      start = frame if members is with_dictionary else b''
      assert numbers(start + b''.join(members)) == [*range(9)]
      members[4] = flip(members[4], 8)
      expected = [0, 1, 2, 3, 'damaged_file', 5, 6, 7, 8]
      assert numbers(start + b''.join(members)) == expected
      cut = (start + b''.join(members))[:-9]
      assert numbers(cut)[-2:] in ([7, 'short_record'], [7, 'damaged_file'])
  assert numbers(ZSTD(b''.join(pages))) == [*range(9)]
  assert set(numbers(b''.join(with_dictionary))) == {'damaged_file'}


def numbers(data: bytes) -> list:
  return [
    record.problem or int(record.body[len(PAGE) :])
    for record in warc.read(io.BytesIO(data), 1 << 20)
  ]


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
    assert (record.problem, record.status) == ('', 200)
    assert (record.kind, record.charset) == ('conversion', 'utf-8')
    assert record.body == text
    (record,) = warc.read(io.BytesIO(file), 5)
    assert record.problem == 'body_too_large'


def test_open_files_are_read_and_left_open(tmp_path):
  path = tmp_path / 'a.warc.gz'
  path.write_bytes(WHOLE)
  with open(path, 'rb') as file:
    file.read(100)
    records = list(warc.read(file, 1 << 20))
    assert records == list(warc.read(io.BytesIO(WHOLE), 1 << 20))
    assert not file.closed
