"""The process that forks one prisoner for each program, and the prisoner.

The server holds no request: a prisoner reads its own, after it has locked
itself in, so there is nothing of others to find in its memory. It does NOT
judge results, keep time or kill: sandbox.py does, from outside. It is started
by that file, and loads the standard library alone.
"""

import functools
import gc
import importlib
import json
import os
import platform
import random
import signal
import socket
import sys
import types
from collections.abc import Callable
from typing import Any

from llm_jax.verify.sandbox import kernel, values

# Loaded once for all programs.
_PRELOADED = (
  *('bisect', 'cmath', 'collections', 'copy', 'datetime', 'decimal'),
  *('fractions', 'functools', 'heapq', 'itertools', 'json', 'math'),
  *('operator', 're', 'statistics', 'string', 'typing'),
)
_RESULT = 3  # the prisoner's last descriptor, a socket
_MAX_DESCRIPTORS = 64  # the server has fewer
_LIBRARY = os.path.dirname(os.__file__)
# What a program may read: the standard library and what it loads.
_READABLE = (
  *('/lib', '/lib64', '/usr/lib', '/usr/lib64', '/usr/share/zoneinfo'),
  *('/etc/ld.so.cache', '/dev/null', '/dev/urandom'),
  os.path.dirname(_LIBRARY),
)
_NAME = 'solution'  # of the program's module: code for '__main__' is left out


def main(control_fd: int, cpu_s: int, memory_bytes: int):
  """Serves until the other end of the control socket is closed.

  Args:
    control_fd: socket on which each request is a pair of descriptors, for
      the result and for what is printed. The answer is the prisoner's pidfd.
    cpu_s: seconds of computing that a program has.
    memory_bytes: address space that a program has, Python's own included.
  """
  control = socket.socket(fileno=control_fd)
  try:
    namespaces = kernel.unshare()
    if 'pid' in namespaces:  # only a child is in the new one
      child = os.fork()
      if child:
        control.close()
        os.waitpid(child, 0)
        return
    _keep_library()
    ruleset = kernel.landlock_ruleset(_READABLE)
    program = kernel.seccomp_program(platform.machine())
    kernel.become_nobody()
  except OSError as error:
    control.sendall(values.dumps({'error': str(error)}))
    return
  for name in _PRELOADED:
    importlib.import_module(name)
  imprison = functools.partial(
    _imprison, (ruleset, program), (cpu_s, memory_bytes)
  )
  signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries children
  gc.freeze()
  control.sendall(values.dumps({'namespaces': namespaces}))
  while True:
    _, descriptors, _, _ = socket.recv_fds(control, 1, 2)
    if len(descriptors) != 2:
      return  # which ends all children too
    _fork(control, descriptors, imprison)


def _fork(control: socket.socket, descriptors: list[int], imprison: Callable):
  try:
    child = os.fork()
    if child == 0:
      imprison(*descriptors)
    pidfd = os.pidfd_open(child)
  except OSError:  # no process is free, or it could not lock itself in
    control.sendall(b'-')
  else:
    socket.send_fds(control, [b'+'], [pidfd])
    os.close(pidfd)
  for fd in descriptors:
    os.close(fd)


def _keep_library():
  """Has modules found from the current folder, the standard library.

  Root's own Python may lie in a folder that nobody may enter. A way that begins
  at the current folder does not lead through there.
  """

  def moved(paths):
    return [path.replace(_LIBRARY, '/proc/self/cwd') for path in paths]

  os.chdir(_LIBRARY)
  sys.path[:] = moved(sys.path)
  for module in list(sys.modules.values()):
    if hasattr(module, '__path__'):
      module.__path__ = moved(module.__path__)


def _imprison(
  walls: tuple[int, bytes],  # landlock's and seccomp's
  limits: tuple[int, int],
  result_fd: int,
  output_fd: int,
):
  """Locks this process in, runs the program that it is sent, and ends."""
  try:
    kernel.die_with_parent()
    os.setsid()
    kernel.forbid_new_privileges()
    kernel.restrict_files(walls[0])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output_fd, 1)
    os.dup2(output_fd, 2)
    result_fd = os.dup2(result_fd, _RESULT)
    os.closerange(_RESULT + 1, _MAX_DESCRIPTORS)
    kernel.limit_resources(*limits)
    kernel.restrict_calls(walls[1])
  except BaseException as error:
    try:
      _send({'error': f'not isolated: {error}'}, result_fd)
      _receive(result_fd)  # stays until it has been looked at
    finally:
      os._exit(1)  # nothing may lead back to the server
  try:
    _run(json.loads(_receive()))
  except BaseException as error:  # SystemExit and whatever a program raises
    _send({'error': f'{type(error).__name__}: {error}'})
  finally:
    os._exit(0)


def _run(request: dict[str, Any]):
  """Executes the code, then calls its function; sends a line a call."""
  random.seed(0)
  module = types.ModuleType(_NAME)
  sys.modules[_NAME] = module
  exec(compile(request['code'], _NAME, 'exec'), module.__dict__)
  for args, kwargs in values.decode(request['calls']):
    value = module.__dict__[request['entry']](*args, **kwargs)
    _send({'value': values.encode(value)})
  sys.stdout.flush()
  _send({'done': True})


def _receive(fd: int = _RESULT) -> bytes:
  parts = []
  while part := os.read(fd, 1 << 16):
    parts.append(part)
  return b''.join(parts)


def _send(message: dict[str, Any], fd: int = _RESULT):
  line = values.dumps(message)
  while line:
    line = line[os.write(fd, line) :]
