"""The Transformer: initialise it, run it, turn hidden states into logits.

The rest of the library sees only `init`, `apply`, `unembed` and
`init_cache`; parameters are a nested dict whose layer arrays are stacked
with a leading N. Does not compute a loss and does not sample.
"""

import math
import operator

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from llm_jax import types
from llm_jax.model import attention, config


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


class RMSNorm(nn.Module):
  """x / rms(x) * scale over the last axis, in float32 (arXiv:1910.07467)."""

  eps: float

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Normalise the last axis of an array of any rank."""
    scale = self.param('scale', nn.initializers.ones, x.shape[-1:])
    y = x.astype(jnp.float32)
    y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + self.eps)
    return (y * scale.reshape((1,) * (x.ndim - 1) + (-1,))).astype(x.dtype)


class Layer(nn.Module):
  """One residual layer: attention, then SwiGLU (arXiv:2002.05202).

  Takes and returns x_BTD and its own cache, {'k': k_BSGK, 'v': v_BSGK}.
  """

  cfg: config.ModelConfig

  @nn.compact
  def __call__(self, x_BTD, cache, positions_BT, mask_BTS):
    """Run both sub-layers."""
    x_BTD, cache = self._attention(x_BTD, cache, positions_BT, mask_BTS)
    return self._mlp(x_BTD), cache

  def _weight(self, name, shape, n_in_axes=1, scale=1.0):
    """A matrix of variance scale^2 / fan_in, cast to the compute dtype."""
    init = nn.initializers.variance_scaling(
      scale**2,
      'fan_in',
      'normal',
      in_axis=range(n_in_axes),
      out_axis=range(n_in_axes, len(shape)),
    )
    return self.param(name, init, shape).astype(self.cfg.dtype)

  def _attention(self, x_BTD, cache, positions_BT, mask_BTS):
    cfg = self.cfg
    d, h, g, k = cfg.d_model, cfg.n_heads, cfg.n_kv_heads, cfg.head_dim
    y_BTD = RMSNorm(cfg.norm_eps, name='attention_norm')(x_BTD)
    wq_DHK = self._weight('wq', (d, h, k))
    wk_DGK = self._weight('wk', (d, g, k))
    wv_DGK = self._weight('wv', (d, g, k))
    q_BTHK = project(y_BTD, wq_DHK)
    k_BTGK = project(y_BTD, wk_DGK)
    v_BTGK = project(y_BTD, wv_DGK)
    q_BTHK = RMSNorm(cfg.norm_eps, name='q_norm')(q_BTHK)
    k_BTGK = RMSNorm(cfg.norm_eps, name='k_norm')(k_BTGK)
    q_BTHK = attention.rotate(q_BTHK, positions_BT, cfg.rope_theta)
    k_BTGK = attention.rotate(k_BTGK, positions_BT, cfg.rope_theta)
    if cache is None:
      k_BSGK, v_BSGK = k_BTGK, v_BTGK
    else:
      rows_B1 = jnp.arange(x_BTD.shape[0])[:, None]
      k_BSGK = cache['k'].at[rows_B1, positions_BT].set(k_BTGK)
      v_BSGK = cache['v'].at[rows_B1, positions_BT].set(v_BTGK)
      cache = {'k': k_BSGK, 'v': v_BSGK}
    out_BTHK = attention.attend(q_BTHK, k_BSGK, v_BSGK, mask_BTS)
    # The sum over layers keeps unit scale: each of 2N terms gets 1 / sqrt(2N).
    wo_HKD = self._weight('wo', (h, k, d), 2, (2 * cfg.n_layers) ** -0.5)
    return x_BTD + project(out_BTHK, wo_HKD, n_axes=2), cache

  def _mlp(self, x_BTD):
    cfg = self.cfg
    y_BTD = RMSNorm(cfg.norm_eps, name='mlp_norm')(x_BTD)
    gate_DF = self._weight('gate', (cfg.d_model, cfg.d_ff))
    up_DF = self._weight('up', (cfg.d_model, cfg.d_ff))
    down_FD = self._weight(
      'down', (cfg.d_ff, cfg.d_model), 1, (2 * cfg.n_layers) ** -0.5
    )
    gate_BTF = jax.nn.silu(project(y_BTD, gate_DF))
    return x_BTD + project(gate_BTF * project(y_BTD, up_DF), down_FD)


def init(cfg: config.ModelConfig, key: jax.Array) -> types.Params:
  """Draw the parameters of a model, float32.

  Args:
    cfg: the model.
    key: random key; the same key gives the same parameters on every mesh.

  Returns:
    Nested dict: embedding, head (unless tied), final_norm, and layers, whose
    arrays have a leading N.
  """
  embedding_key, head_key, norm_key, layers_key = jax.random.split(key, 4)
  shape = (cfg.padded_vocab_size, cfg.d_model)
  normal = nn.initializers.normal(cfg.d_model**-0.5)
  x_BTD = jnp.zeros((1, 1, cfg.d_model))
  position_BT, mask_BTS = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1, 1))

  def init_layer(layer_key):
    return Layer(cfg).init(layer_key, x_BTD, None, position_BT, mask_BTS > 0)

  layers = jax.vmap(init_layer)(jax.random.split(layers_key, cfg.n_layers))
  norm = RMSNorm(cfg.norm_eps).init(norm_key, x_BTD)
  params = {
    'embedding': normal(embedding_key, shape),
    'layers': layers['params'],
    'final_norm': norm['params'],
  }
  if not cfg.tied_embeddings:
    params['head'] = normal(head_key, shape)
  return params


def apply(
  cfg: config.ModelConfig,
  params: types.Params,
  tokens_BT: types.Array,
  positions_BT: types.Array,
  segment_ids_BT: types.Array | None = None,
  cache: types.Params | None = None,
) -> tuple[jax.Array, types.Params]:
  """Run the model over tokens.

  Without a cache, tokens see the earlier tokens of their own segment. With a
  cache, keys and values are written to the slots that positions_BT names and
  each token sees the slots up to its own.

  Args:
    cfg: the model.
    params: from `init`.
    tokens_BT: token ids in [0, vocab_size).
    positions_BT: position of each token in its document, from 0.
    segment_ids_BT: document of each token; None: a row is one document.
    cache: from `init_cache`, or None.

  Returns:
    hidden_BTD after the final norm, and the updated cache (None without one).
  """
  chex.assert_equal_shape([tokens_BT, positions_BT])
  if cache is not None:
    n_slots = jax.tree.leaves(cache)[0].shape[-3]
    mask_BTS = attention.cache_mask(positions_BT, n_slots)
  else:
    if segment_ids_BT is None:
      segment_ids_BT = jnp.zeros(tokens_BT.shape, jnp.int32)
    mask_BTS = attention.packed_mask(segment_ids_BT)

  def layer(layer_params, x_BTD, layer_cache):
    return Layer(cfg).apply(
      {'params': layer_params}, x_BTD, layer_cache, positions_BT, mask_BTS
    )

  if cfg.remat:
    layer = jax.checkpoint(layer)
  x_BTD = params['embedding'][tokens_BT].astype(cfg.dtype)
  if cfg.unroll_layers:
    new_cache = []
    for i in range(cfg.n_layers):
      layer_params = jax.tree.map(operator.itemgetter(i), params['layers'])
      layer_cache = None if cache is None else cache[i]
      x_BTD, layer_cache = layer(layer_params, x_BTD, layer_cache)
      new_cache.append(layer_cache)
    cache = None if cache is None else new_cache
  else:
    x_BTD, cache = jax.lax.scan(
      lambda x, xs: layer(xs[0], x, xs[1]), x_BTD, (params['layers'], cache)
    )
  norm = {'params': params['final_norm']}
  return jnp.asarray(RMSNorm(cfg.norm_eps).apply(norm, x_BTD)), cache


def unembedding(cfg: config.ModelConfig, params: types.Params) -> jax.Array:
  """The head as w_VD: its own matrix, or the embedding when tied."""
  return params['embedding' if cfg.tied_embeddings else 'head']


def unembed(
  cfg: config.ModelConfig, params: types.Params, hidden_BTD: jax.Array
) -> jax.Array:
  """Turn hidden states into logits.

  Args:
    cfg: the model.
    params: from `init`.
    hidden_BTD: from `apply`.

  Returns:
    logits_BTV in float32; rows that only pad the vocabulary get -1e30, so
    that they are never sampled and add nothing to a softmax.
  """
  w_VD = unembedding(cfg, params).astype(hidden_BTD.dtype)
  logits_BTV = jnp.einsum(
    'BTD,VD->BTV', hidden_BTD, w_VD, preferred_element_type=jnp.float32
  )
  is_token_V = jnp.arange(cfg.padded_vocab_size) < cfg.vocab_size
  return jnp.where(is_token_V[None, None], logits_BTV, attention.MASKED)


def init_cache(cfg: config.ModelConfig, batch_size: int, n_slots: int):
  """Empty keys and values of every layer, in the compute dtype.

  Args:
    cfg: the model.
    batch_size: rows.
    n_slots: tokens that a row can hold.

  Returns:
    A list of k_BSGK and v_BSGK for each layer, so that a loop can update
    each in place; stacked with a leading N where layers are scanned.
  """
  stack = () if cfg.unroll_layers else (cfg.n_layers,)
  shape = (*stack, batch_size, n_slots, cfg.n_kv_heads, cfg.head_dim)

  def layer():
    return {'k': jnp.zeros(shape, cfg.dtype), 'v': jnp.zeros(shape, cfg.dtype)}

  return [layer() for _ in range(cfg.n_layers)] if not stack else layer()
