"""A limit on the size of files stands for a full disk: writes fail likewise."""

import sys

_PROGRAM = (
  'import os, resource, signal, sys\n'
  'signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
  'resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)\n'
  'os.execv(sys.argv[2], sys.argv[2:])\n'
)


def limited(command: list[str], n_bytes: int) -> list[str]:
  """The command with files limited to n_bytes.

  Set by a process of its own: a test that shares its process with JAX may not
  run code between fork and exec.
  """
  return [sys.executable, '-c', _PROGRAM, str(n_bytes), *command]
