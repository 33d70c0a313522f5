"""The record of a stage: what is written, and which folders are refused."""

import dataclasses
import json
import pathlib
import re
import socket
import subprocess
import sys
import time

import pytest

from experiments import command_line
from llm_jax import files, record

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


class TestStage:
  def test_whole_run(self, tmp_path):
    workdir = tmp_path / 'runs' / 'sft'
    extra = {'devices': ['cpu:0'], 'mesh': {'data': 1}}
    assert not record.begin(workdir, 'sft', Config(), {'model': 'abc'}, extra)
    run = files.read_json(workdir / 'run.json')
    assert run['stage'] == 'sft'
    data = {'seed': 5, 'sizes': [1, 2]}
    assert run['config'] == {'data': data, 'rate': 0.5, 'seed': 0}
    own = {'import tests.test_record': files.sha256(__file__)}  # of Data
    assert run['inputs'] == {'model': 'abc', **own}
    assert run['seeds'] == {'data.seed': 5, 'seed': 0}
    assert run['devices'] == ['cpu:0']
    assert run['mesh'] == {'data': 1}
    assert run['argv'] == sys.argv
    assert {'python', 'platform', 'jax', 'numpy'} <= set(run['versions'])
    assert {'git_sha', 'git_dirty', 'start', 'resumed'} <= set(run)
    lines = (workdir / 'config.txt').read_text().splitlines()
    assert lines[0] == 'data.seed = 5'
    record.finish(workdir, {'tokens': 7})
    done = files.read_json(workdir / 'done.json')
    assert (done['stage'], done['tokens']) == ('sft', 7)
    assert 0 <= done['seconds'] < 5
    assert record.begin(workdir, 'sft', Config(), {'model': 'abc'})

  def test_resume(self, tmp_path):
    record.begin(tmp_path, 'sft', Config())
    first = files.read_json(tmp_path / 'run.json')
    assert first['resumed'] == []
    for n in (1, 2):
      assert not record.begin(tmp_path, 'sft', Config())
      again = files.read_json(tmp_path / 'run.json')
      assert again['start'] == first['start']
      assert len(again['resumed']) == n
      assert set(again['resumed'][0]) == {'time', 'git_sha', 'git_dirty'}

  @pytest.mark.parametrize('finished', [False, True])
  def test_another_run(self, finished, tmp_path):
    record.begin(tmp_path, 'sft', Config(), {'model': 'abc'})
    if finished:
      record.finish(tmp_path, {})
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    other = Config(Data(sizes=(1,)), rate=0.1)
    with pytest.raises(ValueError, match='holds another run') as error:
      record.begin(tmp_path, 'rl', other, {'model': 'def', 'text': 'x'})
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
    earlier = files.read_json(tmp_path / 'old' / 'run.json')
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

  @pytest.mark.parametrize('text', ['', 'null', '{}', '{"seconds": "x"}'])
  def test_damaged_clock_is_written_anew(self, text, tmp_path, caplog):
    record.begin(tmp_path, 'sft', Config())
    for go_on in (record.tick, lambda w: record.begin(w, 'sft', Config())):
      (tmp_path / 'clock.json').write_text(text)
      with caplog.at_level('WARNING'):
        go_on(tmp_path)
      assert f'{tmp_path}/clock.json is damaged' in caplog.text
      assert 0 <= record.tick(tmp_path) < 60

  @pytest.mark.parametrize('text', ['', 'null', '[]', '{"stage": "sft"}'])
  def test_damaged_record(self, text, tmp_path):
    """What lies beside it is not for the bin."""
    record.begin(tmp_path, 'sft', Config())
    (tmp_path / 'run.json').write_text(text)
    with pytest.raises(ValueError, match=r'run\.json is .*rename it') as error:
      record.begin(tmp_path, 'sft', Config())
    assert 'delete' not in str(error.value)
    (tmp_path / 'run.json').rename(tmp_path / 'old')
    assert not record.begin(tmp_path, 'sft', Config())

  def test_no_git(self, tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', '')
    record.begin(tmp_path, 'sft', Config())
    run = files.read_json(tmp_path / 'run.json')
    assert (run['git_sha'], run['git_dirty']) == ('unknown', None)


_RUN = """
import dataclasses, pathlib, sys, time
from llm_jax import record
from experiments import command_line

@dataclasses.dataclass(frozen=True)
class Config:
  seed: int = 0

def run(cfg, workdir: str):
  record.begin(workdir, 'test', cfg)
  print('works', flush=True)
  if sys.stdin.readline() == 'finish\\n':
    record.finish(workdir, {})

argv = ['x', '--workdir', sys.argv[1]]
sys.exit(command_line.execute(Config, run, {}, argv))
"""


def _start(workdir):
  return subprocess.Popen(
    [sys.executable, '-c', _RUN, str(workdir)],
    cwd=ROOT,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def test_one_process_works_in_a_folder(tmp_path):
  """A second one is told of the first, and takes over where that was killed."""
  with _start(tmp_path) as first:
    assert first.stdout.readline() == 'works\n'
    with _start(tmp_path) as second:
      out, error = second.communicate()
    assert (second.returncode, out) == (1, '')
    owner = f'process {first.pid} on {socket.gethostname()} since 20'
    assert f'error: {tmp_path} is in use by {owner}' in error
    assert 'Traceback' not in error
    first.kill()
  with _start(tmp_path) as third:
    assert third.stdout.readline() == 'works\n'
    (tmp_path / f'.run.json.{first.pid}.tmp').write_text('half')
    third.communicate('fail\n')
  assert len(files.read_json(tmp_path / 'run.json')['resumed']) == 1
  with _start(tmp_path) as fourth:
    assert fourth.stdout.readline() == 'works\n'
    assert not list(tmp_path.glob('.*.tmp'))
    fourth.communicate('finish\n')
  names = ['clock.json', 'config.txt', 'done.json', 'run.json']
  assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_no_lock_stays_behind_a_refusal(tmp_path):
  record.begin(tmp_path / 'a', 'sft', Config())
  record.finish(tmp_path / 'a', {})
  with pytest.raises(ValueError, match='holds another run'):
    record.begin(tmp_path / 'a', 'rl', Config())
  assert not (tmp_path / 'a' / '.lock').exists()

  def run(cfg, workdir: str):
    record.begin(workdir, 'sft', cfg)
    raise ValueError('no')

  argv = ['x', f'--workdir={tmp_path}/b']
  assert command_line.execute(Config, run, {}, argv) == 1
  assert not (tmp_path / 'b' / '.lock').exists()


def test_every_recipe_locks_its_folder():
  for path in (ROOT / 'experiments').glob('*.py'):
    text = path.read_text()
    if 'workdir: str' in text and 'command_line.main(' in text:
      # The stages that train begin through train/start.py.
      assert re.search(r'(record|stage)\.begin\b|locks\.lock\(', text), path
