"""Tests of llm_jax.pool: where workers come from, and that they end."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from llm_jax import pool
from llm_jax.web.extract import html_text

_PAGE = html_text.Page(
  b'<html><body><p>It rains, and it rains, and it rains.</p></body></html>'
)


def _write_facts(folder: pathlib.Path, number: int):
  """What a worker, and the child that extracts for it, see of themselves."""
  with html_text.Extractor(html_text.Extraction('resiliparse')) as extractor:
    next(extractor.extract([[_PAGE]]))
    assert extractor._child is not None
    child = pathlib.Path(f'/proc/{extractor._child.pid}')
    stat = (child / 'stat').read_text().rpartition(')')[2].split()
    command = (child / 'cmdline').read_text()
  facts = {
    'pid': os.getpid(),
    'parent': os.getppid(),
    'parent_of_child': int(stat[1]),
    'is_forked': 'forkserver' in command,
  }
  (folder / str(number)).write_text(json.dumps(facts))


@pytest.mark.skipif(sys.platform != 'linux', reason='it reads /proc')
def test_workers_come_from_a_server_and_fork_their_children(tmp_path):
  with pool.Pool(tmp_path, 2, ['llm_jax.web.extract.html_text']) as workers:
    workers.run(_write_facts, [(i,) for i in range(4)])
  for i in range(4):
    facts = json.loads((tmp_path / str(i)).read_text())
    assert facts['parent'] != os.getpid()  # which has threads
    assert facts['parent_of_child'] == facts['pid']
    assert facts['is_forked']  # a spawned one has a command line of its own


# Not guarded: no process may load it again.
_PROGRAM = """
import pathlib, sys
from llm_jax import pool
sys.path.insert(0, {tests!r})
import pool_test
folder = pathlib.Path({folder!r})
with pool.Pool(folder, 2, ['llm_jax.web.extract.html_text']) as workers:
  workers.run(pool_test._wait, [(0,), (1,)])
"""


def _wait(folder: pathlib.Path, number: int):
  with html_text.Extractor(html_text.Extraction('resiliparse')) as extractor:
    next(extractor.extract([[_PAGE]]))
    assert extractor._child is not None
    pids = f'{os.getpid()} {os.getppid()} {extractor._child.pid}'
    (folder / f'{number}.tmp').write_text(pids)
    (folder / f'{number}.tmp').rename(folder / str(number))
    time.sleep(100)


@pytest.mark.skipif(sys.platform != 'linux', reason='it reads /proc')
def test_no_process_outlives_a_killed_parent(tmp_path):
  here = pathlib.Path(__file__).parent
  program = tmp_path / 'program.py'
  program.write_text(_PROGRAM.format(tests=str(here), folder=str(tmp_path)))
  process = subprocess.Popen([sys.executable, program])
  paths = [tmp_path / '0', tmp_path / '1']
  try:
    _until(lambda: all(p.exists() for p in paths))
  finally:
    process.send_signal(signal.SIGKILL)
    process.wait()
  pids = {int(p) for path in paths for p in path.read_text().split()}
  assert len(pids) == 5  # a server, two workers and a child each
  _until(lambda: not any(map(_is_alive, pids)))


def _is_alive(pid: int) -> bool:
  try:
    stat = pathlib.Path(f'/proc/{pid}/stat').read_text()
  except FileNotFoundError:
    return False
  return stat.rpartition(')')[2].split()[0] != 'Z'


def _until(is_true):
  for _ in range(600):
    if is_true():
      return
    time.sleep(0.1)
  raise AssertionError('it did not come true in a minute')
