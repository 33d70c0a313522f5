"""One HTTP request, with a deadline and a cap, to a host that may misbehave.

A connection is kept for the next request to its host, as long as both sides
agree where an answer ends. It does NOT follow redirects, keep cookies, use
proxies of the environment or retry: who calls it decides. The time that the
system needs to look up a name is not in the deadline.
"""

import contextlib
import dataclasses
import datetime
import functools
import hashlib
import http.client
import io
import ipaddress
import math
import pathlib
import socket
import ssl
import time
import urllib.parse
from collections.abc import Mapping

from llm_jax.web.extract import http_body

_CHUNK_BYTES = 64 << 10
_MAX_HEAD_BYTES = 1 << 20
_MAX_IDLE = 64
_BAD_ANSWER = (http.client.HTTPException, ValueError)
_QUICKACK = getattr(socket, 'TCP_QUICKACK', None)  # Linux


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
    request: the head of the request, byte for byte.
  """

  status: int
  phrase: str
  headers: tuple[tuple[str, str], ...]
  body: bytes
  truncated: bool
  address: str
  date: datetime.datetime
  request: bytes = b''

  @functools.cached_property
  def digest(self) -> bytes:
    """SHA-1 of the body, WARC's customary digest of a payload."""
    return hashlib.sha1(self.body, usedforsecurity=False).digest()

  def header(self, name: str) -> str:
    """Value of the first header of that name, or ''."""
    wanted = name.lower()
    return next((v for k, v in self.headers if k.lower() == wanted), '')

  @property
  def location(self) -> str:
    """Where a redirect leads; servers send it as UTF-8, against the rules."""
    value = self.header('Location')
    try:
      return value.encode('latin-1').decode('utf-8')
    except UnicodeError:
      return value

  @property
  def content_type(self) -> str:
    """The media type in lower case, without parameters."""
    return self.header('Content-Type').partition(';')[0].strip().lower()


@dataclasses.dataclass
class Client:
  """Makes requests; threads may share it, one request at a time for a host.

  Attributes:
    user_agent: sent as is.
    timeout_s: for the whole answer, so that a server which sends a byte a
      second cannot hold the crawler.
    addresses: where to connect for a `host:port` in place of its DNS entry.
    ca_file: certificates to trust in place of the system's.
  """

  user_agent: str
  timeout_s: float
  addresses: Mapping[str, tuple[str, int]] | None = None
  ca_file: pathlib.Path | None = None

  def __post_init__(self):
    self._idle: dict[tuple[str, str], _Connection] = {}

  @functools.cached_property
  def _tls(self) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=self.ca_file)

  def close(self):
    """Closes the connections that are kept."""
    while self._idle:
      self._idle.popitem()[1].sock.close()

  def get(
    self,
    url: str,
    max_bytes: int,
    content_types: tuple[str, ...] = (),
    public_only: bool = False,
  ) -> Response:
    """Requests one address.

    Args:
      url: a normalised http(s) address.
      max_bytes: cap of the decoded body.
      content_types: a 200 answer of another media type gets no body; empty
        for any type. Answers other than 200 never get a body.
      public_only: refuse a server in a private network, which a page of a
        stranger has no business to name; `addresses` are exempt.

    Returns:
      The answer.

    Raises:
      FetchError: reason `timeout`, `connection`, `certificate`, `tls`,
        `disconnect`, `bad_http`, `endless`, `content_encoding` or
        `private_address`.
    """
    deadline = time.monotonic() + self.timeout_s
    parts = urllib.parse.urlsplit(url)
    kept = self._idle.pop((parts.scheme, parts.netloc), None)
    limits = deadline, max_bytes, content_types
    if kept:
      try:
        if kept.is_clean():
          return self._ask(kept, parts, *limits)
      except FetchError as error:
        # Nothing came back: the server had closed it (RFC 9110 9.2.2).
        if error.reason != 'disconnect' or kept.n_read:
          raise
      kept.sock.close()
    connection = self._connect(parts, deadline, public_only)
    return self._ask(connection, parts, *limits)

  def _connect(self, parts, deadline: float, public_only: bool):
    host = parts.hostname or ''
    port = parts.port or (443 if parts.scheme == 'https' else 80)
    address = (self.addresses or {}).get(f'{host}:{port}')
    public_only = public_only and address is None
    sock = None
    try:
      sock = socket.create_connection(address or (host, port), self.timeout_s)
      peer = sock.getpeername()[0]
      if public_only and not ipaddress.ip_address(peer).is_global:
        raise FetchError('private_address', peer)
      sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
      if parts.scheme == 'https':
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        sock = self._tls.wrap_socket(sock, server_hostname=host)
      return _Connection(sock, peer)
    except (OSError, FetchError, ValueError) as error:
      if sock:
        sock.close()
      if isinstance(error, FetchError):
        raise
      reasons = {
        TimeoutError: 'timeout',
        ssl.SSLCertVerificationError: 'certificate',
        ssl.SSLError: 'tls',
        Exception: 'connection',
      }
      reason = next(r for kind, r in reasons.items() if isinstance(error, kind))
      raise FetchError(reason, str(error)) from error

  def _ask(self, connection, parts, deadline, max_bytes, types) -> Response:
    """One request; the connection is kept if it can serve another."""
    target = parts.path + ('?' + parts.query if parts.query else '')
    request = (
      f'GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n'
      f'User-Agent: {self.user_agent}\r\nAccept-Encoding: gzip\r\n\r\n'
    ).encode('latin-1')
    date = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    # A gzip stream can take input for ever and give nothing.
    connection.begin(deadline, 2 * max_bytes + _MAX_HEAD_BYTES)
    is_kept = False
    try:
      connection.sock.settimeout(max(deadline - time.monotonic(), 0.001))
      connection.sock.sendall(request)
      answer = http.client.HTTPResponse(connection, method='GET')
      answer.begin()
      response = Response(
        status=answer.status,
        phrase=answer.reason,
        headers=tuple(answer.getheaders()),
        body=b'',
        truncated=False,
        address=connection.peer,
        date=date,
        request=request,
      )
      if answer.status == 200 and (not types or response.content_type in types):
        body, truncated = _read_body(answer, max_bytes)
        response = dataclasses.replace(response, body=body, truncated=truncated)
      elif not answer.will_close:
        # Its body stands in the way of the next answer; but who sends it
        # slowly or badly has still given a status.
        connection.begin(min(deadline, time.monotonic() + 1), _CHUNK_BYTES)
        with contextlib.suppress(FetchError, OSError, *_BAD_ANSWER):
          while answer.read1(_CHUNK_BYTES):
            pass
      is_read = answer.isclosed() or answer.length == 0
      is_kept = is_read and not answer.will_close
      return response
    except TimeoutError as error:
      raise FetchError('timeout', f'{self.timeout_s} s') from error
    except (OSError, *_BAD_ANSWER) as error:
      # A bad chunk is an IncompleteRead as well.
      is_short = isinstance(error, http.client.IncompleteRead)
      is_cut = isinstance(error, OSError) or (is_short and connection.ended)
      reason = 'disconnect' if is_cut else 'bad_http'
      raise FetchError(reason, repr(error)) from error
    finally:
      if is_kept:
        self._idle[parts.scheme, parts.netloc] = connection
        if len(self._idle) > _MAX_IDLE:
          with contextlib.suppress(KeyError, StopIteration, RuntimeError):
            self._idle.pop(next(iter(self._idle))).sock.close()
      else:
        connection.sock.close()


