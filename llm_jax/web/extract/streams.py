"""The bytes of an archive file, member by member, as many as are asked for.

Members are gzip's, or the frames of zstd. At damage a member ends and says
why, and the next one is looked for.

Source: iipc.github.io/warc-specifications/specifications/warc-zstd.
"""

import contextlib
import functools
import re
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

from llm_jax.web.extract import http_body

MAX_MATCH_BYTES = 5 << 10
MAX_REWINDS = 20  # in a member, where each starts from its beginning
_READ_BYTES = 32 << 10
_COMPRESSED_READ_BYTES = 128 << 10
ZSTD_DICTIONARY = b'\x5d\x2a\x4d\x18'  # the frame that holds it, if it is first


class Member:
  """One gzip member or zstd frame as a file; at damage it ends and says why.

  fastwarc stops without an error at an empty member and loses the rest of the
  file at a damaged one; so members are found here.

  Attributes:
    problem: '' | `short_record` (the file ends inside) | `damaged_file`.
    rest: bytes of the file that were read and lie behind the member.
    n_rewinds: how often it was read again.
  """

  def __init__(
    self, file: BinaryIO, start: int, rest: bytes, make: Callable[[], Any]
  ):
    self._file, self._start, self._make = file, start, make
    self.n_rewinds = 0
    self._open(rest)

  def _open(self, rest: bytes):
    self._decoder = self._make()
    self.problem, self.rest, self._position = '', rest, 0

  def read(self, size: int) -> bytes:
    """At most as many bytes of what it holds; b'' at its end."""
    while not (self.problem or self._decoder.eof):
      # zstd's decoder keeps what it has not read yet, zlib's gives it back.
      if not self.rest and getattr(self._decoder, 'needs_input', True):
        self.rest = self._file.read(_COMPRESSED_READ_BYTES)
        if not self.rest:
          self.problem = 'short_record'
          break
      try:
        data = self._decoder.decompress(self.rest, size)
      except http_body.ERRORS:
        self.problem = 'damaged_file'
        break
      eof = self._decoder.eof
      unused = self._decoder.unused_data if eof else b''
      self.rest = unused or getattr(self._decoder, 'unconsumed_tail', b'')
      if data:
        self._position += len(data)
        return data
    return b''

  def seek(self, position: int):
    """Goes there, or to the end."""
    if position < self._position:
      self.n_rewinds += 1
      self._file.seek(self._start)
      self._open(b'')
      if self.n_rewinds > MAX_REWINDS:
        self.problem = 'damaged_file'
    while self._position < position:
      if not self.read(min(_READ_BYTES, position - self._position)):
        break


class Window:
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

  def skip_to(self, pattern: re.Pattern) -> int:
    """Goes to the next match behind the first byte; returns how far that is.

    Args:
      pattern: of at most `MAX_MATCH_BYTES`.
    """
    start = self.position
    first = 1
    while True:
      found = pattern.search(self.data, first)
      if found:
        self.go(self.position + found.start())
        return self.position - start
      # A match may lie across the end of the data.
      n_passed = max(len(self.data) - MAX_MATCH_BYTES, 0)
      self.go(self.position + n_passed)
      first = 0 if n_passed or not first else 1
      n_here = len(self.data)
      if self.fill(n_here + _READ_BYTES) == n_here:
        self.go(self._end)
        return self.position - start


def decoder_of(start: bytes, magic: bytes) -> Callable[[], Any]:
  """What makes the decoder of a member of a file that starts so."""
  if magic == http_body.GZIP_MAGIC:
    return functools.partial(zlib.decompressobj, 31)
  dictionary = None
  if start.startswith(ZSTD_DICTIONARY):
    data = start[8 : 8 + int.from_bytes(start[4:8], 'little')]
    # One that is damaged is none: frames that need it are damaged too.
    with contextlib.suppress(http_body.zstd.ZstdError, ValueError):
      is_packed = data.startswith(http_body.ZSTD_MAGIC)
      data = http_body.zstd.decompress(data) if is_packed else data
      dictionary = http_body.zstd.ZstdDict(data)
  return functools.partial(http_body.zstd.ZstdDecompressor, dictionary)
