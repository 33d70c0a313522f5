"""Reads WARC files, WET files among them, and damaged ones too.

Damage loses the records that it touches and nothing else; each loss is
reported. It does NOT join records that are split over files or over gzip
members, and does not read zstd.

Source: ISO 28500:2017 (WARC 1.1).
"""

import base64
import dataclasses
import hashlib
import io
import itertools
import pathlib
import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import fastwarc

from llm_jax.web.extract import http_body

_GZIP_MAGIC = b'\x1f\x8b\x08'
_GZIP_READ_BYTES = 128 << 10
_READ_BYTES = 32 << 10
_MAX_HEADER_BYTES = 1 << 20
_MAX_REWINDS = 20  # in a gzip member, where each starts from its beginning

_VERSION = re.compile(rb'WARC/\d\.\d{1,3}\r\n')
# One pass finds either, so that many false versions cost linear time.
_HEADER_END = re.compile(rb'\r\n\r\n|WARC/\d\.\d{1,3}\r\n')
_LENGTH = re.compile(rb'(?im)^content-length:[ \t]*(\d{1,18})[ \t]*\r$')
_START = re.compile(rb'\x1f\x8b\x08|WARC/\d\.\d')
_BLANK = re.compile(rb'[\r\n]+')
_END = b'\r\n\r\n'
_VERSION_BYTES = 12
_ENDLESS = 1 << 62
_UNSURE = 'unsure'  # an end that a header in the next record has too
_NEXT_BYTES = 32  # looked at behind a record
_SHA1_BASE32_CHARS = 32


@dataclasses.dataclass(frozen=True)
class Record:
  """One record of a WARC file, or one loss.

  Attributes:
    problem: '' for an HTTP answer or a text that could be read; else why it
      could not: `damaged_file` (bytes that hold no record; those up to the
      next readable record count as one), `short_record` (the file or member
      ends before it does), `bad_length`, `bad_digest`, `body_too_large`,
      `bad_http`, `not_http` (an answer by another protocol, such as DNS), or
      `type_` and the record's type where nothing reads it.
    kind: `response`, `conversion` (the text of a page, as in WET files) or
      another WARC-Type; '' where no header could be read.
    url: WARC-Target-URI.
    record_id: WARC-Record-ID.
    date: WARC-Date as an ISO 8601 string.
    status: HTTP status; 200 for a conversion.
    content_type: media type of the body in lower case, '' if missing.
    charset: charset that the answer names, '' if none.
    body: without transfer and content encoding.
    n_bytes: length of the record's block as it stands in the file.
  """

  problem: str = ''
  kind: str = ''
  url: str = ''
  record_id: str = ''
  date: str = ''
  status: int = 0
  content_type: str = ''
  charset: str = ''
  body: bytes = b''
  n_bytes: int = 0


def read(
  source: pathlib.Path | BinaryIO, max_body_bytes: int
) -> Iterator[Record]:
  """All records of a `.warc.gz` or `.warc` file, losses included.

  Args:
    source: the file, or one that is open for reading bytes and can seek; it
      stays open.
    max_body_bytes: a longer block or body is reported, not read.

  Yields:
    One Record for each record of any type and each damaged stretch, in the
    order of the file.
  """
  if isinstance(source, pathlib.Path):
    with open(source, 'rb') as file:
      yield from read(file, max_body_bytes)
    return
  size = source.seek(0, io.SEEK_END)
  source.seek(0)
  # In a damaged file whichever comes first, and at its very start in others.
  first = _START.search(source.read(_MAX_HEADER_BYTES))
  is_gzip = first is not None and first.group() == _GZIP_MAGIC
  source.seek(0)
  limit = max_body_bytes + _MAX_HEADER_BYTES
  if is_gzip:
    blocks = _read_members(source, size, limit)
  else:
    blocks = _read_blocks(_Window(source, size), limit)
  for is_damage, group in itertools.groupby(
    blocks, lambda block: block.problem == 'damaged_file' and not block.record
  ):
    if is_damage:  # found more than once between two records: one loss
      n_bytes = sum(block.n_bytes for block in group)
      yield Record('damaged_file', n_bytes=n_bytes)
    else:
      for block in group:
        yield _decode(block, max_body_bytes)


@dataclasses.dataclass(frozen=True)
class _Block:
  """A record as it stands in the file, or a stretch without one.

  Attributes:
    problem: '' if the record is whole.
    record: its header and, if whole, its block.
    n_header: bytes of the header.
    n_bytes: length of the block, or of the stretch.
  """

  problem: str
  record: bytes
  n_header: int
  n_bytes: int


