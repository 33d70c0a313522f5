"""Runs all attacks on the sandbox, and prints what each got.

  python -m tests.verify.sandbox_attack_run [system call to block ...]

Each got nothing, if it was stopped. Loads the standard library and
llm_jax.verify only, so that any user's Python can run it. Calls that are
blocked answer ENOSYS, as in kernels and containers without them.
"""

import contextlib
import ctypes
import json
import os
import pathlib
import resource
import socket
import subprocess
import sys
import tempfile
import time

from llm_jax.verify import python_tests
from llm_jax.verify.sandbox import kernel, sandbox
from tests.verify import sandbox_attacks

_SECRET = 'the-secret-of-the-host'
_MOST_OUTPUT = 1 << 18  # characters that are read of one program
_FAST_S, _SLOW_S = 0.7, 20.0  # for programs that hang, and for the others


def program(body: str) -> str:
  """The module whose function `escape` has a body."""
  lines = '\n'.join('  ' + line for line in body.strip().split('\n'))
  return f'{sandbox_attacks.PRELUDE}{lines}\n'


class Host:
  """What a program could get hold of, and whether it did."""

  def __init__(self, stack: contextlib.ExitStack):
    self._folder = pathlib.Path(tempfile.mkdtemp())
    os.chmod(self._folder, 0o777)
    (self._folder / 'kept').write_text(_SECRET)
    os.chmod(self._folder / 'kept', 0o666)
    self._before = self._files()
    self._victim = stack.enter_context(subprocess.Popen(['sleep', '600']))
    stack.callback(self._victim.kill)
    self._buffer = ctypes.create_string_buffer(_SECRET.encode())
    self._servers = []
    name = self._folder.name
    for family, kind, address in (
      (socket.AF_INET, socket.SOCK_STREAM, ('127.0.0.1', 0)),
      (socket.AF_UNIX, socket.SOCK_STREAM, f'\0{name}'),
    ):
      server = stack.enter_context(socket.socket(family, kind))
      server.bind(address)
      server.listen()
      self._servers.append(server)
    port = self._servers[0].getsockname()[1]
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(('127.0.0.1', port))
    self._servers.append(stack.enter_context(datagrams))
    for server in self._servers:
      server.setblocking(False)
    self.known = {
      'secret': str(self._folder / 'kept'),
      'folder': str(self._folder),
      'judge': sandbox.__file__,
      'victim': self._victim.pid,
      'parent': os.getpid(),
      'address': ctypes.addressof(self._buffer),
      'port': port,
      'name': name,
      'escaped': _SECRET,
      'numbers': sandbox_attacks.NUMBERS,
    }
    os.environ['ATTACKED'] = _SECRET

  def _files(self):
    return [
      (path.name, path.read_bytes(), path.stat().st_mode, path.stat().st_mtime)
      for path in sorted(self._folder.iterdir())
      if path.is_file()
    ] + sorted(path.name for path in self._folder.iterdir())

  def harm(self) -> list[str]:
    """What was done to it."""
    found = []
    if self._files() != self._before:
      found.append('files')
    if self._victim.poll() is not None:
      found.append('victim killed')
    elif resource.prlimit(self._victim.pid, resource.RLIMIT_NOFILE)[0] == 0:
      found.append('victim limited')
    for server in self._servers:
      with contextlib.suppress(BlockingIOError):
        if server.type == socket.SOCK_DGRAM:
          server.recv(1)
        else:
          server.accept()[0].close()
        found.append('network')
    return found


def descendants() -> set[int]:
  """The processes below this one that are not dead."""
  parents = {}
  for path in pathlib.Path('/proc').glob('[0-9]*/stat'):
    with contextlib.suppress(OSError):
      state, parent = path.read_text().rpartition(')')[2].split()[:2]
      if state != 'Z':
        parents[int(path.parent.name)] = int(parent)
  below, n_before = {os.getpid()}, 0
  while len(below) != n_before:
    n_before = len(below)
    below |= {pid for pid, parent in parents.items() if parent in below}
  return below


