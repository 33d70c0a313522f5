"""What the Linux kernel can take away from a process, by system calls.

Each layer is a function that applies to the calling process, and to all that
it forks, for ever; it raises OSError where the kernel does not grant it. Does
NOT decide which layers are needed: see server.py.
"""

import ctypes
import errno
import os
import pathlib
import resource
import signal
import struct
import tomllib
from collections.abc import Callable, Iterable, Sequence

NOBODY = 65534

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 1, 38, 22
_CLONE_NEW = {
  'user': 0x10000000,
  'pid': 0x20000000,
  'net': 0x40000000,
  'ipc': 0x08000000,
  'uts': 0x04000000,
}

# Landlock: the calls have the same numbers on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_PATH_BENEATH = 1
# ABI version -> number of rights on files, on TCP, and of scopes it knows.
_LANDLOCK_RIGHTS = (
  (1, (13, 0, 0)),
  (2, (14, 0, 0)),
  (3, (15, 0, 0)),
  (4, (15, 2, 0)),
  (5, (16, 2, 0)),
  (6, (16, 2, 2)),
)

_AUDIT_ARCH = {'x86_64': 0xC000003E, 'aarch64': 0xC00000B7}
# Calls that are granted for some values of one argument: (its index, values).
_ONLY_WITH = {
  'fcntl': (1, (0, 1, 2, 3, 1030)),  # duplicate, flags; not F_SETOWN's signals
  'prlimit64': (0, (0,)),  # of oneself
}
# Offsets in struct seccomp_data, and the instructions of classic BPF.
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000

_libc = ctypes.CDLL(None, use_errno=True)


def _call(what: str, function: Callable[..., int], arguments: Sequence) -> int:
  """Calls a function of the C library, with whole numbers as its longs."""
  longs = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
  result = function(*longs)
  if result < 0:
    number = ctypes.get_errno()
    raise OSError(number, f'{what}: {os.strerror(number)}')
  return result


def unshare() -> tuple[str, ...]:
  """Leaves the namespaces of the system, as far as the kernel lets us.

  The next process that is forked is the first one of its own world of
  processes. Who is not root needs a namespace of users for the others.

  Returns:
    The kinds of namespace that are new; () where none is granted, as in
    containers.
  """
  kinds = ['pid', 'net', 'ipc', 'uts']
  if os.geteuid() != 0:
    kinds.insert(0, 'user')
  if _libc.unshare(sum(_CLONE_NEW[kind] for kind in kinds)) != 0:
    return ()
  return tuple(kinds)


def become_nobody():
  """Gives up root, with all groups and capabilities; nothing for others."""
  if os.geteuid() == 0:
    try:
      os.setgroups([])
      os.setresgid(NOBODY, NOBODY, NOBODY)
      os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError as error:
      number = error.errno or errno.EPERM
      raise OSError(number, f'nobody: {os.strerror(number)}') from error


def die_with_parent():
  """Has the kernel kill this process when the one that forked it ends."""
  arguments = [_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0]
  _call('PDEATHSIG', _libc.prctl, arguments)


def limit_resources(cpu_s: int, memory_bytes: int):
  """Sets limits that hold where all others fail."""
  limits = {
    resource.RLIMIT_CPU: cpu_s,
    resource.RLIMIT_AS: memory_bytes,
    resource.RLIMIT_FSIZE: 0,
    resource.RLIMIT_NPROC: 1,
    resource.RLIMIT_NOFILE: 32,
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_MEMLOCK: 0,
    resource.RLIMIT_MSGQUEUE: 0,
  }
  for kind, limit in limits.items():
    _, highest = resource.getrlimit(kind)
    if highest != resource.RLIM_INFINITY:
      limit = min(limit, highest)
    resource.setrlimit(kind, (limit, limit))


def forbid_new_privileges():
  """No later exec gains anything, such as by a setuid file."""
  _call('no_new_privs', _libc.prctl, [_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0])


def landlock_ruleset(readable: Iterable[str]) -> int:
  """A ruleset under which nothing is written and only some files are read.

  Args:
    readable: files, and folders with all that lies beneath; absent ones are
      passed over.

  Returns:
    Its file descriptor, for `restrict_files`.
  """
  version = [_CREATE_RULESET, ctypes.c_void_p(), 0, 1]
  abi = _call('landlock', _libc.syscall, version)
  rights = [bits for first, bits in _LANDLOCK_RIGHTS if abi >= first][-1]
  attribute = struct.pack('QQQ', *((1 << n) - 1 for n in rights))
  # An older kernel refuses bytes it does not know, unless they are left out.
  size = 8 if abi < 4 else 16 if abi < 6 else 24
  create = [_CREATE_RULESET, attribute, size, 0]
  ruleset = _call('landlock', _libc.syscall, create)
  for path in readable:
    try:
      fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
      continue
    allowed = _READ_FILE | (_READ_DIR if os.path.isdir(path) else 0)
    rule = struct.pack('=Qi', allowed, fd)
    add = [_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0]
    _call('landlock', _libc.syscall, add)
    os.close(fd)
  return ruleset


def restrict_files(ruleset: int):
  """Applies a landlock ruleset."""
  _call('landlock', _libc.syscall, [_RESTRICT_SELF, ruleset, 0])


def seccomp_program(machine: str) -> bytes:
  """The filter that grants what system_calls.toml lists, and nothing else.

  Args:
    machine: as platform.machine says it.

  Raises:
    OSError: if the calls of this machine are not known.
  """
  text = pathlib.Path(__file__).with_name('system_calls.toml').read_text()
  calls = tomllib.loads(text).get(machine)
  if calls is None:
    reason = f'seccomp: the calls of {machine} are not known'
    raise OSError(errno.ENOSYS, reason)
  refuse = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
  program = [
    (_LOAD, 0, 0, _ARCH),
    (_JUMP_IF_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
    (_RETURN, 0, 0, _KILL),  # another architecture has other numbers
    (_LOAD, 0, 0, _NUMBER),
  ]
  for name, number in calls.items():
    granted = [(_RETURN, 0, 0, _ALLOW)]
    if name in _ONLY_WITH:
      index, values = _ONLY_WITH[name]
      granted = [(_LOAD, 0, 0, _ARGUMENTS + 8 * index)]
      for value in values:
        granted += [(_JUMP_IF_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
      granted.append(refuse)
    program += [(_JUMP_IF_EQUAL, 0, len(granted), number), *granted]
  return pack([*program, refuse])


def pack(program: Sequence[tuple[int, int, int, int]]) -> bytes:
  """Instructions (code, jump if true, jump if false, value) as bytes."""
  return b''.join(struct.pack('HBBI', *line) for line in program)


def restrict_calls(program: bytes):
  """Applies a seccomp filter; needs `forbid_new_privileges` before."""
  lines = ctypes.create_string_buffer(program, len(program))
  header = struct.pack('HxxxxxxP', len(program) // 8, ctypes.addressof(lines))
  _call('seccomp', _libc.prctl, [_PR_SET_SECCOMP, 2, header, 0, 0])