class _Stream(io.BufferedReader):
  """Stays open when http.client closes it at the end of an answer."""

  def close(self):
    pass


class _Connection(io.RawIOBase):
  """A socket as a stream that ends at a time and after a number of bytes.

  Attributes:
    n_read: bytes that came since `begin`.
    ended: the server has closed its side.
  """

  def __init__(self, sock: socket.socket, peer: str):
    self.sock, self.peer = sock, peer
    self.n_read, self.ended = 0, False
    self._deadline, self._max_bytes = 0.0, 0
    self._stream = _Stream(self, _CHUNK_BYTES)

  def begin(self, deadline: float, max_bytes: int):
    """Sets the limits of the next answer."""
    self._deadline, self._max_bytes, self.n_read = deadline, max_bytes, 0

  def is_clean(self) -> bool:
    """False if the server sent more than its answer, or closed."""
    self.begin(math.inf, 1)
    try:  # what is buffered, else what the socket has
      return not self._stream.peek(1) and not self.ended
    except (BlockingIOError, ssl.SSLWantReadError):
      return True
    except OSError:
      return False

  def makefile(self, _: str) -> _Stream:
    """What http.client asks of a socket."""
    return self._stream

  def readable(self) -> bool:
    """True; io.BufferedReader asks."""
    return True

  def readinto(self, buffer) -> int:
    """Reads what is there, or waits for it until the deadline."""
    remaining_s = self._deadline - time.monotonic()
    if remaining_s <= 0:
      raise TimeoutError
    if self.n_read >= self._max_bytes:
      raise FetchError('endless', f'more than {self._max_bytes} bytes')
    if _QUICKACK:
      # A server that sends head and body apart waits for the first ACK, which
      # the kernel holds back for 40 ms on a connection that stays open.
      self.sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
    self.sock.settimeout(0 if remaining_s == math.inf else remaining_s)
    n_read = self.sock.recv_into(buffer)
    self.n_read += n_read
    self.ended = not n_read
    return n_read


def _read_body(answer, max_bytes: int) -> tuple[bytes, bool]:
  """The body, decoded while it is read, so that a gzip bomb stays small."""
  encoding = (answer.getheader('Content-Encoding') or 'identity').lower()
  if encoding not in ('identity', 'gzip', 'x-gzip', 'deflate'):
    raise FetchError('content_encoding', encoding)
  chunks = iter(functools.partial(answer.read1, _CHUNK_BYTES), b'')
  try:
    body, is_whole = http_body.read_capped(
      chunks, max_bytes, is_packed=encoding != 'identity'
    )
  except http_body.ERRORS as error:
    raise FetchError('content_encoding', str(error)) from error
  truncated = len(body) > max_bytes
  if not truncated and answer.length:  # read1 does not report a short body
    raise FetchError('disconnect', f'{answer.length} bytes missing')
  if not (truncated or is_whole):
    raise FetchError('content_encoding', f'{encoding} ends early')
  return body[:max_bytes], truncated
