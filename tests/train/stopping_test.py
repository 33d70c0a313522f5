"""Ctrl-C and SIGTERM in real processes: saved, said in a line, no traceback."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.train import tiny_run

ROOT = pathlib.Path(__file__).resolve().parents[2]
N_STEPS = 40
PROGRAM = """
import signal, sys, time
# It may be ignored, as by what a shell starts in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)
import jax.numpy as jnp
from experiments import command_line
from llm_jax.train import training_loop, update
from tests.train import tiny_run

where = sys.argv.pop(1)

def loss_fn(params, batch, key):
  print('compiling', flush=True)
  w = params['w']
  for _ in range(200 if where == 'compiling' else 0):  # takes seconds
    w = w + 1e-30 * jnp.sin(w * w)
  return tiny_run.loss_fn({'w': w}, batch, key)

def run(cfg, workdir: str):
  print('reading', flush=True)
  time.sleep(60 * (where == 'reading'))
  step_fn = update.make_update_fn(loss_fn, tiny_run.TX, tiny_run.mesh())
  for step, _ in tiny_run.train(workdir, cfg, step_fn):
    print('evaluating' if step == 2 else step, flush=True)
    time.sleep(SECONDS * (where == 'evaluating' and step == 2))

binding = '--gin_bindings=LoopConfig.n_steps = 40'
sys.argv = ['x', '--workdir', sys.argv[1], binding]
command_line.main(training_loop.LoopConfig, run)
"""


def start(where, workdir, seconds=3):
  return subprocess.Popen(
    [sys.executable, '-c', PROGRAM.replace('SECONDS', str(seconds)), where,
     str(workdir)],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )  # fmt: skip


def interrupt(process, where, signals):
  """Send signals once the process says where it is; what it wrote then."""
  try:
    while process.stdout.readline().strip() != where:
      assert process.poll() is None, process.communicate()
    for number in signals:
      time.sleep(0.3)
      os.kill(process.pid, number)
    _, stderr = process.communicate(timeout=100)
  finally:
    process.kill()
    process.wait()
  assert 'Traceback' not in stderr, stderr
  return stderr


def saved_steps(workdir):
  folder = workdir / 'checkpoints'
  names = [x.name for x in folder.iterdir()] if folder.exists() else []
  return [int(name) for name in names if name.isdigit()]


@pytest.mark.parametrize(
  ('where', 'n_presses'),
  [('compiling', 2), ('evaluating', 1), ('evaluating', 0)],
)
def test_it_saves_and_the_same_command_goes_on(where, n_presses, tmp_path):
  """Ctrl-C, pressed so often, or else SIGTERM."""
  signals = [signal.SIGINT] * n_presses or [signal.SIGTERM]
  process = start(where, tmp_path)
  stderr = interrupt(process, where, signals)
  assert process.returncode == (130 if n_presses else 0), stderr
  (step,) = saved_steps(tmp_path)
  assert step == (1 if where == 'compiling' else 2)
  name = 'Ctrl-C' if n_presses else 'SIGTERM'
  assert f'{name}: saved step {step}; the same command resumes' in stderr
  assert stderr.count('Ctrl-C: saves after this step') == n_presses
  if not n_presses:
    process = start('', tmp_path)
    assert process.wait(100) == 0, process.communicate()
    process.communicate()
    whole = tmp_path / 'whole'
    tiny_run.finish(whole, tiny_run.training_loop.LoopConfig(n_steps=N_STEPS))
    assert tiny_run.losses(tmp_path) == tiny_run.losses(whole)


@pytest.mark.parametrize(
  ('where', 'n_presses'), [('reading', 2), ('evaluating', 3)]
)
def test_it_ends_at_once(where, n_presses, tmp_path):
  """Where nothing is trained yet, or where it is pressed again and again."""
  process = start(where, tmp_path, seconds=60)
  started = time.monotonic()
  stderr = interrupt(process, where, [signal.SIGINT] * n_presses)
  assert process.returncode in (130, -signal.SIGINT), stderr
  assert time.monotonic() - started < 40
  assert saved_steps(tmp_path) == []
