"""Writes WARC files, one record at a time.

Every record is its own gzip member, so that a file can be cut back to any
record and any reader can start at any of them. It does NOT split a record over
files.

Source: ISO 28500:2017 (WARC 1.1).
"""

import datetime
import io
import os
import pathlib
import uuid
import zlib

import fastwarc
from fastwarc import warc as warc_record  # pyright: ignore[reportMissingModuleSource]

from llm_jax.web import fetch

# Describe the transfer, not the decoded body that is stored; kept under
# Common Crawl's names for them.
_TRANSFER_HEADERS = frozenset(
  {'content-encoding', 'content-length', 'transfer-encoding'}
)


def encode_response(url: str, response: fetch.Response) -> bytes:
  """A response record as one gzip member.

  The body is stored decoded. The record's id is a name-based UUID of the
  address, time and content, so it says nothing of the machine.

  Args:
    url: address of the page.
    response: what was fetched.

  Returns:
    The bytes to append to a `.warc.gz` file.
  """
  lines = [f'HTTP/1.1 {response.status} {response.phrase}'.rstrip()]
  for name, value in response.headers:
    moved = name.lower() in _TRANSFER_HEADERS
    lines.append(f'{"X-Crawl-" if moved else ""}{name}: {value}')
  lines.append(f'Content-Length: {len(response.body)}')
  # http.client hands headers over as Latin-1.
  head = '\r\n'.join(lines).encode('latin-1', 'replace') + b'\r\n\r\n'
  extra = {'WARC-Target-URI': url, 'WARC-IP-Address': response.address}
  if response.truncated:
    extra['WARC-Truncated'] = 'length'
  return _encode(
    warc_record.response,
    'application/http; msgtype=response',
    response.date,
    extra,
    head + response.body,
  )


def encode_info(date: datetime.datetime, fields: dict[str, str]) -> bytes:
  """A warcinfo record, which opens a file, as one gzip member."""
  text = ''.join(f'{name}: {value}\r\n' for name, value in fields.items())
  return _encode(
    warc_record.warcinfo,
    'application/warc-fields',
    date,
    {},
    text.encode(),
  )


def _encode(record_type, content_type, date, headers, block: bytes) -> bytes:
  record = warc_record.WarcRecord()
  record.init_headers(record_type)
  for name, value in headers.items():
    record.headers[name] = value
  record.headers['Content-Type'] = content_type
  record.record_date = date
  name = f'{headers.get("WARC-Target-URI")} {date.isoformat()} '
  digest = uuid.uuid5(uuid.NAMESPACE_URL, name + str(zlib.crc32(block)))
  record.record_id = f'<urn:uuid:{digest}>'
  record.set_bytes_content(block)
  member = io.BytesIO()
  writer = fastwarc.GzipWriter(member)
  record.write(writer, checksum_data=True)
  writer.finish()  # without it all records would share one member
  return member.getvalue()


class Writer:
  """Appends records to files `<prefix>-00000.warc.gz`, ... of a folder.

  What an earlier process wrote behind the last record that counts, a torn
  record at the end included, is cut off first.

  Attributes:
    cut_bytes: bytes removed that way.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    prefix: str,
    ends: dict[str, int],
    max_bytes: int,
    info: bytes,
  ):
    """Makes the folder agree with `ends`.

    Args:
      folder: where the files are.
      prefix: start of their names.
      ends: length of each file up to the last record that counts; files of
        this prefix that it does not name are removed.
      max_bytes: a file that is longer gets no further record.
      info: the record that opens each file.
    """
    self.cut_bytes = 0
    self._folder, self._prefix = folder, prefix
    self._max_bytes, self._info = max_bytes, info
    for path in sorted(folder.glob(f'{prefix}-*.warc.gz')):
      end = ends.get(path.name, 0)
      self.cut_bytes += path.stat().st_size - end
      if end:
        os.truncate(path, end)
      else:
        path.unlink()
    last = max(ends, default=f'{prefix}-0')
    self._number = int(last.rpartition('-')[2].partition('.')[0])
    self._file = self._open()

  def _open(self) -> io.FileIO:
    name = f'{self._prefix}-{self._number:05d}.warc.gz'
    file = io.FileIO(self._folder / name, 'a')
    if file.tell() == 0:
      _write_all(file, self._info)
    return file

  def append(self, record: bytes) -> tuple[str, int]:
    """Writes a record and waits until it is on the disk.

    Args:
      record: one gzip member.

    Returns:
      Name of the file and the offset behind the record.

    Raises:
      OSError: the disk is full; the file keeps a torn record that the next
        Writer cuts off.
    """
    if self._file.tell() > max(self._max_bytes, len(self._info)):
      self._file.close()
      self._number += 1
      self._file = self._open()
    _write_all(self._file, record)
    os.fsync(self._file.fileno())
    return pathlib.Path(str(self._file.name)).name, self._file.tell()

  def close(self):
    """Closes the file."""
    self._file.close()


def _write_all(file: io.FileIO, data: bytes):
  view = memoryview(data)
  while view:  # a raw write may take only a part
    view = view[file.write(view) :]
