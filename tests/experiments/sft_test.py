"""Fine-tuning of adapters: what is trained, saved, resumed and taken over."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import traverse_util

from examples import assistant
from experiments import sft
from llm_jax import locks
from llm_jax.interop import huggingface
from llm_jax.model import lora, params, transformer
from llm_jax.optim import optimizers
from llm_jax.parallel import device_mesh
from llm_jax.tasks import addition
from llm_jax.train import checkpoint, start, training_loop
from tests.experiments import stages

LORA = lora.Lora(rank=2, alpha=4.0, pattern='layers/(wq|wo|down)$')
CFG = sft.Config(
  batch_size=4,
  sequence_length=64,
  task=addition.Addition(),
  n_task=40,
  lora=LORA,
  optimizer=stages.adamw(0.01),
  loop=training_loop.LoopConfig(n_steps=8, save_every=3),
  mesh=device_mesh.MeshConfig(data=1),
)


@pytest.fixture(scope='module')
def workdir(base, tmp_path_factory):
  folder = tmp_path_factory.mktemp('stages') / 'sft'
  sft.run(CFG, str(folder), base)
  return folder


def newest_state(workdir, base):
  """The state that a resume would go on from."""
  stage = start.after(
    'sft', CFG, workdir=str(workdir), restore_from=base, n_rows=4,
    teaches_chat=True,
  )  # fmt: skip
  lines = lora.trained(CFG.lora, params.table(stage.model_config))
  tx = optimizers.make(CFG.optimizer, CFG.loop.n_steps, lines)
  state, loop = stage.start(tx, CFG.lora)
  loop.writer.close()
  return state


def test_later_stages_load_base_plus_adapters(base, workdir, caplog):
  before = checkpoint.load_model(base)
  after = checkpoint.load_model(str(workdir))
  assert (workdir / 'masks.jsonl').read_text().count('addition') == 1
  assert (after.stage, after.step, after.is_chat) == ('sft', 8, True)
  caplog.set_level('INFO', 'absl')
  state = newest_state(workdir, base)
  assert int(state.step) == 8
  # a and b of wq 16 x 16, wo 16 x 16 and down 16 x 16; two moments of each.
  sizes = [x.size for x in jax.tree.leaves(state.params)]
  assert sizes == [32] * 6
  assert 'trains 192 parameters' in caplog.text
  moments = [x.size for x in jax.tree.leaves(state.opt_state) if x.size > 1]
  assert moments == 2 * sizes
  adapters = state.params['layers']
  for name, x in before.params['layers'].items():
    change = jax.tree.map(np.subtract, after.params['layers'][name], x)
    if name in adapters:
      a_b = adapters[name]['a'] @ adapters[name]['b']
      # Rounded where it is added to numbers around 1.
      np.testing.assert_allclose(
        change.reshape(a_b.shape), 2.0 * a_b, atol=1e-6
      )
      assert np.abs(change).max() > 1e-3
    else:
      assert not any(x.any() for x in jax.tree.leaves(change)), name
  for name in before.params.keys() - {'layers'}:
    jax.tree.map(
      np.testing.assert_array_equal, after.params[name], before.params[name]
    )


def test_resumed_is_uninterrupted_bit_for_bit(base, workdir, tmp_path):
  """Ended before the numbers of a step are on disk; and it has learnt."""
  with stages.ended_at(5):
    sft.run(CFG, str(tmp_path / 'sft'), base)
  assert len(stages.losses(tmp_path / 'sft')) == 4
  sft.run(CFG, str(tmp_path / 'sft'), base)
  assert stages.losses(tmp_path / 'sft') == stages.losses(workdir)
  first, last = (float.fromhex(stages.losses(workdir)[i][1]) for i in (0, -1))
  assert last < first - 0.1
  ends = [checkpoint.load_model(str(w)) for w in (workdir, tmp_path / 'sft')]
  assert ends[0].fingerprint == ends[1].fingerprint


def test_exported_and_read_back_it_has_the_same_logits(workdir, tmp_path):
  model = checkpoint.load_model(str(workdir))
  huggingface.write(
    str(tmp_path / 'out'), model.model_config, model.params,
    model.tokenizer_dir, True,
  )  # fmt: skip
  cfg, flat = huggingface.read(str(tmp_path / 'out'))
  params = traverse_util.unflatten_dict(flat, sep='/')
  tokens_BT = np.arange(12)[None] * 23 % 300

  @jax.jit
  def logits(params):
    hidden_BTD, *_ = transformer.apply(
      model.model_config, params, tokens_BT, np.arange(12)[None]
    )
    return transformer.unembed(model.model_config, params, hidden_BTD)

  assert cfg == model.model_config
  np.testing.assert_array_equal(logits(params), logits(model.params))


def test_what_is_mixed_is_recorded(base, tmp_path):
  """A task's demonstrations and a user's file, some of which is left out."""
  path = tmp_path / 'mine.jsonl'
  turns = [[{'from': 'human', 'value': 'q'}, {'from': 'gpt', 'value': 'a' * n}]
           for n in (9, 99)]  # fmt: skip
  path.write_text('\n'.join(json.dumps({'conversations': x}) for x in turns))
  cfg = dataclasses.replace(
    CFG,
    think_share=0.0,
    micro_batch=1,
    loop=training_loop.LoopConfig(n_steps=2),
  )
  sft.run(cfg, str(tmp_path / 'sft'), base, conversations=[str(path)])
  run = json.loads((tmp_path / 'sft' / 'run.json').read_text())
  own, mine = run['mixture']
  assert (own['source'], own['conversations']) == ('addition', 40)
  assert (mine['source'], mine['conversations']) == ('mine', 1)
  assert mine['learnt'] == 9 + 1
  assert own['share'] + mine['share'] == pytest.approx(1)
  # Of 2 steps of 4 rows, each of which holds one or two of 41 conversations.
  assert own['epochs'] == mine['epochs']
  assert 8 / 41 <= own['epochs'] <= 8 / 21
  assert list(run['left_out'].values()) == [1]
  assert run['plan'] == {'micro_batch': 1, 'remat': 'none'}
  assert list(run['inputs']) == ['conversations mine', 'model']


def test_a_file_that_is_mended_is_taken_by_the_same_command(base, tmp_path):
  path, workdir = tmp_path / 'mine.jsonl', tmp_path / 'sft'
  path.write_text('{"messages": [{"role": "user", "content": "q"}]}')
  cfg = dataclasses.replace(
    CFG, task=None, n_task=0, loop=training_loop.LoopConfig(n_steps=2)
  )
  given = {'conversations': [str(path)]}
  with pytest.raises(ValueError, match='(?s)no conversation.*1  no message'):
    sft.run(cfg, str(workdir), base, **given)
  locks.unlock(workdir)  # as the end of the process does
  path.write_text('{"prompt": "q", "completion": "a"}')
  sft.run(cfg, str(workdir), base, **given)
  assert (workdir / 'done.json').exists()


def test_a_wrong_pattern_leaves_the_folder_free(base, tmp_path):
  wrong = dataclasses.replace(LORA, pattern='query')
  with pytest.raises(ValueError, match='is found in no parameter'):
    sft.run(dataclasses.replace(CFG, lora=wrong), str(tmp_path / 'sft'), base)
  assert not (tmp_path / 'sft').exists()


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({}, 'no conversation to train on; give --conversations, or set'),
    ({'n_task': 5}, 'n_task = 5 .*task = None: set both'),
    ({'task': addition.Addition()}, 'n_task = 0 .*set both'),
    ({'persona': 'a.yaml'}, 'a.yaml is learnt from Config.n_identity = 0 '),
    ({'persona': 'a.yaml', 'n_identity': 9, 'n_task': 9,
      'task': assistant.Assistant()}, 'beside 0.15 of the task .*identity_sh'),
  ],
)  # fmt: skip
def test_nothing_is_mixed_in_unless_asked(changes, message):
  with pytest.raises(ValueError, match=message):
    sft.run(sft.Config(**changes), 'unused', 'unused')


def test_muon_is_refused():
  with pytest.raises(ValueError, match="'muon' with Lora.rank = 2.*use adamw"):
    dataclasses.replace(CFG, optimizer=optimizers.Optimizer(matrices='muon'))
