"""Programs that try to break out of the sandbox, or to pass without working.

Only their text, from sandbox_attacks.txt: sandbox_attack_run.py runs them.
"""

import pathlib
import platform
import tomllib

_FOLDER = pathlib.Path(__file__).parent
NUMBERS = tomllib.loads((_FOLDER / 'sandbox_attacks.toml').read_text()).get(
  platform.machine()
)

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


def programs(name: str) -> dict[str, dict[str, str]]:
  """The programs of each part of a file in this folder, by name."""
  parts: dict[str, dict[str, str]] = {}
  text = (_FOLDER / name).read_text()
  for part in text.split('\n#### ')[1:]:
    title, *programs = part.split('\n## ')
    pairs = (program.split('\n', 1) for program in programs)
    parts[title] = {name: body.strip('\n') for name, body in pairs}
  return parts


# ESCAPES are bodies of a function; what it returns, if anything, is its prey.
# HANGS, such too, use all the time that they are given. FAKES are answers to
# `add(a, b)` that do not add: some need no call, some know that results go to
# descriptor 3.
ESCAPES, HANGS, FAKES = programs('sandbox_attacks.txt').values()
HONEST = 'def add(a, b):\n  return a + b'
ADD = (
  'assert add(3, 4) == 7',
  'assert add(1, 2) == 3',
  'assert add(1001001, 1002) == 1002003',
)
