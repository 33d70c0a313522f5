"""What the Linux kernel can take away from a process, by system calls.

Each layer is a function that applies to the calling process, and to all that
it forks, for ever; it raises OSError where the kernel does not grant it. Does
NOT decide which layers are needed: see server.py.
"""

import ctypes
import os
import resource
import struct
from collections.abc import Iterable, Sequence

NOBODY = 65534

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 1, 38, 22
_SIGKILL = 9
_CLONE_NEW = {
  'user': 0x10000000,
  'pid': 0x20000000,
  'net': 0x40000000,
  'ipc': 0x08000000,
  'uts': 0x04000000,
}
_EPERM, _ENOSYS = 1, 38

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

# seccomp: what one thread of Python needs to compute. Nothing else is granted:
# no process, thread, socket, signal, file system change, memory file, ioctl.
_CALLS = {
  'x86_64': {
    'read': 0, 'write': 1, 'open': 2, 'close': 3, 'stat': 4, 'fstat': 5,
    'lstat': 6, 'poll': 7, 'lseek': 8, 'mmap': 9, 'mprotect': 10,
    'munmap': 11, 'brk': 12, 'rt_sigaction': 13, 'rt_sigprocmask': 14,
    'rt_sigreturn': 15, 'pread64': 17, 'readv': 19, 'writev': 20,
    'access': 21, 'select': 23, 'sched_yield': 24, 'mremap': 25,
    'madvise': 28, 'dup': 32, 'nanosleep': 35, 'getpid': 39, 'exit': 60,
    'uname': 63, 'fcntl': 72, 'getcwd': 79, 'gettimeofday': 96,
    'getrlimit': 97, 'getrusage': 98, 'times': 100, 'getuid': 102,
    'getgid': 104, 'geteuid': 107, 'getegid': 108, 'sigaltstack': 131,
    'gettid': 186, 'time': 201, 'futex': 202, 'sched_getaffinity': 204,
    'getdents64': 217, 'clock_gettime': 228, 'clock_getres': 229,
    'clock_nanosleep': 230, 'exit_group': 231, 'openat': 257,
    'newfstatat': 262, 'pselect6': 270, 'ppoll': 271, 'prlimit64': 302,
    'getrandom': 318, 'statx': 332, 'rseq': 334,
  },
  'aarch64': {
    'dup': 23, 'fcntl': 25, 'getcwd': 17, 'openat': 56, 'close': 57,
    'getdents64': 61, 'lseek': 62, 'read': 63, 'write': 64, 'readv': 65,
    'writev': 66, 'pread64': 67, 'pselect6': 72, 'ppoll': 73,
    'newfstatat': 79, 'fstat': 80, 'exit': 93, 'exit_group': 94,
    'futex': 98, 'nanosleep': 101, 'clock_gettime': 113,
    'clock_getres': 114, 'clock_nanosleep': 115, 'sched_getaffinity': 123,
    'sched_yield': 124, 'sigaltstack': 132, 'rt_sigaction': 134,
    'rt_sigprocmask': 135, 'rt_sigreturn': 139, 'times': 153, 'uname': 160,
    'getrlimit': 163, 'getrusage': 165, 'gettimeofday': 169, 'getpid': 172,
    'getuid': 174, 'geteuid': 175, 'getgid': 176, 'getegid': 177,
    'gettid': 178, 'brk': 214, 'munmap': 215, 'mremap': 216, 'mmap': 222,
    'mprotect': 226, 'madvise': 233, 'prlimit64': 261, 'getrandom': 278,
    'statx': 291, 'rseq': 293,
  },
}  # fmt: skip
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


def _check(result: int, what: str) -> int:
  if result < 0:
    number = ctypes.get_errno()
    raise OSError(number, f'{what}: {os.strerror(number)}')
  return result


def _syscall(what: str, number: int, arguments: Sequence) -> int:
  padded = [
    ctypes.c_long(a) if isinstance(a, int) else a for a in (number, *arguments)
  ]
  return _check(_libc.syscall(*padded), what)


def _prctl(what: str, option: int, arguments: Sequence):
  padded = [
    ctypes.c_ulong(a) if isinstance(a, int) else a
    for a in (*arguments, 0, 0, 0, 0)[:4]
  ]
  _check(_libc.prctl(option, *padded), what)


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
      number = error.errno or _EPERM
      raise OSError(number, f'nobody: {os.strerror(number)}') from error


def die_with_parent():
  """Has the kernel kill this process when the one that forked it ends."""
  _prctl('PDEATHSIG', _PR_SET_PDEATHSIG, [_SIGKILL])


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
  _prctl('no_new_privs', _PR_SET_NO_NEW_PRIVS, [1])


def landlock_ruleset(readable: Iterable[str]) -> int:
  """A ruleset under which nothing is written and only some files are read.

  Args:
    readable: files, and folders with all that lies beneath; absent ones are
      passed over.

  Returns:
    Its file descriptor, for `restrict_files`.
  """
  abi = _syscall('landlock', _CREATE_RULESET, [ctypes.c_void_p(), 0, 1])
  rights = [bits for first, bits in _LANDLOCK_RIGHTS if abi >= first][-1]
  attribute = struct.pack('QQQ', *((1 << n) - 1 for n in rights))
  # An older kernel refuses bytes it does not know, unless they are left out.
  size = 8 if abi < 4 else 16 if abi < 6 else 24
  ruleset = _syscall('landlock', _CREATE_RULESET, [attribute, size, 0])
  for path in readable:
    try:
      fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
      continue
    allowed = _READ_FILE | (_READ_DIR if os.path.isdir(path) else 0)
    rule = struct.pack('=Qi', allowed, fd)
    _syscall('landlock', _ADD_RULE, [ruleset, _PATH_BENEATH, rule, 0])
    os.close(fd)
  return ruleset


def restrict_files(ruleset: int):
  """Applies a landlock ruleset."""
  _syscall('landlock', _RESTRICT_SELF, [ruleset, 0])


def seccomp_program(machine: str) -> bytes:
  """The filter that grants the calls of _CALLS and refuses all others.

  Args:
    machine: as platform.machine says it.

  Raises:
    OSError: if the calls of this machine are not known.
  """
  if machine not in _CALLS:
    raise OSError(_ENOSYS, f'seccomp: the calls of {machine} are not known')
  refuse = (_RETURN, 0, 0, _ERRNO | _EPERM)
  program = [
    (_LOAD, 0, 0, _ARCH),
    (_JUMP_IF_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
    (_RETURN, 0, 0, _KILL),  # another architecture has other numbers
    (_LOAD, 0, 0, _NUMBER),
  ]
  for name, number in _CALLS[machine].items():
    granted = [(_RETURN, 0, 0, _ALLOW)]
    if name in _ONLY_WITH:
      index, values = _ONLY_WITH[name]
      granted = [(_LOAD, 0, 0, _ARGUMENTS + 8 * index)]
      for value in values:
        granted.append((_JUMP_IF_EQUAL, 0, 1, value))
        granted.append((_RETURN, 0, 0, _ALLOW))
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
  _prctl('seccomp', _PR_SET_SECCOMP, [2, header])
