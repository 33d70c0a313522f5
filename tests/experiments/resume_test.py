"""Recipes killed by SIGKILL at any moment go on as if nothing had happened.

Real processes on a tiny run: every loss after a resume equals, as hex, that
of a run that was left alone. Pretraining and RL, whose loops differ, are killed
once, by night every stage four times; for more:

  LLM_JAX_KILLS=20 ./tools/test.sh --nightly tests/experiments/resume_test.py
"""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from llm_jax.tasks import addition
from llm_jax.train import checkpoint, metrics
from tests.evals import tiny_checkpoint

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = pathlib.Path(__file__).parent / 'first_losses.json'
N_KILLS = int(os.environ.get('LLM_JAX_KILLS', 4))
NUMBERS = (
  'loss',
  'grad_norm',
  'accuracy',
  'eval_sampled',
  'valid_bits_per_byte',
)
MODEL = (
  'ModelConfig.vocab_size = 320',
  'ModelConfig.n_layers = 1',
  'ModelConfig.d_model = 32',
  'ModelConfig.n_heads = 2',
  'ModelConfig.n_kv_heads = 1',
  'ModelConfig.head_dim = 16',
  'ModelConfig.d_ff = 32',
  'ModelConfig.max_length = 128',
)
SETTINGS = {
  'pretrain': (
    *MODEL,
    "Config.sources = ('addition',)",
    'Config.weights = (1.0,)',
    "Config.valid_source = 'addition'",
    'Config.batch_size = 4',
    'Config.evaluate_every = 5',
    'Config.sample_every = 10',
    "Config.sample_prompts = ('The function', '988+391=')",
    'LoopConfig.n_steps = 24',
    'LoopConfig.save_every = 4',
    'Optimizer.warmup_steps = 2',
  ),
  'sft': (
    'Config.batch_size = 4',
    'Config.sequence_length = 128',
    'Config.task = @Addition()',
    'Config.n_task = 60',
    'Config.n_identity = 20',
    'LoopConfig.n_steps = 24',
    'LoopConfig.save_every = 4',
  ),
  'rl': (
    'Config.task = @Addition()',
    'Config.n_prompts = 4',
    'Config.n_samples = 4',
    'Config.max_new_tokens = 12',
    "Config.reward = 'random'",  # an untrained model earns nothing else
    'Config.n_problems = 15',  # read twice in 10 steps
    'Config.evaluate_every = 4',
    'Rollouts.max_refills = 2',
    'Updates.n_epochs = 2',
    'Updates.n_minibatches = 2',
    'Updates.micro_batch = 4',
    'Scoring.n_problems = 8',
    'Scoring.batch_size = 8',
    'Scoring.max_new_tokens = 12',
    'LoopConfig.n_steps = 10',
    'LoopConfig.save_every = 3',
  ),
  'reward_model': (
    'Config.batch_size = 4',
    'Config.sequence_length = 96',
    'Config.evaluate_every = 5',
    'LoopConfig.n_steps = 24',
    'LoopConfig.save_every = 4',
  ),
  'dpo': (
    'Config.batch_size = 4',
    'Config.sequence_length = 96',
    'Config.evaluate_every = 5',
    'LoopConfig.n_steps = 24',
    'LoopConfig.save_every = 4',
  ),
}
BEFORE = {'sft': 'pretrain'} | dict.fromkeys(
  ('rl', 'reward_model', 'dpo'), 'sft'
)


@pytest.fixture(scope='module')
def artifacts(tmp_path_factory):
  """A byte tokenizer, token shards of additions, and pairs of answers."""
  folder = tmp_path_factory.mktemp('artifacts')
  tiny_checkpoint.tokenizer().save(folder / 'tokenizer')
  splits = {
    split: [
      prompt + answer
      for prompt, answer in addition.text_documents(
        addition.Addition(), 'train', 300, seed, 0.4
      )
    ]
    for split, seed in (('train', 0), ('valid', 1))
  }
  tiny_checkpoint.write_tokens(folder / 'tokens', {'addition': splits}, 64)
  pairs = [
    {'prompt': f'question {i}', 'chosen': f'yes {i % 7}', 'rejected': 'no'}
    for i in range(60)
  ]
  (folder / 'pairs.jsonl').write_text('\n'.join(map(json.dumps, pairs)))
  return folder


def command(stage, workdir, artifacts, restore_from=None):
  arguments = ['--workdir', str(workdir)]
  for binding in SETTINGS[stage]:
    arguments += ['--gin_bindings', binding]
  if stage == 'pretrain':
    arguments += ['--tokens', str(artifacts / 'tokens')]
    arguments += ['--tokenizer', str(artifacts / 'tokenizer')]
  else:
    arguments += ['--restore_from', str(restore_from)]
  if stage in ('reward_model', 'dpo'):
    arguments += ['--preferences', str(artifacts / 'pairs.jsonl')]
  return [sys.executable, '-m', f'experiments.{stage}', *arguments]


