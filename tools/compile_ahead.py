"""Compiles a recipe's step for accelerators that this machine does not have.

  python -m tools.compile_ahead --recipe pretrain \
    --gin_file gin_configs/pretrain_8b.gin --topology v5e:16x16 \
    --gin_bindings 'MeshConfig.fsdp = 256'

Topologies are v5e:16x16, v5p:4x4x4, v6e:16x16 and the like, several of them
with --slices, or h100:8. TPUs need libtpu (pip install '.[tpu]'), H100s JAX's
plugin for CUDA (pip install '.[cuda]'); no accelerator is touched and nothing
is run, so it does NOT tell numbers or speed. The environment variable
JAX_EXEC_TIME_OPTIMIZATION_EFFORT=-1.0 compiles in a fraction of the time, with
more memory than the real program takes.
"""

import collections
import dataclasses
import functools
import importlib
import importlib.util
import json
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import app, flags
from jax import stages
from jax.experimental import topologies
from jax.sharding import Mesh

from experiments import process
from llm_jax import config
from llm_jax.data import mixture
from llm_jax.model import params, transformer
from llm_jax.parallel import device_mesh
from llm_jax.train import fit, train_state

_RECIPE = flags.DEFINE_string('recipe', 'pretrain', 'a recipe with make_step')
_TOPOLOGY = flags.DEFINE_string('topology', None, 'v5e:16x16, h100:8, ...')
_SLICES = flags.DEFINE_integer('slices', 1, 'copies of a TPU topology')
_GIN_FILE = flags.DEFINE_multi_string('gin_file', [], 'of the recipe')
_GIN_BINDINGS = flags.DEFINE_multi_string('gin_bindings', [], 'of the recipe')

# GiB that a program may use, by the compilers' own words; of an H100: all.
MEMORY = {'v5e': 15.75, 'v5p': 95.74, 'v6e': 31.25, 'h100': 79.11}
COLLECTIVES = (
  'all-gather',
  'all-reduce',
  'reduce-scatter',
  'all-to-all',
  'collective-permute',
)
# What the CUDA compiler must know of the device: NVIDIA's published figures.
_H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132
  fpus_per_core: 128
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  l2_cache_size: 52428800
  memory_bandwidth: 3352320000000
  clock_rate_ghz: 1.98
  device_memory_size: 84942979072
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def devices_of(topology: str, n_slices: int = 1) -> Sequence[jax.Device]:
  """Devices to compile for; JAX must not have started its backends.

  Args:
    topology: kind and extent, such as v5e:16x16 or h100:8.
    n_slices: how many TPU slices of that extent.

  Raises:
    ValueError: if the kind is not known or its compiler is not installed.
  """
  kind, _, extent = topology.partition(':')
  if kind not in MEMORY or not extent:
    raise ValueError(
      f'topology {topology!r}; use a kind of {", ".join(MEMORY)} and its '
      'extent, as in v5e:16x16, v5p:4x4x4 or h100:8'
    )
  package, extra = ('libtpu', 'tpu')
  if kind == 'h100':
    package, extra = ('jax_cuda13_plugin', 'cuda')
  if not importlib.util.find_spec(package):
    raise ValueError(
      f'compiling for {topology} needs {package}, which is not installed; '
      f"pip install '.[{extra}]'"
    )
  jax.config.update('jax_platforms', 'cpu')
  # libtpu looks for the machine that it runs on, and wants it for itself.
  os.environ['TPU_SKIP_MDS_QUERY'] = '1'
  os.environ['TPU_WORKER_HOSTNAMES'] = 'localhost'
  os.environ['ALLOW_MULTIPLE_LIBTPU_LOAD'] = '1'
  if kind == 'h100':
    return topologies.get_topology_desc(
      '', 'cuda', topology=f'{n_slices}x1x{extent}', target_config=_H100
    ).devices
  options = {'num_slices': n_slices} if n_slices > 1 else {}
  return topologies.get_topology_desc(topology, 'tpu', **options).devices


def compile_step(
  recipe: Any, cfg: Any, mesh: Mesh
) -> tuple[stages.Compiled, fit.Plan]:
  """Compile a recipe's step on rows of the model's whole length.

  Args:
    recipe: a module with `make_step(cfg, mesh, length, n_bytes_V, n_updates)`.
    cfg: its configuration.
    mesh: of devices that need not be there.

  Returns:
    The compiled step, and its plan.

  Raises:
    RuntimeError: if the step would hand its state on in another layout, and
      so be compiled again for the next step.
  """
  length = cfg.model.max_length
  n_bytes_V = np.ones(cfg.model.padded_vocab_size, np.float32)
  tx, update_fn, plan = recipe.make_step(
    cfg,
    mesh,
    length=length,
    n_bytes_V=n_bytes_V,
    n_updates=cfg.loop.n_steps,
  )
  init = functools.partial(transformer.init, cfg.model)
  state = train_state.abstract(init, tx, mesh, lines=params.table(cfg.model))
  batch = mixture.arrays(
    np.zeros((cfg.batch_size, length + 1), np.int32),
    lengths=np.zeros(cfg.batch_size, int),
    end_of_text_id=0,
    keep_documents=True,
  )
  lowered = update_fn.lower(state, device_mesh.abstract_batch(mesh, batch))
  compiled = lowered.compile()

  def check(key_path, x, after):
    if not after.is_equivalent_to(x.sharding, x.ndim):
      raise RuntimeError(
        f'{jax.tree_util.keystr(key_path)} is laid out as {x.sharding.spec} '
        f'before the step, but as {after} after it'
      )

  jax.tree_util.tree_map_with_path(check, state, compiled.output_shardings[0])
  return compiled, plan


