"""RL as a recipe: killed while it samples and judges, and its files."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from flax import traverse_util

import llm_jax
from experiments import reward_model, rl
from llm_jax import files
from llm_jax.evals import scoring
from llm_jax.infer import reading
from llm_jax.model import lora
from llm_jax.parallel import device_mesh
from llm_jax.rl import learn, rollout
from llm_jax.tasks import addition, prompts, word_problems
from llm_jax.tokenizer import encoding
from llm_jax.train import checkpoint, start, training_loop
from tests.evals import tiny_checkpoint
from tests.experiments import stages

PATHS = ('metrics.jsonl', 'rollouts.jsonl', 'samples.jsonl')


@dataclasses.dataclass(frozen=True)
class Deadly(addition.Addition):
  """Kills its process where a file says at which verdict."""

  log: str = ''  # gets a byte a verdict, and never forgets

  def score(self, problem, answer):
    with open(self.log, 'ab', buffering=0) as file:
      file.write(b'.')
      n_scored = file.tell()
    if os.path.exists(f'{self.log}.kill{n_scored}'):
      os.kill(os.getpid(), signal.SIGKILL)
    return addition.Addition.score(self, problem, answer)


def config_of(task, **changes):
  cfg = rl.Config(
    n_prompts=4, n_samples=2, max_new_tokens=8, reward='random',
    evaluate_every=2, preset='ppo', temperature=0.7, task=task,
    rollouts=rollout.Rollouts(batch_size=2, n_written=3),
    updates=learn.Updates(n_epochs=2),
    evaluation=scoring.Scoring(
      n_problems=4, n_samples=1, max_new_tokens=8, batch_size=4
    ),
    loop=training_loop.LoopConfig(n_steps=6, save_every=2),
    mesh=device_mesh.MeshConfig(data=1),
  )  # fmt: skip
  return dataclasses.replace(cfg, **changes)


def numbers(workdir):
  """Every line of every file, but for seconds."""
  found = {}
  for name in PATHS:
    lines = (workdir / name).read_text().splitlines()
    found[name] = [
      {k: v for k, v in json.loads(line).items() if not k.endswith('_s')}
      for line in lines
    ]
  return found


@pytest.mark.nightly
def test_sigkill_in_the_middle_of_rollouts(base, tmp_path):
  """At a verdict of step 4 while its other groups are sampled, with PPO."""
  alone, killed = tmp_path / 'alone', tmp_path / 'killed'
  (tmp_path / 'log').touch()
  rl.run(config_of(Deadly(log=f'{tmp_path}/log')), str(alone), base)
  assert os.path.getsize(tmp_path / 'log') >= 6 * 8  # as many a step
  # Sampler and trainer are of one temperature.
  steps = [x for x in numbers(alone)['metrics.jsonl'] if 'max_ratio' in x]
  assert max(line['max_logp_difference'] for line in steps) < 1e-4
  cfg = config_of(Deadly(log=f'{tmp_path}/other'))
  (tmp_path / f'other.kill{3 * 8 + 3}').touch()
  program = (
    'from tests.experiments import rl_test as t; from experiments import rl; '
    f'rl.run(t.config_of(t.Deadly(log={cfg.task.log!r})), '
    f'{str(killed)!r}, {base!r})'
  )
  done = subprocess.run([sys.executable, '-c', program], check=False)
  assert done.returncode == -signal.SIGKILL
  written = (killed / 'rollouts.jsonl').read_text().splitlines()
  assert len(written) == 3 * 3  # three steps of three answers
  rl.run(cfg, str(killed), base)
  assert numbers(killed) == numbers(alone)
  assert [line['step'] for line in numbers(alone)['rollouts.jsonl']] == [
    step for step in range(1, 7) for _ in range(3)
  ]
  for part in ('', 'best'):
    models = [checkpoint.load_model(str(w / part)) for w in (alone, killed)]
    assert models[0].fingerprint == models[1].fingerprint
    assert models[0].step == models[1].step == (2 if part else 6)


def test_another_file_of_problems_is_refused(base, tmp_path, monkeypatch):
  """Before anything is trained; the file holds fewer than are asked."""
  path = tmp_path / 'problems.jsonl'
  rows = [
    {
      'question': f'{"abc"[n % 3]}{"x" * n} is 1+{n}?',
      'answer': f'#### {n + 1}',
    }
    for n in range(60)
  ]
  path.write_text('\n'.join(map(json.dumps, rows)))
  cfg = config_of(word_problems.WordProblems(str(path)), n_problems=20)

  class Begun(Exception):
    pass

  def stop(*args, **kwargs):
    raise Begun

  monkeypatch.setattr(start.Stage, 'start', stop)
  for _ in range(2):
    with pytest.raises(Begun):
      rl.run(cfg, str(tmp_path / 'rl'), base)
  run = json.loads((tmp_path / 'rl' / 'run.json').read_text())
  (mixture,) = run['mixture']  # 6 steps of 4 of 20 problems
  assert (mixture['source'], mixture['problems']) == ('word_problems', 20)
  assert mixture['epochs'] == 6 * 4 / 20
  assert run['inputs']['task.path'] == files.sha256(path)
  path.write_text('\n'.join(map(json.dumps, rows[:-1])))
  with pytest.raises(ValueError, match='inputs task.path'):
    rl.run(cfg, str(tmp_path / 'rl'), base)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'temperature': 0.0}, 'temperature 0 draws equal answers'),
    ({'max_new_tokens': 0}, 'max_new_tokens 0; use'),
    ({'n_prompts': 0}, 'Config.n_prompts = 0; use 1 or more'),
    ({'n_samples': 0}, 'Config.n_samples = 0; use 1 or more'),
    ({'evaluate_every': 0}, 'Config.evaluate_every = 0; use 1 or more'),
    ({'reward': 'coin'}, "Config.reward = 'coin'; use one of"),
    ({'n_samples': 1, 'preset': 'grpo'}, 'the baseline group_mean is made of'),
    ({'n_samples': 1, 'preset': 'rloo'}, 'the baseline leave_one_out is made'),
  ],
)
def test_wrong_configurations_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    config_of(addition.Addition(), **changes)


def test_reinforce_plus_plus_needs_no_groups(base, tmp_path):
  cfg = config_of(
    addition.Addition(),
    preset='reinforce_plus_plus',
    n_samples=1,
    loop=training_loop.LoopConfig(n_steps=3),
  )
  rl.run(cfg, str(tmp_path / 'rl'), base)
  lines = [x for x in numbers(tmp_path / 'rl')['metrics.jsonl'] if 'loss' in x]
  assert lines, 'every batch was dead'
  assert all(abs(line['mean_ratio'] - 1) < 0.1 for line in lines)


def test_only_adapters_are_taught(assistant, tmp_path):
  """What is drawn comes from the merged model: ratio 1 before an update."""
  cfg = config_of(
    addition.Addition(),
    preset='reinforce_plus_plus',
    n_samples=1,
    evaluate_every=3,
    updates=learn.Updates(),
    optimizer=stages.adamw(1e-2, 0),
    lora=lora.Lora(rank=2, pattern='layers/wq$'),
    loop=training_loop.LoopConfig(n_steps=3),
  )
  rl.run(cfg, str(tmp_path / 'rl'), assistant)
  lines = [x for x in numbers(tmp_path / 'rl')['metrics.jsonl'] if 'loss' in x]
  assert len(lines) == 3
  assert all(line['max_logp_difference'] < 1e-4 for line in lines)
  before, after = (
    traverse_util.flatten_dict(checkpoint.load_model(str(path)).params, sep='/')
    for path in (assistant, tmp_path / 'rl')
  )
  changed = {k for k in before if not np.array_equal(before[k], after[k])}
  assert changed == {'layers/wq'}


def test_adapters_have_no_value_function(assistant, tmp_path):
  cfg = config_of(addition.Addition(), lora=lora.Lora(rank=2))
  with pytest.raises(ValueError, match='an algorithm without one'):
    rl.run(cfg, str(tmp_path / 'rl'), assistant)


@pytest.fixture(scope='module')
def policy_and_models(assistant, tmp_path_factory):
  """A chat model, two reward models from it, and a file of prompts."""
  folder = tmp_path_factory.mktemp('rlhf')
  rows = [
    {'prompt': f'q {i}', 'chosen': 'e' * (1 + i % 5), 'rejected': 'xyz'[i % 3]}
    for i in range(60)
  ]
  file = folder / 'pairs.jsonl'
  file.write_text('\n'.join(map(json.dumps, rows)))
  for seed in (0, 1):
    cfg = reward_model.Config(
      seed=seed,
      batch_size=4,
      sequence_length=128,
      optimizer=stages.adamw(0.03),
      loop=training_loop.LoopConfig(n_steps=3),
      mesh=device_mesh.MeshConfig(data=1),
    )
    reward_model.run(cfg, str(folder / f'rm{seed}'), assistant, [str(file)])
  return assistant, [str(folder / f'rm{seed}') for seed in (0, 1)], str(file)


def with_models(path, **changes):
  return config_of(
    prompts.Prompts(path=path),
    reward='model',
    preset='dr_grpo',
    updates=learn.Updates(),
    optimizer=stages.adamw(0.01, 0),
    loop=training_loop.LoopConfig(n_steps=2),
    **changes,
  )


def test_models_reward_answers_to_prompts(policy_and_models, tmp_path):
  """Each reward is the mean of two scores, less their spread, of the ids."""
  base, models, path = policy_and_models
  cfg = with_models(
    path,
    max_new_tokens=1,
    rollouts=rollout.Rollouts(n_written=99, spread_weight=0.5),
  )
  workdir = tmp_path / 'rl'
  rl.run(cfg, str(workdir), base, models)
  lines = numbers(workdir)
  scorers = [llm_jax.load(folder) for folder in models]
  n_compared = 0
  for line in lines['rollouts.jsonl']:
    prompt = [{'role': 'user', 'content': line['prompt']}]
    pair = scorers[0].chat_format.prompt(prompt), [*line['text'].encode()]
    if line['text'].isascii() and not line['finished'] and pair[1]:
      both = [
        reading.scores(x.config, x.params, [pair], batch_size=1)[0]
        for x in scorers
      ]
      assert np.std(both) > 1e-3
      expected = np.mean(both) - 0.5 * np.std(both)
      assert line['reward'] == pytest.approx(expected, abs=1e-5)
      n_compared += 1
  assert n_compared > 2
  first, second = (x for x in lines['metrics.jsonl'] if 'loss' in x)
  assert first['kl_of_answers'] == pytest.approx(0, abs=1e-3)
  assert second['kl_of_answers'] != first['kl_of_answers']
  for line in (first, second):
    assert 'accuracy' not in line
    assert 0 <= line['equal_share'] < 1
  assert not any('eval_sampled' in x for x in lines['metrics.jsonl'])
  done = files.read_json(workdir / 'done.json')
  assert 'nobody verified them' in done['result']
  run = files.read_json(workdir / 'run.json')
  assert {'reward_model 0', 'reward_model 1', 'task.path'} <= run[
    'inputs'
  ].keys()


def test_models_that_cannot_reward_are_refused(policy_and_models, tmp_path):
  base, models, path = policy_and_models
  cfg = with_models(path)

  def refused(fault, cfg=cfg, given=(), start=base):
    with pytest.raises(ValueError, match=fault):
      rl.run(cfg, str(tmp_path / 'rl'), start, given)
    assert not (tmp_path / 'rl' / 'run.json').exists()

  refused("'model' takes one folder at least")
  refused('stage sft, whose model scores no', given=[base])
  random = dataclasses.replace(cfg, reward='random')
  refused('and only it takes any', random, given=models)
  plain = str(tiny_checkpoint.write(tmp_path / 'plain', is_chat=False))
  refused('has the chat format True', given=models, start=plain)
  other = tmp_path / 'other'
  shutil.copytree(models[0], other)
  vocabulary = encoding.Tokenizer.from_merges([(101, 101)], 'qwen2')
  vocabulary.save(other / 'checkpoints' / 'tokenizer')
  refused('has the vocabulary', given=[str(other)])
  with pytest.raises(
    ValueError, match='prompts has no verifier; set Config.rew'
  ):
    dataclasses.replace(cfg, reward='verifier')
