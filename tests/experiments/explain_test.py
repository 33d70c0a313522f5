"""What --explain says of a run, and what it refuses before the run does."""

import pathlib
import re

import pytest

from experiments import command_line, explain, pretrain, process, rl, sft
from llm_jax.model import config as model_config
from llm_jax.model import params
from tests.evals import tiny_checkpoint

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Of tests/evals/tiny_checkpoint.py's model and vocabulary.
MODEL = (
  'vocab_size = 320', 'n_layers = 1', 'd_model = 16', 'n_heads = 1',
  'n_kv_heads = 1', 'head_dim = 16', 'd_ff = 16', 'max_length = 128',
)  # fmt: skip


@pytest.fixture(name='made', scope='module')
def _made(tmp_path_factory):
  folder = tmp_path_factory.mktemp('made')
  tiny_checkpoint.write(folder / 'base', is_chat=False)
  texts = {'train': ['some text ' * 90], 'valid': ['more']}
  tiny_checkpoint.write_tokens(folder / 'tokens', {'documents': texts})
  return folder


@pytest.fixture(name='say')
def _say(monkeypatch, capsys):
  """Exit code, standard output and errors of a recipe's --explain."""
  monkeypatch.setattr(process, 'set_up_logging', lambda verbosity: None)

  def say(recipe, lines, *bindings, **flags):
    argv = ['x', '--explain', *(f'--{k}={v}' for k, v in flags.items())]
    argv += [f'--gin_bindings={binding}' for binding in bindings]
    described = {
      'experiments.pretrain': ('tokens', 'tokenizer'),
      'experiments.sft': ('conversations', 'persona'),
    }.get(recipe.__name__, ())
    described = dict.fromkeys(described, 'help')
    code = command_line.execute(
      recipe.Config, recipe.run, described, argv=argv, explain=lines
    )
    return code, *capsys.readouterr()

  return say


def _pretrain(say, made, *bindings, **flags):
  model = [f'ModelConfig.{line}' for line in MODEL]
  model = [one for one in model if one.split(' =')[0] not in str(bindings)]
  flags = {'tokens': made / 'tokens',
           'tokenizer': made / 'base' / 'vocabulary'} | flags  # fmt: skip
  return say(pretrain, explain.pretraining, *model, *bindings, **flags)


def test_pretraining(made, say):
  code, out, err = _pretrain(
    say, made, 'Config.batch_size = 4', 'LoopConfig.n_steps = 30'
  )
  assert (code, err) == (0, '')
  assert 'batch_size = 4   # default 16; rows of the tokens' in out
  assert '\noptimizer.b1 = 0.9   # AdamW first moment\n' in out
  n = params.count(tiny_checkpoint.MODEL)
  n_parameters = n['total'] - n['padding']
  # Embedding and head of 320 x 16 each, 4 matrices of 16 x 16 in attention
  # and 3 in the feed-forward; 3 norms of 16 and those of queries and keys.
  assert n_parameters == 2 * 320 * 16 + 7 * 256 + 5 * 16
  assert f'# {n_parameters:,} parameters: embedding 5,120, ' in out
  assert '# tokenizer: 320 tokens\n' in out
  # 900 bytes, each a token, and the one that ends the document.
  assert '# 3,840 tokens in 30 steps of 4 rows of 32: 0.3 a parameter' in out
  assert '# documents: 4 rows of a batch, 3,840 tokens of 901, 4.26 ep' in out


@pytest.mark.parametrize(
  ('binding', 'message'),
  [
    ('ModelConfig.vocab_size = 384', 'tokenizer has 320 tokens; set ModelCo'),
    ('ModelConfig.max_length = 16', 'less than the 32 tokens of a row; set'),
    ('Optimizer.warmup_steps = 300', 'leaves nothing of 300 steps; use at mo'),
    ("Config.sources = ('sums',)", "have a source 'sums', not one"),
    ('Config.seed = -1', 'Config.seed = -1; use 0 to 4294967295'),
    ('Config.seed = 4294967296', 'Config.seed = 4294967296; use 0 to 4294967'),
    ('Config.batch_size = 0', 'Config.batch_size = 0; use 1 or more'),
    ('Config.evaluate_every = 0', 'Config.evaluate_every = 0; use 1 or more'),
    ('Config.valid_rows = -1', 'Config.valid_rows = -1; use 0 or more'),
    ('Config.balance_weight = -0.5', 'balance_weight = -0.5; use 0 or more'),
  ],
)
def test_what_does_not_fit_is_refused(binding, message, made, say):
  code, _, err = _pretrain(say, made, binding)
  assert code == 1
  assert message in err


def test_other_tokens(made, say, tmp_path):
  other = tiny_checkpoint.encoding.Tokenizer.from_merges([(97, 98)], 'qwen2')
  other.save(tmp_path / 'other')
  code, _, err = _pretrain(
    say,
    made,
    f'ModelConfig.vocab_size = {other.vocab_size}',
    tokenizer=tmp_path / 'other',
  )
  assert code == 1
  assert 'the tokens of documents are of tokenizer' in err


def test_what_is_not_there_yet_and_odd_shapes(made, say, tmp_path):
  code, out, _ = _pretrain(
    say,
    made,
    'ModelConfig.d_model = 64',
    tokens=tmp_path / 'later',
    tokenizer=tmp_path / 'later',
  )
  assert code == 0
  assert 'later is not there yet, so that nothing was compared' in out
  assert 'not all --tokens are there yet' in out
  assert '# 1 heads of 16 are 16 wide, the model 64' in out
  assert '# d_ff = 16 is less than d_model = 64' in out
  assert 'rows of up to 128' in out


def test_presets_are_resolved_and_the_model_is_looked_up(made, say):
  code, out, err = say(
    rl,
    explain.reinforcement,
    'Config.task = @Addition()',
    "Config.preset = 'dapo'",
    'LoopConfig.n_steps = 2',
    restore_from=made / 'base',
  )
  assert (code, err) == (0, '')
  assert '#   algorithm.clip_high = 0.28\n' in out
  assert 'parameters: embedding 5,120' in out
  # 2 steps of 32 problems, 8 answers each of up to 40 tokens.
  assert '# 512 answers in 2 steps of 32 problems, 8 each: up to 20,480' in out
  code, _, err = say(
    rl,
    explain.reinforcement,
    'Config.task = @Addition()',
    'Config.max_new_tokens = 128',
    restore_from=made / 'base',
  )
  assert code == 1
  assert 'leaves no room for a problem in the 128 tokens of the model' in err


def test_fine_tuning(made, say):
  code, out, err = say(sft, explain.fine_tuning, restore_from=made / 'base')
  assert (code, err) == (0, '')
  assert '# rows have 128 tokens, as the model reads no longer ones' in out
  assert '# 81,920 tokens in 40 steps of 16 rows of 128' in out
  code, _, err = say(sft, explain.fine_tuning, restore_from=made / 'nothing')
  assert code == 1
  assert 'holds no checkpoint of a model' in err


def test_the_bigger_model_of_the_how_to_has_sane_sizes():
  page = ROOT / 'docs' / 'how-to' / 'own_text.md'
  text = page.read_text(encoding='utf-8').split('## A bigger model')[1]
  pairs = re.findall(r'ModelConfig.(\w+) = (\d+)', text.split('\n## ')[0])
  cfg = model_config.ModelConfig(**{name: int(n) for name, n in pairs})
  assert cfg.n_layers > model_config.ModelConfig().n_layers
  (line,) = explain._sizes(cfg)  # and no word about heads or d_ff
  assert ' parameters: ' in line
