"""Runs Python programs that nobody has read, such as those of a model.

A program runs in a process of its own, forked by a server that was started
once. It may compute and print, and read the standard library; it has no other
file, no network, no second process or thread, and no time beyond its limits.
Linux only: where the kernel cannot isolate, nothing is run. Does NOT judge:
what comes back are plain values, and whoever asked compares them here, outside.

The existence and the size of files can be asked by a program. A fault of the
kernel itself is not guarded against.
"""

import contextlib
import dataclasses
import math
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from llm_jax.verify import children
from llm_jax.verify.sandbox import values as sandbox_values

Call = tuple[Sequence[Any], Mapping[str, Any]]  # positional, by name

_RESULT_BYTES = 1 << 16  # hostile sets of this size are still read at once
_OUTPUT_BYTES = 1 << 16
_REASON_CHARS = 300
_MEMORY_BYTES = 512 << 20  # address space, of which Python takes 30 MiB
_START_S = 30.0
_END_S = 10.0
_REMEDY = (
  'it needs Linux 5.13 or later on x86_64 or aarch64, with landlock among its '
  'security modules (lsm=landlock,...), seccomp, and a Python that the user '
  'nobody may read'
)
# What holds is tried, not believed. `colorsys` is a file that must be readable.
_PROBE = """
import os, socket, colorsys
def probe():
  broken = []
  for layer, attempt in (('landlock', lambda: os.listdir('/')),
                         ('seccomp', socket.socket)):
    try:
      attempt()
    except PermissionError:
      continue
    broken.append(layer)
  return broken
"""


@dataclasses.dataclass(frozen=True)
class Execution:
  """What a program did."""

  values: tuple[Any, ...]  # of the calls that returned, in order; plain types
  output: str  # what it printed
  error: str  # why it did not get through all calls; '' if it did


class Sandbox:
  """A server of isolated processes; may be used from several threads."""

  def __init__(self, timeout_s: float = 3.0):
    """Starts the server and tries whether its walls hold.

    Args:
      timeout_s: seconds from the start of a program until it is killed.

    Raises:
      OSError: if programs cannot be isolated here.
    """
    if sys.platform != 'linux':
      raise OSError(f'no Python sandbox on {sys.platform}; {_REMEDY}')
    self._timeout_s = timeout_s
    self._lock = threading.Lock()
    self._control, theirs = socket.socketpair()
    with theirs:
      self._server = children.start(
        'llm_jax.verify.sandbox.server.main',
        (theirs.fileno(), math.ceil(timeout_s) + 1, _MEMORY_BYTES),
        flags=('-S', '-s'),  # no site-packages, nothing of the user
        stdout=subprocess.DEVNULL,
        cwd='/',
        env={'PYTHONHASHSEED': '0'},  # the same program does the same again
      )
    try:
      self.layers = self._begin()
    except BaseException:
      self.close()
      raise

  def _begin(self) -> tuple[str, ...]:
    self._control.settimeout(_START_S)
    line = self._control.makefile('rb').readline()
    greeting = sandbox_values.loads(line or b'{"error": "its server crashed"}')
    failure = greeting.get('error')
    if not failure:
      probe = self.run(_PROBE, 'probe', [((), {})])
      if probe.values != ([],):
        failure = probe.error or f'{probe.values[0]} did not hold'
    if failure:
      raise OSError(f'no Python sandbox here: {failure}; {_REMEDY}')
    namespaces = [f'namespace {name}' for name in greeting['namespaces']]
    return ('landlock', 'seccomp', 'rlimits', *namespaces)

  def close(self):
    """Ends the server, and with it all programs."""
    self._control.close()
    try:
      self._server.wait(_END_S)
    except subprocess.TimeoutExpired:
      self._server.kill()
      self._server.wait()

  def run(
    self, code: str, entry: str = '', calls: Sequence[Call] = ()
  ) -> Execution:
    """Executes code, then calls one of its functions.

    Args:
      code: a Python module.
      entry: name of the function.
      calls: its arguments, of plain types, for one call each. No expected
        value belongs here: what is not sent cannot be stolen.

    Returns:
      Its values as they were rebuilt from JSON, or why there are fewer.

    Raises:
      ValueError: if an argument is not plain.
      OSError: if the server has ended or cannot fork.
    """
    plain = [(list(args), dict(kwargs)) for args, kwargs in calls]
    encoded = sandbox_values.encode(plain)
    request = sandbox_values.dumps(
      {'code': code, 'entry': entry, 'calls': encoded}
    )
    with contextlib.ExitStack() as stack:
      result, their_result = socket.socketpair()
      stack.enter_context(result)
      output_fd, their_output_fd = os.pipe()
      stack.callback(os.close, output_fd)
      try:
        pidfd = self._fork(their_result.fileno(), their_output_fd)
      finally:
        their_result.close()
        os.close(their_output_fd)
      stack.callback(os.close, pidfd)
      try:
        lines, output, stop = _converse(
          request,
          result=result,
          output_fd=output_fd,
          deadline=time.monotonic() + self._timeout_s,
        )
      finally:
        _kill(pidfd)
    values, error = _read(lines, len(calls))
    return Execution(values, output.decode(errors='replace'), stop or error)

  def _fork(self, *descriptors: int) -> int:
    with self._lock:
      try:
        socket.send_fds(self._control, [b'+'], descriptors)
        answer, pidfds, _, _ = socket.recv_fds(self._control, 1, 1)
      except ConnectionError:
        answer = b''
    if answer == b'+':
      return pidfds[0]
    if answer == b'-':
      raise OSError('the sandbox server could not fork; use fewer at a time')
    raise OSError('the sandbox server has ended; make another Sandbox')


