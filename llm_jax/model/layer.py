"""One layer of the Transformer: attention, then feed-forward, with norms.

Every option of ModelConfig that changes a layer is read here. Does not stack
layers and does not choose which tokens a layer sees.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from llm_jax import types
from llm_jax.model import attention, config, experts, kv_cache
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

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Normalise."""
    kind, initializers = self.cfg.norm, nn.initializers
    is_offset = kind == 'rms_plus_one'
    start = initializers.zeros if is_offset else initializers.ones
    scale = self.param('scale', start, x.shape[-1:])
    y = x.astype(jnp.float32)
    if kind == 'layer':
      y = y - jnp.mean(y, axis=-1, keepdims=True)
    mean_square = jnp.mean(y * y, axis=-1, keepdims=True)
    y = y * jax.lax.rsqrt(mean_square + self.cfg.norm_eps)
    y = y * _row(1 + scale if is_offset else scale, x)
    if kind == 'layer':
      y = y + _row(self.param('bias', initializers.zeros, x.shape[-1:]), x)
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
    positions_BT: types.Array,
    view: View,
    values: ValueRows | None = None,
  ) -> tuple[jax.Array, types.Params | None, jax.Array | None]:
    """Run both sub-layers."""
    y_BTD = self._norm('attention_norm', x_BTD)
    y_BTD, cache = self._attention(y_BTD, cache, positions_BT, view, values)
    if self.cfg.post_norms:
      y_BTD = self._norm('post_attention_norm', y_BTD)
    x_BTD = x_BTD + y_BTD
    y_BTD, balance = self._norm('mlp_norm', x_BTD), None
    if self.cfg.n_experts:
      y_BTD, balance = self._experts(y_BTD)
    else:
      y_BTD = self._mlp(y_BTD, self.cfg.d_ff)
    if self.cfg.post_norms:
      y_BTD = self._norm('post_mlp_norm', y_BTD)
    return x_BTD + y_BTD, cache, balance

  def _norm(self, name, x):
    return Norm(self.cfg, name=name)(x)

  def _weight(self, name, shape, n_in_axes=1, scale=1.0, n_batch_axes=0):
    """A matrix of variance scale^2 / fan_in, cast to the compute dtype."""
    first_out = n_batch_axes + n_in_axes
    init = nn.initializers.variance_scaling(
      scale**2,
      'fan_in',
      'normal',
      in_axis=range(n_batch_axes, first_out),
      out_axis=range(first_out, len(shape)),
      batch_axis=range(n_batch_axes),
    )
    return self.param(name, init, shape).astype(self.cfg.dtype)

  def _biased(self, name, x, n_axes, options):
    """Add the bias over the last axes of x, where the options have one."""
    if self.cfg.bias not in options:
      return x
    shape = x.shape[-n_axes:]
    bias = self.param(name, nn.initializers.zeros, shape).astype(self.cfg.dtype)
    return x + bias.reshape((1,) * (x.ndim - n_axes) + shape)

  def _attention(self, x_BTD, cache, positions_BT, view, values):
    cfg = self.cfg
    d, h, g, k = cfg.d_model, cfg.n_heads, cfg.n_kv_heads, cfg.head_dim
    wq_DHK = self._weight('wq', (d, h, k))
    wk_DGK = self._weight('wk', (d, g, k))
    wv_DGK = self._weight('wv', (d, g, k))
    q_BTHK = self._biased('bq', project(x_BTD, wq_DHK), 2, ('qkv', 'all'))
    k_BTGK = self._biased('bk', project(x_BTD, wk_DGK), 2, ('qkv', 'all'))
    v_BTGK = self._biased('bv', project(x_BTD, wv_DGK), 2, ('qkv', 'all'))
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
      cache = kv_cache.write(cache, k_BTGK, v_BTGK, positions_BT)
      if view.n_read:
        seen = kv_cache.read(cache, view.n_read, cfg.dtype)
    out_BTHK = view.attend(q_BTHK, *seen)
    # The sum over layers keeps unit scale: each of 2N terms gets 1 / sqrt(2N).
    wo_HKD = self._weight('wo', (h, k, d), 2, (2 * cfg.n_layers) ** -0.5)
    out_BTD = project(out_BTHK, wo_HKD, n_axes=2)
    return self._biased('bo', out_BTD, 1, ('all',)), cache

  def _experts(self, x_BTD):
    """The experts that each token takes, and the shared one, if any."""
    cfg, out_scale = self.cfg, (2 * self.cfg.n_layers) ** -0.5
    n, d, f = cfg.n_experts, cfg.d_model, cfg.d_ff
    init = nn.initializers.normal(d**-0.5)
    router_DE = self.param('router', init, (d, n))
    logits_BTE = project(x_BTD.astype(jnp.float32), router_DE)
    weight_BTJ, expert_BTJ, balance = experts.route(
      logits_BTE, cfg.n_experts_per_token, cfg.normalize_router
    )
    matrices = {
      'up': self._weight('expert_up', (n, d, f), 1, 1.0, 1),
      'down': self._weight('expert_down', (n, f, d), 1, out_scale, 1),
    }
    if cfg.activation.endswith('_gated'):
      matrices['gate'] = self._weight('expert_gate', (n, d, f), 1, 1.0, 1)
    act = _ACTIVATIONS[cfg.activation]
    y_BTD = experts.mix(x_BTD, weight_BTJ, expert_BTJ, matrices, act)
    if cfg.d_shared:
      y_BTD = y_BTD + self._mlp(x_BTD, cfg.d_shared)
    return y_BTD, balance

  def _mlp(self, x_BTD, width):
    """act(x gate) * (x up), or act(x up), then down (arXiv:2002.05202)."""
    cfg, act = self.cfg, _ACTIVATIONS[self.cfg.activation]
    is_gated = cfg.activation.endswith('_gated')
    widen, out_scale = (cfg.d_model, width), (2 * cfg.n_layers) ** -0.5
    gate_DF = self._weight('gate', widen) if is_gated else None
    up_DF = self._weight('up', widen)
    down_FD = self._weight('down', widen[::-1], 1, out_scale)
    y_BTF = self._biased('b_up', project(x_BTD, up_DF), 1, ('all',))
    if gate_DF is None:
      y_BTF = act(y_BTF)
    else:
      gate_BTF = self._biased('b_gate', project(x_BTD, gate_DF), 1, ('all',))
      y_BTF = act(gate_BTF) * y_BTF
    return self._biased('b_down', project(y_BTF, down_FD), 1, ('all',))


def _row(vector: jax.Array, like: jax.Array) -> jax.Array:
  """A vector as the last axis of an array of the other's rank."""
  return vector.reshape((1,) * (like.ndim - 1) + (-1,))