def finish(arguments):
  done = subprocess.run(
    arguments, cwd=ROOT, capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stderr


def losses(workdir):
  """Loss, or evaluation, by step and name as hex; the last writing counts."""
  found = {}
  for line in (workdir / 'metrics.jsonl').read_text().splitlines():
    values = json.loads(line)
    for name, value in values.items():
      if name in NUMBERS:
        key = values['step'], name
        assert key not in found, f'{key} was written twice'
        found[key] = float(value).hex()
  return found


def steps(workdir):
  """The step of each whole line of metrics."""
  lines = metrics.read(str(workdir / 'metrics.jsonl'))
  return [line['step'] for line in lines]


def saved_steps(workdir):
  names = os.listdir(workdir / 'checkpoints')
  return [int(name) for name in names if name.isdigit()]


def fingerprint(workdir):
  """Of every parameter that the run ended with."""
  return checkpoint.load_model(str(workdir)).fingerprint


def kill_after(arguments, workdir, n_lines, delay_s):
  """Start a recipe and SIGKILL it soon after it wrote n_lines of metrics."""
  process = subprocess.Popen(
    arguments, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
  )
  file = workdir / 'metrics.jsonl'
  deadline = time.monotonic() + 300
  while process.poll() is None and time.monotonic() < deadline:
    if file.exists() and file.read_bytes().count(b'\n') >= n_lines:
      time.sleep(delay_s)
      break
    time.sleep(0.002)
  killed = process.poll() is None
  process.send_signal(signal.SIGKILL)
  process.wait()
  return killed


@pytest.fixture(scope='module')
def uninterrupted(artifacts, tmp_path_factory):
  """Folders of all stages, each run without a break when it is asked for."""
  folder = tmp_path_factory.mktemp('uninterrupted')

  def of(stage):
    if not (folder / stage / 'done.json').exists():
      before = of(BEFORE[stage]) if stage in BEFORE else None
      finish(command(stage, folder / stage, artifacts, before))
    return folder / stage

  return of


@pytest.mark.parametrize(
  ('stage', 'n_kills'),
  [
    ('pretrain', 1),
    ('rl', 1),
    *(
      pytest.param(stage, N_KILLS, marks=pytest.mark.nightly)
      for stage in SETTINGS
    ),
  ],
)
def test_losses_after_kills_equal_an_uninterrupted_run(
  stage, n_kills, artifacts, uninterrupted, tmp_path
):
  alone, workdir = uninterrupted(stage), tmp_path / stage
  before = uninterrupted(BEFORE[stage]) if stage in BEFORE else None
  arguments = command(stage, workdir, artifacts, before)
  draw = random.Random(stage)
  n_lines = len(steps(alone))
  (save_every,) = (
    int(setting.split(' = ')[1])
    for setting in SETTINGS[stage]
    if setting.startswith('LoopConfig.save_every')
  )
  n_killed = 0
  for i in range(n_kills):
    after = n_lines * 2 * (i + 1) // (3 * (n_kills + 1))
    n_killed += kill_after(arguments, workdir, after, draw.random() * 0.1)
    # A save may be under way, so that the one before it is the newest.
    n_lost = max(steps(workdir)) - max(saved_steps(workdir), default=0)
    assert n_lost <= 2 * save_every
  assert n_killed >= n_kills * 2 / 3, 'the run ended before it was killed'
  finish(arguments)
  expected = losses(alone)
  assert len(expected) >= 2 * 10
  assert losses(workdir) == expected
  assert fingerprint(workdir) == fingerprint(alone)
  if stage == 'rl':
    rollouts, expected = (
      (folder / metrics.ROLLOUTS).read_text() for folder in (workdir, alone)
    )
    assert rollouts == expected
    assert fingerprint(workdir / 'best') == fingerprint(alone / 'best')
  if stage == 'pretrain' or n_kills > 1:
    assert 'already finished' in finish(arguments)


def test_first_losses_are_those_of_the_golden_file(uninterrupted):
  """Fails when a change alters what a recipe computes.

  If that is meant, renew the file with the losses that the failure prints.
  Other processors sum in another order, hence the tolerance; and hence no RL,
  where a token drawn otherwise changes all that follows.
  """
  expected = json.loads(GOLDEN.read_text())
  got = {}
  for stage in expected:
    found = losses(uninterrupted(stage))
    got[stage] = [
      float.fromhex(found[step, 'loss'])
      for step in range(1, 11)
      if (step, 'loss') in found
    ]
  renewed = json.dumps(got)
  for stage, values in expected.items():
    assert got[stage] == pytest.approx(values, rel=1e-3, abs=1e-4), renewed


@pytest.mark.parametrize(
  'stage',
  [
    'pretrain',
    pytest.param('reward_model', marks=pytest.mark.nightly),
    pytest.param('dpo', marks=pytest.mark.nightly),
  ],
)
def test_a_run_is_done_again_from_its_record(stage, uninterrupted, tmp_path):
  """run.json is all that is given: not one flag or setting of the run."""
  first, again = uninterrupted(stage), tmp_path / 'again'
  arguments = [sys.executable, '-m', f'experiments.{stage}']
  arguments += ['--workdir', str(again), '--rerun', str(first / 'run.json')]
  finish(arguments)
  assert losses(again) == losses(first)
  assert fingerprint(again) == fingerprint(first)
