"""The record of a stage: what is written, and which folders are refused."""

import dataclasses
import errno
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from llm_jax import record

ROOT = pathlib.Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True)
class Data:
  seed: int = 5
  sizes: tuple[int, ...] = (1, 2)


@dataclasses.dataclass(frozen=True)
class Config:
  data: Data = Data()
  rate: float = 0.5
  seed: int = 0


class TestJson:
  def test_round_trip(self, tmp_path):
    value = {'b': [1, 2.5, None, True], 'a': {'text': 'é😀"\n'}}
    record.write_json(tmp_path / 'a.json', value)
    assert record.read_json(tmp_path / 'a.json') == value
    assert list(record.read_json(tmp_path / 'a.json')) == ['b', 'a']
    assert [path.name for path in tmp_path.iterdir()] == ['a.json']

  @pytest.mark.parametrize('value', [float('nan'), float('inf'), {1, 2}, b'x'])
  def test_no_json(self, value, tmp_path):
    record.write_json(tmp_path / 'a.json', 'old')
    with pytest.raises(ValueError, match=r'a\.json: the value is not JSON'):
      record.write_json(tmp_path / 'a.json', {'x': value})
    assert record.read_json(tmp_path / 'a.json') == 'old'

  def test_full_disk_keeps_the_old_file(self, tmp_path, monkeypatch):
    record.write_json(tmp_path / 'a.json', 'old')

    def full(handle):
      raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='No space left'):
      record.write_json(tmp_path / 'a.json', 'new')
    assert record.read_json(tmp_path / 'a.json') == 'old'
    assert [path.name for path in tmp_path.iterdir()] == ['a.json']

  def test_damaged(self, tmp_path):
    (tmp_path / 'a.json').write_text('{"a": ')
    with pytest.raises(ValueError, match=r'a\.json is damaged'):
      record.read_json(tmp_path / 'a.json')

  def test_a_kill_leaves_a_whole_file(self, tmp_path):
    """A process that is killed while it writes leaves an old or new value."""
    program = (
      'import sys\nfrom llm_jax import record\nn = 0\nwhile True:\n'
      '  n += 1\n'
      '  value = {"n": n, "filler": ["x" * 50] * 2000}\n'
      '  record.write_json(sys.argv[1], value)\n'
    )
    path = tmp_path / 'a.json'
    for _ in range(5):
      process = subprocess.Popen(
        [sys.executable, '-c', program, str(path)], cwd=ROOT
      )
      while not path.exists():
        time.sleep(0.01)
      time.sleep(0.05)
      process.send_signal(signal.SIGKILL)
      process.wait()
      value = record.read_json(path)
      assert value['filler'] == ['x' * 50] * 2000

  def test_sha256(self, tmp_path):
    (tmp_path / 'a').write_bytes(b'abc' * 100_000)
    expected = hashlib.sha256(b'abc' * 100_000).hexdigest()
    assert record.file_sha256(tmp_path / 'a') == expected


