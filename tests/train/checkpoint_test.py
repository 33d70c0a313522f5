"""Checkpoints: exact, on any mesh, and never silently wrong."""

import functools
import gc
import json
import os
import pathlib
import random
import shutil
import tarfile

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from llm_jax.model import config, likelihood, params, transformer
from llm_jax.optim import optimizers
from llm_jax.parallel import device_mesh
from llm_jax.train import checkpoint, train_state, update

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
SAVED_ON = device_mesh.MeshConfig(1, 2, 2, 1, 2)
OTHERS = [
  (1, 1, 1, 1, 1), (8, 1, 1, 1, 1), (1, 8, 1, 1, 1), (1, 1, 4, 2, 1),
  (1, 1, 2, 1, 4), (2, 2, 2, 1, 1), (1, 2, 1, 2, 2),
]  # fmt: skip


def init(cfg, key):
  """Parameters of the right names and shapes, no two alike, compiled soon."""
  shapes = jax.eval_shape(functools.partial(transformer.init, cfg), key)
  leaves, structure = jax.tree.flatten(shapes)
  start = jax.random.uniform(key)
  ramps = [
    start
    + 0.1 * n
    + jnp.arange(x.size, dtype=x.dtype).reshape(x.shape) / x.size
    for n, x in enumerate(leaves)
  ]
  return jax.tree.unflatten(structure, ramps)


