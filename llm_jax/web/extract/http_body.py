"""The body of a stored HTTP answer without transfer and content encoding.

A body that ends early is an error, because decoders that stop without one make
short pages out of broken ones. It does NOT parse headers.

Source: RFC 9112 section 7.1 (chunks), RFC 9110 section 8.4 (content codings).
"""

import re
import zlib

from fastwarc import warc as warc_record  # pyright: ignore[reportMissingModuleSource]

_CHUNK = re.compile(rb'[ \t]*([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n')
_GZIP = ('gzip', 'x-gzip')
_NATIVE = ('br', 'zstd')


class BodyError(Exception):
  """No body; `reason` is `bad_http` or `body_too_large`."""

  def __init__(self, reason: str):
    super().__init__(reason)
    self.reason = reason


def decode(
  body: bytes, transfer: str, content: str, max_bytes: int, is_cut: bool
) -> bytes:
  """Takes the encodings off that the headers name.

  Many archives store the decoded body under the headers of the encoded one;
  so a body that does not begin as its encoding does is left as it is.

  Args:
    body: as stored.
    transfer: the header Transfer-Encoding, '' if there is none.
    content: the header Content-Encoding, '' if there is none.
    max_bytes: cap of the body before and behind each step.
    is_cut: the archive says that it cut the body, so its end may be missing.

  Returns:
    The decoded body.

  Raises:
    BodyError: the body breaks off, cannot be decoded or is too long.
  """
  if 'chunked' in transfer.lower() and _CHUNK.match(body):
    body = _join_chunks(body, is_cut)
  for encoding in reversed(content.lower().split(',')):
    name = encoding.strip()
    if name in _GZIP and body.startswith(b'\x1f\x8b'):
      body = _inflate(body, 31, max_bytes, is_cut)
    elif name == 'deflate' and body:
      # RFC 9110 means zlib's format; some servers send the bare stream.
      is_zlib = body[0] & 15 == 8 and int.from_bytes(body[:2], 'big') % 31 == 0
      if is_zlib or not _is_text(body):
        body = _inflate(body, 15 if is_zlib else -15, max_bytes, is_cut)
    elif name in _NATIVE and not _is_text(body):
      body = _decode_natively(body, name, max_bytes)
  if len(body) > max_bytes:
    raise BodyError('body_too_large')
  return body


def _is_text(body: bytes) -> bool:
  return body.lstrip()[:1] == b'<'


def _join_chunks(body: bytes, is_cut: bool) -> bytes:
  chunks, start = [], 0
  while True:
    head = _CHUNK.match(body, start)
    if head is None:
      if is_cut and start >= len(body):
        return b''.join(chunks)
      raise BodyError('bad_http')
    size, begin = int(head.group(1), 16), head.end()
    if not size:
      return b''.join(chunks)
    chunks.append(body[begin : begin + size])
    start = begin + size
    start += 2 if body[start : start + 2] == b'\r\n' else 0
    start += 1 if body[start : start + 1] == b'\n' else 0


def _inflate(body: bytes, bits: int, max_bytes: int, is_cut: bool) -> bytes:
  decoded = b''
  while body:
    inflate = zlib.decompressobj(bits)
    try:
      decoded += inflate.decompress(body, max_bytes + 1 - len(decoded))
    except zlib.error as error:
      raise BodyError('bad_http') from error
    if len(decoded) > max_bytes:
      raise BodyError('body_too_large')
    if not (inflate.eof or is_cut):
      raise BodyError('bad_http')
    body = inflate.unused_data if bits == 31 else b''
    if not body.startswith(b'\x1f\x8b'):
      break  # what stands behind the last member is no part of it
  return decoded


def _decode_natively(body: bytes, name: str, max_bytes: int) -> bytes:
  answer = warc_record.WarcRecord()
  answer.init_headers(warc_record.response)
  answer.is_http = True
  head = f'HTTP/1.1 200 OK\r\nContent-Encoding: {name}\r\n\r\n'
  answer.set_bytes_content(head.encode() + body)
  try:
    answer.parse_http(auto_decode='content')
    return answer.reader.read(max_bytes + 1)
  except OSError as error:
    raise BodyError('bad_http') from error