class TestStage:
  def test_whole_run(self, tmp_path):
    workdir = tmp_path / 'runs' / 'sft'
    extra = {'devices': ['cpu:0'], 'mesh': {'data': 1}}
    assert not record.begin(workdir, 'sft', Config(), {'model': 'abc'}, extra)
    run = record.read_json(workdir / 'run.json')
    assert run['stage'] == 'sft'
    assert run['config'] == {
      'data': {'seed': 5, 'sizes': [1, 2]},
      'rate': 0.5,
      'seed': 0,
    }
    assert run['inputs'] == {'model': 'abc'}
    assert run['seeds'] == {'data.seed': 5, 'seed': 0}
    assert run['devices'] == ['cpu:0']
    assert run['mesh'] == {'data': 1}
    assert run['argv'] == sys.argv
    assert {'python', 'platform', 'jax', 'numpy'} <= set(run['versions'])
    assert {'git_sha', 'git_dirty', 'start', 'resumed'} <= set(run)
    assert (workdir / 'config.txt').read_text().splitlines()[0] == (
      'data.seed = 5'
    )
    record.finish(workdir, {'tokens': 7})
    done = record.read_json(workdir / 'done.json')
    assert (done['stage'], done['tokens']) == ('sft', 7)
    assert 0 <= done['seconds'] < 5
    assert record.begin(workdir, 'sft', Config(), {'model': 'abc'})

  def test_resume(self, tmp_path):
    record.begin(tmp_path, 'sft', Config())
    first = record.read_json(tmp_path / 'run.json')
    assert first['resumed'] == []
    for n in (1, 2):
      assert not record.begin(tmp_path, 'sft', Config())
      again = record.read_json(tmp_path / 'run.json')
      assert again['start'] == first['start']
      assert len(again['resumed']) == n
      assert set(again['resumed'][0]) == {'time', 'git_sha', 'git_dirty'}

  @pytest.mark.parametrize('finished', [False, True])
  def test_another_run(self, finished, tmp_path):
    record.begin(tmp_path, 'sft', Config(), {'model': 'abc'})
    if finished:
      record.finish(tmp_path, {})
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(ValueError, match='holds another run') as error:
      record.begin(
        tmp_path,
        'rl',
        Config(Data(sizes=(1,)), rate=0.1),
        {'model': 'def', 'text': 'x'},
      )
    message = str(error.value)
    assert "stage: 'sft' -> 'rl'" in message
    assert 'config data.sizes: [1, 2] -> [1]' in message
    assert 'config rate: 0.5 -> 0.1' in message
    assert "inputs model: 'abc' -> 'def'" in message
    assert "inputs text: 'absent' -> 'x'" in message
    assert 'seed' not in message
    assert 'another --workdir' in message
    assert before == {p.name: p.read_bytes() for p in tmp_path.iterdir()}

  def test_done_without_run(self, tmp_path):
    (tmp_path / 'done.json').write_text('{}')
    with pytest.raises(ValueError, match=r'done\.json but no run\.json'):
      record.begin(tmp_path, 'sft', Config())

  def test_rerun(self, tmp_path, caplog):
    record.begin(tmp_path / 'old', 'sft', Config(), {'model': 'abc'})
    earlier = record.read_json(tmp_path / 'old' / 'run.json')
    earlier['versions']['numpy'] = '1.0'
    for folder in ('same', 'other'):
      record.rerun(tmp_path / folder, earlier)
    with caplog.at_level('WARNING'):
      record.begin(tmp_path / 'same', 'sft', Config(), {'model': 'abc'})
    assert "versions numpy: '1.0' -> " in caplog.text
    assert 'versions jax' not in caplog.text
    message = "to do again is another one .*inputs model: 'abc' -> 'def'"
    with pytest.raises(ValueError, match=message):
      record.begin(tmp_path / 'other', 'sft', Config(), {'model': 'def'})
    assert not (tmp_path / 'other' / 'run.json').exists()

  def test_working_time_survives(self, tmp_path, monkeypatch):
    """Time counts up to the last tick before a kill, and not in between."""
    now = [100.0]
    monkeypatch.setattr(time, 'monotonic', lambda: now[0])
    record.begin(tmp_path, 'sft', Config())
    now[0] = 103.0
    assert record.tick(tmp_path) == 3.0
    now[0] = 104.0  # killed here: one second is lost
    now[0] = 5.0  # another boot, another clock
    record.begin(tmp_path, 'sft', Config())
    now[0] = 7.0
    record.finish(tmp_path, {})
    assert json.loads((tmp_path / 'done.json').read_text())['seconds'] == 5.0

  def test_tick_without_begin(self, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'clock\.json'):
      record.tick(tmp_path)

  def test_no_git(self, tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', '')
    record.begin(tmp_path, 'sft', Config())
    run = record.read_json(tmp_path / 'run.json')
    assert (run['git_sha'], run['git_dirty']) == ('unknown', None)
