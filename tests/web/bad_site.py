"""A web site on loopback whose pages misbehave as the tests ask."""

import contextlib
import http.server
import threading
import time
from collections.abc import Callable, Iterator


class Site:
  """Answers by path; remembers every request.

  Attributes:
    answers: path -> (status, headers, body), or a function of the handler
      that sends the answer itself.
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
    self.answers[path] = (200, {'Content-Type': 'text/html'}, html.encode())

  def paths(self) -> list[str]:
    return [path for path, _, _ in self.requests]


@contextlib.contextmanager
def serve() -> Iterator[Site]:
  """Runs a site until the block ends."""
  site = Site()
  missing = (404, {'Content-Type': 'text/html'}, b'<p>none</p>')

  class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
      agent = self.headers.get('User-Agent', '')
      site.requests.append((self.path, agent, time.monotonic()))
      answer = site.answers.get(self.path, missing)
      # A crawler that goes away in the middle is part of the tests.
      with contextlib.suppress(ConnectionError):
        if callable(answer):
          answer(self)
        else:
          send(self, *answer)

    def log_message(self, format, *args):
      pass

  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
  server.daemon_threads = True
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
