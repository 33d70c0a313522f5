"""Runs made longer, rewound, and resumed with other settings.

The loss is the mean of the parameters and the batch, so that every gradient is
the same, AdamW moves each parameter by the learning rate, and the rates of a
run can be read from its losses.
"""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llm_jax import files, locks, record
from llm_jax.model import config, params
from llm_jax.optim import optimizers
from llm_jax.parallel import device_mesh
from llm_jax.rl import learn
from llm_jax.train import metrics, start, training_loop, update
from tests.evals import tiny_checkpoint

PEAK = 0.01
MODEL = config.ModelConfig(
  vocab_size=320, n_layers=1, d_model=8, n_heads=1, n_kv_heads=1, head_dim=8,
  d_ff=8,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Config:
  seed: int = 0
  batch_size: int = 2
  micro_batch: int = 0
  model: config.ModelConfig = MODEL
  optimizer: optimizers.AnyOptimizer = optimizers.Optimizer(
    matrices='adamw', peak_lr=PEAK, warmup_steps=2, clip_norm=0.0
  )
  loop: training_loop.LoopConfig = training_loop.LoopConfig()
  mesh: device_mesh.MeshConfig = device_mesh.MeshConfig(data=1)
  updates: learn.Updates = learn.Updates()


def make(schedule='constant', decay_share=0.5, peak=PEAK, **loop):
  optimizer = dataclasses.replace(
    Config().optimizer, schedule=schedule, decay_share=decay_share, peak_lr=peak
  )
  loop = training_loop.LoopConfig(**({'save_every': 2} | loop))
  return Config(optimizer=optimizer, loop=loop)


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
  folder = tmp_path_factory.mktemp('tokenizer')
  tiny_checkpoint.tokenizer().save(folder)
  return str(folder)


def loss_fn(params, batch, key):
  del key
  leaves = [x.mean() for x in jax.tree.leaves(params)]
  return jnp.stack(leaves).mean() + batch['inputs_BT'].mean(), {}


def train(workdir, tokenizer, cfg, stop_at=None, bad=()):
  """Run until the end, or until a step; False if there was nothing to do."""
  stage = start.new('test', cfg, str(workdir), tokenizer)
  tx = optimizers.make(cfg.optimizer, stage.n_updates, params.table(MODEL))
  if stage.begin({}):
    return False
  state, loop = stage.start(tx)

  def batch_fn(index):
    value = np.nan if index + 1 in bad else (index + 1) * 4.0
    return {'inputs_BT': np.full((2, 4), value, np.float32)}

  update_fn = update.make_update_fn(loss_fn, tx, stage.mesh)
  for step, _ in loop.train(state, update_fn, batch_fn):
    if step == stop_at:
      break  # a kill: the newest checkpoint is older
  else:
    record.finish(workdir, {})
  locks.unlock(workdir)
  return True


def lines(workdir):
  """(step, batch that it read, mean of the parameters before it)."""
  read = list(metrics.read(str(workdir / metrics.METRICS)))
  numbers = [round(line['loss'] / 4) for line in read]
  return [
    (line['step'], number, line['loss'] - 4 * number)
    for line, number in zip(read, numbers, strict=True)
  ]


def losses(workdir):
  read = metrics.read(str(workdir / metrics.METRICS))
  return [(line['step'], line['loss']) for line in read]


def rates(workdir):
  """Of each step but the last, in units of the peak."""
  values = [value for *_, value in lines(workdir)]
  return -np.diff(values) / PEAK


def changes(workdir):
  return files.read_json(workdir / 'run.json').get('changes', [])


@pytest.mark.parametrize(
  ('schedule', 'stop_at', 'options'),
  [
    pytest.param('constant', 7, {}, marks=pytest.mark.nightly),
    # Its only checkpoint is within the warmup.
    pytest.param('cosine', 3, {}, marks=pytest.mark.nightly),
    # It was finished; the checkpoint before its decay is kept.
    ('wsd', None, {'rewind_to': 5}),
  ],
)
def test_longer_run_is_as_if_it_had_been_planned(
  schedule, stop_at, options, tokenizer, tmp_path
):
  """10 steps, then 16; each loss, bit for bit, and the parameters behind."""
  planned, longer = tmp_path / 'planned', tmp_path / 'longer'
  train(planned, tokenizer, make(schedule, n_steps=16))
  train(longer, tokenizer, make(schedule, n_steps=10), stop_at)
  cfg = make(schedule, n_steps=16, **options)
  assert train(longer, tokenizer, cfg)
  assert losses(longer) == losses(planned)
  (change,) = changes(longer)
  assert change['settings']['loop.n_steps'] == [10, 16]
  assert ('finished' in change) == (stop_at is None)
  assert change['schedule_from'] == 0
  assert (longer / 'done.json').exists()
  assert not train(longer, tokenizer, cfg)
  if not options:  # a rewound run is none that one command does again
    record.rerun(tmp_path / 'again', files.read_json(longer / 'run.json'))
    locks.unlock(tmp_path / 'again')


def test_where_the_schedule_has_gone_down_it_warms_up_again(
  tokenizer, tmp_path, caplog
):
  """Cosine over 4 steps behind 2 of warmup; then over 6 behind another 2.

  A kill on the way changes nothing; and so again for a third length.
  """
  train(tmp_path, tokenizer, make('cosine', n_steps=6))
  longer = make('cosine', n_steps=14)
  with caplog.at_level('INFO'):
    train(tmp_path, tokenizer, longer, stop_at=11)
  assert 'step 6, where the learning rate warms up anew' in caplog.text
  train(tmp_path, tokenizer, longer)

  def cosine(n):
    return [0.5, 1.0] + [
      0.5 + 0.5 * math.cos(math.pi * i / n) for i in range(n)
    ]

  expected = (cosine(4) + cosine(6))[:-1]
  np.testing.assert_allclose(rates(tmp_path), expected, atol=0.02)
  (change,) = changes(tmp_path)
  assert (change['step'], change['schedule_from']) == (6, 6)
  assert not change['is_as_planned']
  with pytest.raises(ValueError, match='changed on its way'):
    record.rerun(tmp_path / 'x', files.read_json(tmp_path / 'run.json'))
  train(tmp_path, tokenizer, make('cosine', n_steps=18))
  expected = (cosine(4) + cosine(6) + cosine(2))[:-1]
  np.testing.assert_allclose(rates(tmp_path), expected, atol=0.02)
  assert [x['schedule_from'] for x in changes(tmp_path)] == [6, 14]


def test_run_that_diverged_goes_on_with_another_rate(tokenizer, tmp_path):
  """Batches 6 to 15 are bad; later ones are read in their order."""
  bad = range(6, 16)
  cfg = make(n_steps=30, save_every=4, keep_every=4)
  with pytest.raises(FloatingPointError) as error:
    train(tmp_path, tokenizer, cfg, bad=bad)
  saved, skipped = [4, 8, 12], ((6, 15),)
  assert f'rewind_to = one of the saved steps {saved}' in str(error.value)
  assert f'LoopConfig.skip_batches = ({skipped[0]},)' in str(error.value)
  locks.unlock(tmp_path)
  before = (tmp_path / 'metrics.jsonl').read_text()

  other = make(
    n_steps=12,
    save_every=4,
    keep_every=4,
    peak=PEAK / 2,
    rewind_to=4,
    skip_batches=skipped,
  )
  for stop_at in (7, 10, None):  # it is rewound once
    train(tmp_path, tokenizer, other, stop_at, bad)
  read = lines(tmp_path)
  assert [step for step, *_ in read] == list(range(1, 13))
  assert [number for _, number, _ in read] == [*range(1, 6), *range(16, 23)]
  expected = [0.5, 1, 1, 1] + [0.5] * 7
  np.testing.assert_allclose(rates(tmp_path), expected, atol=0.02)

  aside = tmp_path / 'set_aside' / '1'
  assert {x.name for x in (aside / 'checkpoints').iterdir()} == {'8', '12'}
  assert (aside / 'metrics.jsonl').read_text() == before
  (change,) = changes(tmp_path)
  assert change['settings'] == {
    'optimizer.peak_lr': [PEAK, PEAK / 2],
    'loop.skip_batches': [[], [[6, 15]]],
    'loop.n_steps': [30, 12],
  }
  assert change['step'] == 4
  with pytest.raises(ValueError, match='changed on its way'):
    record.rerun(tmp_path / 'x', files.read_json(tmp_path / 'run.json'))
  # Again to the same step, as the rate is another one.
  again = dataclasses.replace(
    other, optimizer=dataclasses.replace(other.optimizer, peak_lr=PEAK / 4)
  )
  train(tmp_path, tokenizer, again, bad=bad)
  expected = [0.5, 1, 1, 1] + [0.25] * 7
  np.testing.assert_allclose(rates(tmp_path), expected, atol=0.02)


@pytest.fixture(scope='module')
def finished(tokenizer, tmp_path_factory):
  """A folder with a finished run of cosine, checkpoints of steps 4 and 6."""
  workdir = tmp_path_factory.mktemp('finished')
  train(workdir, tokenizer, make('cosine', n_steps=6))
  return workdir


@pytest.mark.parametrize(
  ('cfg', 'message'),
  [
    (make('cosine', n_steps=6, peak=1.0), r'rewind_to to one of .*\[4, 6\]'),
    (make('cosine', n_steps=6, skip_batches=((9, 9),)), 'set LoopConfig.rew'),
    (make('cosine', n_steps=8, rewind_to=3), r'no checkpoint .* \[4, 6\]'),
    (make('cosine', n_steps=8, rewind_to=4, skip_batches=((2, 3),)),
     'step 2 has read batch 2 and would read 4'),
    (make('cosine', n_steps=5), '6 steps are done; use more'),
    (make('cosine', n_steps=6, rewind_to=6, peak=1.0), '6 steps are done'),
    (make('cosine', n_steps=8), 'step 6, but Optimizer.warmup_steps = 2 leave'),
    (make('cosine', n_steps=5, rewind_to=4), 'given the 4 steps done other'),
    (dataclasses.replace(make('cosine', n_steps=16), seed=1),
     r'another run \(config seed: 0 -> 1\); give another'),
  ],
)  # fmt: skip
def test_what_cannot_go_on_is_refused(cfg, message, finished, tokenizer):
  before = {p: p.read_bytes() for p in finished.rglob('*.json')}
  with pytest.raises(ValueError, match=message):
    train(finished, tokenizer, cfg)
  locks.unlock(finished)
  assert {p: p.read_bytes() for p in finished.rglob('*.json')} == before


def test_rewinding_wants_a_run(tokenizer, tmp_path):
  with pytest.raises(ValueError, match='there is no run in'):
    train(tmp_path, tokenizer, make(rewind_to=4))


def test_settings_that_change_no_result_may_change(tokenizer, tmp_path):
  """With an old record, which lacks a setting that there was not yet."""
  cfg = make(n_steps=8)
  train(tmp_path, tokenizer, cfg, stop_at=5)
  path = tmp_path / 'run.json'
  old = json.loads(path.read_text())
  del old['config']['micro_batch'], old['config']['loop']['keep_every']
  path.write_text(json.dumps(old))
  watch = dataclasses.replace(cfg.loop.watch, log_every=1)
  loop = dataclasses.replace(cfg.loop, save_every=3, watch=watch)
  changed = dataclasses.replace(
    cfg,
    micro_batch=1,
    loop=loop,
    mesh=device_mesh.MeshConfig(data=2),
    model=dataclasses.replace(MODEL, remat='full', attention='masked'),
  )
  assert train(tmp_path, tokenizer, changed)
  assert [step for step, _ in losses(tmp_path)] == list(range(1, 9))
  run = files.read_json(path)
  assert 'changes' not in run
  assert run['resumed'][0]['changed'] == {
    'config.micro_batch': [0, 1],
    'config.model.attention': ['auto', 'masked'],
    'config.model.remat': ['none', 'full'],
    'config.loop.save_every': [2, 3],
    'config.loop.watch.log_every': [10, 1],
    'config.mesh.data': [1, 2],
    'mesh.data': [1, 2],
  }
  assert run['mesh']['data'] == 2


def test_rates_of_rl_are_counted_in_updates(tokenizer, tmp_path):
  """Two updates a step: warmup 2 is over within step 1, decay is half."""
  cfg = dataclasses.replace(
    make('wsd', n_steps=8), updates=learn.Updates(n_minibatches=2)
  )
  stage = start.new('test', cfg, str(tmp_path), tokenizer)
  assert stage.n_updates == 16
  assert stage._decay_step() == 4
