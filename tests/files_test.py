"""Locks of folders: one process at a time, and none is left behind."""

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from llm_jax import files

ROOT = pathlib.Path(__file__).resolve().parents[1]
_HOLD = """
import os, pathlib, sys
from llm_jax import files
answer = files.lock(pathlib.Path(sys.argv[1]))
if sys.argv[2:] and not os.fork():
  try:
    answer = files.lock(pathlib.Path(sys.argv[1]))
  except BlockingIOError:
    print(True, flush=True)
elif not sys.argv[2:]:
  print(answer, flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def other_process(folder: pathlib.Path, *arguments: str):
  """A process that has the folder's lock until its input ends."""
  process = subprocess.Popen(
    [sys.executable, '-c', _HOLD, str(folder), *arguments],
    cwd=ROOT,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )
  assert process.stdin
  assert process.stdout
  with process:
    assert process.stdout.readline() == 'True\n'
    yield process
    process.stdin.close()


def test_lock_of_another_process_is_named_and_goes_with_it(tmp_path):
  with other_process(tmp_path) as other:
    owner = f'process {other.pid} on {socket.gethostname()}'
    for _ in range(2):  # and asking does not take it away
      with pytest.raises(BlockingIOError, match=f'in use by {owner};'):
        files.lock(tmp_path)
    other.send_signal(signal.SIGKILL)
    other.wait()
    # What the killed one left is taken over.
    assert (tmp_path / '.lock').read_text() == owner
    assert files.lock(tmp_path)
    assert (tmp_path / '.lock').read_text().startswith(f'process {os.getpid()}')
  files.unlock(tmp_path)
  assert not list(tmp_path.iterdir())
  with other_process(tmp_path):
    pass


def test_one_process_may_lock_twice_and_a_link_is_the_same_folder(tmp_path):
  (tmp_path / 'a').mkdir()
  (tmp_path / 'link').symlink_to(tmp_path / 'a')
  assert files.lock(tmp_path / 'a')
  assert not files.lock(tmp_path / 'a' / '..' / 'a')
  assert not files.lock(tmp_path / 'link')
  files.unlock(tmp_path / 'link')
  assert files.lock(tmp_path / 'a')
  # A folder made anew under the name is another one.
  shutil.rmtree(tmp_path / 'a')
  files.unlock(tmp_path / 'a')
  (tmp_path / 'a').mkdir()
  assert files.lock(tmp_path / 'a')
  shutil.rmtree(tmp_path / 'a')
  (tmp_path / 'a').mkdir()
  assert files.lock(tmp_path / 'a')
  files.unlock(tmp_path / 'a')


def test_forked_child_has_no_part_in_the_lock(tmp_path):
  """A killed run's worker may live a moment more."""
  with other_process(tmp_path, 'forks') as other:
    other.kill()
    other.wait()
    assert files.lock(tmp_path)
    files.unlock(tmp_path)


def test_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, caplog):
  def refuse(*_):
    raise OSError(95, 'Operation not supported')

  monkeypatch.setattr(files.fcntl, 'flock', refuse)
  assert not files.lock(tmp_path)
  assert 'run one process there' in caplog.text
