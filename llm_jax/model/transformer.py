"""The Transformer: initialise it, run it, turn hidden states into logits.

The rest of the library sees only `init`, `apply` and `unembed`; parameters are
a nested dict whose layer arrays are stacked with a leading N. Does not compute
a loss and does not sample.
"""

import functools
import operator
from typing import Any

import chex
import jax
import jax.numpy as jnp

from llm_jax import types
from llm_jax.losses import next_token
from llm_jax.model import (
  attention,
  config,
  kv_cache,
  layer,
  packed_attention,
  params,
)
from llm_jax.parallel import device_mesh

_REMAT = {
  'dots': jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    packed_attention.is_result,
  ),
  'full': jax.checkpoint_policies.nothing_saveable,
}


def init(cfg: config.ModelConfig, key: jax.Array) -> types.Params:
  """Draw the parameters of a model, float32.

  Args:
    cfg: the model.
    key: random key; the same key gives the same parameters on every mesh.

  Returns:
    Nested dict: embedding, position_embedding (if learned), value_embedding
    and value_gate (if any), head (unless tied), final_norm, and layers, whose
    arrays have a leading N.
  """
  embedding_key, head_key, norm_key, layers_key = jax.random.split(key, 4)
  x_BTD = jnp.zeros((1, 1, cfg.d_model))
  position_BT = jnp.zeros((1, 1), jnp.int32)
  view = layer.View(lambda q_BTHK, k_BSGK, v_BSGK: q_BTHK, None, position_BT)

  def init_layer(layer_key):
    return layer.Layer(cfg).init(layer_key, x_BTD, cache=None, view=view)

  layers = jax.vmap(init_layer)(jax.random.split(layers_key, cfg.n_layers))
  norm = layer.Norm(cfg, 'final_norm').init(norm_key, x_BTD)
  keys = {'embedding': embedding_key}
  if cfg.positions == 'learned':
    keys['position_embedding'] = jax.random.fold_in(embedding_key, 1)
  if cfg.value_embeddings:
    keys['value_embedding'] = jax.random.fold_in(embedding_key, 2)
    keys['value_gate'] = embedding_key  # nothing is drawn: it starts at 0
  if not cfg.tied_embeddings:
    keys['head'] = head_key
  lines = params.table(cfg)
  tables = {
    name: lines[name].init(key, lines[name].shape) for name, key in keys.items()
  }
  return tables | {'layers': layers['params'], 'final_norm': norm['params']}


