"""The loop resumes exactly, stops where it must, and never waits by itself."""

import contextlib
import functools
import pathlib
import shutil
import subprocess
import sys

import chex
import jax
import numpy as np
import pytest

from llm_jax.train import checkpoint, training_loop, update
from tests.train import tiny_run

ROOT = pathlib.Path(__file__).resolve().parents[2]


def finish(steps):
  """Run to the end; the parameters it ends with."""
  for _, state in steps:
    params = jax.device_get(state.params)
  return params


def test_resume_from_every_step_is_exact(tmp_path, monkeypatch):
  whole, n_steps = tmp_path / 'whole', 20
  keep_all = functools.partial(checkpoint.Checkpointer, n_kept=n_steps)
  with monkeypatch.context() as patch:
    patch.setattr(checkpoint, 'Checkpointer', keep_all)
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
      if step == 1:  # constants of the compiled step are there by now
        stack.enter_context(jax.transfer_guard('disallow'))
        stack.enter_context(jax.no_tracing())
  assert update_fn._cache_size() == 1


def test_many_bad_steps_end_the_run_with_what_was_before_them(tmp_path):
  def batches(step):
    batch = tiny_run.batch_fn(step)
    return batch if step < 3 else {k: v * np.nan for k, v in batch.items()}

  params = {}
  cfg = training_loop.LoopConfig(n_steps=30, save_every=1)

  def train():
    for step, state in tiny_run.train(tmp_path, cfg, None, batches):
      params[step] = jax.device_get(state.params)

  with pytest.raises(FloatingPointError, match='step 13: 10 steps in a row'):
    train()
  restored = checkpoint.restore(str(tmp_path), tiny_run.new_state())
  assert int(restored.step) > 3
  chex.assert_trees_all_equal(jax.device_get(restored.params), params[3])


DISK_FULL = """
import pathlib, resource, sys, time
from llm_jax.train import training_loop
from tests.train import tiny_run
workdir = pathlib.Path(sys.argv[1])
cfg = training_loop.LoopConfig(n_steps=30, save_every=1)
for step, _ in tiny_run.train(workdir, cfg):
  print(step, flush=True)
  if step == 3:
    while not (workdir / 'checkpoints' / '2').exists():
      time.sleep(0.01)  # until the save before is done
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
"""


def test_full_disk_ends_the_run_within_one_save(tmp_path):
  done = subprocess.run(
    [sys.executable, '-c', DISK_FULL, str(tmp_path)],
    cwd=ROOT, capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert done.returncode == 1
  assert 'disk full while saving a checkpoint' in done.stderr
  # The save of step 3 fails while step 4 is under way.
  assert done.stdout.split() in (['1', '2', '3'], ['1', '2', '3', '4'])
  restored = checkpoint.restore(str(tmp_path), tiny_run.new_state())
  assert int(restored.step) == 2