def escapes(box: sandbox.Sandbox, bodies: dict[str, str], host: Host):
  """What each program got: its prey, the harm, the processes it left."""
  box.run("x = 'needle-of-another' * 2")
  before = descendants()
  prey = {}
  for name, body in bodies.items():
    done = box.run(program(body), 'escape', [((host.known,), {})])
    found = host.harm()
    if any(done.values):
      found.append(f'value {done.values[0]!r}'[:60])
    if _SECRET in f'{done}':
      found.append('the secret')
    if len(done.output) > _MOST_OUTPUT:
      found.append('the memory of the judge')
    if descendants() != before:
      found.append('a process')
    if box.run('def f(x): return -x', 'f', [((5,), {})]).values != (-5,):
      found.append('the server')
    prey[name] = found
  return prey


def fakes(box: sandbox.Sandbox) -> dict[str, list[str]]:
  """The reason of each answer that passed, and of work that did not."""
  tests = python_tests.cases('\n'.join(sandbox_attacks.ADD))
  assert tests is not None
  honest = python_tests.score(sandbox_attacks.HONEST, '', tests, box)
  prey = {'honest': [] if honest.correct else [honest.reason]}
  for name, answer in sandbox_attacks.FAKES.items():
    score = python_tests.score(answer, '', tests, box)
    prey[name] = [score.reason] if score.correct else []
  return prey


def outlives_its_parent(start: str, pid: str) -> bool:
  """Whether a process outlives the one that started it by 10 seconds.

  Args:
    start: code that starts the process, in another one that is then killed.
    pid: an expression for its number.
  """
  lines = (
    start,
    f'print({pid}, flush=True)',
    'import os; os.kill(os.getpid(), 9)',
  )
  # Only its line is read: a process that lives on may hold the pipe open.
  starter = subprocess.Popen(
    [sys.executable, '-c', '\n'.join(lines)],
    cwd=pathlib.Path(__file__).parents[2],
    stdout=subprocess.PIPE,
    text=True,
  )
  assert starter.stdout is not None
  with starter.stdout as line:
    pid = line.readline().strip()
  starter.wait()
  assert pid, 'the process that was to start another one said nothing'
  stat = pathlib.Path(f'/proc/{pid}/stat')
  for _ in range(100):
    if (
      not stat.exists() or stat.read_text().rpartition(')')[2].split()[0] == 'Z'
    ):
      return False
    time.sleep(0.1)
  return True


def block(names: list[str]):
  """Has system calls answer ENOSYS, here and in all children."""
  lines = [(0x20, 0, 0, 0)]
  for name in names:
    if name == 'seccomp':  # the filter, but not other uses of prctl
      lines += [
        (0x15, 0, 4, sandbox_attacks.NUMBERS['prctl']),
        (0x20, 0, 0, 16),
        (0x15, 0, 1, 22),
        (0x06, 0, 0, 0x00050000 | 38),
        (0x20, 0, 0, 0),
      ]
    else:
      lines += [
        (0x15, 0, 1, sandbox_attacks.NUMBERS[name]),
        (0x06, 0, 0, 0x00050000 | 38),
      ]
  kernel.forbid_new_privileges()
  kernel.restrict_calls(kernel.pack([*lines, (0x06, 0, 0, 0x7FFF0000)]))


def main(blocked: list[str]):
  """Runs everything and prints the prey."""
  if blocked:
    block(blocked)
  with contextlib.ExitStack() as stack:
    host = Host(stack)
    fast = stack.enter_context(contextlib.closing(sandbox.Sandbox(_FAST_S)))
    slow = stack.enter_context(contextlib.closing(sandbox.Sandbox(_SLOW_S)))
    prey = {
      'layers': slow.layers,
      'user': os.geteuid(),
      'escapes': escapes(slow, sandbox_attacks.ESCAPES, host)
      | escapes(fast, sandbox_attacks.HANGS, host),
      'fakes': fakes(slow),
    }
  print(json.dumps(prey))


if __name__ == '__main__':
  main(sys.argv[1:])
