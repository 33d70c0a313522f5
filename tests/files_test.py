"""Files are whole or not there, wrong lines are named, and locks go with us."""

import contextlib
import errno
import gzip
import hashlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from llm_jax import files, locks

ROOT = pathlib.Path(__file__).resolve().parent.parent
_HOLD = """
import os, pathlib, sys
from llm_jax import files, locks
answer = locks.lock(pathlib.Path(sys.argv[1]))
if sys.argv[2:] and not os.fork():
  try:
    answer = locks.lock(pathlib.Path(sys.argv[1]))
  except BlockingIOError:
    print(True, flush=True)
elif not sys.argv[2:]:
  print(answer, flush=True)
sys.stdin.read()
"""


def test_json_round_trip(tmp_path):
  value = {'b': [1, 2.5, None, True], 'a': {'text': 'é😀"\n'}}
  files.write_json(tmp_path / 'a.json', value)
  assert files.read_json(str(tmp_path / 'a.json')) == value
  assert list(files.read_json(tmp_path / 'a.json')) == ['b', 'a']
  assert [path.name for path in tmp_path.iterdir()] == ['a.json']


@pytest.mark.parametrize(
  'value', [float('nan'), float('inf'), {1, 2}, b'x', 'half \ud800']
)
def test_no_json(value, tmp_path):
  files.write_json(tmp_path / 'a.json', {'x': 'old'})
  with pytest.raises(ValueError, match=r'a\.json: the value is not JSON'):
    files.write_json(tmp_path / 'a.json', {'x': value})
  assert files.read_json(tmp_path / 'a.json') == {'x': 'old'}


@pytest.mark.parametrize(
  'data', [b'{"a": ', b'[]', b'\xff', b'"\xed\xa0\x80"', b'']
)
def test_damaged_json(data, tmp_path):
  (tmp_path / 'a.json').write_bytes(data)
  with pytest.raises(ValueError, match=r'a\.json is damaged'):
    files.read_json(tmp_path / 'a.json')


@pytest.mark.parametrize('step', ['fsync', 'replace'])
def test_full_disk_keeps_the_old_file(step, tmp_path, monkeypatch):
  files.write_json(tmp_path / 'a.json', {'x': 'old'})

  def full(*_):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(os, step, full)
  with pytest.raises(OSError, match='No space left on device; make room'):
    files.write_json(tmp_path / 'a.json', {'x': 'new'})
  monkeypatch.undo()
  assert files.read_json(tmp_path / 'a.json') == {'x': 'old'}
  assert [path.name for path in tmp_path.iterdir()] == ['a.json']


def test_a_kill_leaves_a_whole_file(tmp_path):
  """A process that is killed while it writes leaves an old or new value."""
  program = (
    'import sys\nfrom llm_jax import files\nn = 0\nwhile True:\n'
    '  n += 1\n'
    '  value = {"n": n, "filler": ["x" * 50] * 2000}\n'
    '  files.write_json(sys.argv[1], value)\n'
  )
  path = tmp_path / 'a.json'
  for _ in range(5):
    words = [sys.executable, '-c', program, str(path)]
    process = subprocess.Popen(words, cwd=ROOT)
    while not path.exists():
      time.sleep(0.01)
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    value = files.read_json(path)
    assert value['filler'] == ['x' * 50] * 2000
  files.remove_leftovers(tmp_path)
  assert list(tmp_path.iterdir()) == [path]


def test_sha256(tmp_path):
  (tmp_path / 'a').write_bytes(b'abc' * 100_000)
  expected = hashlib.sha256(b'abc' * 100_000).hexdigest()
  assert files.sha256(tmp_path / 'a') == expected
  assert files.fingerprint(tmp_path / 'a') == expected


@pytest.mark.parametrize('name', ['a.jsonl', 'a.jsonl.gz'])
def test_lines_come_back(name, tmp_path):
  rows = [{'text': 'é😀\u2028\x85"\n'}, {}, {'n': [1, {'m': None}]}]
  files.write_jsonl(tmp_path / 'a.jsonl', rows)
  data = b'\xef\xbb\xbf' + (tmp_path / 'a.jsonl').read_bytes()
  data = data.replace(b'{}\n', b'\r\n{}\r\n  \n').removesuffix(b'\n')
  packed = gzip.compress(data) if name.endswith('.gz') else data
  (tmp_path / name).write_bytes(packed)
  assert list(files.read_jsonl(tmp_path / name, dict)) == rows


