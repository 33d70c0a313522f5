"""One layer of the Transformer: attention, then feed-forward, with norms.

Every option of ModelConfig that changes a layer is read here. Does not stack
layers and does not choose which tokens a layer sees.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from llm_jax import types
from llm_jax.model import attention, config, experts, kv_cache, params
from llm_jax.parallel import device_mesh

_ACTIVATIONS = {
  'silu_gated': jax.nn.silu,
  'gelu_gated': jax.nn.gelu,  # its tanh form, as everywhere here
  'gelu': jax.nn.gelu,
  'relu_squared': lambda x: jnp.square(jax.nn.relu(x)),
}


class View(NamedTuple):
  """What a layer sees; the same for all layers of one kind."""

  # From q_BTHK and keys and values, of this call or from cache.read, to
  # out_BTHK.
  attend: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
  # cos_BT1K and sin_BT1K of rotary positions; None without them.
  rotation: tuple[jax.Array, jax.Array] | None
  positions_BT: types.Array  # slots of the cache that are written
  n_read: int = 0  # slots of the cache; 0: keys and values of this call only


class ValueRows(NamedTuple):
  """What a layer with value embeddings adds to its values."""

  row_BTGK: jax.Array  # of the layer's table, for each token
  gate_DG: jax.Array  # from activations to the weight of a head's part


def project(x: jax.Array, w: jax.Array, n_axes: int = 1) -> jax.Array:
  """Contract the last axes of x with the first axes of w.

  Done as one product of two flat matrices: XLA's CPU backend takes twice as
  long over the gradient of the same product with the batch axes apart.

  Args:
    x: activations.
    w: weights.
    n_axes: how many axes are contracted.

  Returns:
    An array of the other axes of x, then those of w.
  """
  rows, columns = x.shape[:-n_axes], w.shape[n_axes:]
  n_inner = math.prod(w.shape[:n_axes])
  flat = x.reshape(-1, n_inner) @ w.reshape(n_inner, -1)
  return flat.reshape(*rows, *columns)


class Norm(nn.Module):
  """Normalises the last axis of an array of any rank, in float32.

  `rms`: x / rms(x) * scale (arXiv:1910.07467). `rms_plus_one`: the same times
  1 + scale, so that weight decay pulls to 1 (Gemma). `layer`: x less its mean
  before, plus a bias behind (arXiv:1607.06450).
  """

  cfg: config.ModelConfig
  prefix: str  # of the paths of its parameters

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Normalise."""
    kind = self.cfg.norm
    scale = _param(self, f'{self.prefix}/scale')
    y = x.astype(jnp.float32)
    if kind == 'layer':
      y = y - jnp.mean(y, axis=-1, keepdims=True)
    mean_square = jnp.mean(y * y, axis=-1, keepdims=True)
    y = y * jax.lax.rsqrt(mean_square + self.cfg.norm_eps)
    y = y * _row(1 + scale if kind == 'rms_plus_one' else scale, x)
    if kind == 'layer':
      y = y + _row(_param(self, f'{self.prefix}/bias'), x)
    return y.astype(x.dtype)


