"""The recipe: sources of several folders, limited, counted, kept apart."""

import dataclasses
import json
import pathlib
import shutil

import pytest

from experiments import pretrain
from llm_jax import dataclass_json
from llm_jax.model import config as model_config
from llm_jax.optim import optimizers
from llm_jax.tokenizer import encoding
from llm_jax.train import checkpoint, training_loop
from tests.evals import tiny_checkpoint
from tests.experiments import stages

N_STEPS = 3
CONFIG = pretrain.Config(
  batch_size=4,
  sources=('web', 'sums'),
  weights=(3, 1),
  valid_source='web',
  evaluate_every=2,
  sample_tokens=1,
  model=dataclasses.replace(tiny_checkpoint.MODEL, max_length=32),
  optimizer=optimizers.Optimizer('adamw', warmup_steps=1),
  loop=training_loop.LoopConfig(n_steps=N_STEPS),
)


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
  """Two folders of tokens with one source each, and the tokenizer."""
  folder = tmp_path_factory.mktemp('inputs')
  tiny_checkpoint.tokenizer().save(folder / 'tokenizer')
  for name, text in (('web', 'to be or not, '), ('sums', '12+34=46.')):
    splits = dict.fromkeys(('train', 'valid'), [text] * 40)
    tiny_checkpoint.write_tokens(folder / name, {name: splits})
  return [str(folder / 'web'), str(folder / 'sums')], str(folder / 'tokenizer')


def lines(workdir):
  text = (workdir / 'metrics.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


def test_sources_are_counted_and_documents_kept_or_not(inputs, tmp_path):
  kept, cut = tmp_path / 'kept', tmp_path / 'cut'
  cfg = dataclasses.replace(CONFIG, keep_documents=True)
  pretrain.run(cfg, str(kept), *inputs)
  cfg = dataclasses.replace(CONFIG, keep_documents=False)
  with stages.ended_at(2):
    pretrain.run(cfg, str(cut), *inputs)
  assert lines(kept)[0]['loss'] != lines(cut)[0]['loss']
  done = json.loads((kept / 'done.json').read_text())
  # 3 rows of 32 tokens a step from one source and 1 from the other. Their
  # rows are 40 documents of 15 and of 10 tokens, the separator included.
  n_rows = {'web': -(-40 * 15 // 32), 'sums': -(-40 * 10 // 32)}
  assert done['tokens'] == N_STEPS * 4 * 32
  assert done['tokens_web'] == N_STEPS * 3 * 32
  assert done['tokens_sums'] == N_STEPS * 32
  assert done['epochs_web'] == N_STEPS * 3 / n_rows['web']
  assert done['epochs_sums'] == N_STEPS / n_rows['sums']
  counted = {
    line['step']: line['tokens_web']
    for line in lines(kept)
    if 'tokens_web' in line
  }
  assert counted == {2: 2 * 3 * 32, 3: 3 * 3 * 32}


def test_all_sources_by_their_tokens_where_none_are_named(inputs, tmp_path):
  """40 documents of 15 tokens beside 40 of 10: 2 of 4 rows for each."""
  cfg = dataclasses.replace(CONFIG, sources=(), weights=(), valid_source='')
  pretrain.run(cfg, str(tmp_path / 'run'), *inputs)
  run = json.loads((tmp_path / 'run' / 'run.json').read_text())
  assert [*map(list, map(dict.values, run['mixture']))] == [
    ['web', 19, 600, 0.5, N_STEPS * 2 / 19],
    ['sums', 13, 400, 0.5, N_STEPS * 2 / 13],
  ]
  assert 'valid_bits_per_byte' in lines(tmp_path / 'run')[1]


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'max_epochs': (0.4, 0)}, r'LoopConfig.n_steps = 2, or Config.weights'),
    ({'max_epochs': (0, 0, 1)}, '2 sources .* but 3 max_epochs'),
    ({'weights': (1,)}, '2 sources .* but 1 weights .*in Config.weights'),
    ({'sources': ()}, '0 sources .* but 2 weights .*name all in Config.sourc'),
    ({'sources': ('web', 'books')}, "0 of the folders .* source 'books'"),
    ({'weights': (99, 1)}, 'gives sums/train no row .* in Config.weights'),
    ({'weights': (1, 0)}, r'Config.weights are positive .*Config.sources'),
    ({'valid_source': 'books'}, 'Config.valid_source'),
    ({'fim_rate': 1.5}, 'Config.fim_rate = 1.5'),
    ({'model': model_config.ModelConfig()}, 'vocab_size'),
  ],
)
def test_refused_before_anything_runs(inputs, tmp_path, changes, message):
  def run():
    cfg = dataclasses.replace(CONFIG, **changes)
    pretrain.run(cfg, str(tmp_path / 'run'), *inputs)

  with pytest.raises(ValueError, match=message):
    run()
  assert not (tmp_path / 'run').exists()


