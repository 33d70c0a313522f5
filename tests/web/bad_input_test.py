"""Every kind of bad input that was found to break a reader.

One WARC file with twenty good records is damaged in one way; what is not
touched comes out whole, and what is lost is told.
"""

import base64
import collections
import gzip
import hashlib
import io
import os
import time
import tracemalloc
import zlib

import pytest

from llm_jax.web.extract import warc

MAX_BYTES = 1 << 20
N = 20
HEAD = (
  b'WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: <http://h/%d>\r\n'
  b'WARC-Record-ID: <urn:uuid:%d>\r\nWARC-Date: 2026-01-02T03:04:05Z\r\n'
)
HTTP = b'HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n'


def record(i: int, block: bytes, length: bytes = b'', head: bytes = b''):
  size = length or b'%d' % len(block)
  start = HEAD % (i, i) + head + b'Content-Length: ' + size + b'\r\n\r\n'
  return start + block + b'\r\n\r\n'


def answer(body: bytes, headers: bytes = b'') -> bytes:
  return HTTP + headers + b'\r\n' + body


def member(data: bytes) -> bytes:
  return gzip.compress(data, mtime=0)


def page(i: int) -> bytes:
  return b'<p>page %d</p>' % i * 30


RECORDS = [record(i, answer(page(i))) for i in range(N)]
MEMBERS = [member(data) for data in RECORDS]


def found(data: bytes, max_bytes: int = MAX_BYTES) -> tuple[list, list]:
  """Numbers of the good records, and the problems of the others."""
  good, bad = [], []
  for item in warc.read(io.BytesIO(data), max_bytes):
    if item.problem:
      bad.append(item.problem)
    else:
      good.append(int(item.url.rpartition('/')[2]))
      assert item.body == page(good[-1]) or good[-1] >= N
  return good, bad


def in_members(i: int, data: bytes) -> bytes:
  """The file with member `i` replaced."""
  return b''.join([*MEMBERS[:i], data, *MEMBERS[i + 1 :]])


def in_one_member(i: int, data: bytes) -> bytes:
  return member(b''.join([*RECORDS[:i], data, *RECORDS[i + 1 :]]))


def in_plain(i: int, data: bytes) -> bytes:
  return b''.join([*RECORDS[:i], data, *RECORDS[i + 1 :]])


def without(i: int) -> list[int]:
  return [n for n in range(N) if n != i]


LAYOUTS = [lambda i, data: in_members(i, member(data)), in_one_member, in_plain]


def flip(data: bytes, at: int) -> bytes:
  return data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]


