"""Programs that try to break out of the sandbox, or to pass without working.

Only their text, from sandbox_attacks.txt: sandbox_attack_run.py runs them.
"""

import pathlib
import platform

NUMBERS = {
  'x86_64': {
    'clone': 56, 'vfork': 58, 'clone3': 435, 'ptrace': 101,
    'process_vm_readv': 310, 'unshare': 272, 'mount': 165,
    'chroot': 161, 'add_key': 248,
    'io_uring_setup': 425, 'userfaultfd': 323, 'memfd_create': 319,
    'shmget': 29, 'mq_open': 240, 'pidfd_open': 434,
    'pidfd_send_signal': 424, 'tgkill': 234, 'kill': 62, 'prlimit64': 302,
    'setuid': 105, 'execveat': 322, 'openat': 257, 'landlock': 444,
    'prctl': 157,
  },
  'aarch64': {
    'clone': 220, 'vfork': 220, 'clone3': 435, 'ptrace': 117,
    'process_vm_readv': 270, 'unshare': 97, 'mount': 40,
    'chroot': 51, 'add_key': 217,
    'io_uring_setup': 425, 'userfaultfd': 282, 'memfd_create': 279,
    'shmget': 194, 'mq_open': 180, 'pidfd_open': 434,
    'pidfd_send_signal': 424, 'tgkill': 131, 'kill': 129, 'prlimit64': 261,
    'setuid': 146, 'execveat': 281, 'openat': 56, 'landlock': 444,
    'prctl': 167,
  },
}[platform.machine()]  # fmt: skip

# Before each program; `host` says what there is to be had.
PRELUDE = """
import ctypes, os, signal, socket, struct, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
  # The seventh goes by the stack, where half of an int would be left unset.
  whole = [ctypes.c_long(a) if type(a) is int else a for a in arguments]
  result = libc.syscall(host['numbers'][name], *whole)
  if result < 0:
    raise OSError(ctypes.get_errno(), name)
  return result
def escape(given):
  global host
  host = given
"""


def _programs() -> dict[str, dict[str, str]]:
  """The programs of each part of the file, by name."""
  parts: dict[str, dict[str, str]] = {}
  text = (pathlib.Path(__file__).parent / 'sandbox_attacks.txt').read_text()
  for part in text.split('\n#### ')[1:]:
    title, *programs = part.split('\n## ')
    pairs = (program.split('\n', 1) for program in programs)
    parts[title] = {name: body.strip() for name, body in pairs}
  return parts


# ESCAPES are bodies of a function; what it returns, if anything, is its prey.
# HANGS, such too, use all the time that they are given. FAKES are answers to
# `add(a, b)` that do not add: some need no call, some know that results go to
# descriptor 3.
ESCAPES, HANGS, FAKES = _programs().values()
HONEST = 'def add(a, b):\n  return a + b'
ADD = (
  'assert add(3, 4) == 7',
  'assert add(1, 2) == 3',
  'assert add(1001001, 1002) == 1002003',
)
