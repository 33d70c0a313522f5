"""One HTTP request, with a deadline and a cap, to a host that may misbehave.

Each has a connection of its own, which a timer ends. It does NOT follow
redirects, keep cookies, use proxies of the environment or retry: who calls it
decides. The time that the system needs to look up a name is not in the
deadline.
"""

import contextlib
import dataclasses
import datetime
import functools
import hashlib
import http.client
import ipaddress
import pathlib
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Mapping

from llm_jax.web.extract import http_body

_CHUNK_BYTES = 64 << 10
_BAD_ANSWER = (http.client.HTTPException, ValueError)


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


@dataclasses.dataclass(frozen=True)
class Client:
  """Makes requests; threads may share it.

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

  @functools.cached_property
  def _tls(self) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=self.ca_file)

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
        `disconnect`, `bad_http`, `content_encoding` or `private_address`.
    """
    parts = urllib.parse.urlsplit(url)
    host, is_tls = parts.hostname or '', parts.scheme == 'https'
    is_late, reason = threading.Event(), 'connection'
    deadline = time.monotonic() + self.timeout_s
    with contextlib.ExitStack() as stack:
      try:
        port = parts.port or (443 if is_tls else 80)
        address = (self.addresses or {}).get(f'{host}:{port}')
        sock = socket.create_connection(address or (host, port), self.timeout_s)
        stack.enter_context(sock)
        peer = sock.getpeername()[0]
        if public_only and not address:
          if not ipaddress.ip_address(peer).is_global:
            raise FetchError('private_address', peer)
        sock.settimeout(None)
        if is_tls:
          sock = self._tls.wrap_socket(
            sock, server_hostname=host, do_handshake_on_connect=False
          )
          stack.enter_context(sock)
        left_s = deadline - time.monotonic()
        timer = threading.Timer(left_s, _cut, (sock, is_late))
        timer.start()
        stack.callback(timer.cancel)
        if isinstance(sock, ssl.SSLSocket):
          sock.do_handshake()
        reason = 'disconnect'
        response = self._ask(sock, parts, max_bytes, types=content_types)
      except (FetchError, OSError, *_BAD_ANSWER) as error:
        if is_late.is_set() or isinstance(error, TimeoutError):
          reason = 'timeout'
        elif isinstance(error, FetchError):
          raise
        elif reason == 'disconnect':
          # What ends early, or in the middle of a chunk, is cut.
          is_cut = isinstance(error, (OSError, http.client.IncompleteRead))
          reason = reason if is_cut else 'bad_http'
        elif isinstance(error, ssl.SSLCertVerificationError):
          reason = 'certificate'
        elif isinstance(error, ssl.SSLError):
          reason = 'tls'
        raise FetchError(reason, repr(error)) from error
    if is_late.is_set():
      raise FetchError('timeout', f'{self.timeout_s} s')
    return dataclasses.replace(response, address=peer)

  def _ask(self, sock: socket.socket, parts, max_bytes: int, types) -> Response:
    target = parts.path + ('?' + parts.query if parts.query else '')
    request = (
      f'GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n'
      f'User-Agent: {self.user_agent}\r\nAccept-Encoding: gzip\r\n'
      'Connection: close\r\n\r\n'
    ).encode('latin-1')
    date = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    sock.sendall(request)
    with http.client.HTTPResponse(sock, method='GET') as answer:
      answer.begin()
      response = Response(
        status=answer.status,
        phrase=answer.reason,
        headers=tuple(answer.getheaders()),
        body=b'',
        truncated=False,
        address='',
        date=date,
        request=request,
      )
      if answer.status == 200 and (not types or response.content_type in types):
        body, truncated = _read_body(answer, max_bytes)
        return dataclasses.replace(response, body=body, truncated=truncated)
      return response


def _cut(sock: socket.socket, is_late: threading.Event):
  """Ends what another thread reads; not `sock.shutdown`, which TLS replaces."""
  is_late.set()
  with contextlib.suppress(OSError):
    socket.socket.shutdown(sock, socket.SHUT_RDWR)


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
