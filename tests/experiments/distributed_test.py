"""A recipe in two processes of four devices is the recipe in one of eight."""

import json
import os
import socket
import subprocess
import sys

import pytest

from tests.experiments import resume_test

artifacts = resume_test.artifacts  # a fixture
STEPS = 4
SETTINGS = resume_test.SETTINGS['pretrain']
BINDINGS = (
  'Config.batch_size = 8',
  'ModelConfig.n_experts = 4',
  'MeshConfig.fsdp = 2',
  'MeshConfig.expert = 2',
  'LoopConfig.save_every = 2',
  'Config.evaluate_every = 2',
  'Config.sample_tokens = 1',
  f'LoopConfig.n_steps = {STEPS}',
)


def start(workdir, artifacts, n_devices, distributed=''):
  """Start pretraining with some virtual devices."""
  changed = tuple(binding.split(' =')[0] for binding in BINDINGS)
  kept = [b for b in SETTINGS if not b.startswith(changed)]
  arguments = [sys.executable, '-m', 'experiments.pretrain']
  arguments += ['--workdir', str(workdir)]
  arguments += ['--tokens', str(artifacts / 'tokens')]
  arguments += ['--tokenizer', str(artifacts / 'tokenizer')]
  for binding in (*kept, *BINDINGS):
    arguments += ['--gin_bindings', binding]
  return subprocess.Popen(
    [*arguments, '--distributed', distributed],
    cwd=resume_test.ROOT,
    env=os.environ | {'JAX_NUM_CPU_DEVICES': str(n_devices)},
    stderr=subprocess.PIPE,
    text=True,
  )


def finish(*processes):
  for process in processes:
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr[-3000:]


def start_two(workdir, artifacts):
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{free.getsockname()[1]}'
  return [start(workdir, artifacts, 4, f'{address},{i},2') for i in range(2)]


def losses(workdir):
  found = resume_test.losses(workdir)
  return {key: float.fromhex(value) for key, value in found.items()}


def test_two_processes_equal_one(artifacts, tmp_path):
  one, two = tmp_path / 'one', tmp_path / 'two'
  finish(start(one, artifacts, 8))
  finish(*start_two(two, artifacts))
  expected = losses(one)
  assert len(expected) >= 2 * STEPS
  # Sums run in another order, and Muon and the choice of experts amplify it.
  assert losses(two) == pytest.approx(expected, rel=1e-3)
  # Both processes saw the same numbers, and share one folder of checkpoints.
  assert losses(two / 'process_1') == losses(two)
  assert not (two / 'process_1' / 'checkpoints').exists()
  mesh = json.loads((two / 'run.json').read_text())['mesh']
  assert (mesh['data'], mesh['fsdp'], mesh['expert']) == (2, 2, 2)
