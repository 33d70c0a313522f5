"""Where each published tensor lies in our parameters, and in which form.

Ours are stacked over layers and keep heads as an axis; theirs are one matrix
a layer, mostly transposed. The names stand in tensors.toml. Does not read or
write files of models.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from llm_jax import files
from llm_jax.model import config, params

DTYPES = ('float32', 'bfloat16', 'float16')  # that tensors may have
Shape = tuple[int, ...]
Flat = dict[str, np.ndarray]  # parameters by path


@dataclasses.dataclass(frozen=True)
class Tensor:
  """One published tensor.

  Attributes:
    name: in the files.
    shape: in the files.
    parts: of each array that it holds, side by side, the path; the shape
      without the axes of layers and experts and without padding rows; and the
      shape where they lie side by side.
    index: of its layer and expert on those axes; () outside of layers.
    transposed: whether it is out x in, where ours is in x out.
  """

  name: str
  shape: Shape
  parts: tuple[tuple[str, Shape, Shape], ...]
  index: tuple[int, ...]
  transposed: bool

  def split(self, array: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The path and value of each of our arrays in a published one."""
    array = array.T if self.transposed else array
    values = np.split(array, len(self.parts), axis=-1)
    for (path, shape, _), value in zip(self.parts, values, strict=True):
      yield path, value.reshape(shape)

  def join(self, arrays: Mapping[str, Any]) -> np.ndarray:
    """The published array of our arrays, by path; undoes `split`."""
    flat = [
      np.asarray(arrays[path][self.index][: shape[0]]).reshape(flat_shape)
      for path, shape, flat_shape in self.parts
    ]
    array = flat[0] if len(flat) == 1 else np.concatenate(flat, axis=-1)
    return np.ascontiguousarray(array.T if self.transposed else array)


def of_model(cfg: config.ModelConfig, model_type: str) -> list[Tensor]:
  """List a model's tensors in the order of their files.

  Args:
    cfg: the model.
    model_type: of its class.

  Returns:
    One entry a tensor; together they hold every array.
  """
  lines, is_gpt2 = params.table(cfg), model_type == 'gpt2'
  tables, prefix = files.tables_of(__file__), 'model.layers.'
  norms = tables['post_norms' if cfg.post_norms else 'one_norm']
  layer = tables['layer'] | norms | tables.get(model_type, {})
  top = tables['top']
  if is_gpt2:
    top, layer = tables['gpt2_top'], tables['gpt2_layer']
    prefix = 'transformer.h.'
  tensors = []

  def add(name, paths, index, prefix=''):
    paths = [prefix + path for path in paths.split()]
    if paths[0] not in lines:
      return
    parts = tuple((path, *_shapes(cfg, path, len(index))) for path in paths)
    flat = [flat_shape for _, _, flat_shape in parts]
    shape = (*flat[0][:-1], sum(s[-1] for s in flat))
    transposed = bool(prefix) and len(shape) == 2 and not is_gpt2
    shape = shape[::-1] if transposed else shape
    tensors.append(
      Tensor(name, shape, parts=parts, index=index, transposed=transposed)
    )

  for name, path in top.items():
    add(name, path, ())
  for i in range(cfg.n_layers):
    for name, paths in layer.items():
      name = f'{prefix}{i}.{name}'
      if '{}' in name:
        for expert in range(cfg.n_experts):
          name_of_one = name.format(expert)
          add(name_of_one, paths, (i, expert), prefix='layers/')
      else:
        add(name, paths, (i,), prefix='layers/')
  held = {path for tensor in tensors for path, *_ in tensor.parts}
  assert held == lines.keys(), held ^ lines.keys()
  return tensors


def zeros(cfg: config.ModelConfig) -> Flat:
  """Our arrays by path, to be filled; float32."""
  return {
    path: np.zeros(line.shape, np.float32)
    for path, line in params.table(cfg).items()
  }


def fill(flat: Flat, tensor: Tensor, array: np.ndarray) -> None:
  """Copy a published array into its place in our arrays.

  Raises:
    ValueError: if it has another shape than its place, or is not of floats.
  """
  if array.shape != tensor.shape or array.dtype.name not in DTYPES:
    raise ValueError(
      f'{tensor.name} is {array.dtype.name} {list(array.shape)}, but by '
      f'config.json it is {list(tensor.shape)} of {" or ".join(DTYPES)}'
    )
  for path, part in tensor.split(array):
    into = flat[path][tensor.index]
    into[: len(part)] = part  # rows that pad the vocabulary stay 0


def _shapes(
  cfg: config.ModelConfig, path: str, n_stacked: int
) -> tuple[Shape, Shape]:
  """One layer's or expert's shape without padding, and as it is published.

  Of layers a matrix is published as inputs x outputs, all else as one vector;
  tables keep their shape.
  """
  line = params.table(cfg)[path]
  own = line.shape[n_stacked:]
  if line.axes == 'VD':
    own = cfg.vocab_size, cfg.d_model
  if not path.startswith('layers/'):
    return own, own
  n = len(line.inputs)
  if n:
    return own, (math.prod(own[:n]), math.prod(own[n:]))
  return own, (math.prod(own),)
