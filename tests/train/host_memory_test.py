"""Limits as files say them, by both versions of control groups, and real."""

import contextlib
import os
import pathlib
import subprocess
import sys

import pytest

from llm_jax.train import host_memory

ROOT = pathlib.Path(__file__).resolve().parents[2]
MEMINFO = 'MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 800 kB\n'
STAT = 'cache 5000\ninactive_file 1000\ntotal_inactive_file 2000\n'


@pytest.mark.parametrize(
  ('files', 'limit', 'free'),
  [
    ({}, 1024_000, 819_200),
    (
      {
        'proc/self/cgroup': '0::/a/b\n',
        'sys/fs/cgroup/a/b/memory.max': 'max\n',
        'sys/fs/cgroup/a/memory.max': '300000\n',
        'sys/fs/cgroup/a/memory.current': '150000\n',
        'sys/fs/cgroup/a/memory.stat': STAT,
      },
      300_000,
      151_000,
    ),
    (  # in a container the path is that outside
      {
        'proc/self/cgroup': '0::/../other/pod\n',
        'sys/fs/cgroup/memory.max': '400000\n',
      },
      400_000,
      400_000,
    ),
    (
      {
        'proc/self/cgroup': '5:cpuset:/a\n4:memory,cpu:/a/b\n0::/\n',
        'sys/fs/cgroup/memory/a/b/memory.limit_in_bytes': '500000\n',
        'sys/fs/cgroup/memory/a/b/memory.usage_in_bytes': '400000\n',
        'sys/fs/cgroup/memory/a/b/memory.stat': STAT,
        'sys/fs/cgroup/memory/memory.limit_in_bytes': '9223372036854771712\n',
      },
      500_000,
      102_000,
    ),
  ],
)
def test_least_of_machine_and_groups(files, limit, free, tmp_path):
  for name, text in {'proc/meminfo': MEMINFO, **files}.items():
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text)
  assert host_memory.limit(tmp_path)[0] == limit
  assert host_memory.free(tmp_path) == free


PROGRAM = """
import os, sys
if sys.argv[1]:
  open(sys.argv[1], 'w').write(str(os.getpid()))
from llm_jax.train import host_memory
print(*host_memory.limit())
"""


def limit_in(group='', ulimit=''):
  done = subprocess.run(
    ['sh', '-c', f'{ulimit} exec "$@"', 'sh', sys.executable, '-c', PROGRAM,
     group],
    cwd=ROOT, capture_output=True, text=True, check=True,
  )  # fmt: skip
  n_bytes, _, owner = done.stdout.strip().partition(' ')
  return int(n_bytes), owner


def test_ulimit():
  found = limit_in(ulimit='ulimit -v 2000000;')
  assert found == (2000000 * 1024, 'ulimit -v')


@pytest.mark.parametrize(
  ('top', 'name'),
  [
    ('/sys/fs/cgroup/memory', 'memory.limit_in_bytes'),
    ('/sys/fs/cgroup', 'memory.max'),
  ],
)
def test_group_of_this_machine(top, name):
  folder = pathlib.Path(top) / f'llm_jax_test_{os.getpid()}'
  if not (pathlib.Path(top) / 'cgroup.procs').exists():
    pytest.skip('no control groups of this version here')
  with contextlib.ExitStack() as stack:
    try:
      folder.mkdir()
      stack.callback(folder.rmdir)
      (folder / name).write_text(str(2**30))
    except OSError as error:
      pytest.skip(f'no control group can be made here: {error}')
    n_bytes, owner = limit_in(str(folder / 'cgroup.procs'))
    assert n_bytes == 2**30
    assert str(folder) in owner
