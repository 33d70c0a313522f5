"""Steps compiled for accelerators that are not here, and logits in chunks.

What needs libtpu (684 MB) or JAX's plugin for CUDA (400 MB) runs where they
are installed, or where LLM_JAX_AOT_PYTHON names a Python that has them.
"""

import importlib.util
import json
import math
import os
import pathlib
import re
import subprocess
import sys

import pytest

from experiments import pretrain
from llm_jax.model import config
from llm_jax.optim import optimizers
from llm_jax.parallel import device_mesh
from tools import compile_ahead

ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTHON = os.environ.get('LLM_JAX_AOT_PYTHON', '')
TINY = (
  "ModelConfig.dtype = 'bfloat16'", 'ModelConfig.unroll_layers = False',
  'ModelConfig.d_model = 256', 'ModelConfig.n_heads = 4',
  'ModelConfig.n_kv_heads = 2', 'ModelConfig.head_dim = 64',
  'ModelConfig.d_ff = 512', 'Config.batch_size = 32', 'Config.micro_batch = 32',
  'Config.loss_chunk = 64', "Optimizer.matrices = 'adamw'",
)  # fmt: skip
TARGETS = {
  'v5e:4x4': ('--topology=v5e:4x4', 'MeshConfig.fsdp = 16'),
  'v5p:2x2x2': ('--topology=v5p:2x2x2', 'MeshConfig.fsdp = 8'),
  'v6e:2x4': ('--topology=v6e:2x4', 'MeshConfig.fsdp = 8'),
  'two slices of v5e:2x4': (
    '--topology=v5e:2x4', '--slices=2', 'MeshConfig.fsdp = 8',
  ),
  'h100:8': (
    '--topology=h100:8', 'MeshConfig.fsdp = 4', 'MeshConfig.tensor = 2',
  ),
}  # fmt: skip


def compile_for(target):
  words = [sys.executable, '-m', 'tools.compile_ahead', '--recipe=pretrain']
  if PYTHON:
    words[0] = PYTHON
  for word in TARGETS[target]:
    words += [word] if word.startswith('--') else ['--gin_bindings', word]
  for binding in TINY:
    words += ['--gin_bindings', binding]
  # The flags of this process, such as four CPU devices, are not for that one.
  environment = {k: v for k, v in os.environ.items() if k[:3] not in ('JAX',)}
  environment['JAX_EXEC_TIME_OPTIMIZATION_EFFORT'] = '-1.0'
  environment['PYTHONPATH'] = str(ROOT)
  streams: dict = {'capture_output': True, 'text': True, 'timeout': 280}
  return subprocess.run(
    words, cwd=ROOT, env=environment, check=False, **streams
  )


@pytest.mark.parametrize('target', TARGETS)
def test_tiny_step_compiles(target):
  package = 'jax_cuda13_plugin' if 'h100' in target else 'libtpu'
  if not PYTHON and not importlib.util.find_spec(package):
    pytest.skip(f'no {package}; set LLM_JAX_AOT_PYTHON to a Python with it')
  done = compile_for(target)
  assert done.returncode == 0, done.stderr[-3000:]
  found = json.loads(done.stdout.splitlines()[-1])
  theory = found['argument_bytes_by_theory']
  # Norms are whole on each chip, batches come on top, and TPUs pad arrays as
  # small as these to tiles; 8B is within 1% (README).
  assert theory < found['argument_bytes'] < 1.3 * theory
  assert 1.0 < found['peak_bytes'] / found['argument_bytes'] < 100
  assert found['collectives']