def figures(cfg: Any, mesh: Mesh, compiled: stages.Compiled) -> dict[str, Any]:
  """What a compiled step of pretraining takes, of one chip, in bytes."""
  length = cfg.model.max_length
  used = compiled.memory_analysis()
  flops = params.train_flops_per_token(cfg.model, length)
  return {
    'mesh': {axis: n for axis, n in mesh.shape.items() if n > 1},
    'parameters': params.count(cfg.model)['total'],
    'peak_bytes': used.peak_memory_in_bytes,
    'argument_bytes': used.argument_size_in_bytes,
    'argument_bytes_by_theory': state_bytes(cfg, mesh.shape),
    'flops_per_chip': flops * cfg.batch_size * length / mesh.size,
    'collectives': collectives(compiled.as_text()),
  }


def state_bytes(cfg: Any, mesh_shape: Mapping[str, int]) -> int:
  """Parameters and moments of one chip by arithmetic, all of float32.

  AdamW keeps two moments of each parameter; Muon one, of the matrices. Experts
  are split by the axis expert too, of all others each of its parts has a copy.
  """
  counts = params.count(cfg.model)
  dense, experts = counts['total'] - counts['experts'], counts['experts']
  n_numbers, n_expert_numbers = 3 * dense, 3 * experts
  if cfg.optimizer.matrices != 'adamw':
    n_numbers -= counts['attention'] + counts['mlp']
    n_expert_numbers -= experts
  n_chips = mesh_shape['fsdp'] * mesh_shape['tensor']
  split = n_numbers + n_expert_numbers / mesh_shape['expert']
  return round(4 * split / n_chips)


def collectives(program: str) -> dict[str, int]:
  """Count the collectives in a compiled program, each in a loop once.

  A compiler may cut one into steps, which share its channel.

  >>> collectives('a = f32[4] all-gather(b), channel_id=1, replica_groups={}')
  {'all-gather': 1}
  """
  pattern = rf'\b({"|".join(COLLECTIVES)})(?:-start)?\(.*?channel_id=(\d+)'
  found = set(re.findall(pattern, program))
  return dict(sorted(collections.Counter(name for name, _ in found).items()))


def _main(argv: Sequence[str]) -> None:
  process.set_up_logging(0)
  topology, n_slices = _TOPOLOGY.value, _SLICES.value
  try:
    if len(argv) > 1 or not topology:
      raise ValueError(f'--topology is needed, and no {argv[1:]}; see --help')
    recipe = importlib.import_module(f'experiments.{_RECIPE.value}')
    if not hasattr(recipe, 'make_step'):
      raise ValueError(f'experiments.{_RECIPE.value} has no make_step')
    cfg = config.load(recipe.Config, _GIN_FILE.value, _GIN_BINDINGS.value)
    devices = devices_of(topology, n_slices)
    mesh = device_mesh.make(cfg.mesh, cfg.batch_size, devices)
    memory = MEMORY[topology.partition(':')[0]]
    jax.config.update('jax_numpy_rank_promotion', 'raise')
    started = time.monotonic()
    cfg = dataclasses.replace(cfg, device_memory=memory)
    compiled, plan = compile_step(recipe, cfg, mesh)
    seconds = round(time.monotonic() - started, 1)
  except (ValueError, OSError, jax.errors.JaxRuntimeError) as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(1)
  found = figures(cfg, mesh, compiled)
  peak = found['peak_bytes'] / 2**30
  arguments = found['argument_bytes'] / 2**30
  theory = found['argument_bytes_by_theory'] / 2**30
  print(f'{n_slices} x {topology}, mesh {found["mesh"]}, in {seconds} s')
  print(f'  plan         {plan}')
  print(f'  peak         {peak:.2f} of {memory} GiB, {peak / memory:.0%}')
  print(
    f'  arguments    {arguments:.3f} GiB, {arguments / theory - 1:+.1%} '
    f'of {theory:.3f} by theory'
  )
  print(f'  FLOPs        {found["flops_per_chip"]:.3g} a chip and step')
  print(f'  collectives  {found["collectives"]}')
  print(json.dumps({'topology': topology, 'compile_s': seconds, **found}))


if __name__ == '__main__':
  app.run(_main)
