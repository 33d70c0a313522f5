"""The body of a stored HTTP answer without transfer and content encoding.

A body that ends early is an error, because decoders that stop without one make
short pages out of broken ones. It does NOT parse headers.

Source: RFC 9112 section 7.1 (chunks), RFC 9110 section 8.4 (content codings).
"""

import codecs
import re
import zlib
from collections.abc import Iterable

import brotli

from llm_jax import files

zstd = files.zstd

GZIP_MAGIC, ZSTD_MAGIC = MAGICS = b'\x1f\x8b\x08', b'\x28\xb5\x2f\xfd'
ERRORS = (zlib.error, zstd.ZstdError, brotli.error)
_CHUNK = re.compile(rb'[ \t]*([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n')
_CHUNK_END = re.compile(rb'\r?\n|\Z')
# Bytes that no text has, by mimesniff.spec.whatwg.org.
_BINARY = re.compile(rb'[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]')
_LOOKED_AT_BYTES = 1024
_READ = ('gzip', 'x-gzip', 'deflate', 'br', 'zstd')
_NOT_READ = ('compress', 'x-compress', 'dcb', 'dcz')


class BodyError(Exception):
  """No body; `reason` is a word such as `bad_http` or `body_too_large`."""

  def __init__(self, reason: str):
    super().__init__(reason)
    self.reason = reason


class _Brotli:
  """Brotli's decoder under the names that zlib's and zstd's have."""

  unused_data = b''

  def __init__(self):
    self._decoder = brotli.Decompressor()

  def decompress(self, data: bytes, max_length: int) -> bytes:
    return self._decoder.process(data, output_buffer_limit=max_length)

  @property
  def eof(self) -> bool:
    return self._decoder.is_finished()


def read_capped(
  chunks: Iterable[bytes], max_bytes: int, is_packed: bool
) -> tuple[bytes, bool]:
  """The start of a body, decoded chunk by chunk.

  A bomb stays small: nothing behind the cap is decoded, or asked for.

  Args:
    chunks: the body.
    max_bytes: cap of the decoded bytes.
    is_packed: the body is a gzip or zlib stream, and not taken as it is.

  Returns:
    At most one byte more than the cap, and False if a stream breaks off there.

  Raises:
    zlib.error: the stream is damaged, or there is none.
  """
  decoder, body = zlib.decompressobj(47) if is_packed else None, bytearray()
  for chunk in chunks:
    room = max_bytes + 1 - len(body)
    body += decoder.decompress(chunk, room) if decoder else chunk[:room]
    if len(body) > max_bytes:
      break
  return bytes(body), decoder is None or decoder.eof


def decode(
  body: bytes, transfer: str, content: str, max_bytes: int, is_cut: bool
) -> bytes:
  """Takes the encodings off that the headers name.

  Many archives store the decoded body under the headers of the encoded one,
  and servers name encodings that they did not use; so a body that does not
  look as its encoding does is left as it is.

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
  for name in reversed(f'{content},{transfer}'.lower().split(',')):
    body = _decompress(body, name.strip(), max_bytes=max_bytes, is_cut=is_cut)
  if len(body) > max_bytes:
    raise BodyError('body_too_large')
  return body


def _join_chunks(body: bytes, is_cut: bool) -> bytes:
  chunks, start = [], 0
  while head := _CHUNK.match(body, start):
    size, begin = int(head[1], 16), head.end()
    if not size:
      return b''.join(chunks)
    chunks.append(body[begin : begin + size])
    end = _CHUNK_END.match(body, begin + size)
    if not end and not start:
      return body  # a text whose first line looks like the size of a chunk
    start = end.end() if end else begin + size
  if is_cut and start >= len(body):
    return b''.join(chunks)
  raise BodyError('bad_http')


def _decompress(body: bytes, name: str, max_bytes: int, is_cut: bool) -> bytes:
  """Takes one encoding off: the one it begins with, or else the named one."""
  if name in _NOT_READ and not _is_text(body):
    raise BodyError('bad_http')
  if name not in _READ:
    return body
  magic = next(filter(body.startswith, MAGICS), b'')
  if not magic and (not body or name not in ('deflate', 'br')):
    return body
  decoded, rest, is_sure = b'', body, bool(magic)
  try:
    while True:
      decoder = _decoder(rest, name)
      decoded += decoder.decompress(rest, max_bytes + 1 - len(decoded))
      if len(decoded) > max_bytes:
        raise BodyError('body_too_large')
      if not (decoder.eof or is_cut):
        raise BodyError('bad_http')
      # What stands behind an encoded body is no part of it.
      rest = decoder.unused_data
      if not (magic and rest.startswith(magic)):
        break
    is_sure = is_sure or (decoder.eof and not rest)
  except (*ERRORS, BodyError) as error:
    if is_sure or not _is_text(body):
      raise BodyError(getattr(error, 'reason', 'bad_http')) from error
  return decoded if is_sure or not _is_text(body) else body


def _decoder(body: bytes, name: str):
  if body.startswith(GZIP_MAGIC):
    return zlib.decompressobj(31)
  if body.startswith(ZSTD_MAGIC):
    return zstd.ZstdDecompressor()
  if name == 'br':
    return _Brotli()
  # RFC 9110 means zlib's format; some servers send the bare stream.
  is_zlib = body[0] & 15 == 8 and int.from_bytes(body[:2], 'big') % 31 == 0
  return zlib.decompressobj(15 if is_zlib else -15)


def _is_text(body: bytes) -> bool:
  if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
    return True
  start = body[:_LOOKED_AT_BYTES]
  n_ascii = len(start.decode('ascii', 'ignore'))
  return not _BINARY.search(start) and 2 * n_ascii > len(start)
