"""A named device mesh and the rules from parameter path to PartitionSpec.

Does not start multi-host processes and does not choose mesh shapes.
"""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from llm_jax import types

# First match wins. Arrays under layers/ have a leading N that stays whole.
_RULES = (
  (r'value_embedding$', PartitionSpec(None, 'tensor', 'fsdp')),
  (r'(embedding|head)$', PartitionSpec('tensor', 'fsdp')),
  (r'layers/(wq|wk|wv)$', PartitionSpec(None, 'fsdp', 'tensor', None)),
  (r'layers/wo$', PartitionSpec(None, 'tensor', None, 'fsdp')),
  (r'layers/(gate|up)$', PartitionSpec(None, 'fsdp', 'tensor')),
  (r'layers/down$', PartitionSpec(None, 'tensor', 'fsdp')),
  (r'', PartitionSpec()),
)
BATCH = PartitionSpec(('data', 'fsdp'))


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """Devices along each axis of the mesh; data = 0 takes all that are left."""

  data: int = 0  # copies of the parameters, each with its part of the batch
  fsdp: int = 1  # parts of the parameters, gathered when used; splits batch
  tensor: int = 1  # parts of heads, feed-forward width and vocabulary


def make(
  cfg: MeshConfig,
  batch_size: int | None = None,
  devices: Sequence[Any] = (),
) -> Mesh:
  """Lay devices out as a mesh.

  With data = 0 and a batch_size, the data axis takes as many of the devices
  as divide the batch, so that a recipe runs unchanged on 1, 4 or 8 devices.
  Where devices form slices with a slow network in between, only the data axis
  goes across slices.

  Args:
    cfg: sizes of the axes.
    batch_size: rows of the global batch, which data * fsdp must divide.
    devices: what to lay out; all that JAX sees, if none are given.

  Returns:
    A mesh with axes data, fsdp and tensor, of AxisType.Auto.

  Raises:
    ValueError: if the axes need more devices than there are, or do not divide
      the batch or the slices.
  """
  devices = devices or jax.devices()
  fixed = cfg.fsdp * cfg.tensor
  data = cfg.data
  if not data:
    data = len(devices) // fixed
    while batch_size and data > 1 and batch_size % (data * cfg.fsdp):
      data -= 1
  if not 1 <= data * fixed <= len(devices):
    raise ValueError(
      f'mesh data {cfg.data} x fsdp {cfg.fsdp} x tensor {cfg.tensor} does '
      f'not fit {len(devices)} devices; use axes whose product is at most '
      f'{len(devices)}'
    )
  if batch_size and batch_size % (data * cfg.fsdp):
    shards = data * cfg.fsdp
    raise ValueError(
      f'batch_size {batch_size} is not a multiple of {shards} batch shards '
      f'(data {data} x fsdp {cfg.fsdp}); use '
      f'{math.ceil(batch_size / shards) * shards}'
    )
  devices = devices[: data * fixed]
  shape = (data, cfg.fsdp, cfg.tensor)
  # Not jax.make_mesh: it knows no slices, and splits an axis of the machine
  # on some kinds of devices only.
  n_slices = 1
  if devices[0].platform == 'tpu':
    n_slices = len({getattr(device, 'slice_index', 0) for device in devices})
  if data % n_slices:
    raise ValueError(
      f'data {data} is not a multiple of {n_slices} slices, and only data goes '
      f'across slices; use MeshConfig.data = {n_slices}'
    )
  if n_slices > 1:
    grid = mesh_utils.create_hybrid_device_mesh(
      (data // n_slices, *shape[1:]),
      (n_slices, 1, 1),
      devices,
      allow_split_physical_axes=True,
    )
  else:
    grid = mesh_utils.create_device_mesh(
      shape, devices, allow_split_physical_axes=True
    )
  # Automatic axes: under explicit ones, a gather such as the embedding's
  # raises ShardingTypeError.
  return Mesh(grid, ('data', 'fsdp', 'tensor'), (AxisType.Auto,) * 3)


def param_shardings(mesh: Mesh, tree: types.Params) -> types.Params:
  """Choose the sharding of each array in a tree by its path.

  Works for parameters and for anything that mirrors them, such as optimizer
  moments. An axis that does not divide its dimension is dropped there.

  Args:
    mesh: the mesh.
    tree: arrays or ShapeDtypeStructs.

  Returns:
    A tree of NamedShardings.
  """

  def one(key_path, x):
    names = [str(getattr(k, 'key', getattr(k, 'name', k))) for k in key_path]
    path = '/'.join(names)
    spec = next(s for pattern, s in _RULES if re.search(pattern, path))
    if len(spec) > x.ndim:  # a scalar or placeholder beside the moments
      return NamedSharding(mesh, PartitionSpec())
    axes = [
      axis if axis and not size % mesh.shape[axis] else None
      for axis, size in zip(spec, x.shape, strict=False)
    ]
    return NamedSharding(mesh, PartitionSpec(*axes))

  return jax.tree_util.tree_map_with_path(one, tree)


def split_rows(x: jax.Array) -> jax.Array:
  """Keep the rows of activations split as the batch's, over data and fsdp.

  Without it the compiler may keep an embedding's width split instead, and
  compute every row on every device. Does nothing outside of a step that
  train/update.py made for a mesh.
  """
  if not jax.sharding.get_abstract_mesh().shape:
    return x
  return jax.lax.with_sharding_constraint(x, BATCH)


def abstract_batch(
  mesh: Mesh, batch: types.Batch
) -> dict[str, jax.ShapeDtypeStruct]:
  """What put_batch would give, without the values: to compile ahead."""
  sharding = NamedSharding(mesh, BATCH)
  return {
    name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
    for name, x in batch.items()
  }


def put_batch(mesh: Mesh, batch: types.Batch) -> dict[str, jax.Array]:
  """Place host arrays on the mesh, rows split over data and fsdp."""
  return jax.device_put(dict(batch), NamedSharding(mesh, BATCH))
