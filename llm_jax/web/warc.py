"""Reads WARC files, damaged ones too.

A damaged member loses its own records and nothing else; each loss is reported.
It does NOT join records that are split over files, and does not read zstd.

Source: ISO 28500:2017 (WARC 1.1).
"""

import dataclasses
import io
import itertools
import os
import pathlib
import zlib
from collections.abc import Iterator

import fastwarc
from fastwarc import warc as warc_record  # pyright: ignore[reportMissingModuleSource]

_GZIP_MAGIC = b'\x1f\x8b\x08'
_PLAIN_MAGIC = b'WARC/1.'
_READ_BYTES = 256 << 10
_MAX_HEADER_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Record:
  """One record of a WARC file, or one loss.

  Attributes:
    problem: '' for an HTTP answer that could be read; else why it could not:
      `damaged_file` (bytes that hold no record; those up to the next readable
      record count as one), `short_record`, `body_too_large`, `bad_http`, or
      `type_` and the record's type where that is not `response`.
    url: WARC-Target-URI.
    record_id: WARC-Record-ID.
    date: WARC-Date as an ISO 8601 string.
    status: HTTP status.
    content_type: media type of the answer in lower case, '' if missing.
    charset: charset that the answer names, '' if none.
    body: without transfer and content encoding.
    n_bytes: length of the record's block as it stands in the file.
  """

  problem: str = ''
  url: str = ''
  record_id: str = ''
  date: str = ''
  status: int = 0
  content_type: str = ''
  charset: str = ''
  body: bytes = b''
  n_bytes: int = 0


def read(path: pathlib.Path, max_body_bytes: int) -> Iterator[Record]:
  """All records of a `.warc.gz` or `.warc` file, losses included.

  Args:
    path: the file.
    max_body_bytes: a longer block or body is reported, not read.

  Yields:
    One Record for each record of any type and each damaged stretch, in the
    order of the file.
  """
  with open(path, 'rb') as file:
    is_gzip = file.read(2) == _GZIP_MAGIC[:2]
    if is_gzip:
      yield from _merge_damage(_read_gzip(file, max_body_bytes))
    else:
      yield from _merge_damage(_read_plain(file, max_body_bytes))


def _merge_damage(records: Iterator[Record]) -> Iterator[Record]:
  """Damage found more than once between two records counts as one."""
  for is_damage, group in itertools.groupby(
    records, lambda record: record.problem == 'damaged_file'
  ):
    if is_damage:
      yield Record('damaged_file', n_bytes=sum(r.n_bytes for r in group))
    else:
      yield from group


class _Member:
  """One gzip member as a stream; at damage it ends early and says so.

  fastwarc stops without an error at an empty member and loses the rest of the
  file at a damaged one; so members are found here and it sees one at a time.
  """

  def __init__(self, file: io.BufferedReader, start: int):
    self._file = file
    self._inflate = zlib.decompressobj(31)
    self._input = b''
    self.end = start  # offset behind what was used
    self.n_read = 0
    self.damaged = False
    file.seek(start)

  def read(self, size: int = -1) -> bytes:
    size = _READ_BYTES if size < 0 else size
    while not (self.damaged or self._inflate.eof):
      if not self._input:
        self._input = self._file.read(_READ_BYTES)
        self.end += len(self._input)
        if not self._input:
          self.damaged = True  # the file ends inside the member
          break
      try:
        data = self._inflate.decompress(self._input, size)
      except zlib.error:
        self.damaged = True
        break
      self._input = self._inflate.unconsumed_tail
      if self._inflate.eof:
        self.end -= len(self._inflate.unused_data)
      if data:
        self.n_read += len(data)
        return data
    return b''

  def drain(self):
    while self.read():
      pass

  def tell(self) -> int:
    return 0

  def seek(self, offset: int, whence: int = 0) -> int:
    raise io.UnsupportedOperation('seek')

  def close(self):
    pass


def _read_gzip(file, max_body_bytes: int) -> Iterator[Record]:
  start, size = 0, os.fstat(file.fileno()).st_size
  while start < size:
    member = _Member(file, start)
    record = None
    for _, record in _records(member, max_body_bytes):
      yield record
    member.drain()
    is_told = record is not None and record.problem == 'short_record'
    if member.damaged:
      end = _find(file, _GZIP_MAGIC, start + 1)
      if not is_told:  # the damage is what made the record short
        yield Record('damaged_file', n_bytes=end - start)
    else:
      end = member.end
      if record is None and member.n_read:
        yield Record('damaged_file', n_bytes=end - start)
    start = end


def _read_plain(file, max_body_bytes: int) -> Iterator[Record]:
  start, size = 0, os.fstat(file.fileno()).st_size
  while start < size:
    file.seek(start)
    last = None
    for position, record in _records(file, max_body_bytes):
      last = position
      yield record
      if record.problem == 'short_record':
        break  # its length is a lie; records may lie inside it
    if last is None:
      yield Record('damaged_file', n_bytes=1)
    start = _find(file, _PLAIN_MAGIC, start + (last or 0) + 1)


def _find(file, magic: bytes, start: int) -> int:
  """Offset of the next `magic` at or after `start`, or the file's size."""
  file.seek(start)
  tail, offset = b'', start
  while chunk := file.read(_READ_BYTES):
    window = tail + chunk
    found = window.find(magic)
    if found >= 0:
      return offset - len(tail) + found
    offset += len(chunk)
    tail = window[-len(magic) + 1 :]
  return offset


def _records(stream, max_body_bytes: int) -> Iterator[tuple[int, Record]]:
  """Records of one stream with their offsets in it, up to the first damage."""
  iterator = fastwarc.ArchiveIterator(
    stream,
    parse_http=False,
    stream_detect=False,
    max_header_len=_MAX_HEADER_BYTES,
  )
  try:
    for record in iterator:
      yield record.stream_pos, _decode(record, max_body_bytes)
      record.reader.consume()  # what a capped read left over
  except OSError:
    yield 0, Record('damaged_file', n_bytes=1)


def _decode(record, max_body_bytes: int) -> Record:
  """One record with its HTTP answer taken apart."""
  n_bytes = record.content_length
  kind = record.record_type
  found = Record(
    url=(record.headers.get('WARC-Target-URI') or '').strip('<>'),
    record_id=record.record_id or '',
    date=record.headers.get('WARC-Date') or '',
    n_bytes=n_bytes,
  )
  if kind != warc_record.response:
    return dataclasses.replace(found, problem=f'type_{kind}')
  limit = max_body_bytes + _MAX_HEADER_BYTES
  block = record.reader.read(limit + 1)
  if len(block) < min(n_bytes, limit + 1):
    return dataclasses.replace(found, problem='short_record')
  if n_bytes > limit:
    return dataclasses.replace(found, problem='body_too_large')
  answer = warc_record.WarcRecord()
  answer.init_headers(warc_record.response)
  answer.is_http = True
  answer.set_bytes_content(block)
  try:
    answer.parse_http(auto_decode='all', max_header_len=_MAX_HEADER_BYTES)
    status = answer.http_headers.status_code
    body = answer.reader.read(max_body_bytes + 1)
  except OSError:
    return dataclasses.replace(found, problem='bad_http')
  if status is None:
    return dataclasses.replace(found, problem='bad_http')
  if len(body) > max_body_bytes:
    return dataclasses.replace(found, problem='body_too_large')
  return dataclasses.replace(
    found,
    status=status,
    content_type=(answer.http_content_type or '').lower(),
    charset=answer.http_charset or '',
    body=body,
  )