class _Member:
  """One gzip member as a file; at damage it ends early and says why.

  fastwarc stops without an error at an empty member and loses the rest of the
  file at a damaged one; so members are found here.

  Attributes:
    problem: '' | `short_record` (the file ends inside) | `damaged_file`.
    rest: bytes of the file that were read and lie behind the member.
    n_rewinds: how often it was read again.
  """

  def __init__(self, file: BinaryIO, start: int, rest: bytes):
    self._file, self._start, self.n_rewinds = file, start, 0
    self._open(rest)

  def _open(self, rest: bytes):
    self._inflate = zlib.decompressobj(31)
    self.problem, self.rest, self._position = '', rest, 0

  def read(self, size: int) -> bytes:
    while not (self.problem or self._inflate.eof):
      if not self.rest:
        self.rest = self._file.read(_GZIP_READ_BYTES)
        if not self.rest:
          self.problem = 'short_record'
          break
      try:
        data = self._inflate.decompress(self.rest, size)
      except zlib.error:
        self.problem = 'damaged_file'
        break
      eof = self._inflate.eof
      unused = self._inflate.unused_data if eof else b''
      self.rest = unused or self._inflate.unconsumed_tail
      if data:
        self._position += len(data)
        return data
    return b''

  def seek(self, position: int):
    if position < self._position:
      self.n_rewinds += 1
      self._file.seek(self._start)
      self._open(b'')
      if self.n_rewinds > _MAX_REWINDS:
        self.problem = 'damaged_file'
    while self._position < position:
      if not self.read(min(_READ_BYTES, position - self._position)):
        break


class _Window:
  """The bytes of a file from a position on, as many as are asked for."""

  def __init__(self, file, size: int):
    self._file, self._size = file, size
    self._end = 0  # of the data, in the file
    self.data = bytearray()

  @property
  def position(self) -> int:
    """Offset of the first byte of the data in the file."""
    return self._end - len(self.data)

  @property
  def problem(self) -> str:
    """Why the file ended early, '' if it did not."""
    return getattr(self._file, 'problem', '')

  def fill(self, size: int) -> int:
    """Reads until there are `size` bytes, if there are; returns how many."""
    while len(self.data) < size:
      chunk = self._file.read(max(_READ_BYTES, size - len(self.data)))
      if not chunk:
        break
      self.data += chunk
      self._end += len(chunk)
    return len(self.data)

  def go(self, position: int):
    """Makes the data begin there."""
    n_dropped = position - self.position
    if 0 <= n_dropped <= len(self.data):
      del self.data[:n_dropped]
    else:
      self.data.clear()
      self._end = min(position, self._size)
      self._file.seek(self._end)

  def skip_to_version(self) -> int:
    """Goes to the next start of a record behind the first byte."""
    start = self.position
    first = 1
    while True:
      found = _VERSION.search(self.data, first)
      if found:
        self.go(self.position + found.start())
        return self.position - start
      # A version may lie across the end of the data.
      n_passed = max(len(self.data) - _VERSION_BYTES, 0)
      self.go(self.position + n_passed)
      first = 0 if n_passed or not first else 1
      n_here = len(self.data)
      if self.fill(n_here + _READ_BYTES) == n_here:
        self.go(self._end)
        return self.position - start


def _read_members(file: BinaryIO, size: int, limit: int) -> Iterator[_Block]:
  """The blocks of each gzip member, and the stretches between members."""
  start, rest = 0, b''
  while start < size:
    member = _Member(file, start, rest)
    n_blocks = 0
    for block in _read_blocks(_Window(member, _ENDLESS), limit):
      yield block
      n_blocks += 1
    if member.problem:
      end, rest = _find(file, _GZIP_MAGIC, start + 1), b''
      if not n_blocks or member.n_rewinds > _MAX_REWINDS:
        yield _Block('damaged_file', b'', 0, end - start)
      file.seek(end)
    else:
      rest = member.rest
      end = file.tell() - len(rest)
    start = end


def _find(file: BinaryIO, magic: bytes, start: int) -> int:
  """Offset of the next `magic` at or after `start`, or the file's size."""
  file.seek(start)
  tail, offset = b'', start
  while chunk := file.read(_GZIP_READ_BYTES):
    window = tail + chunk
    found = window.find(magic)
    if found >= 0:
      return offset - len(tail) + found
    offset += len(chunk)
    tail = window[-len(magic) + 1 :]
  return offset


def _read_blocks(window: _Window, limit: int) -> Iterator[_Block]:
  """The records of one stream; behind damage it goes on at the next one."""
  while window.fill(1):
    blank = _BLANK.match(window.data)
    if blank:
      window.go(window.position + blank.end())
      continue
    n_header = _header_bytes(window)
    if not n_header:
      yield _Block('damaged_file', b'', 0, window.skip_to_version())
      continue
    start, header = window.position, bytes(window.data[:n_header])
    length = _LENGTH.search(header)
    n_bytes = int(length.group(1)) if length else 0
    end, record = n_header + n_bytes, header
    if length is None:
      problem = 'bad_length'
    elif n_bytes > limit:
      window.go(start + end - 1)
      problem = _end_problem(window, 1).removeprefix(_UNSURE)
      if problem:
        window.go(start)
        window.fill(1)
    else:
      problem = _end_problem(window, end)
      if problem in ('', _UNSURE):
        record = bytes(window.data[:end])
        is_lie = _is_over_others(record, n_header, problem == _UNSURE)
        problem = 'bad_length' if is_lie else ''
    if problem:
      record = header
      window.skip_to_version()  # there may be records inside
    else:
      window.go(start + end)
      problem = 'body_too_large' if n_bytes > limit else ''
    yield _Block(problem, record, n_header, n_bytes)


