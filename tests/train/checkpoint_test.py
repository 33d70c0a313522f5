"""Checkpoints: exact, on any mesh, and never silently wrong."""

import functools
import gc
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys

import chex
import jax
import optax
import pytest

from llm_jax.model import config, transformer
from llm_jax.parallel import mesh as mesh_lib
from llm_jax.train import checkpoint
from llm_jax.train import state as state_lib

# Orbax leaves tasks and loops behind when it meets a damaged checkpoint.
pytestmark = pytest.mark.filterwarnings(
  'ignore::pytest.PytestUnraisableExceptionWarning'
)


@pytest.fixture(autouse=True)
def _collected():
  """They are reported while the mark above holds, not in a later test."""
  yield
  gc.collect()


CFG = config.ModelConfig(
  vocab_size=100, n_layers=2, d_model=32, n_heads=4, n_kv_heads=4, head_dim=8,
  d_ff=64, n_experts=4,
)  # fmt: skip


# Axes data, fsdp, tensor, context, expert of eight devices.
SAVED_ON = mesh_lib.MeshConfig(1, 2, 2, 1, 2)
OTHERS = [
  (1, 1, 1, 1, 1), (8, 1, 1, 1, 1), (1, 8, 1, 1, 1), (1, 1, 4, 2, 1),
  (1, 1, 2, 1, 4), (2, 2, 2, 1, 1), (1, 2, 1, 2, 2),
]  # fmt: skip


def new_state(mesh_config=None, cfg=CFG, seed=0, tx=None):
  mesh = mesh_lib.make(mesh_config or mesh_lib.MeshConfig(data=1))
  return state_lib.create(
    functools.partial(transformer.init, cfg), tx or optax.adam(0.1), seed, mesh
  )


def host(state):
  return jax.device_get(state.replace(key=jax.random.key_data(state.key)))


def at_step(state, step):
  return state.replace(
    step=state.step + step,
    params=jax.tree.map(lambda x: x + step, state.params),
  )


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """A folder with checkpoints of steps 2 and 3, and a tokenizer."""
  folder = tmp_path_factory.mktemp('saved')
  (folder / 'vocabulary').mkdir()
  (folder / 'vocabulary' / 'spec.json').write_text('{}')
  saver = checkpoint.Checkpointer(str(folder))
  checkpoint.save_model_files(
    str(folder), 'pretrain', CFG, str(folder / 'vocabulary'), is_chat=False
  )
  for step in (1, 2, 3):
    saver.save(at_step(new_state(SAVED_ON), step))
  saver.close()
  return folder


@pytest.fixture
def copy(saved, tmp_path):
  return pathlib.Path(shutil.copytree(saved, tmp_path / 'copy'))


def test_newest_is_restored_bit_for_bit_and_old_ones_go(saved):
  names = os.listdir(saved / 'checkpoints')
  assert sorted(n for n in names if n.isdigit()) == ['2', '3']
  restored = checkpoint.restore(str(saved), new_state(seed=1))
  chex.assert_trees_all_equal(host(restored), host(at_step(new_state(), 3)))


@pytest.mark.parametrize('axes', OTHERS)
def test_restored_onto_another_mesh(saved, axes):
  like = new_state(mesh_lib.MeshConfig(*axes), seed=1)
  restored = checkpoint.restore(str(saved), like)
  chex.assert_trees_all_equal(host(restored), host(at_step(new_state(), 3)))
  assert restored.params['embedding'].sharding == (
    like.params['embedding'].sharding
  )


def test_nothing_saved_is_none(tmp_path):
  assert checkpoint.restore(str(tmp_path), new_state()) is None


def test_no_flipped_bit_goes_unnoticed(copy):
  """20 random bits of array data, one at a time.

  Either step 3 comes back bit for bit, because no array is read from there,
  or it is set aside and step 2 does.
  """
  draw = random.Random(0)
  step_3, aside = copy / 'checkpoints' / '3', copy / 'damaged_checkpoints'
  files = [p for p in step_3.rglob('*') if p.is_file() and '/d/' in str(p)]
  whole = {step: host(at_step(new_state(), step)) for step in (2, 3)}
  n_noticed = 0
  for _ in range(20):
    path = draw.choice(files)
    intact = path.read_bytes()
    content = bytearray(intact)
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    restored = host(checkpoint.restore(str(copy), new_state(seed=1)))
    chex.assert_trees_all_equal(restored, whole[int(restored.step)])
    if int(restored.step) == 2:
      n_noticed += 1
      shutil.move(aside / os.listdir(aside)[0], step_3)
    path.write_bytes(intact)
  assert n_noticed >= 10


