"""One HTTP request, with a deadline and a cap, to a host that may misbehave.

It does NOT follow redirects, keep cookies, use proxies of the environment or
retry: who calls it decides.
"""

import contextlib
import dataclasses
import datetime
import http.client
import socket
import ssl
import threading
import urllib.parse
import zlib
from collections.abc import Mapping

_CHUNK_BYTES = 64 << 10


class FetchError(Exception):
  """A request without a usable answer; `reason` is one word to count by."""

  def __init__(self, reason: str, detail: str):
    super().__init__(f'{reason}: {detail}')
    self.reason = reason


@dataclasses.dataclass(frozen=True)
class Response:
  """An answer.

  Attributes:
    status: HTTP status code.
    phrase: the words after it.
    headers: names and values as sent, in order.
    body: decoded from its transfer and content encoding; empty if the status
      or type was not wanted.
    truncated: the body was longer than the cap and is cut there.
    address: IP address of the server.
    date: when the request was made, UTC, to the second.
  """

  status: int
  phrase: str
  headers: tuple[tuple[str, str], ...]
  body: bytes
  truncated: bool
  address: str
  date: datetime.datetime

  def header(self, name: str) -> str:
    """Value of the first header of that name, or ''."""
    wanted = name.lower()
    return next((v for k, v in self.headers if k.lower() == wanted), '')

  @property
  def content_type(self) -> str:
    """The media type in lower case, without parameters."""
    return self.header('Content-Type').partition(';')[0].strip().lower()


def get(
  url: str,
  user_agent: str,
  timeout_s: float,
  max_bytes: int,
  content_types: tuple[str, ...] = (),
  addresses: Mapping[str, tuple[str, int]] | None = None,
) -> Response:
  """Requests one address.

  Args:
    url: a normalised http(s) address.
    user_agent: sent as is.
    timeout_s: for the whole answer, so that a server which sends a byte a
      second cannot hold the crawler.
    max_bytes: cap of the decoded body.
    content_types: a 200 answer of another media type gets no body; empty for
      any type. Answers other than 200 never get a body.
    addresses: where to connect for a `host:port` in place of its DNS entry.

  Returns:
    The answer.

  Raises:
    FetchError: reason `timeout`, `connection`, `disconnect`, `bad_http` or
      `content_encoding`.
  """
  parts = urllib.parse.urlsplit(url)
  host, port = parts.hostname or '', parts.port
  port = port or (443 if parts.scheme == 'https' else 80)
  address = (addresses or {}).get(f'{host}:{port}', (host, port))
  date = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
  try:
    sock = socket.create_connection(address, timeout_s)
  except TimeoutError as error:
    raise FetchError('timeout', f'{url}: {error}') from error
  except OSError as error:
    raise FetchError('connection', f'{url}: {error}') from error
  deadline = _Deadline(sock, timeout_s)
  try:
    peer = sock.getpeername()[0]
    if parts.scheme == 'https':
      context = ssl.create_default_context()
      sock = context.wrap_socket(
        sock, server_hostname=host, do_handshake_on_connect=False
      )
      deadline.sock = sock  # the plain one has given its connection away
      sock.do_handshake()
    connection = http.client.HTTPConnection(host, port)
    connection.sock = sock
    connection.putrequest(
      'GET',
      parts.path + ('?' + parts.query if parts.query else ''),
      skip_host=True,
      skip_accept_encoding=True,
    )
    connection.putheader('Host', parts.netloc)
    connection.putheader('User-Agent', user_agent)
    connection.putheader('Accept-Encoding', 'gzip')
    connection.putheader('Connection', 'close')
    connection.endheaders()
    with connection.getresponse() as answer:
      body, truncated = b'', False
      if answer.status == 200 and _is_wanted(answer, content_types):
        body, truncated = _read_body(answer, max_bytes, url)
    if deadline.passed:  # a cut connection can look like a complete answer
      raise FetchError('timeout', f'{url}: {timeout_s} s')
    return Response(
      answer.status,
      answer.reason,
      tuple(answer.getheaders()),
      body,
      truncated,
      peer,
      date,
    )
  except (OSError, http.client.HTTPException, ValueError) as error:
    if deadline.passed or isinstance(error, TimeoutError):
      raise FetchError('timeout', f'{url}: {timeout_s} s') from error
    is_cut = isinstance(error, OSError | http.client.IncompleteRead)
    reason = 'disconnect' if is_cut else 'bad_http'
    raise FetchError(reason, f'{url}: {error!r}') from error
  finally:
    deadline.cancel()
    sock.close()


class _Deadline:
  """Shuts a socket down at a time, which wakes whoever reads from it."""

  def __init__(self, sock: socket.socket, timeout_s: float):
    self.passed = False
    self.sock = sock
    self._timer = threading.Timer(timeout_s, self._expire)
    self._timer.daemon = True
    self._timer.start()

  def _expire(self):
    self.passed = True
    with contextlib.suppress(OSError):  # already closed: the reader knows
      self.sock.shutdown(socket.SHUT_RDWR)

  def cancel(self):
    self._timer.cancel()


def _is_wanted(answer, content_types: tuple[str, ...]) -> bool:
  media_type = (answer.getheader('Content-Type') or '').partition(';')[0]
  return not content_types or media_type.strip().lower() in content_types


def _read_body(answer, max_bytes: int, url: str) -> tuple[bytes, bool]:
  """The body, decoded while it is read, so that a gzip bomb stays small."""
  encoding = (answer.getheader('Content-Encoding') or 'identity').lower()
  if encoding not in ('identity', 'gzip', 'x-gzip', 'deflate'):
    raise FetchError('content_encoding', f'{url}: {encoding}')
  inflate = None if encoding == 'identity' else zlib.decompressobj(47)
  body = bytearray()
  while len(body) <= max_bytes:
    chunk = answer.read1(_CHUNK_BYTES)
    if not chunk:
      break
    try:
      room = max_bytes + 1 - len(body)
      body += inflate.decompress(chunk, room) if inflate else chunk
    except zlib.error as error:
      raise FetchError('content_encoding', f'{url}: {error}') from error
  truncated = len(body) > max_bytes
  if not truncated and answer.length:  # read1 does not report a short body
    raise FetchError('disconnect', f'{url}: {answer.length} bytes missing')
  return bytes(body[:max_bytes]), truncated