def _header_bytes(window: _Window) -> int:
  """Length of the header that starts here, 0 if none does."""
  size = 16 << 10
  while window.fill(size) and _VERSION.match(window.data):
    found = _HEADER_END.search(window.data, 6, _MAX_HEADER_BYTES)
    if found:
      return found.end() if found.group() == _END else 0
    if size > _MAX_HEADER_BYTES or len(window.data) < size:
      break
    size *= 8
  return 0


def _end_problem(window: _Window, end: int) -> str:
  """'' if a record ends at `end`, else what speaks against it."""
  n_here = window.fill(end + _NEXT_BYTES)
  if n_here < end:
    return window.problem or 'short_record'
  if n_here < end + _NEXT_BYTES and window.problem:
    return window.problem  # such as the checksum of this very member
  behind = bytes(window.data[end : end + _NEXT_BYTES])
  rest = behind.lstrip(_END)
  if not rest or _VERSION.match(rest):
    return ''
  return _UNSURE if behind.startswith(_END) else 'bad_length'


def _is_over_others(record: bytes, n_header: int, is_unsure: bool) -> bool:
  """Whether a block's length is a lie that ends inside a later record.

  A page may hold a WARC file, and must not be able to forge records; so there
  must be a contradiction.
  """
  if record.find(_END + b'WARC/', n_header) < 0:
    return False
  head, _, body = record[n_header:].partition(_END)
  length = _LENGTH.search(head + b'\r\n')
  if is_unsure or not head.startswith(b'HTTP/'):
    return True
  return length is not None and int(length.group(1)) != len(body)


def _decode(block: _Block, max_body_bytes: int) -> Record:
  """One record with its HTTP answer taken apart."""
  # A whole record goes to fastwarc alone: it cannot lose another one.
  iterator = fastwarc.ArchiveIterator(
    io.BytesIO(block.record),
    parse_http=False,
    stream_detect=False,
    max_header_len=_MAX_HEADER_BYTES,
  )
  try:
    record = next(iterator, None)
  except OSError:
    record = None
  if record is None:
    return Record(block.problem or 'damaged_file', n_bytes=block.n_bytes)
  headers = record.headers
  # Not record_type, which has only one name for the types it does not know.
  kind = (headers.get('WARC-Type') or '').lower()
  found = Record(
    problem=block.problem,
    kind=kind,
    url=(headers.get('WARC-Target-URI') or '').strip('<>'),
    record_id=record.record_id or '',
    date=headers.get('WARC-Date') or '',
    n_bytes=block.n_bytes,
  )
  if kind not in ('response', 'conversion'):
    return dataclasses.replace(found, problem=block.problem or f'type_{kind}')
  if block.problem:
    return found
  payload = memoryview(block.record)[block.n_header :]
  if not _is_digest(headers.get('WARC-Block-Digest') or '', payload):
    return dataclasses.replace(found, problem='bad_digest')
  if kind == 'conversion':
    if len(payload) > max_body_bytes:
      return dataclasses.replace(found, problem='body_too_large')
    media_type = headers.get('Content-Type') or ''
    return dataclasses.replace(
      found,
      status=200,
      content_type=media_type.partition(';')[0].strip().lower(),
      charset='utf-8',
      body=bytes(payload),
    )
  if not (headers.get('Content-Type') or 'application/http').startswith(
    'application/http'
  ):
    return dataclasses.replace(found, problem='not_http')
  record.is_http = True  # else only where that type names the message too
  try:
    record.parse_http(auto_decode='none', max_header_len=_MAX_HEADER_BYTES)
    body = record.reader.read()
  except OSError:
    return dataclasses.replace(found, problem='bad_http')
  answer = record.http_headers
  is_whole = _END in block.record[block.n_header :]
  if answer is None or answer.status_code is None or not is_whole:
    return dataclasses.replace(found, problem='bad_http')
  try:
    body = http_body.decode(
      body,
      answer.get('Transfer-Encoding') or '',
      answer.get('Content-Encoding') or '',
      max_body_bytes,
      is_cut='WARC-Truncated' in headers,
    )
  except http_body.BodyError as error:
    return dataclasses.replace(found, problem=error.reason)
  return dataclasses.replace(
    found,
    status=answer.status_code,
    content_type=(record.http_content_type or '').lower(),
    charset=record.http_charset or '',
    body=body,
  )


def _is_digest(digest: str, payload: memoryview) -> bool:
  """Whether a SHA-1 digest is the payload's; others are not looked at."""
  algorithm, _, value = digest.partition(':')
  if algorithm.lower() != 'sha1' or len(value) != _SHA1_BASE32_CHARS:
    return True
  return value.upper().encode('ascii', 'replace') == base64.b32encode(
    hashlib.sha1(payload, usedforsecurity=False).digest()
  )
