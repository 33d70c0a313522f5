"""The memory that a process on a CPU may use before the kernel ends it.

It does NOT know what other processes will take.
"""

import os
import pathlib
import resource
from collections.abc import Iterator

_ROOT = pathlib.Path('/')
# Of a control group's folder, by version: its limit, what it uses, and how its
# statistics name the cached files, which the kernel gives back.
_FILES = {
  1: ('memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file'),
  2: ('memory.max', 'memory.current', 'inactive_file'),
}


def limit(root: pathlib.Path = _ROOT) -> tuple[int, str]:
  """Bytes that this process may ever use, and what sets that limit.

  Args:
    root: where proc and sys are.

  Returns:
    The least of the machine's memory, the limits of the control groups that
    this process is in, of version 1 or 2, and those of `ulimit`.
  """
  limits = [(_machine(root, 'MemTotal'), 'the machine')]
  for folder, files in _groups(root):
    n_bytes = _number(folder / files[0])
    limits.append((n_bytes, f'the control group {folder}'))
  for name, which in (('-v', resource.RLIMIT_AS), ('-d', resource.RLIMIT_DATA)):
    soft = resource.getrlimit(which)[0]
    if soft != resource.RLIM_INFINITY:
      limits.append((soft, f'ulimit {name}'))
  return min((n, what) for n, what in limits if n)


def free(root: pathlib.Path = _ROOT) -> int:
  """Bytes of that which nobody uses now."""
  found = [_machine(root, 'MemAvailable')]
  for folder, (most, used, cached) in _groups(root):
    if n_bytes := _number(folder / most):
      lines = _lines(folder / 'memory.stat')
      n_cached = sum(int(line[1]) for line in lines if line[0] == cached)
      found.append(max(n_bytes - _number(folder / used) + n_cached, 1))
  return min(n for n in found if n)


def _machine(root: pathlib.Path, name: str) -> int:
  for line in _lines(root / 'proc/meminfo'):
    if line[0] == f'{name}:':
      return 1024 * int(line[1])
  if root != _ROOT:
    return 0
  return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')  # no Linux


def _groups(
  root: pathlib.Path,
) -> Iterator[tuple[pathlib.Path, tuple[str, str, str]]]:
  """Folders of the groups of this process, and of those that they are in."""
  top = root / 'sys/fs/cgroup'
  for words in _lines(root / 'proc/self/cgroup'):
    _, controllers, path = ' '.join(words).split(':', 2)
    if 'memory' in controllers.split(','):
      parent, files = top / 'memory', _FILES[1]
    elif not controllers:
      parent, files = top, _FILES[2]
    else:
      continue
    # In a container the path may be that outside, of which nothing is here;
    # the folder on top is then the container's own.
    inner = pathlib.PurePosixPath(path).relative_to('/')
    for name in (inner, *inner.parents):
      yield parent / name, files


def _number(path: pathlib.Path) -> int:
  """The number in a file; 0 where there is none, as for `max`."""
  for word, *_ in _lines(path):
    # Version 1 says no limit by the largest multiple of a page.
    return int(word) if word.isdigit() and int(word) < 2**60 else 0
  return 0


def _lines(path: pathlib.Path) -> list[list[str]]:
  try:
    return [line.split() for line in path.read_text().splitlines() if line]
  except OSError:
    return []