@pytest.mark.parametrize('damage', ['empty', 'truncated', 'no metadata'])
def test_torn_checkpoint_is_set_aside(copy, damage):
  step_3 = copy / 'checkpoints' / '3'
  if damage == 'empty':
    shutil.rmtree(step_3)
    step_3.mkdir()
  elif damage == 'truncated':
    for path in step_3.rglob('*'):
      if path.is_file() and '/d/' in str(path):
        path.write_bytes(path.read_bytes()[:-7])
  else:
    (step_3 / '_CHECKPOINT_METADATA').unlink()
  restored = checkpoint.restore(str(copy), new_state(seed=1))
  assert int(restored.step) == 2
  assert len(os.listdir(copy / 'damaged_checkpoints')) == 1
  # The next save of step 3 is not taken for done.
  saver = checkpoint.Checkpointer(str(copy))
  saver.save(at_step(new_state(), 3))
  saver.close()
  assert int(checkpoint.restore(str(copy), new_state()).step) == 3


def test_all_damaged_is_an_error(copy):
  for step in ('2', '3'):
    (copy / 'checkpoints' / step / '_CHECKPOINT_METADATA').write_text('{')
  with pytest.raises(ValueError, match='every checkpoint in .* is damaged'):
    checkpoint.load_model(str(copy))
  with pytest.raises(ValueError, match='every checkpoint in .* was damaged'):
    checkpoint.restore(str(copy), new_state())


@pytest.mark.parametrize(
  ('cfg', 'tx', 'message'),
  [
    (config.ModelConfig(**{**vars(CFG), 'd_ff': 32}), optax.adam(0.1),
     r"params\['layers'\]\['expert_down'\] is float32\[2x4x64x32\] there and "
     r'float32\[2x4x32x32\] here'),
    (CFG, optax.sgd(0.1), r'opt_state.*count is int32.* there and absent here'),
    (config.ModelConfig(**{**vars(CFG), 'tied_embeddings': True}),
     optax.adam(0.1), r"'head'\] is float32\[128x32\] there and absent here"),
  ],
)  # fmt: skip
def test_other_structure_is_named(saved, cfg, tx, message):
  with pytest.raises(ValueError, match=message):
    checkpoint.restore(str(saved), new_state(cfg=cfg, tx=tx))
  assert not (saved / 'damaged_checkpoints').exists()


def test_model_is_loaded_without_its_optimizer(saved):
  model = checkpoint.load_model(str(saved))
  chex.assert_trees_all_equal(
    jax.device_get(model.params), host(at_step(new_state(), 3)).params
  )
  assert (model.model_config, model.stage, model.step) == (CFG, 'pretrain', 3)
  assert not model.is_chat
  assert os.path.exists(os.path.join(model.tokenizer_dir, 'spec.json'))
  other = checkpoint.load_model(
    str(saved), mesh_lib.make(mesh_lib.MeshConfig(1, 2, 2))
  )
  assert other.fingerprint == model.fingerprint


def test_missing_model_says_what_to_give(tmp_path):
  with pytest.raises(FileNotFoundError, match='holds no checkpoint of a model'):
    checkpoint.load_model(str(tmp_path))


def test_model_without_a_young_option_has_its_default(saved, tmp_path):
  copy = tmp_path / 'copy'
  shutil.copytree(saved, copy)
  path = copy / 'checkpoints' / 'model.json'
  model = json.loads(path.read_text())
  del model['model']['qk_norm']
  path.write_text(json.dumps(model))
  assert checkpoint.load_model(str(copy)).model_config == CFG
  model['model']['qk_nrom'] = True
  path.write_text(json.dumps(model))
  with pytest.raises(ValueError, match="unknown key 'qk_nrom'"):
    checkpoint.load_model(str(copy))


DISK_FULL = """
import sys, resource
sys.path.insert(0, {root!r})
from tests.train import checkpoint_test as t
from llm_jax.train import checkpoint
workdir = {workdir!r}
saver = checkpoint.Checkpointer(workdir)
saver.save(t.at_step(t.new_state(), 1))
saver.close()
saver = checkpoint.Checkpointer(workdir)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
  saver.save(t.at_step(t.new_state(), 2))
  saver.close()
except OSError as error:
  print('refused:', error)
"""


def test_full_disk_is_named_and_older_checkpoints_stay(tmp_path):
  root = str(pathlib.Path(__file__).resolve().parents[2])
  code = DISK_FULL.format(root=root, workdir=str(tmp_path))
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=False
  )
  assert 'refused: [Errno 28] disk full while saving a checkpoint' in (
    done.stdout
  ), done.stderr
  assert 'steps [1]' in done.stdout
  assert int(checkpoint.restore(str(tmp_path), new_state()).step) == 1