@pytest.mark.parametrize('i', [0, 1, 9, N - 1])
@pytest.mark.parametrize(
  'damage',
  [
    lambda data: data[: len(data) // 2],
    lambda data: data[:25],
    lambda data: data[:-4],
    lambda data: flip(data, 30),
    lambda data: flip(data, len(data) // 2),
    lambda data: flip(data, -7),  # checksum
    lambda data: flip(data, -2),  # length
    lambda data: flip(data, 1),  # magic
    lambda data: os.urandom(300),
  ],
)
def test_damaged_member_loses_itself(i, damage):
  good, bad = found(in_members(i, damage(MEMBERS[i])))
  assert good == without(i)
  assert len(bad) == 1
  assert bad[0] in ('damaged_file', 'short_record')


@pytest.mark.parametrize(
  'garbage', [b'\0' * 900, b'junk ' * 99, b'\x1f\x8b\x08']
)
def test_garbage_between_members_loses_nothing(garbage):
  good, bad = found(in_members(5, garbage + MEMBERS[5]))
  assert (good, bad) == (list(range(N)), ['damaged_file'])


@pytest.mark.parametrize(
  ('rest', 'problems'),
  [
    (b'\0' * 100, ['damaged_file']),
    (b'hello world', ['damaged_file']),
    (member(b'no record at all'), ['damaged_file']),
    (member(b'\r\n' * 4), []),
  ],
)
def test_what_is_no_record_is_told_once(rest, problems):
  assert found(rest) == ([], problems)
  assert found(b''.join(MEMBERS) + rest) == ([*range(N)], problems)


@pytest.mark.parametrize('i', [0, 4, N])
def test_empty_members_lose_nothing(i):
  data = b''.join([*MEMBERS[:i], member(b'') * 3, *MEMBERS[i:]])
  assert found(data) == (list(range(N)), [])


def test_last_record_cut_short_is_told():
  for parts, first in ((MEMBERS, 1), (RECORDS, 5)):
    for cut in range(first, len(parts[-1]), 3):
      good, bad = found(b''.join(parts)[:-cut])
      assert good == without(N - 1)
      assert len(bad) == 1, cut


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('i', [0, 7, N - 1])
@pytest.mark.parametrize(
  'length',
  [
    *(b'-5', b'', b' ', b'abc', b'1e3', b'0x10', b'9' * 30, b'5 5'),
    *(b'0', b'3', b'100', b'500', b'1000', b'5000', b'999999'),
    *(b'2000000', b'3000000', b'1000000000000000'),
  ],
)
def test_length_that_lies_loses_its_record_only(layout, i, length):
  block = answer(page(i))
  lie = record(i, block, length or b' ')
  good, bad = found(layout(i, lie))
  assert good == without(i)
  assert len(bad) == 1
  assert bad[0] in ('bad_length', 'short_record', 'body_too_large')


@pytest.mark.parametrize('layout', LAYOUTS[1:])
@pytest.mark.parametrize('n_ends', [1, 2, 3])
def test_length_that_ends_where_something_of_the_next_record_does(
  layout, n_ends
):
  seam = -4  # behind the next record's header, its HTTP header or itself
  for _ in range(n_ends):
    seam = RECORDS[4].index(b'\r\n\r\n', seam + 4)
  size = b'Content-Length: %d\r\n' % len(page(3))
  # Only the answer's own length tells a lie that takes in a whole record.
  for headers in (size, b'')[: 1 + (n_ends < 3)]:
    block = answer(page(3), headers)
    lie = record(3, block, b'%d' % (len(block) + 4 + seam))
    assert found(layout(3, lie)) == (without(3), ['bad_length'])


def test_many_lies_cost_linear_time():
  lies = b''.join(
    record(i, b'x', b'%d' % (10 ** (i % 17))) for i in range(5000)
  )
  start = time.process_time()
  good, bad = found(lies)
  assert len(good) + len(bad) == 5000
  found(b'WARC/1.0\r\n' * 50_000)
  found(b'WARC/1.0\r\nContent-Length: 9\r\n' * 20_000)
  found(b'WARC/' * 100_000)
  assert time.process_time() - start < 15


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize(
  ('n_bytes', 'is_read'),
  [(40 << 10, True), (900 << 10, True), (2 << 20, False)],
)
def test_long_headers(layout, n_bytes, is_read):
  head = b'X-Long: ' + b'a' * n_bytes + b'\r\n'
  good, bad = found(layout(3, record(3, answer(page(3)), head=head)))
  assert good == (list(range(N)) if is_read else without(3))
  assert bad == ([] if is_read else ['damaged_file'])
  block = answer(page(3), head)
  good, bad = found(layout(3, record(3, block)))
  assert good == (list(range(N)) if is_read else without(3))
  assert len(bad) == (not is_read)


GZIP = b'Content-Encoding: gzip\r\n'
DEFLATE = b'Content-Encoding: deflate\r\n'
CHUNKED = b'Transfer-Encoding: chunked\r\n'
PAGE = page(3)
CHUNKS = (
  b'5;x=y\r\n' + PAGE[:5] + b'\r\nA\r\n' + PAGE[5:15] + b'\r\n%x\r\n%s\r\n'
)
CHUNKS = CHUNKS % (len(PAGE) - 15, PAGE[15:]) + b'0\r\n\r\n'
BARE = zlib.compressobj(9, zlib.DEFLATED, -15)
BARE = BARE.compress(PAGE) + BARE.flush()


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize(
  ('block', 'problem'),
  [
    (answer(CHUNKS, CHUNKED), ''),
    (answer(CHUNKS.replace(b'\r\n', b'\n'), CHUNKED), ''),
    (answer(CHUNKS[:-5], CHUNKED), 'bad_http'),
    (answer(CHUNKS[:100], CHUNKED), 'bad_http'),
    (answer(CHUNKS.replace(b'A\r', b'Q\r'), CHUNKED), 'bad_http'),
    (answer(b'F' * 15 + b'\r\n' + PAGE, CHUNKED), 'bad_http'),
    (answer(member(PAGE[:9]) + member(PAGE[9:]) + b'junk', GZIP), ''),
    (answer(flip(member(PAGE), 14), GZIP), 'bad_http'),
    (answer(flip(member(PAGE), -6), GZIP), 'bad_http'),
    (answer(BARE, DEFLATE), ''),
    (answer(PAGE, b'Content-Encoding: UTF-8\r\n'), ''),  # servers say so
    (answer(member(b'x' * (128 << 20)), GZIP), 'body_too_large'),
    (answer(b'x' * MAX_BYTES + b'x'), 'body_too_large'),
    (answer(b'x' * (3 * MAX_BYTES)), 'body_too_large'),
    (b'no http', 'bad_http'),
    (b'', 'bad_http'),
    (b'HTTP/1.1 OK\r\n\r\n' + PAGE, 'bad_http'),
    (b'HTTP/1.1 200 OK', 'bad_http'),
  ],
)
def test_bad_bodies_lose_their_record_only(layout, block, problem):
  good, bad = found(layout(3, record(3, block)))
  assert good == (without(3) if problem else list(range(N)))
  assert bad == ([problem] if problem else [])


def test_body_that_the_archive_cut_is_kept():
  head = b'WARC-Truncated: length\r\n'
  for headers, body in ((CHUNKED, CHUNKS[:100]), (GZIP, member(PAGE)[:-12])):
    block = answer(body, headers)
    (item,) = warc.read(io.BytesIO(record(3, block, head=head)), MAX_BYTES)
    assert item.problem == ''
    assert PAGE.startswith(item.body)
    assert len(item.body) > 10


def test_empty_body_and_empty_file():
  (item,) = warc.read(io.BytesIO(record(3, answer(b''))), MAX_BYTES)
  assert (item.problem, item.status, item.body) == ('', 200, b'')
  assert found(b'') == ([], [])
  assert found(b'\r\n\r\n') == ([], [])


def test_page_that_holds_a_warc_file_is_one_record():
  body = b'<pre>' + b''.join(RECORDS[:3]) + b'</pre>'
  good, bad = found(in_plain(3, record(N, answer(body))))
  assert good == [N if n == 3 else n for n in range(N)]
  assert bad == []


def test_gzip_bomb_in_a_member_stays_small():
  bomb = member(record(3, answer(b'x' * (64 << 20))))
  data = in_members(3, bomb)
  del bomb
  start = time.process_time()
  tracemalloc.start()
  try:
    good, bad = found(data)
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert (good, bad) == (without(3), ['body_too_large'])
  assert peak < 10 * MAX_BYTES
  assert time.process_time() - start < 10


def test_block_digest():
  digest = b'WARC-Block-Digest: sha1:%s\r\n'
  block = answer(page(3))
  true = base64.b32encode(hashlib.sha1(block).digest())
  for value, problem in (
    (true, ''),
    (true.lower(), ''),
    (hashlib.sha1(block).hexdigest().encode(), ''),  # not looked at
    (true[::-1], 'bad_digest'),
    (b'A' * 31 + b'\xff', 'bad_digest'),
  ):
    data = record(3, block, head=digest % value)
    (item,) = warc.read(io.BytesIO(data), MAX_BYTES)
    assert item.problem == problem


def test_archives_of_other_writers(data):
  expected = {
    'commoncrawl-16-responses.warc.gz': (16, 34, {}),
    'commoncrawl-whirlwind.warc.gz': (1, 3, {}),
    'commoncrawl-whirlwind.warc.wat.gz': (0, 2, {}),
    'commoncrawl-whirlwind.warc.wet.gz': (1, 1, {}),
    'iah-2008-archive-org.warc.gz': (261, 523, {'not_http': 38}),
    'warcio-example.warc.gz': (1, 5, {}),
    'warcio-example-bad-non-chunked.warc.gz': (1, 5, {}),
    'warcio-example-iana.org-chunked.warc': (1, 2, {}),
    'warcio-post-test.warc.gz': (3, 3, {}),
  }
  for name, (n_good, n_other, losses) in expected.items():
    with open(data / 'warc-samples' / name, 'rb') as file:
      items = list(warc.read(file, 8 << 20))
    problems = [item.problem for item in items if item.problem]
    others = [problem for problem in problems if problem.startswith('type_')]
    assert len(items) - len(problems) == n_good, name
    assert len(others) == n_other, name
    counts = collections.Counter(problems) - collections.Counter(others)
    assert counts == losses, name
