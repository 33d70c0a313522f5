"""The loop resumes exactly, stops where it must, and never waits by itself."""

import contextlib
import pathlib
import re
import shutil
import subprocess
import sys
import time

import chex
import jax
import numpy as np
import pytest

from llm_jax.train import checkpoint, metrics, training_loop, update
from tests.train import tiny_run

ROOT = pathlib.Path(__file__).resolve().parents[2]


def finish(steps):
  """Run to the end; the parameters it ends with."""
  for _, state in steps:
    params = jax.device_get(state.params)
  return params


def test_resume_from_every_step_is_exact(tmp_path, monkeypatch):
  whole, n_steps = tmp_path / 'whole', 10
  with monkeypatch.context() as patch:
    patch.setattr(checkpoint, 'N_KEPT', n_steps)
    cfg = training_loop.LoopConfig(n_steps=n_steps, save_every=1)
    params = finish(tiny_run.train(whole, cfg))
  expected = tiny_run.losses(whole)
  assert [step for step, _ in expected] == list(range(1, n_steps + 1))
  assert len({loss for _, loss in expected}) == n_steps
  cfg = training_loop.LoopConfig(n_steps=n_steps, save_every=n_steps + 1)
  for step in range(1, n_steps):
    resumed = tmp_path / str(step)
    (resumed / 'checkpoints').mkdir(parents=True)
    saved = whole / 'checkpoints' / str(step)
    shutil.copytree(saved, resumed / 'checkpoints' / str(step))
    shutil.copy(whole / 'metrics.jsonl', resumed)  # its later lines go
    chex.assert_trees_all_equal(finish(tiny_run.train(resumed, cfg)), params)
    assert tiny_run.losses(resumed) == expected
    assert (resumed / 'checkpoints' / str(n_steps)).is_dir()


def test_one_trace_and_no_transfer_that_nobody_asked_for(tmp_path):
  traced_once = chex.assert_max_traces(tiny_run.loss_fn, n=1)
  update_fn = update.make_update_fn(traced_once, tiny_run.TX, tiny_run.mesh())
  cfg = training_loop.LoopConfig(n_steps=6, save_every=2)
  with contextlib.ExitStack() as stack:
    for step, _ in tiny_run.train(tmp_path, cfg, update_fn):
      if step == 3:  # the step and a save have been compiled by now
        stack.enter_context(jax.transfer_guard('disallow'))
        stack.enter_context(jax.no_tracing())
  assert update_fn._cache_size() == 1


def test_many_bad_steps_end_the_run_with_what_was_before_them(tmp_path):
  def batches(step):
    batch = tiny_run.batch_fn(step)
    return batch if step < 3 else {k: v * np.nan for k, v in batch.items()}

  params = {}
  cfg = training_loop.LoopConfig(n_steps=30, save_every=1)
  steps = tiny_run.train(tmp_path, cfg, batches=batches)
  with pytest.raises(FloatingPointError, match='step 13: 10 steps in a row'):  # noqa: PT012
    for step, state in steps:
      params[step] = jax.device_get(state.params)
  restored = checkpoint.restore(str(tmp_path), tiny_run.new_state())
  assert int(restored.step) > 3
  lines = list(metrics.read(str(tmp_path / metrics.METRICS)))
  # JSON has no NaN; step 13 is the tenth that is skipped.
  assert [x['step'] for x in lines if x['loss'] is None] == [*range(4, 14)]
  chex.assert_trees_all_equal(jax.device_get(restored.params), params[3])


def test_waits_are_written_until_data_fails(tmp_path):
  """Two steps of slow data, then none."""
  seen = []

  def batches(step):
    if step == 2:
      raise OSError('the disk is gone')
    time.sleep(0.05)
    return {'inputs_BT': np.full((2, tiny_run.N), step, np.float32)}

  def step(state, batch):
    seen.append(int(batch['inputs_BT'][1, 7]))
    return tiny_run.update_fn()(state, batch)

  cfg = training_loop.LoopConfig()
  with pytest.raises(OSError, match='the disk is gone'):
    tiny_run.finish(tmp_path, cfg, step=step, batches=batches)
  assert seen == [0, 1]
  # The second is written with the third, as ever.
  (line,) = metrics.read(str(tmp_path / metrics.METRICS))
  assert 0.04 < line['data_wait_s'] < 20


DISK_FULL = """
import pathlib, resource, sys, time
from llm_jax.train import training_loop
from tests.train import tiny_run
workdir = pathlib.Path(sys.argv[1])
cfg = training_loop.LoopConfig(n_steps=int(sys.argv[2]), save_every=1)
for step, _ in tiny_run.train(workdir, cfg):
  print(step, flush=True)
  if step == 3:
    while not (workdir / 'checkpoints' / '2').exists():
      time.sleep(0.01)  # until the save before is done
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
"""


@pytest.mark.parametrize('n_steps', [30, 3])
def test_full_disk_ends_the_run_within_one_save(n_steps, tmp_path):
  """Also where the save is the last one, which the end of the loop awaits."""
  done = subprocess.run(
    [sys.executable, '-c', DISK_FULL, str(tmp_path), str(n_steps)],
    cwd=ROOT, capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert done.returncode == 1
  message = r'OSError: \[Errno 28\] No space left on device; make room .*checkp'
  assert re.search(message, done.stderr.splitlines()[-1]), done.stderr
  # The save of step 3 fails while step 4 is under way.
  assert done.stdout.split() in (['1', '2', '3'], ['1', '2', '3', '4'])
  restored = checkpoint.restore(str(tmp_path), tiny_run.new_state())
  assert int(restored.step) == 2


@pytest.mark.parametrize('line', ['garbage', '{"loss": 1.0}', '[1]', '\x00'])
@pytest.mark.parametrize('name', [metrics.METRICS, metrics.SAMPLES])
def test_damaged_lines_are_named(name, line, tmp_path):
  path = tmp_path / name
  path.write_text('{"step": 1}\n' + line + '\n{"step": 2}\n')
  before = path.read_bytes()
  message = f'line 2 of {path}: .*remove that line'
  with pytest.raises(ValueError, match=message):
    metrics.Writer(str(tmp_path), 2)
  assert path.read_bytes() == before