def apply(
  cfg: config.ModelConfig,
  params: types.Params,
  tokens_BT: types.Array,
  positions_BT: types.Array | None = None,
  segment_ids_BT: types.Array | None = None,
  cache: types.Params | None = None,
  n_read: int | None = None,
) -> tuple[jax.Array, types.Params, jax.Array | None]:
  """Run the model over tokens.

  Without a cache, tokens see the earlier tokens of their own segment. With a
  cache, keys and values are written to the slots that positions_BT names and
  each token sees the slots up to its own.

  Args:
    cfg: the model.
    params: from `init`.
    tokens_BT: token ids in [0, vocab_size).
    positions_BT: position of each token in its document, from 0. Where no
      cache is read less than T: a rotary one beyond gives NaN. None: that in
      its row.
    segment_ids_BT: document of each token; None: a row is one document.
    cache: from cache.init, or None.
    n_read: slots of the cache, from the first, that tokens see; None: all; 0:
      they see each other only, as without a cache, which is only written.

  Returns:
    hidden_BTD after the final norm; the updated cache, None without one; and
    the mean over layers of the balance of experts.route, None without experts.
  """
  if positions_BT is None:
    positions_BT = jax.lax.broadcasted_iota(jnp.int32, tokens_BT.shape, 1)
  chex.assert_equal_shape([tokens_BT, positions_BT])
  if cache is None:
    n_read = 0
  elif n_read is None:
    n_read = kv_cache.n_slots(cache)
  views = _views(cfg, positions_BT, segment_ids_BT, n_read=n_read)

  def run_layer(kind, layer_params, x_BTD, layer_cache, values) -> Any:
    x_BTD = device_mesh.split_rows(x_BTD)
    weights, view = {'params': layer_params}, views[kind]
    return layer.Layer(cfg).apply(
      weights, x_BTD, cache=layer_cache, view=view, values=values
    )

  def values_of(i):
    row_BTGK = params['value_embedding'][i // 2, tokens_BT].astype(cfg.dtype)
    return layer.ValueRows(row_BTGK, params['value_gate'][i // 2])

  if cfg.remat != 'none':
    # A loop keeps the compiler from undoing it; unrolled layers need help.
    run_layer = jax.checkpoint(
      run_layer,
      prevent_cse=cfg.unroll_layers,
      policy=_REMAT[cfg.remat],
      static_argnums=0,
    )
  x_BTD = _embed(cfg, params, tokens_BT, positions_BT=positions_BT)
  if cfg.unroll_layers:
    new_cache, balances = [], []
    for i, kind in enumerate(cfg.layer_kinds):
      layer_params = _layer(params['layers'], i)
      layer_cache = None if cache is None else cache[i]
      values = values_of(i) if cfg.has_values[i] else None
      x_BTD, layer_cache, balance = run_layer(
        kind, layer_params, x_BTD, layer_cache=layer_cache, values=values
      )
      new_cache.append(layer_cache)
      balances.append(balance)
    cache = None if cache is None else new_cache
    balance_N = jnp.stack(balances) if cfg.n_experts else None
  else:

    def step(x_BTD, xs):
      layer_params, layer_cache, kind, i, has_values = xs
      values = values_of(i) if cfg.value_embeddings else None
      if values is not None:  # a layer without any adds rows of zeros
        values = values._replace(row_BTGK=values.row_BTGK * has_values)
      branches = [functools.partial(run_layer, name) for name in kinds]
      x_BTD, *outputs = jax.lax.switch(
        kind, branches, layer_params, x_BTD, layer_cache, values
      )
      return x_BTD, outputs

    kinds = sorted(set(cfg.layer_kinds))
    kind_N = jnp.array([kinds.index(name) for name in cfg.layer_kinds])
    index_N = jnp.arange(cfg.n_layers)
    has_values_N = jnp.array(cfg.has_values, x_BTD.dtype)
    x_BTD, (cache, balance_N) = jax.lax.scan(
      step, x_BTD, (params['layers'], cache, kind_N, index_N, has_values_N)
    )
  norm = {'params': params['final_norm']}
  hidden_BTD = jnp.asarray(layer.Norm(cfg, 'final_norm').apply(norm, x_BTD))
  return hidden_BTD, cache, None if balance_N is None else balance_N.mean()


def unstack(params: types.Params) -> types.Params:
  """Copy each layer's parameters apart, for many calls of an unrolled model.

  Else each call copies all of them, as XLA takes no views of a stack.

  Args:
    params: from `init`.

  Returns:
    Parameters as `apply` takes them where cfg.unroll_layers is set.
  """
  n_layers = len(jax.tree.leaves(params['layers'])[0])
  layers = [_layer(params['layers'], i) for i in range(n_layers)]
  return jax.lax.optimization_barrier(params | {'layers': layers})


def _layer(layers, i):
  if isinstance(layers, list):
    return layers[i]
  return jax.tree.map(operator.itemgetter(i), layers)


def _views(cfg, positions_BT, segment_ids_BT, n_read) -> dict[str, layer.View]:
  """What global and local layers see."""
  scale = (cfg.query_pre_attn_scalar or cfg.head_dim) ** -0.5

  def view(theta, scaling, window):
    rotation = None
    if cfg.positions == 'rotary':
      frequency_K = attention.rope_frequencies(cfg.head_dim, theta, scaling)
      length = None if n_read else positions_BT.shape[1]
      rotation = attention.rotation(positions_BT, frequency_K, length)
    rule = attention.Rule(scale, window, cfg.attention_softcap)
    if n_read:
      mask_BTS = attention.cache_mask(positions_BT, n_read, window)
      attend = functools.partial(attention.attend, mask_BTS=mask_BTS, rule=rule)
    else:
      attend = functools.partial(
        packed_attention.attend,
        segment_ids_BT=segment_ids_BT,
        rule=rule,
        kind=cfg.attention,
      )
    return layer.View(attend, rotation, positions_BT, n_read=n_read)

  views = {'G': view(cfg.rope_theta, cfg.rope_scaling, 0)}
  if cfg.window:
    theta = cfg.local_rope_theta or cfg.rope_theta
    views['L'] = view(theta, None, cfg.window)
  return views


def _embed(cfg, params, tokens_BT, positions_BT):
  x_BTD = params['embedding'][tokens_BT].astype(cfg.dtype)
  if cfg.embedding_scale:
    # Rounded to the compute dtype, as Gemma's code does: 55.43 is 55.5.
    x_BTD = x_BTD * jnp.asarray(cfg.d_model**0.5, cfg.dtype)
  if cfg.positions == 'learned':
    rows_BTD = params['position_embedding'][positions_BT]
    x_BTD = x_BTD + rows_BTD.astype(cfg.dtype)
  return device_mesh.split_rows(x_BTD)


def head(cfg: config.ModelConfig, params: types.Params) -> next_token.Head:
  """The head: its own matrix, or the embedding when tied."""
  return next_token.Head(
    params['embedding' if cfg.tied_embeddings else 'head'],
    cfg.vocab_size,
    softcap=cfg.logit_softcap,
    unused_ids=cfg.unused_ids,
  )


def unembed(
  cfg: config.ModelConfig, params: types.Params, hidden_BTD: jax.Array
) -> jax.Array:
  """Turn hidden states of `apply` into logits_BTV; see next_token.logits."""
  return next_token.logits(hidden_BTD, head(cfg, params))
