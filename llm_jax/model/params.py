"""The table of parameters: what the library knows of each stands on one line.

Layers take shapes and initial values from it. From it follow how a mesh splits
a parameter, what an optimizer does with it, which matrices may get adapters
(lora.py) or become int8 (infer/quantize.py), and the counts below. A parameter
without a line is refused by its name.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from llm_jax import types
from llm_jax.model import config
from llm_jax.parallel import device_mesh


@dataclasses.dataclass(frozen=True)
class Param:
  """One parameter. Axes are counted in the whole array, layers included."""

  part: str  # of the model, as `count` names it
  axes: str  # a letter each, as at the end of the names of arrays
  shape: tuple[int, ...]
  spec: PartitionSpec  # over the axes of a mesh
  init: nn.initializers.Initializer  # of the array of one layer
  inputs: tuple[int, ...]  # axes of a matrix that a product with it sums over
  outputs: tuple[int, ...]  # and those that the product has
  uses: tuple[str, ...]  # of decay, lora, int8 and muon


class Table(dict[str, Param]):
  """Parameters by path, such as layers/wq."""

  def __missing__(self, path: str) -> Param:
    """Refuse a parameter of which nothing is known."""
    raise ValueError(
      f'parameter {path!r} has no line in the table that is used here; add one '
      'to llm_jax/model/params.py, or give the table of what is trained'
    )


@functools.cache
def table(cfg: config.ModelConfig, has_value_head: bool = False) -> Table:
  """The parameters of a model.

  A line holds the part of the model; the axes, where the mesh axis fsdp splits
  `D:fsdp`; the initial values, or the scale of a product with a matrix; the
  axes that such a product sums over; and what treats the parameter in a way of
  its own: weight decay, LoRA, int8, Muon.

  Args:
    cfg: the model.
    has_value_head: whether the head of value_head.py is trained with it.

  Returns:
    A line for each parameter; those of layers are stacked, with a leading N.
  """
  zeros, ones = nn.initializers.zeros, nn.initializers.ones
  normal = nn.initializers.normal(cfg.d_model**-0.5)
  # The sum over layers keeps unit scale: each of 2 N terms gets 1 / sqrt(2 N).
  unit, out = 1.0, (2 * cfg.n_layers) ** -0.5
  rows, vocabulary = 'decay lora', 'decay lora int8'
  matrix = 'decay lora int8 muon'

  def norm(name, axis):
    start = zeros if cfg.norm == 'rms_plus_one' else ones
    lines = {f'{name}/scale': ('norms', axis, start, '', '')}
    if cfg.norm == 'layer':
      lines |= {f'{name}/bias': ('norms', axis, zeros, '', '')}
    return lines

  # fmt: off
  top: dict[str, tuple] = {
    'embedding': ('embedding', 'V:tensor D:fsdp', normal, 'D', vocabulary),
  } | norm('final_norm', 'D')
  layer: dict[str, tuple] = {
    'wq': ('attention', 'D:fsdp H:tensor K', unit, 'D', matrix),
    'wk': ('attention', 'D:fsdp G:tensor K', unit, 'D', matrix),
    'wv': ('attention', 'D:fsdp G:tensor K', unit, 'D', matrix),
    'wo': ('attention', 'H:tensor K D:fsdp', out, 'HK', matrix),
  } | norm('attention_norm', 'D') | norm('mlp_norm', 'D')
  if not cfg.tied_embeddings:
    top |= {'head': ('head', 'V:tensor D:fsdp', normal, 'D', vocabulary)}
  if cfg.positions == 'learned':
    top |= {
      'position_embedding': ('positions', 'T:tensor D:fsdp', normal, 'D', rows),
    }
  if cfg.value_embeddings:
    top |= {
      'value_embedding': ('values', 'L V:tensor G:fsdp K', normal, 'GK', rows),
      'value_gate': ('values', 'L D G', zeros, 'D', rows),
    }
  if has_value_head:
    top |= {
      'value_head/w_D': ('value_head', 'D', zeros, 'D', 'decay'),
      'value_head/bias': ('value_head', '', zeros, '', ''),
    }
  if cfg.qk_norm:
    layer |= norm('q_norm', 'K') | norm('k_norm', 'K')
  if cfg.post_norms:
    layer |= norm('post_attention_norm', 'D') | norm('post_mlp_norm', 'D')
  if cfg.bias != 'none':
    layer |= {
      'bq': ('attention', 'H K', zeros, '', ''),
      'bk': ('attention', 'G K', zeros, '', ''),
      'bv': ('attention', 'G K', zeros, '', ''),
    }
  if cfg.bias == 'all':
    layer |= {
      'bo': ('attention', 'D', zeros, '', ''),
      'b_gate': ('mlp', 'W', zeros, '', ''),
      'b_up': ('mlp', 'W', zeros, '', ''),
      'b_down': ('mlp', 'D', zeros, '', ''),
    }
  if cfg.d_shared or not cfg.n_experts:
    layer |= {
      'gate': ('mlp', 'D:fsdp W:tensor', unit, 'D', matrix),
      'up': ('mlp', 'D:fsdp W:tensor', unit, 'D', matrix),
      'down': ('mlp', 'W:tensor D:fsdp', out, 'W', matrix),
    }
  if cfg.n_experts:
    layer |= {
      'router': ('router', 'D E', normal, 'D', rows),
      'expert_gate': ('experts', 'E:expert D:fsdp F:tensor', unit, 'D', matrix),
      'expert_up': ('experts', 'E:expert D:fsdp F:tensor', unit, 'D', matrix),
      'expert_down': ('experts', 'E:expert F:tensor D:fsdp', out, 'F', matrix),
    }
  # fmt: on
  if 'gated' not in cfg.activation:
    layer = {k: line for k, line in layer.items() if not k.endswith('gate')}
  # W is of the feed-forward that all tokens take, L the number of layers with
  # value embeddings.
  sizes = {
    'V': cfg.padded_vocab_size, 'T': cfg.max_length, 'D': cfg.d_model,
    'H': cfg.n_heads, 'G': cfg.n_kv_heads, 'K': cfg.head_dim,
    'E': cfg.n_experts, 'F': cfg.d_ff, 'W': cfg.d_shared or cfg.d_ff,
    'N': cfg.n_layers, 'L': sum(cfg.has_values),
  }  # fmt: skip
  stacked = {
    f'layers/{name}': (part, f'N {axes}'.strip(), *rest)
    for name, (part, axes, *rest) in layer.items()
  }
  lines = top | stacked
  return Table({path: _param(sizes, *line) for path, line in lines.items()})


def _param(sizes, part, axes, start, inputs, uses) -> Param:
  split = [axis.partition(':') for axis in axes.split()]
  letters = ''.join(letter for letter, *_ in split)
  mesh_axes = [mesh_axis or None for *_, mesh_axis in split]
  # Each layer, and each expert, has a matrix of its own.
  n_stacked = len(letters) - len(letters.lstrip('NLE'))
  is_input = [letter in inputs for letter in letters]
  matrix = range(n_stacked, len(letters)) if inputs else ()
  in_axis = tuple(i for i in matrix if is_input[i])
  out_axis = tuple(i for i in matrix if not is_input[i])
  init = start
  if not callable(start):  # its axes are those of one layer's array
    init = nn.initializers.variance_scaling(
      scale=start**2,
      mode='fan_in',
      distribution='normal',
      in_axis=[i - 1 for i in in_axis],
      out_axis=[i - 1 for i in out_axis],
      batch_axis=range(n_stacked - 1),
    )
  return Param(
    part=part,
    axes=letters,
    shape=tuple(sizes[letter] for letter in letters),
    spec=PartitionSpec(*mesh_axes) if any(mesh_axes) else PartitionSpec(),
    init=init,
    inputs=in_axis,
    outputs=out_axis,
    uses=tuple(uses.split()),
  )


def abstract(lines: Table, mesh: Mesh | None = None) -> types.Params:
  """Shapes of parameters in a nested dict, with shardings on a mesh."""
  return traverse_util.unflatten_dict(
    {
      path: jax.ShapeDtypeStruct(
        param.shape,
        jnp.float32,
        sharding=_sharding(mesh, param.spec, param.shape) if mesh else None,
      )
      for path, param in lines.items()
    },
    sep='/',
  )


def shardings(lines: Table, mesh: Mesh) -> types.Params:
  """The sharding of each parameter, in a nested dict.

  A mesh axis that does not divide an axis of the array does not split it.
  """
  return jax.tree.map(lambda x: x.sharding, abstract(lines, mesh))


def state_shardings(lines: Table, mesh: Mesh, state: types.Params):
  """The shardings of what mirrors parameters, such as an optimizer's moments.

  Args:
    lines: of the parameters.
    mesh: the mesh.
    state: a tree of arrays or shapes. Where a path ends in a parameter's, the
      array is split as the parameter is; all others are on every device.

  Returns:
    A tree of NamedShardings.
  """

  def one(key_path, x):
    path = '/' + jax.tree_util.keystr(key_path, simple=True, separator='/')
    spec = PartitionSpec()
    for name, param in lines.items():
      # Beside the moments there may be scalars in place of those left out.
      if path.endswith(f'/{name}') and len(param.spec) <= x.ndim:
        spec = param.spec
    return _sharding(mesh, spec, x.shape)

  return jax.tree_util.tree_map_with_path(one, state)


def _sharding(mesh, spec, shape):
  return NamedSharding(mesh, device_mesh.fit(mesh, spec, shape))


def count(cfg: config.ModelConfig) -> dict[str, int]:
  """Count the parameters by part.

  Args:
    cfg: the model.

  Returns:
    Counts under embedding, positions, values, attention, mlp, experts, router,
    norms, head, padding and total; and active, the total without padding and
    without the experts that a token does not take. A shared expert is the mlp.
    Biases count with their matrix, the gates of values with
    their tables, a tied head with the embedding. Rows that only pad the
    vocabulary count as padding, so that total - padding is the number that is
    published.
  """
  names = 'embedding positions values attention mlp experts router norms head'
  parts = dict.fromkeys([*names.split(), 'padding'], 0)
  for param in table(cfg).values():
    size = math.prod(param.shape)
    padding = 0
    if 'V' in param.axes:
      n_rows = cfg.padded_vocab_size
      padding = size // n_rows * (n_rows - cfg.vocab_size)
    parts[param.part] += size - padding
    parts['padding'] += padding
  total = sum(parts.values())
  active = total - parts['padding']
  if cfg.n_experts:
    idle = cfg.n_experts - cfg.n_experts_per_token
    active -= parts['experts'] // cfg.n_experts * idle
  return parts | {'total': total, 'active': active}


def train_flops_per_token(cfg: config.ModelConfig, length: int) -> float:
  """Floating-point operations of one forward and backward pass, per token.

  6 * (weights of matmuls) + 12 * H * K * (keys that a query sees) summed over
  layers. A query sees T / 2 keys on average, or W - W^2 / (2 T) in a window. Of
  the experts, those count that a token takes.

  Args:
    cfg: the model.
    length: tokens of a sequence.

  Returns:
    Operations per token, a multiply and an add counted as two.

  Source: PaLM, arXiv:2204.02311 appendix B, halved for causal attention.
  """
  matmul = cfg.padded_vocab_size * cfg.d_model  # of the head, tied or not
  for path, param in table(cfg).items():
    if param.inputs and not path.endswith(('embedding', 'head')):
      size = math.prod(param.shape)
      if param.part == 'experts':
        size = size // cfg.n_experts * cfg.n_experts_per_token
      matmul += size
  n_keys = 0.0
  for kind in cfg.layer_kinds:
    seen = min(cfg.window, length) if kind == 'L' else length
    n_keys += seen - seen * seen / (2 * length)
  return 6.0 * matmul + 12.0 * cfg.n_heads * cfg.head_dim * n_keys