@pytest.mark.parametrize(
  ('line', 'error'),
  [
    (b'{"a": 1', r"b'\{\"a\": 1.*' is not JSON \(Expecting"),
    (b'nonsense', 'is not JSON'),
    (b'[]', 'a line is an object, not list'),
    (b'"x"', 'a line is an object, not str'),
    (b'{"a": "\xff"}', 'byte 8 is 0xff, which is not UTF-8'),
    (b'{"a": "\xed\xa0\x80"}', 'byte 8 is 0xed, which is not UTF-8'),
    (b'{"a": "\\uD800"}', 'surrogates not allowed'),
    (b'[' * 100_000, 'is not JSON .*recursion'),
    (b'{"a": ' + b'9' * 5000 + b'}', 'is not JSON .*digits'),
    (b'{"b": 1}', 'KeyError..a'),
    (b'{"a": null}', 'TypeError'),
  ],
)
def test_wrong_lines_are_named(line, error, tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_bytes(b'{"a": 1}\n\n' + line + b'\n{"a": 2}\n')
  where = f'line 3 of .*a.jsonl.*: .*{error}'

  def read_row(row):
    return -row['a'] if isinstance(row['a'], int | None) else row['a']

  with pytest.raises(ValueError, match=where):
    list(files.read_jsonl(path, read_row, torn_end=True))
  errors = []
  assert list(files.read_jsonl(path, read_row, errors)) == [-1, -2]
  assert len(errors) == 1
  assert errors[0].startswith(f'line 3 of {path}')


@pytest.mark.parametrize('end', [b'{"a"', b'{"a": "\xc3', b'{'])
def test_torn_end(end, tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_bytes(b'{"a": 1}\n' + end)
  assert list(files.read_jsonl(path, dict, torn_end=True)) == [{'a': 1}]
  with pytest.raises(ValueError, match='line 2 of'):
    list(files.read_jsonl(path, dict))


@pytest.mark.parametrize('cut', [-5, -20, 10, 2])
def test_damaged_gzip(cut, tmp_path):
  path = tmp_path / 'a.jsonl.gz'
  path.write_bytes(gzip.compress(b'{"a": 1}\n' * 10_000)[:cut])
  with pytest.raises(ValueError, match='is not a whole gzip file'):
    list(files.read_jsonl(path, dict, torn_end=True))


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
    owner = f'process {other.pid} on {socket.gethostname()} since 20'
    for _ in range(2):  # and asking does not take it away
      with pytest.raises(BlockingIOError, match=f'in use by {owner}.*; wait'):
        locks.lock(tmp_path)
    other.send_signal(signal.SIGKILL)
    other.wait()
    # What the killed one left is taken over.
    assert (tmp_path / '.lock').read_text().startswith(owner)
    assert locks.lock(tmp_path)
    assert (tmp_path / '.lock').read_text().startswith(f'process {os.getpid()}')
  locks.unlock(tmp_path)
  assert not list(tmp_path.iterdir())
  with other_process(tmp_path):
    pass


def test_one_process_may_lock_twice_and_a_link_is_the_same_folder(tmp_path):
  (tmp_path / 'a').mkdir()
  (tmp_path / 'link').symlink_to(tmp_path / 'a')
  assert locks.lock(tmp_path / 'a')
  assert not locks.lock(tmp_path / 'a' / '..' / 'a')
  assert not locks.lock(tmp_path / 'link')
  locks.unlock(tmp_path / 'link')
  assert locks.lock(tmp_path / 'a')
  # A folder made anew under the name is another one.
  shutil.rmtree(tmp_path / 'a')
  locks.unlock(tmp_path / 'a')
  (tmp_path / 'a').mkdir()
  assert locks.lock(tmp_path / 'a')
  shutil.rmtree(tmp_path / 'a')
  (tmp_path / 'a').mkdir()
  assert locks.lock(tmp_path / 'a')
  locks.unlock(tmp_path / 'a')


def test_forked_child_has_no_part_in_the_lock(tmp_path):
  """A killed run's worker may live a moment more."""
  with other_process(tmp_path, 'forks') as other:
    other.kill()
    other.wait()
    assert locks.lock(tmp_path)
    locks.unlock(tmp_path)


def test_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, caplog):
  def refuse(*_):
    raise OSError(95, 'Operation not supported')

  monkeypatch.setattr(locks.fcntl, 'lockf', refuse)
  assert not locks.lock(tmp_path)
  assert 'run one process there' in caplog.text