class Layer(nn.Module):
  """One residual layer: attention, then feed-forward.

  Takes and returns x_BTD and its own part of the cache; returns
  the balance of its experts too, None without experts.
  """

  cfg: config.ModelConfig

  @nn.compact
  def __call__(
    self,
    x_BTD: jax.Array,
    cache: types.Params | None,
    view: View,
    values: ValueRows | None = None,
  ) -> tuple[jax.Array, types.Params | None, jax.Array | None]:
    """Run both sub-layers."""
    y_BTD = self._norm('attention_norm', x_BTD)
    y_BTD, cache = self._attention(y_BTD, cache, view=view, values=values)
    if self.cfg.post_norms:
      y_BTD = self._norm('post_attention_norm', y_BTD)
    x_BTD = x_BTD + y_BTD
    y_BTD, balance = self._norm('mlp_norm', x_BTD), None
    if self.cfg.n_experts:
      y_BTD, balance = self._experts(y_BTD)
    else:
      y_BTD = self._mlp(y_BTD)
    if self.cfg.post_norms:
      y_BTD = self._norm('post_mlp_norm', y_BTD)
    return x_BTD + y_BTD, cache, balance

  def _norm(self, name, x):
    return Norm(self.cfg, f'layers/{name}', name=name)(x)

  def _weight(self, name):
    """A matrix or bias of the table, cast to the compute dtype."""
    return _param(self, f'layers/{name}').astype(self.cfg.dtype)

  def _biased(self, name, x, options=('all',)):
    """Add the bias over the last axes of x, where the options have one."""
    if self.cfg.bias not in options:
      return x
    bias = self._weight(name)
    return x + bias.reshape((1,) * (x.ndim - bias.ndim) + bias.shape)

  def _attention(self, x_BTD, cache, view, values):
    cfg = self.cfg
    weights = [self._weight(f'w{name}') for name in 'qkv']
    q_BTHK, k_BTGK, v_BTGK = (
      self._biased(f'b{name}', project(x_BTD, w), ('qkv', 'all'))
      for name, w in zip('qkv', weights, strict=True)
    )
    if values is not None:
      # Gates start at weight 1, as in karpathy/nanochat, gpt.py.
      gate_BTG = project(x_BTD, values.gate_DG.astype(cfg.dtype))
      weight_BTG = 2 * jax.nn.sigmoid(gate_BTG)
      v_BTGK = v_BTGK + weight_BTG[..., None] * values.row_BTGK
    if cfg.qk_norm:
      q_BTHK = self._norm('q_norm', q_BTHK)
      k_BTGK = self._norm('k_norm', k_BTGK)
    if view.rotation is not None:
      q_BTHK = attention.rotate(q_BTHK, *view.rotation)
      k_BTGK = attention.rotate(k_BTGK, *view.rotation)
    if cache is None:
      seen = tuple(map(device_mesh.gather_context, (k_BTGK, v_BTGK)))
    else:
      seen = k_BTGK, v_BTGK
      cache = kv_cache.write(
        cache, k_BTGK, v_BTGK, positions_BT=view.positions_BT
      )
      if view.n_read:
        seen = kv_cache.read(cache, view.n_read, cfg.dtype)
    out_BTHK = view.attend(q_BTHK, *seen)
    out_BTD = project(out_BTHK, self._weight('wo'), n_axes=2)
    return self._biased('bo', out_BTD), cache

  def _experts(self, x_BTD):
    """The experts that each token takes, and the shared one, if any."""
    cfg = self.cfg
    router_DE = _param(self, 'layers/router')
    logits_BTE = project(x_BTD.astype(jnp.float32), router_DE)
    weight_BTJ, expert_BTJ, balance = experts.route(
      logits_BTE, cfg.n_experts_per_token, cfg.normalize_router
    )
    names = ['up', 'down']
    names += ['gate'] if cfg.activation.endswith('_gated') else []
    matrices = {name: self._weight(f'expert_{name}') for name in names}
    act = _ACTIVATIONS[cfg.activation]
    y_BTD = experts.mix(
      x_BTD, weight_BTJ, expert_BTJ, matrices=matrices, act=act
    )
    if cfg.d_shared:
      y_BTD = y_BTD + self._mlp(x_BTD)
    return y_BTD, balance

  def _mlp(self, x_BTD):
    """act(x gate) * (x up), or act(x up), then down (arXiv:2002.05202)."""
    act = _ACTIVATIONS[self.cfg.activation]
    is_gated = self.cfg.activation.endswith('_gated')
    gate_DF = self._weight('gate') if is_gated else None
    up_DF = self._weight('up')
    down_FD = self._weight('down')
    y_BTF = self._biased('b_up', project(x_BTD, up_DF))
    if gate_DF is None:
      y_BTF = act(y_BTF)
    else:
      gate_BTF = self._biased('b_gate', project(x_BTD, gate_DF))
      y_BTF = act(gate_BTF) * y_BTF
    return self._biased('b_down', project(y_BTF, down_FD))


def _param(module: Any, path: str) -> jax.Array:
  """A parameter as its line in the table says, of one layer."""
  param = params.table(module.cfg)[path]
  n_stacked = path.startswith('layers/')
  return module.param(path.split('/')[-1], param.init, param.shape[n_stacked:])


def _row(vector: jax.Array, like: jax.Array) -> jax.Array:
  """A vector as the last axis of an array of the other's rank."""
  return vector.reshape((1,) * (like.ndim - 1) + (-1,))
