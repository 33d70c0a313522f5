"""Reads WARC files, WET and ARC files among them, and damaged ones too.

Plain, or compressed by gzip or zstd, each record by itself or all together.
Damage loses the records that it touches and nothing else; each loss is
reported. It does NOT join records that are split over files or over gzip
members.

Source: ISO 28500:2017 (WARC 1.1); archive.org/web/researcher/ArcFileFormat.php
(ARC 1); iipc.github.io/warc-specifications/specifications/warc-zstd.
"""

import base64
import dataclasses
import functools
import hashlib
import io
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import fastwarc

from llm_jax.web.extract import http_body, streams

_MAX_HEADER_BYTES = 1 << 20

# Lines end by CR LF; many writers leave the CR out, and readers do not mind.
_WARC = rb'WARC/\d\.\d{1,3}[ \t]*\r?\n'
# Address, IP address, date, type and length, with more fields in version 2.
_ARC = (
  rb'((?:filedesc:|dns:|(?:https?|ftp)://)[^\r\n]{1,4000}?)[ ]'
  rb'[0-9A-Fa-f.:]{1,45}[ ](\d{14})[ ][^\r\n]{0,400}?(\d{1,18})\r?\n'
)
_VERSION, _ARC_HEADER = re.compile(_WARC), re.compile(_ARC)
_START = re.compile(rb'%b|(?<=\n)%b' % (_WARC, _ARC))
# One pass finds either, so that many false versions cost linear time.
_HEADER_END = re.compile(rb'\r?\n\r?\n|(?<=\n)' + _WARC)
_LENGTH = re.compile(rb'(?im)^content-length[ \t]*:[ \t]*(\d{1,18})[ \t]*\r?$')
_BLANK = re.compile(rb'[\r\n]+')
_LINE_END, _END = re.compile(rb'\r?\n'), re.compile(rb'\r?\n\r?\n')
_INNER = re.compile(_END.pattern + _WARC)
# A record that is not compressed, in a file that may begin with damage.
_FIRST = re.compile(
  rb'WARC/\d\.\d|\A\s*filedesc:|\x1f\x8b\x08|\x28\xb5\x2f\xfd'
)
_STATUS = re.compile(rb'\s{0,4}(?:HTTP/\d(?:\.\d)?|ICY)[ \t]+(\d{3})(?!\d)')
PAGE_TYPES = ('text/html', 'application/xhtml+xml', '')
_ENDLESS = 1 << 62
_UNSURE = 'unsure'  # an end that a header in the next record has too
_NEXT_BYTES = streams.MAX_MATCH_BYTES  # looked at behind a record
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
    content_type: media type of an answer in lower case, '' if missing.
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


