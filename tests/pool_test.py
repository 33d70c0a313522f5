"""Tests of llm_jax.pool: where workers come from, and that they end."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from llm_jax import pool
from llm_jax.web.extract import html_text, warc

_PAGE = warc.Record(
  body=b'<html><body><p>It rains, and it rains, and it rains.</p></body></html>'
)


def _write_facts(folder: pathlib.Path, number: int):
  """What a worker, and the child that extracts for it, see of themselves."""
  with contextlib.closing(
    html_text.Extractor(html_text.Extraction('resiliparse'))
  ) as extractor:
    extractor.extract(_PAGE)
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
import pathlib, signal, sys
sys.path.insert(0, {root!r})
from llm_jax import pool
# It may be ignored, as by what a shell starts in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {tests!r})
import pool_test
folder = pathlib.Path({folder!r})
with pool.Pool(folder, 2, ['llm_jax.web.extract.html_text']) as workers:
  workers.run(pool_test._wait, [(0,), (1,)])
"""


def _wait(folder: pathlib.Path, number: int):
  with contextlib.closing(
    html_text.Extractor(html_text.Extraction('resiliparse'))
  ) as extractor:
    extractor.extract(_PAGE)
    assert extractor._child is not None
    pids = f'{os.getpid()} {os.getppid()} {extractor._child.pid}'
    (folder / f'{number}.tmp').write_text(pids)
    (folder / f'{number}.tmp').rename(folder / str(number))
    time.sleep(100)


@pytest.mark.skipif(sys.platform != 'linux', reason='it reads /proc')
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_its_parent(number, tmp_path):
  """Killed, or ended by Ctrl-C, which a terminal sends to all of them."""
  here = pathlib.Path(__file__).parent
  program = tmp_path / 'program.py'
  folders = {'tests': here, 'root': here.parent, 'folder': tmp_path}
  program.write_text(
    _PROGRAM.format(**{name: str(path) for name, path in folders.items()})
  )
  process = subprocess.Popen(
    [sys.executable, program], start_new_session=True, stderr=subprocess.PIPE
  )
  paths = [tmp_path / '0', tmp_path / '1']
  try:
    _until(lambda: all(p.exists() for p in paths))
    if number == signal.SIGINT:
      os.killpg(process.pid, number)
      _, stderr = process.communicate(timeout=60)  # a task takes 100 s
      assert stderr.count(b'Traceback') == 1, stderr  # the program's own
  finally:
    process.kill()
    process.communicate()
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