@pytest.mark.parametrize(
  ('topology', 'message'),
  [
    ('v5e:4x4', r'needs libtpu.*pip install .*\[tpu\]'),
    ('h100:8', r'needs jax_cuda13_plugin.*\[cuda\]'),
    ('v9z:4x4', 'use a kind of v5e, v5p, v6e, h100'),
    ('v5e', 'and its extent'),
  ],
)
def test_what_cannot_be_compiled_for_is_refused(topology, message, monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(ValueError, match=message):
    compile_ahead.devices_of(topology)


def test_collectives_are_counted_once():
  """A fused one is cut into steps on one channel; -done starts nothing."""
  program = """
    a = f32[4] all-reduce(b), channel_id=1, replica_groups={}
    c = f32[4] all-reduce(b), channel_id=1, replica_groups={}
    d = (f32[4]) all-gather-start(e), channel_id=2
    f = f32[4] all-gather-done(d), channel_id=2
    g = f32[4] all-reduce(b), to_apply=x, channel_id=3
    h = f32[4] reduce-scatter(b), channel_id=4
  """
  assert compile_ahead.collectives(program) == {
    'all-gather': 1, 'all-reduce': 2, 'reduce-scatter': 1,
  }  # fmt: skip


def test_state_by_arithmetic():
  """Two layers by hand; AdamW 12 bytes a parameter, Muon 8 of matrices."""
  model = config.ModelConfig(
    vocab_size=128, n_layers=2, d_model=8, n_heads=2, n_kv_heads=1, head_dim=4,
    d_ff=16, tied_embeddings=True,
  )  # fmt: skip
  matrices = 2 * (8 * 8 + 2 * 8 * 4 + 8 * 8 + 3 * 8 * 16)
  others = 128 * 8 + 2 * (2 * 8 + 2 * 4) + 8
  for rule, expected in (
    ('adamw', 12 * (matrices + others)),
    ('muon', 8 * matrices + 12 * others),
  ):
    optimizer = optimizers.Optimizer(matrices=rule)
    cfg = pretrain.Config(model=model, optimizer=optimizer)
    whole = dict.fromkeys(('fsdp', 'tensor', 'expert'), 1)
    assert compile_ahead.state_bytes(cfg, whole) == expected
    split = whole | {'fsdp': 2, 'expert': 4}  # of no use without experts
    assert compile_ahead.state_bytes(cfg, split) == expected // 2


def test_state_of_experts_is_that_of_the_compiled_step():
  """Six eighths are experts: four parts of them, two of what all share."""
  model = config.ModelConfig(
    vocab_size=128, n_layers=2, d_model=64, n_heads=2, n_kv_heads=2,
    head_dim=32, d_ff=64, n_experts=4, max_length=16, unroll_layers=False,
  )  # fmt: skip
  axes = device_mesh.MeshConfig(data=1, fsdp=2, expert=2)
  cfg = pretrain.Config(batch_size=8, model=model, mesh=axes)
  mesh = device_mesh.make(axes, 8)
  compiled, _ = compile_ahead.compile_step(pretrain, cfg, mesh)
  found = compile_ahead.figures(cfg, mesh, compiled)
  theory = found['argument_bytes_by_theory']
  # Norms, routers and the batch are whole on each chip.
  assert theory < found['argument_bytes'] < 1.1 * theory


@pytest.mark.parametrize(
  'axes', [pytest.param((2, 2, 1), marks=pytest.mark.nightly), (1, 2, 2)]
)
def test_chunks_keep_whole_logits_out_of_memory(axes):
  """No array of the step is as large as a device's part of the logits."""
  mesh = device_mesh.make(device_mesh.MeshConfig(*axes))
  rows, length, vocabulary = 8, 128, 2048
  part = rows * length * vocabulary // mesh.size
  largest, used = {}, {}
  for chunk in (0, 16):
    cfg = pretrain.Config(
      batch_size=rows,
      loss_chunk=chunk,
      model=config.ModelConfig(
        vocab_size=vocabulary, n_layers=1, d_model=32, n_heads=2, n_kv_heads=2,
        head_dim=16, d_ff=32, max_length=length, unroll_layers=False,
      ),
      optimizer=optimizers.Optimizer(matrices='adamw'),
    )  # fmt: skip
    compiled, _ = compile_ahead.compile_step(pretrain, cfg, mesh)
    shapes = re.findall(r'\bf32\[([\d,]+)\]', compiled.as_text())
    sizes = [math.prod(map(int, shape.split(','))) for shape in shapes]
    largest[chunk] = max(sizes)
    used[chunk] = compiled.memory_analysis().temp_size_in_bytes
  assert largest[0] >= part
  assert largest[16] <= part // 2
  assert used[16] < used[0] - 4 * part, used