def new_state(mesh_config=None, cfg=CFG, seed=0, tx=None):
  mesh = device_mesh.make(mesh_config or device_mesh.MeshConfig(data=1))
  return train_state.create(
    functools.partial(init, cfg),
    tx or optax.adam(0.1),
    seed=seed,
    mesh=mesh,
    lines=params.table(cfg),
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


@pytest.mark.parametrize(
  'axes',
  [
    OTHERS[0],
    *(pytest.param(x, marks=pytest.mark.nightly) for x in OTHERS[1:-1]),
    OTHERS[-1],
  ],
)
def test_checkpoint_of_one_mesh_is_restored_on_any_other(saved, axes):
  like = new_state(device_mesh.MeshConfig(*axes), seed=1)
  restored = checkpoint.restore(str(saved), like)
  chex.assert_trees_all_equal(host(restored), host(at_step(new_state(), 3)))
  assert jax.tree.map(lambda x: x.sharding, restored.params) == jax.tree.map(
    lambda x: x.sharding, like.params
  )


def test_checkpoint_of_an_older_format_goes_on(tmp_path):
  """Written once; what is saved today must be as readable later.

  Parameters are compared bit for bit, by their fingerprint. The loss is that
  of the next step as the run that was saved had it without a restore.
  """
  golden = pathlib.Path(__file__).parent / 'golden_checkpoint.tar.gz'
  with tarfile.open(golden) as tar:
    tar.extractall(tmp_path, filter='data')
  folder = str(tmp_path / 'golden_checkpoint')
  model = checkpoint.load_model(folder)
  assert model.fingerprint == (
    '55f3b44c497326e49b413ebb8749e28ee812a78535ccb9fec7a90ed418d6cfa1'
  )
  lines = params.table(model.model_config)
  tx = optimizers.make(optimizers.Optimizer(warmup_steps=1), 10, lines)
  like = new_state(cfg=model.model_config, seed=1, tx=tx)
  restored = checkpoint.restore(folder, like)
  assert int(restored.step) == 2
  tokens_BT = np.arange(36, dtype=np.int32).reshape(4, 9)
  tokens_BT %= model.model_config.vocab_size
  batch = {'inputs_BT': tokens_BT[:, :-1], 'targets_BT': tokens_BT[:, 1:]}

  def loss_fn(params, batch, key):
    del key
    found = likelihood.of_targets(model.model_config, params, batch)
    return -found.logp_BT.mean(), {}

  mesh = device_mesh.make(device_mesh.MeshConfig(data=1))
  update_fn = update.make_update_fn(loss_fn, tx, mesh)
  batch = device_mesh.put_batch(mesh, batch)
  _, metrics = update_fn(restored, batch)
  assert metrics['loss'] == pytest.approx(3.347594, rel=1e-5)


def test_nothing_saved_is_none(tmp_path):
  assert checkpoint.restore(str(tmp_path), new_state()) is None


@pytest.mark.parametrize(
  'n_bits', [8, pytest.param(60, marks=pytest.mark.nightly)]
)
def test_no_flipped_bit_goes_unnoticed(copy, n_bits):
  """Random bits, one at a time: half of array data, half of all other files.

  Either step 3 comes back bit for bit, because nothing is read from there, or
  it is set aside and step 2 does.
  """
  draw = random.Random(0)
  step_3, aside = copy / 'checkpoints' / '3', copy / 'damaged_checkpoints'
  files = [p for p in sorted(step_3.rglob('*')) if p.is_file()]
  data = [p for p in files if '/d/' in str(p)]
  others = [p for p in files if p not in data and p.stat().st_size]
  whole = {step: host(at_step(new_state(), step)) for step in (2, 3)}
  n_noticed = 0
  for i in range(n_bits):
    path = draw.choice(data if i % 2 else others)
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
  assert n_noticed >= n_bits // 3


@pytest.mark.parametrize(
  'damage',
  ['empty', 'truncated', 'deleted', 'no metadata', 'torn metadata',
   # Flipped bits of the list of fingerprints: damage, not another model.
   (b'k_norm', b'k_nosm'), (b'2x32x4x8', b'2x32x4x9')],
)  # fmt: skip
def test_torn_checkpoint_is_set_aside(copy, damage):
  step_3 = copy / 'checkpoints' / '3'
  if damage == 'empty':
    shutil.rmtree(step_3)
    step_3.mkdir()
  elif damage == 'truncated':
    for path in step_3.rglob('*'):
      if path.is_file() and '/d/' in str(path):
        path.write_bytes(path.read_bytes()[:-7])
  elif damage == 'deleted':
    for path in (step_3 / 'params').rglob('*'):
      if path.is_file() and '/d/' in str(path):
        path.unlink()
  else:
    path = step_3 / '_CHECKPOINT_METADATA'
    content = path.read_bytes()
    path.unlink()
    if damage == 'torn metadata':
      path.write_bytes(content[: len(content) // 2])
    elif damage != 'no metadata':
      assert damage[0] in content
      path.write_bytes(content.replace(*damage, 1))
  restored = checkpoint.restore(str(copy), new_state(seed=1))
  assert int(restored.step) == 2
  assert len(os.listdir(copy / 'damaged_checkpoints')) == 1
  if damage != 'deleted':
    return
  # The next save of step 3 is not taken for done.
  saver = checkpoint.Checkpointer(str(copy))
  saver.save(at_step(new_state(), 3))
  saver.close()
  assert int(checkpoint.restore(str(copy), new_state()).step) == 3


def test_an_empty_folder_of_a_later_step_is_set_aside(copy):
  (copy / 'checkpoints' / '7').mkdir()
  assert int(checkpoint.restore(str(copy), new_state(seed=1)).step) == 3


def test_all_damaged_is_an_error(copy):
  for step in ('2', '3'):
    (copy / 'checkpoints' / step / '_CHECKPOINT_METADATA').write_text('{')
  with pytest.raises(ValueError, match='every checkpoint in .* is damaged'):
    checkpoint.load_model(str(copy))
  with pytest.raises(ValueError, match='every checkpoint in .* is damaged'):
    checkpoint.restore(str(copy), new_state())


@pytest.mark.parametrize(
  ('cfg', 'tx', 'message'),
  [
    (config.ModelConfig(**{**vars(CFG), 'd_ff': 32}), optax.adam(0.1),
     r"params\['layers'\]\['expert_down'\] is float32\[2x4x64x32\] there and "
     r'float32\[2x4x32x32\] here'),
    (CFG, optax.sgd(0.1), r'opt_state.*count is int32.* there and absent here'),
    (CFG, optax.adam(0.1, mu_dtype='bfloat16'),
     r"mu\['embedding'\] is float32\[128x32\] there and bfloat16\[128x32\] h"),
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
    str(saved), device_mesh.make(device_mesh.MeshConfig(1, 2, 2))
  )
  assert other.fingerprint == model.fingerprint


def test_missing_model_says_what_to_give(tmp_path):
  with pytest.raises(FileNotFoundError, match='holds no checkpoint of a model'):
    checkpoint.load_model(str(tmp_path))


def test_model_without_a_young_option_has_its_default(copy):
  path = copy / 'checkpoints' / 'model.json'
  model = json.loads(path.read_text())
  del model['model']['qk_norm']
  path.write_text(json.dumps(model))
  assert checkpoint.load_model(str(copy)).model_config == CFG
  changed = model | {'model': model['model'] | {'rope_theta': 10_001.0}}
  path.write_text(json.dumps(changed))
  with pytest.raises(ValueError, match='model.json is damaged'):
    checkpoint.load_model(str(copy))
  changed = {**model, 'stage': 'sft'}
  path.write_text(json.dumps(changed))
  with pytest.raises(ValueError, match='model.json is damaged'):
    checkpoint.load_model(str(copy))
  model['model']['qk_nrom'] = True
  path.write_text(json.dumps(model))
  with pytest.raises(ValueError, match="unknown key 'qk_nrom'"):
    checkpoint.load_model(str(copy))
