"""A named device mesh, and how batches and activations lie on it.

How parameters do, model/params.py says. Does not start multi-host processes.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from llm_jax import types

# Rows over all axes that hold copies of the dense parameters, or parts that are
# gathered when used; tokens of a row over context.
BATCH = PartitionSpec(('data', 'fsdp', 'expert'), 'context')
# What each part of the axis expert reads: the rows of all of them.
EXPERT_ROWS = PartitionSpec(('data', 'fsdp'), 'context')


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """Devices along each axis of the mesh; data = 0 takes all that are left."""

  data: int = 0  # copies of the parameters, each with its part of the batch
  fsdp: int = 1  # parts of the parameters, gathered when used; splits batch
  tensor: int = 1  # parts of heads, feed-forward width and vocabulary
  context: int = 1  # parts of each row's tokens; keys and values are gathered
  expert: int = 1  # parts of the experts, each run where it lies; splits batch


def make(
  cfg: MeshConfig,
  batch_size: int | None = None,
  devices: Sequence[Any] | None = None,
) -> Mesh:
  """Lay devices out as a mesh.

  With data = 0 and a batch_size, the data axis takes as many of the devices
  as divide the batch, so that a recipe runs unchanged on 1, 4 or 8 devices.
  Between several slices of TPUs, which a slower network joins, only the data
  axis runs.

  Args:
    cfg: sizes of the axes.
    batch_size: rows of the global batch, which data * fsdp * expert must
      divide.
    devices: of all processes; None: all there are.

  Returns:
    A mesh with the axes of MeshConfig, of AxisType.Auto.

  Raises:
    ValueError: if the axes need more devices than there are, leave some of
      several processes or slices out, or do not divide the batch.
  """
  devices = jax.devices() if devices is None else devices
  fixed = cfg.fsdp * cfg.tensor * cfg.context * cfg.expert
  data, n_parts = cfg.data, cfg.fsdp * cfg.expert
  if not data:
    data = len(devices) // fixed
    while batch_size and data > 1 and batch_size % (data * n_parts):
      data -= 1
  named = dataclasses.asdict(cfg) | {'data': data}
  text = ' x '.join(f'{k} {v}' for k, v in named.items())
  n_used = data * fixed
  if not 1 <= n_used <= len(devices):
    raise ValueError(
      f'mesh {text} does not fit {len(devices)} devices; use axes whose '
      f'product is at most {len(devices)}'
    )
  if batch_size and batch_size % (data * n_parts):
    shards = data * n_parts
    raise ValueError(
      f'batch_size {batch_size} is not a multiple of {shards} batch shards '
      f'(data {data} x fsdp {cfg.fsdp} x expert {cfg.expert}); use '
      f'{math.ceil(batch_size / shards) * shards}'
    )
  # Not jax.make_mesh: it knows no slices, and splits an axis of the machine on
  # some kinds of devices only.
  n_slices = 1
  if devices[0].platform == 'tpu':
    n_slices = len({getattr(device, 'slice_index', 0) for device in devices})
  n_processes = len({device.process_index for device in devices})
  if n_used < len(devices) and max(n_slices, n_processes) > 1:
    raise ValueError(
      f'mesh {text} uses {n_used} of {len(devices)} devices in {n_processes} '
      f'processes and {n_slices} slices; use all of them'
    )
  if data % n_slices:
    raise ValueError(
      f'mesh {text} on {n_slices} slices: only data runs between slices; use a '
      f'multiple of {n_slices} for data'
    )
  if n_slices > 1:
    grid = mesh_utils.create_hybrid_device_mesh(
      list((named | {'data': data // n_slices}).values()),
      [n_slices, *[1] * (len(named) - 1)],
      devices,
      allow_split_physical_axes=True,
    )
  else:
    grid = mesh_utils.create_device_mesh(
      tuple(named.values()), devices[:n_used], allow_split_physical_axes=True
    )
  # Automatic axes: under explicit ones, a gather such as the embedding's
  # raises ShardingTypeError.
  return Mesh(grid, tuple(named), (AxisType.Auto,) * len(named))


def describe(mesh: Mesh) -> str:
  """The axes along which a mesh has several devices, such as `data 2`."""
  axes = [f'{axis} {n}' for axis, n in mesh.shape.items() if n > 1]
  return ', '.join(axes) or '1 device'


def current() -> jax.sharding.AbstractMesh | None:
  """The mesh that the step being compiled is for; None outside of one."""
  mesh = jax.sharding.get_abstract_mesh()
  return None if mesh.empty else mesh


def platform(mesh: jax.sharding.AbstractMesh | None) -> str:
  """What a step is compiled for: cpu, gpu or tpu.

  Args:
    mesh: from `current`; its devices need not be on this machine.
  """
  if mesh is None or mesh.abstract_device is None:
    return jax.default_backend()
  return mesh.abstract_device.platform


def fit(mesh, spec: PartitionSpec, shape: Sequence[int]) -> PartitionSpec:
  """Drop from a spec each axis, or group of axes, that does not divide."""

  def divides(axes, size):
    axes = axes if isinstance(axes, tuple) else (axes,)
    return not size % math.prod(mesh.shape[axis] for axis in axes)

  return PartitionSpec(
    *(
      axes if axes and divides(axes, size) else None
      for axes, size in zip(spec, shape, strict=False)
    )
  )


def n_row_shards(mesh: Mesh) -> int:
  """Into how many parts the rows of a batch are split."""
  return math.prod(mesh.shape[axis] for axis in BATCH[0])


def split_rows(x_BTD: jax.Array) -> jax.Array:
  """Keep activations split as the batch is, where there is a mesh.

  Without it the compiler may keep an embedding's width split instead, and
  compute every row on every device.
  """
  mesh = current()
  return x_BTD if mesh is None else _constrain(mesh, BATCH, x_BTD)


def gather_context(k_BSGK: jax.Array) -> jax.Array:
  """Gather keys or values of the whole row where rows are split.

  Each part then attends from its own tokens to all of the row.
  """
  mesh = current()
  if mesh is None or mesh.shape['context'] == 1:
    return k_BSGK
  return _constrain(mesh, PartitionSpec(BATCH[0], None, 'tensor'), k_BSGK)


def _constrain(mesh, spec, x):
  return jax.lax.with_sharding_constraint(x, fit(mesh, spec, x.shape))


def abstract_batch(
  mesh: Mesh, batch: types.Batch
) -> dict[str, jax.ShapeDtypeStruct]:
  """What put_batch would give, without the values: to compile ahead."""

  def one(x):
    sharding = NamedSharding(mesh, fit(mesh, BATCH, x.shape))
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

  return {name: one(x) for name, x in batch.items()}


def put_batch(mesh: Mesh, batch: types.Batch) -> dict[str, jax.Array]:
  """Place host arrays on the mesh, split as BATCH says.

  Args:
    mesh: the mesh, of one or several processes.
    batch: the global batch, the same in every process; each places its parts.

  Returns:
    The batch as global arrays.
  """

  def one(x):
    x = np.asarray(x)
    sharding = NamedSharding(mesh, fit(mesh, BATCH, x.shape))
    return jax.make_array_from_callback(x.shape, sharding, x.__getitem__)

  return {name: one(x) for name, x in batch.items()}