def read(source: BinaryIO, max_body_bytes: int) -> Iterator[Record]:
  """All records of a `.warc.gz` or `.warc` file, losses included.

  Args:
    source: the file, open for reading bytes, which can seek.
    max_body_bytes: a longer block or body is reported, not read.

  Yields:
    One Record for each record of any type and each damaged stretch, in the
    order of the file.
  """
  size = source.seek(0, io.SEEK_END)
  source.seek(0)
  # In a damaged file whichever comes first, and at its very start in others.
  start = source.read(_MAX_HEADER_BYTES)
  first = _FIRST.search(start)
  magic = first[0] if first and first[0] in http_body.MAGICS else b''
  if start.startswith(streams.ZSTD_DICTIONARY):  # which may hold any of these
    magic = http_body.ZSTD_MAGIC
  source.seek(0)
  limit = max_body_bytes + _MAX_HEADER_BYTES
  if magic:
    make = streams.decoder_of(start, magic)
    blocks = _read_members(source, size, limit, magic=magic, make=make)
  else:
    blocks = _read_blocks(streams.Window(source, size), limit)
  for is_damage, group in itertools.groupby(
    blocks, lambda block: not block.header
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
    n_bytes: length of the block, or of the stretch.
    header: as fastwarc reads it; empty for a stretch.
    payload: the block, if it is whole.
  """

  problem: str
  n_bytes: int
  header: bytes = b''
  payload: bytes = b''


def _read_members(
  file: BinaryIO, size: int, limit: int, magic: bytes, make: Callable[[], Any]
) -> Iterator[_Block]:
  """The blocks of each member or frame, and the stretches between them."""
  start, rest = 0, b''
  while start < size:
    member = streams.Member(file, start, rest, make=make)
    n_blocks = 0
    for block in _read_blocks(streams.Window(member, _ENDLESS), limit):
      yield block
      n_blocks += 1
    if member.problem:
      file.seek(0)
      stretch = streams.Window(file, size)
      stretch.go(start)
      end, rest = start + stretch.skip_to(re.compile(re.escape(magic))), b''
      if not n_blocks or member.n_rewinds > streams.MAX_REWINDS:
        yield _Block('damaged_file', end - start)
      file.seek(end)
    else:
      rest = member.rest
      end = file.tell() - len(rest)
    start = end


def _read_blocks(window: streams.Window, limit: int) -> Iterator[_Block]:
  """The records of one stream; behind damage it goes on at the next one."""
  while window.fill(1):
    blank = _BLANK.match(window.data)
    if blank:
      window.go(window.position + blank.end())
      continue
    n_header, header = _header(window)
    if not n_header:
      yield _Block('damaged_file', window.skip_to(_START))
      continue
    start, length = window.position, _LENGTH.search(header)
    n_bytes = int(length[1]) if length else 0
    end, payload = n_header + n_bytes, b''
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
        payload = bytes(memoryview(window.data)[n_header:end])
        is_lie = _is_over_others(payload, problem == _UNSURE)
        problem = 'bad_length' if is_lie else ''
    if problem:
      payload = b''
      window.skip_to(_START)  # there may be records inside
    else:
      window.go(start + end)
      problem = 'body_too_large' if n_bytes > limit else ''
    yield _Block(problem, n_bytes, header, payload=payload)


def _header(window: streams.Window) -> tuple[int, bytes]:
  """Length of the header that starts here, and it as fastwarc reads it.

  0 if none does.
  """
  size = 16 << 10
  while window.fill(size):
    if arc := _ARC_HEADER.match(window.data):
      return arc.end(), _arc_as_warc(*arc.groups())
    if not _VERSION.match(window.data):
      break
    found = _HEADER_END.search(window.data, 6, _MAX_HEADER_BYTES)
    if found:
      if not _END.fullmatch(found[0]):
        break
      header = bytes(window.data[: found.end()])
      return len(header), _LINE_END.sub(b'\r\n', header)
    if size > _MAX_HEADER_BYTES or len(window.data) < size:
      break
    size *= 8
  return 0, b''


def _arc_as_warc(url: bytes, date: bytes, length: bytes) -> bytes:
  kind, content = b'response', b'application/http'
  if url.startswith(b'filedesc:'):
    kind = b'warcinfo'
  if not url.startswith(b'http'):
    content = b'text/plain'
  date = re.sub(rb'(....)(..)(..)(..)(..)(..)', rb'\1-\2-\3T\4:\5:\6Z', date)
  return (
    b'WARC/1.0\r\nWARC-Type: %b\r\nWARC-Target-URI: %b\r\nWARC-Date: %b\r\n'
    b'Content-Type: %b\r\nContent-Length: %b\r\n\r\n'
  ) % (kind, url, date, content, length)


def _end_problem(window: streams.Window, end: int) -> str:
  """'' if a record ends at `end`, else what speaks against it."""
  n_here = window.fill(end + _NEXT_BYTES)
  if n_here < end:
    return window.problem or 'short_record'
  if n_here < end + _NEXT_BYTES and window.problem:
    return window.problem  # such as the checksum of this very member
  behind = bytes(window.data[end : end + _NEXT_BYTES])
  rest = behind.lstrip(b'\r\n')
  if not rest or _VERSION.match(rest) or _ARC_HEADER.match(rest):
    return ''
  return _UNSURE if _END.match(behind) else 'bad_length'


def _is_over_others(block: bytes, is_unsure: bool) -> bool:
  """Whether a block's length is a lie that ends inside a later record.

  A page may hold a WARC file, and must not be able to forge records; so there
  must be a contradiction.
  """
  if b'\nWARC/' not in block or not _INNER.search(block):
    return False
  head, body = _split_answer(block)
  length = _LENGTH.search(head)
  if is_unsure or not head:
    return True
  return length is not None and int(length[1]) != len(body)


def _split_answer(block: bytes) -> tuple[bytes, bytes]:
  """Head, as fastwarc reads it, and body of an HTTP answer; '' if it is none.

  Answers before the answer, such as 103 Early Hints, are passed over.
  """
  start = 0
  while status := _STATUS.match(block, start):
    end = _END.search(block, status.end(), start + _MAX_HEADER_BYTES)
    if end is None:
      break
    start = end.end()
    if not (status[1].startswith(b'1') and _STATUS.match(block, start)):
      lines = _LINE_END.split(block[status.end() : start])
      head = [b'HTTP/1.1 %b -' % status[1], *lines[1:]]
      return b'\r\n'.join(head), block[start:]
  return b'', b''


def _decode(block: _Block, max_body_bytes: int) -> Record:
  """One record with its HTTP answer taken apart."""
  head, body = _split_answer(block.payload)
  content = head or block.payload
  # A whole record goes to fastwarc alone: it cannot lose another one. It wants
  # the one spelling of its length.
  length = b'Content-Length: %d\r' % len(content)
  try:
    iterator = fastwarc.ArchiveIterator(
      io.BytesIO(_LENGTH.sub(length, block.header) + content),
      parse_http=False,
      stream_detect=False,
      max_header_len=_MAX_HEADER_BYTES,
    )
    record = next(iterator)
  except (OSError, StopIteration):
    return Record(block.problem or 'damaged_file', n_bytes=block.n_bytes)
  # Not record_type, which has only one name for the types it does not know.
  kind = (record.headers.get('WARC-Type') or '').lower()
  is_read = kind in ('response', 'conversion')
  found = Record(
    problem=block.problem or ('' if is_read else f'type_{kind}'),
    kind=kind,
    url=(record.headers.get('WARC-Target-URI') or '').strip('<>'),
    record_id=record.record_id or '',
    date=record.headers.get('WARC-Date') or '',
    n_bytes=block.n_bytes,
  )
  if found.problem:
    return found
  try:
    digest = record.headers.get('WARC-Block-Digest') or ''
    if not _is_digest(digest, block.payload):
      raise http_body.BodyError('bad_digest')
    if kind == 'response':
      fields = _answer(record, bool(head), body, max_bytes=max_body_bytes)
    elif len(block.payload) > max_body_bytes:
      raise http_body.BodyError('body_too_large')
    else:
      fields = {'status': 200, 'charset': 'utf-8', 'body': block.payload}
  except http_body.BodyError as error:
    return dataclasses.replace(found, problem=error.reason)
  return dataclasses.replace(found, **fields)


def _answer(
  record, is_http: bool, body: bytes, max_bytes: int
) -> dict[str, Any]:
  """What an HTTP answer says beside the record's header."""
  protocol = record.headers.get('Content-Type') or 'application/http'
  if not protocol.lower().startswith('application/http'):
    raise http_body.BodyError('not_http')
  record.is_http = True  # else only where that type names the message too
  try:
    if not is_http:
      raise http_body.BodyError('bad_http')
    record.parse_http(auto_decode='none', max_header_len=_MAX_HEADER_BYTES)
  except OSError as error:
    raise http_body.BodyError('bad_http') from error
  answer = record.http_headers
  transfer, content = (
    ','.join(answer.get_multiple(name))
    for name in ('Transfer-Encoding', 'Content-Encoding')
  )
  media_type = (record.http_content_type or '').lower()
  decode = functools.partial(
    http_body.decode,
    max_bytes=max_bytes,
    is_cut='WARC-Truncated' in record.headers,
  )
  body = decode(body, transfer, content)
  if media_type in PAGE_TYPES and body.startswith(http_body.MAGICS):
    body = decode(body, '', 'gzip')  # no page begins so: its header is missing
  return {
    'status': answer.status_code,
    'content_type': media_type,
    'charset': (record.http_charset or '').strip('"\' '),
    'body': body,
  }


def _is_digest(digest: str, payload: bytes) -> bool:
  """Whether a SHA-1 digest is the payload's; others are not looked at."""
  algorithm, _, value = digest.partition(':')
  if algorithm.lower() != 'sha1' or len(value) != _SHA1_BASE32_CHARS:
    return True
  return value.upper().encode('ascii', 'replace') == base64.b32encode(
    hashlib.sha1(payload, usedforsecurity=False).digest()
  )
