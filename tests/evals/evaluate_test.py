"""The evaluate recipe on tiny checkpoints: complete, resumable, honest."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from experiments import evaluate
from llm_jax.evals import scoring
from llm_jax.tasks import addition
from tests.evals import tiny_checkpoint

_ROOT = pathlib.Path(__file__).resolve().parents[2]
CFG = evaluate.Config(
  task=addition.Addition(n_digits=2),
  evaluation=scoring.Scoring(
    n_problems=3,
    n_samples=2,
    max_new_tokens=4,
    max_direct_tokens=2,
    batch_size=6,
  ),
  held_out_batch_size=4,
)


@pytest.fixture(name='made', scope='module')
def _made(tmp_path_factory):
  """Two checkpoints, one of which would only write `<`; held-out tokens."""
  folder = tmp_path_factory.mktemp('made')
  tiny_checkpoint.write(folder / 'base', is_chat=False, favourite='<')
  # Another seed and not another form: prompts of one length compile once.
  tiny_checkpoint.write(folder / 'sft', is_chat=False, seed=1)
  texts = {'valid': ['some text ' * 9, 'more']}
  tiny_checkpoint.write_tokens(folder / 'tokens', {'documents': texts})
  return folder


def _given(made):
  return [f'base={made / "base"}', f'sft={made / "sft"}']


def _counted(monkeypatch):
  """Whether each call was direct, in order."""
  calls: list[bool] = []
  true = scoring.evaluate

  def counting(model, task, cfg, direct, split):
    calls.append(direct)
    return true(model, task, cfg, direct, split=split)

  monkeypatch.setattr(scoring, 'evaluate', counting)
  return calls


def test_all_checkpoints_and_nothing_twice(made, tmp_path, monkeypatch):
  calls = _counted(monkeypatch)
  workdir = tmp_path / 'evaluate'
  tokens = str(made / 'tokens')
  evaluate.run(CFG, str(workdir), _given(made)[:1], tokens)
  assert calls == [False, True]
  first = json.loads((workdir / 'evaluation.json').read_text())
  assert [(row['checkpoint'], row['mode']) for row in first['rows']] == [
    ('base', 'free'), ('base', 'direct')
  ]  # fmt: skip
  free, direct = (
    [s['answer'] for s in row['samples']] for row in first['rows']
  )
  assert {*free} == {'<<<<'}
  assert '<' not in ''.join(direct)  # nothing that could open a thought

  # A checkpoint is added: only it is measured.
  evaluate.run(CFG, str(workdir), _given(made), tokens)
  assert calls[2:] == [False, True]
  both = json.loads((workdir / 'evaluation.json').read_text())
  assert both['rows'][:2] == first['rows']
  assert [row['checkpoint'] for row in both['rows'][2:]] == ['sft', 'sft']
  assert both['held_out']['bytes'] == 94
  assert set(both['held_out']['models']) == {'base', 'sft'}
  assert set(both['held_out']['compressors']) == {'gzip -9', 'xz -9'}
  done = json.loads((workdir / 'done.json').read_text())
  assert done['checkpoints'] == 2
  assert done['tokens'] == sum(row['tokens'] for row in both['rows'])

  # The same again, and a half that was lost: equal bytes come back.
  before = (workdir / 'evaluation.json').read_bytes()
  evaluate.run(CFG, str(workdir), _given(made), tokens)
  assert len(calls) == 4
  (workdir / 'done.json').unlink()
  (workdir / 'evaluation.json').unlink()
  evaluate.run(CFG, str(workdir), _given(made), tokens)
  assert len(calls) == 4
  assert (workdir / 'evaluation.json').read_bytes() == before


@pytest.mark.nightly
def test_kill_9_loses_no_finished_checkpoint(made, tmp_path):
  """Killed after the first checkpoint, it goes on with the second."""
  flags = {'workdir': tmp_path / 'killed', 'tokens': made / 'tokens'}
  command = [sys.executable, '-m', 'experiments.evaluate']
  command += [f'--{name}={value}' for name, value in flags.items()]
  command += [f'--checkpoint={given}' for given in _given(made)]
  settings = dataclasses.asdict(CFG.evaluation).items()
  bindings = [f'Scoring.{name} = {value}' for name, value in settings]
  bindings += ['Config.task = @Addition()', 'Addition.n_digits = 2']
  bindings += ['Config.held_out_batch_size = 4']
  command += [f'--gin_bindings={binding}' for binding in bindings]
  environment = os.environ | {'JAX_PLATFORMS': 'cpu'}
  process = subprocess.Popen(command, cwd=_ROOT, env=environment)
  finished = tmp_path / 'killed' / 'checkpoints'
  deadline = time.monotonic() + 120
  while not list(finished.glob('base-*.json')):
    assert time.monotonic() < deadline
    assert process.poll() is None, 'ended before it was killed'
    time.sleep(0.02)
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert not (tmp_path / 'killed' / 'done.json').exists()
  stamp = next(finished.glob('base-*.json')).stat().st_mtime_ns
  subprocess.run(command, cwd=_ROOT, env=environment, check=True)
  assert next(finished.glob('base-*.json')).stat().st_mtime_ns == stamp

  whole = tmp_path / 'whole'
  evaluate.run(CFG, str(whole), _given(made), str(made / 'tokens'))
  assert json.loads((whole / 'evaluation.json').read_text()) == json.loads(
    (tmp_path / 'killed' / 'evaluation.json').read_text()
  )


@pytest.mark.parametrize(
  ('given', 'said'),
  [
    (['runs/sft'], "'runs/sft' is not name=folder"),
    (['a b=x'], 'is not name=folder'),
    (['a='], 'is not name=folder'),
    (['a=x', 'a=y'], "two checkpoints are called 'a': x and y"),
  ],
)
def test_wrong_names_are_refused(tmp_path, given, said):
  with pytest.raises(ValueError, match=said):
    evaluate.run(CFG, str(tmp_path), given, 'tokens')


def test_a_folder_without_a_model_is_named(made, tmp_path):
  with pytest.raises(FileNotFoundError, match='tokens holds no checkpoint'):
    evaluate.run(
      CFG, str(tmp_path), [f'a={made / "tokens"}'], str(made / 'tokens')
    )
