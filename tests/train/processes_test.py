"""Two processes train together; what happens to one is heard by both."""

import json
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
HANG_S = 15.0
HEARTBEAT_S = 10.0  # as one_of_two.py sets it


def start(workdir, fault=''):
  """Start both, each with its errors in a file."""
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = free.getsockname()[1]
  workdir.mkdir(exist_ok=True)
  processes = []
  for index in range(2):
    arguments = [sys.executable, '-m', 'tests.train.one_of_two']
    arguments += [str(port), str(index), f'--workdir={workdir}']
    arguments += [f'--fault={fault}', f'--gin_bindings=Watch.hang_s = {HANG_S}']
    with (
      open(workdir / f'out_{index}', 'w') as out,
      open(workdir / f'err_{index}', 'w') as err,
    ):
      processes.append(
        subprocess.Popen(arguments, cwd=ROOT, stdout=out, stderr=err)
      )
  return processes


def finish(workdir, processes):
  """Wait for both; their exit codes."""
  try:
    codes = [process.wait(120) for process in processes]
  finally:
    for process in processes:
      process.kill()
  return codes


def errors(workdir):
  return [(workdir / f'err_{index}').read_text() for index in range(2)]


def losses(workdir):
  """Of both processes, by step, as hex."""
  found = []
  for index in range(2):
    path = workdir / f'process_{index}' / 'metrics.jsonl'
    lines = map(json.loads, path.read_text().splitlines())
    found.append({line['step']: line['loss'].hex() for line in lines})
  return found


def saved_steps(workdir):
  names = [path.name for path in (workdir / 'checkpoints').iterdir()]
  return sorted(int(name) for name in names if name.isdigit())


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('uninterrupted')
  codes = finish(workdir, start(workdir))
  assert codes == [0, 0], errors(workdir)
  by_process = losses(workdir)
  assert by_process[0] == by_process[1]
  assert sorted(by_process[0]) == list(range(1, 17))
  return by_process


def test_sigterm_to_one_stops_both_after_the_same_step(uninterrupted, tmp_path):
  processes = start(tmp_path, 'slow')
  deadline = time.monotonic() + 100
  while 'at step 3' not in (tmp_path / 'out_1').read_text():
    assert time.monotonic() < deadline, errors(tmp_path)
    time.sleep(0.05)
  processes[1].send_signal(signal.SIGTERM)
  started = time.monotonic()
  assert finish(tmp_path, processes) == [0, 0], errors(tmp_path)
  print(f'ended {time.monotonic() - started:.1f} s after the signal')
  step = max(saved_steps(tmp_path))
  assert 3 <= step < 16
  for index in range(2):
    assert f'SIGTERM: saved step {step};' in errors(tmp_path)[index]
    assert max(losses(tmp_path)[index]) == step
  assert finish(tmp_path, start(tmp_path)) == [0, 0], errors(tmp_path)
  assert losses(tmp_path) == uninterrupted


@pytest.mark.parametrize(
  'fault',
  [
    'kill',
    pytest.param('exception', marks=pytest.mark.nightly),
    pytest.param('hang', marks=pytest.mark.nightly),
  ],
)
def test_a_lost_peer_ends_both_and_they_start_again(
  fault, uninterrupted, tmp_path
):
  processes = start(tmp_path, fault)
  codes = finish(tmp_path, processes)
  assert 0 not in codes, errors(tmp_path)
  # Its last line: the library of collectives may have written before it.
  happened = float((tmp_path / 'out_1').read_text().splitlines()[-1])
  seconds = time.time() - happened
  print(f'{fault}: both ended within {seconds:.1f} s')
  assert seconds < HANG_S + HEARTBEAT_S + 30, 'even for a busy machine'
  survivor, peer = errors(tmp_path)
  if fault == 'kill':
    assert codes[1] == -signal.SIGKILL
  elif fault == 'exception':
    assert codes[1] == 1
    assert 'RuntimeError: a planted bug' in peer
  else:  # every thread's stack, down to the line that hangs
    assert 'Timeout' in peer
    assert 'one_of_two.py' in peer
  assert survivor
  assert saved_steps(tmp_path) in ([4], [4, 8])  # it may be under way
  assert finish(tmp_path, start(tmp_path)) == [0, 0], errors(tmp_path)
  assert losses(tmp_path) == uninterrupted
