"""A web site on loopback whose pages misbehave as the tests ask."""

import contextlib
import http.server
import io
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from llm_jax.web.crawl import crawler, intake
from llm_jax.web.extract import warc

HTML = {'Content-Type': 'text/html'}
_NAMES = ('a.test', 'b.test', 'sub.a.test', 'nota.test')


class Site:
  """Answers by path; remembers every request.

  Attributes:
    answers: path, or host and path -> (status, headers, body), or a function
      of the handler that sends the answer itself.
    requests: (path, user agent, monotonic seconds) in order.
    port: TCP port on 127.0.0.1.
  """

  def __init__(self):
    self.answers: dict[str, tuple | Callable] = {}
    self.requests: list[tuple[str, str, float]] = []
    self.port = 0

  @property
  def url(self) -> str:
    return f'http://127.0.0.1:{self.port}'

  def page(self, path: str, body: str, *links: str):
    """Adds an HTML page with links."""
    html = body + ''.join(f'<a href="{link}">x</a>' for link in links)
    self.answers[path] = (200, HTML, html.encode())

  def paths(self) -> list[str]:
    return [path for path, _, _ in self.requests]


@contextlib.contextmanager
def serve(tls: ssl.SSLContext | None = None, port: int = 0) -> Iterator[Site]:
  """Runs a site until the block ends."""
  site = Site()
  missing = (404, HTML, b'<p>none</p>')

  class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def handle(self):
      # A crawler that goes away in the middle is part of the tests.
      with contextlib.suppress(ConnectionError):
        super().handle()

    def do_GET(self):
      agent = self.headers.get('User-Agent', '')
      site.requests.append((self.path, agent, time.monotonic()))
      named = self.headers.get('Host', '') + self.path
      answer = site.answers.get(named) or site.answers.get(self.path, missing)
      if callable(answer):
        answer(self)
      else:
        send(self, *answer)

    def log_message(self, format, *args):
      pass

  server = http.server.ThreadingHTTPServer(('127.0.0.1', port), Handler)
  server.daemon_threads = True
  if tls:
    server.socket = tls.wrap_socket(
      server.socket, server_side=True, do_handshake_on_connect=False
    )
  site.port = server.server_address[1]
  thread = threading.Thread(target=server.serve_forever, args=(0.05,))
  thread.start()
  try:
    yield site
  finally:
    server.shutdown()
    thread.join()
    server.server_close()


def send(handler, status: int, headers: dict[str, str], body: bytes):
  """Sends a whole answer."""
  handler.send_response(status)
  for name, value in headers.items():
    handler.send_header(name, value)
  if not any(name.lower() == 'content-length' for name in headers):
    handler.send_header('Content-Length', str(len(body)))
  handler.end_headers()
  handler.wfile.write(body)


def raw(*parts: bytes, every_s: float = 0.0, n_times: int = 1) -> Callable:
  """An answer of exactly these bytes, then the end of the connection.

  Args:
    *parts: what to send; the last one is repeated.
    every_s: seconds before each part but the first.
    n_times: how often the last part is sent.
  """

  def answer(handler):
    handler.close_connection = True
    for i, part in enumerate([*parts, *parts[-1:] * (n_times - 1)]):
      time.sleep(every_s if i else 0)
      handler.wfile.write(part)

  return answer


def reset(handler):
  """Ends the connection with a reset in the middle of a head."""
  handler.close_connection = True
  handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-')
  linger = struct.pack('ii', 1, 0)
  handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
  handler.connection.close()


def in_turn(*answers) -> Callable:
  """Another answer each time; the last one stays."""
  waiting = list(answers)

  def answer(handler):
    now = waiting.pop(0) if len(waiting) > 1 else waiting[0]
    if callable(now):
      now(handler)
    else:
      send(handler, *now)

  return answer


def crawl(
  site: Site, folder, seeds: Sequence[str] = (), ca_file=None, **settings
) -> dict:
  """Crawls the site without delays.

  Args:
    site: what `_NAMES` stand for, and the seed if there is no other.
    folder: of the crawl.
    seeds: where to start.
    ca_file: certificates to trust.
    **settings: fields of Crawl and of its Scope.
  """
  addresses = {f'{name}:80': ('127.0.0.1', site.port) for name in _NAMES}
  scope = {
    k: settings.pop(k) for k in list(settings) if hasattr(intake.Scope, k)
  }
  quick = {'delay_s': 0.0, 'retry_delay_s': 0.0, 'page_timeout_s': 2.0}
  cfg = crawler.Crawl(**{**quick, **settings}, scope=intake.Scope(**scope))
  folder.mkdir(exist_ok=True)
  return crawler.crawl(
    cfg,
    seeds or [f'{site.url}/'],
    folder,
    addresses=addresses,
    ca_file=ca_file,
  )


def records(folder) -> list[warc.Record]:
  """The pages of the WARC files in order; each must be whole."""
  found = [
    record
    for file in sorted(folder.glob('*.warc.gz'))
    for record in warc.read(io.BytesIO(file.read_bytes()), 1 << 24)
    if not record.problem.startswith('type_')
  ]
  assert not any(record.problem for record in found)
  return found


def stored(folder) -> dict[str, warc.Record]:
  """The pages by path; each must stand there once."""
  found = records(folder)
  pages = {'/' + record.url.split('/', 3)[3]: record for record in found}
  assert len(pages) == len(found)
  return pages