def _converse(
  request: bytes, result: socket.socket, output_fd: int, deadline: float
) -> tuple[bytes, bytes, str]:
  """Sends the request and reads until both ends close or a limit is met.

  Returns:
    The result's lines, the output, and which limit was met, or ''.
  """
  received = {result.fileno(): bytearray(), output_fd: bytearray()}
  limits = {result.fileno(): _RESULT_BYTES, output_fd: _OUTPUT_BYTES}
  unsent, stop = memoryview(request), ''
  with selectors.DefaultSelector() as selector:
    result.setblocking(False)
    selector.register(result, selectors.EVENT_READ | selectors.EVENT_WRITE)
    selector.register(output_fd, selectors.EVENT_READ)
    while selector.get_map():
      if (left_s := deadline - time.monotonic()) <= 0:
        stop = 'it took too long'
        break
      for key, events in selector.select(left_s):
        if events & selectors.EVENT_WRITE:
          unsent = unsent[_send(result, unsent) :]
          if not unsent:
            selector.modify(result, selectors.EVENT_READ)
        if events & selectors.EVENT_READ:
          part = _receive(key.fd)
          received[key.fd] += part
          if not part:
            selector.unregister(key.fileobj)
      for fd, limit in limits.items():
        if len(received[fd]) > limit:
          what = 'printed' if fd == output_fd else 'returned'
          stop = stop or f'it {what} more than {limit} bytes'
      if stop:
        break
  return bytes(received[result.fileno()]), bytes(received[output_fd]), stop


def _send(result: socket.socket, unsent: memoryview) -> int:
  """How much was sent; all, if nobody is left to read it."""
  try:
    n_sent = result.send(unsent)
    if n_sent == len(unsent):
      result.shutdown(socket.SHUT_WR)
    return n_sent
  except ConnectionError:
    return len(unsent)


def _receive(fd: int) -> bytes:
  try:
    return os.read(fd, 1 << 16)
  except ConnectionError:  # it ended before it had read all
    return b''


def _kill(pidfd: int):
  """Ends a process, whatever became of it, and waits until it is gone."""
  with contextlib.suppress(ProcessLookupError):
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
  poll = select.poll()
  poll.register(pidfd, select.POLLIN)
  if not poll.poll(_END_S * 1000):
    raise OSError(f'a program is still there {_END_S} s after SIGKILL')


def _read(lines: bytes, n_calls: int) -> tuple[tuple[Any, ...], str]:
  """The values in lines that a hostile program may have written."""
  values = []
  try:
    for line in lines.split(b'\n')[:-1]:
      message = sandbox_values.loads(line)
      if not isinstance(message, dict):
        raise ValueError(f'{line[:40]!r} is no message')
      if 'value' in message:
        values.append(sandbox_values.decode(message['value']))
      elif isinstance(reason := message.get('error'), str):
        reason = reason[:_REASON_CHARS].encode(errors='replace').decode()
        return tuple(values), reason
      elif len(values) == n_calls:
        return tuple(values), ''
  except ValueError as error:
    return tuple(values), f'its result cannot be read: {error}'
  return tuple(values), f'it ended after {len(values)} of {n_calls} calls'
