"""Writes WARC files, one record at a time.

Every record is its own gzip member, so that a file can be cut back to any
record and any reader can start at any of them. It does NOT split a record over
files.

Source: ISO 28500:2017 (WARC 1.1).
"""

import base64
import datetime
import io
import os
import pathlib
import uuid
from typing import NamedTuple

import fastwarc
from fastwarc import warc as warc_record  # pyright: ignore[reportMissingModuleSource]

from llm_jax import files
from llm_jax.web.crawl import fetch

# Describe the transfer, not the decoded body that is stored; kept under
# Common Crawl's names for them.
_TRANSFER_HEADERS = frozenset(
  {'content-encoding', 'content-length', 'transfer-encoding'}
)
_FORMAT = {
  'format': 'WARC File Format 1.1',
  'conformsTo': 'http://iipc.github.io/warc-specifications/specifications/'
  'warc-format/warc-1.1/',
}
_REVISIT = 'http://netpreserve.org/warc/1.1/revisit/identical-payload-digest'


class Original(NamedTuple):
  """The record that holds a payload which was seen again.

  Attributes:
    record_id: its WARC-Record-ID.
    url: its WARC-Target-URI.
    date: its WARC-Date.
  """

  record_id: str
  url: str
  date: str


def original(url: str, response: fetch.Response) -> Original:
  """What a later record of the same payload has to know of this one."""
  date = response.date.strftime('%Y-%m-%dT%H:%M:%SZ')
  return Original(_record_id('response', url, response), url, date)


def encode_response(
  url: str, response: fetch.Response, seen: Original | None = None
) -> bytes:
  """A response record, or a revisit record of a known payload.

  The body is stored decoded. The record's id is a name-based UUID of the
  address, time and content, so it says nothing of the machine.

  Args:
    url: address of the page.
    response: what was fetched.
    seen: the record that has the same payload; then only the head is stored.

  Returns:
    One gzip member, to append to a `.warc.gz` file.
  """
  lines = [f'HTTP/1.1 {response.status} {response.phrase}'.rstrip()]
  for name, value in response.headers:
    moved = name.lower() in _TRANSFER_HEADERS
    lines.append(f'{"X-Crawl-" if moved else ""}{name}: {value}')
  lines.append(f'Content-Length: {len(response.body)}')
  # http.client hands headers over as Latin-1.
  head = '\r\n'.join(lines).encode('latin-1', 'replace') + b'\r\n\r\n'
  extra = {
    'WARC-Record-ID': _record_id('response', url, response),
    'WARC-Target-URI': url,
    'WARC-IP-Address': response.address,
    'WARC-Payload-Digest': 'sha1:' + base64.b32encode(response.digest).decode(),
  }
  if response.truncated or seen:
    extra['WARC-Truncated'] = 'length'
  if seen:
    extra |= {
      'WARC-Profile': _REVISIT,
      'WARC-Refers-To': seen.record_id,
      'WARC-Refers-To-Target-URI': seen.url,
      'WARC-Refers-To-Date': seen.date,
    }
  extra['Content-Type'] = 'application/http; msgtype=response'
  block = head if seen else head + response.body
  kind = 'revisit' if seen else 'response'
  return _encode(kind, response.date, extra, block=block)


def encode_request(url: str, response: fetch.Response) -> bytes:
  """The record of the request that brought an answer, as one gzip member."""
  extra = {
    'WARC-Record-ID': _record_id('request', url, response),
    'WARC-Target-URI': url,
    'WARC-Concurrent-To': _record_id('response', url, response),
    'Content-Type': 'application/http; msgtype=request',
  }
  return _encode('request', response.date, extra, block=response.request)


def encode_info(
  date: datetime.datetime, fields: dict[str, str], name: str
) -> bytes:
  """A warcinfo record, which opens a file, as one gzip member.

  Args:
    date: when the file was begun.
    fields: what it says of the crawl.
    name: the file's name.
  """
  text = ''.join(f'{name}: {value}\r\n' for name, value in fields.items())
  extra = {
    'WARC-Record-ID': _uuid(f'warcinfo {name} {date.isoformat()} {text}'),
    'WARC-Filename': name,
    'Content-Type': 'application/warc-fields',
  }
  return _encode('warcinfo', date, extra, block=text.encode())


def _record_id(kind: str, url: str, response: fetch.Response) -> str:
  return _uuid(
    f'{kind} {url} {response.date.isoformat()} {response.digest.hex()}'
  )


def _uuid(name: str) -> str:
  return f'<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, name)}>'


def _encode(
  kind: str, date: datetime.datetime, headers: dict[str, str], block: bytes
) -> bytes:
  record = warc_record.WarcRecord()
  record.init_headers(getattr(warc_record, kind))
  for name, value in headers.items():
    record.headers[name] = value
  record.record_date = date
  record.set_bytes_content(block)
  member = io.BytesIO()
  writer = fastwarc.GzipWriter(member)
  record.write(writer, checksum_data=True)
  writer.finish()  # without it all records would share one member
  return member.getvalue()


class Writer:
  """Appends records to files `crawl-00000.warc.gz`, ... of a folder.

  What an earlier process wrote behind the last record that counts, a torn
  record at the end included, is cut off first.

  Attributes:
    cut_bytes: bytes removed that way.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    ends: dict[str, int],
    max_bytes: int,
    fields: dict[str, str],
  ):
    """Makes the folder agree with `ends`.

    Args:
      folder: where the files are.
      ends: length of each file up to the last record that counts; other files
        of a crawl are removed.
      max_bytes: a file that is longer gets no further record.
      fields: what the first record of a file says of the crawl.
    """
    self.cut_bytes = 0
    self._folder, self._max_bytes, self._fields = folder, max_bytes, fields
    for path in sorted(folder.glob('crawl-*.warc.gz')):
      end = ends.get(path.name, 0)
      self.cut_bytes += path.stat().st_size - end
      if end:
        os.truncate(path, end)
      else:
        path.unlink()
    self._number = max(len(ends) - 1, 0)
    self._open()

  def _open(self):
    name = f'crawl-{self._number:05d}.warc.gz'
    self._file = io.FileIO(self._folder / name, 'a')
    self._is_new = self._file.tell() == 0
    if self._is_new:
      now = datetime.datetime.now(datetime.UTC)
      fields = {**self._fields, **_FORMAT}
      _write_all(self._file, encode_info(now, fields, name))
      self.sync()
      files.sync(self._folder)  # the name

  def append(self, record: bytes) -> tuple[str, int]:
    """Writes records that belong together, into one file.

    Args:
      record: one gzip member or more.

    Returns:
      Name of the file and the offset behind the last record.

    Raises:
      OSError: the disk is full; the file keeps a torn record that the next
        Writer cuts off.
    """
    if self._file.tell() > self._max_bytes and not self._is_new:
      self.close()
      self._number += 1
      self._open()
    _write_all(self._file, record)
    self._is_new = False
    return pathlib.Path(str(self._file.name)).name, self._file.tell()

  def sync(self):
    """Waits until all that was appended is on the disk."""
    os.fsync(self._file.fileno())

  def close(self):
    """Closes the file, which is then on the disk."""
    self.sync()
    self._file.close()


def _write_all(file: io.FileIO, data: bytes):
  view = memoryview(data)
  while view:  # a raw write may take only a part
    view = view[file.write(view) :]