def test_a_name_twice_is_refused(inputs, tmp_path):
  tokens, tokenizer = inputs
  copy = shutil.copytree(tokens[0], tmp_path / 'copy')
  with pytest.raises(ValueError, match="2 of the folders .* source 'web'"):
    pretrain.run(CONFIG, str(tmp_path / 'run'), [*tokens, str(copy)], tokenizer)


def test_middles_are_cut_measured_and_known_of(inputs, tmp_path):
  cfg = dataclasses.replace(CONFIG, fim_rate=0.5)
  pretrain.run(cfg, str(tmp_path / 'run'), *inputs)
  found = lines(tmp_path / 'run')
  assert found[0]['fim_lost_tokens'] > 0
  steps = [line['step'] for line in found if 'middle_spm_bits_per_byte' in line]
  assert steps == [N_STEPS]
  assert checkpoint.load_model(str(tmp_path / 'run')).usage.fills


@pytest.fixture(scope='module')
def base(tmp_path_factory):
  """A model with weights of its own, and its tokenizer with it."""
  return str(tiny_checkpoint.write(tmp_path_factory.mktemp('base'), False, 7))


def test_a_model_goes_on_with_other_text(inputs, base, tmp_path, caplog):
  """With a rate of 0, so that the model behind it is the one that was given."""
  cfg = dataclasses.replace(
    CONFIG,
    model=model_config.ModelConfig(remat='full'),
    optimizer=optimizers.Optimizer('adamw', peak_lr=0.0, warmup_steps=1),
  )
  workdir = tmp_path / 'run'
  with caplog.at_level('INFO'):
    pretrain.run(cfg, str(workdir), inputs[0], restore_from=base)
  assert 'a new optimizer for the model of' in caplog.text
  before, after = map(checkpoint.load_model, (base, str(workdir)))
  assert after.fingerprint == before.fingerprint
  saved = dataclasses.replace(before.model_config, remat='full')
  assert after.model_config == saved
  run = json.loads((workdir / 'run.json').read_text())
  assert run['config']['model'] == dataclass_json.to_dict(saved)
  assert run['inputs']['model'] == before.fingerprint
  assert (workdir / 'checkpoints' / 'tokenizer').is_dir()
  assert (workdir / 'done.json').exists()


@pytest.mark.parametrize(
  ('changes', 'flags', 'message'),
  [
    ({'model': model_config.ModelConfig(d_model=32, remat='full')}, {},
     r'd_model = 32, but it has 16; leave these'),
    ({}, {'tokenizer': 'other'}, 'has fingerprint .* leave it out'),
    ({}, {'tokens': 'other'}, 'are of tokenizer .* tokenize again'),
    ({}, {'workdir': 'base'}, 'are both .* leave out --restore_from'),
    ({}, {'restore_from': ''}, '--tokenizer must be given for a new model'),
    ({}, {'restore_from': 'nowhere'}, 'holds no checkpoint'),
  ],
)  # fmt: skip
def test_what_a_model_cannot_go_on_with(
  inputs, base, tmp_path, changes, flags, message
):
  """Tokens and tokenizer of another vocabulary among it."""
  other = encoding.Tokenizer.from_merges([(97, 98)], 'qwen2')
  other.save(tmp_path / 'other_tokenizer')
  changes = {'model': model_config.ModelConfig()} | changes
  cfg = dataclasses.replace(CONFIG, **changes)
  tokens = list(inputs[0])
  if 'tokens' in flags:
    manifest = pathlib.Path(shutil.copytree(tokens[0], tmp_path / 'web'))
    path = manifest / 'manifest.json'
    text = path.read_text().replace(
      tiny_checkpoint.tokenizer().fingerprint, other.fingerprint
    )
    path.write_text(text)
    tokens[0] = str(manifest)
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    pretrain.run(
      cfg,
      base if 'workdir' in flags else str(tmp_path / 'run'),
      tokens,
      tokenizer=str(tmp_path / 'other_tokenizer')
      if 'tokenizer' in flags
      else None,
      restore_from=flags.get('restore_from', base),
    )
  assert not (tmp_path / 'run').exists()
