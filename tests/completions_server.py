"""A server with OpenAI's chat completions that may misbehave."""

import contextlib
import http.server
import json
import socket
import struct
import threading


def completion(text, **more):
  """A whole body."""
  choice = {'message': {'role': 'assistant', 'content': text}, **more}
  return json.dumps({'choices': [choice]}).encode()


class Server:
  """Answers by a function of what was asked; keeps what came.

  Attributes:
    url: up to /v1.
    seen: path, headers and body of each request.
  """

  def __init__(self, answer_fn):
    """Take the function.

    Args:
      answer_fn: from the body and the number of the request to a body, or to
        (status, headers, body), 'reset', 'silence' or 'cut'.
    """
    self.seen = []
    self.released = threading.Event()
    server = self

    class Handler(http.server.BaseHTTPRequestHandler):
      protocol_version = 'HTTP/1.1'

      def do_POST(self):
        length = int(self.headers['Content-Length'])
        asked = json.loads(self.rfile.read(length))
        server.seen.append((self.path, dict(self.headers), asked))
        answer = answer_fn(asked, len(server.seen))
        if answer == 'reset':
          linger = struct.pack('ii', 1, 0)
          self.connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, linger
          )
          self.close_connection = True
        elif answer == 'silence':
          server.released.wait(20)
          self.close_connection = True
        else:
          is_cut = answer == 'cut'
          answer = completion('never whole') if is_cut else answer
          if isinstance(answer, bytes):
            answer = 200, {'Content-Type': 'application/json'}, answer
          status, headers, body = answer
          self.send_response(status)
          for name, value in headers.items():
            self.send_header(name, value)
          self.send_header('Content-Length', str(len(body)))
          self.end_headers()
          self.wfile.write(body[: 10 if is_cut else None])
          self.close_connection = self.close_connection or is_cut

      def log_message(self, *_):
        pass

    class Quiet(http.server.ThreadingHTTPServer):
      daemon_threads = True

      def handle_error(self, *_):
        pass

    self._http = Quiet(('127.0.0.1', 0), Handler)
    self.url = f'http://127.0.0.1:{self._http.server_address[1]}/v1'
    threading.Thread(target=self._http.serve_forever, daemon=True).start()

  def close(self):
    """Refuse all that comes later."""
    self.released.set()
    self._http.shutdown()
    self._http.server_close()


@contextlib.contextmanager
def running(answer_fn):
  """A server that ends with the block."""
  server = Server(answer_fn)
  try:
    yield server
  finally:
    server.close()
