"""What is inside a model: attention over a prompt, neighbours of tokens."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from llm_jax import types
from llm_jax.infer import engine, quantize
from llm_jax.model import config, packed_attention, transformer


def attention(
  cfg: config.ModelConfig,
  params: types.Params,
  ids: Sequence[int],
  layer: int,
  head: int,
) -> np.ndarray:
  """How much each token looks at itself and earlier ones.

  Args:
    cfg: the model.
    params: its parameters, or quantize.int8 of them.
    ids: of the prompt, at most as many as the model can read.
    layer: from 0.
    head: of its queries, from 0.

  Returns:
    weight_TS; each row sums up to 1.
  """
  length = min(engine.bucket(len(ids)), cfg.max_length)
  ids_1T = np.zeros((1, length), np.int32)  # no token sees what is behind it
  ids_1T[0, : len(ids)] = ids
  weight_TS = _attention(cfg, params, ids_1T, layer=layer, head=head)
  return np.asarray(weight_TS)[: len(ids), : len(ids)]


@functools.partial(jax.jit, static_argnums=0)
def _attention(cfg, params, ids_1T, layer, head):
  n_keys = ids_1T.shape[1]
  weight_TS, n_seen = jnp.zeros((n_keys, n_keys)), 0

  def attend(q_BTHK, k_BTGK, v_BTGK, segment_ids_BT, rule, kind):
    nonlocal weight_TS, n_seen
    # Attention is linear in the values: with rows of the identity for values
    # it gives the weights, some keys at a time.
    run = functools.partial(
      packed_attention.attend, q_BTHK, k_BTGK, segment_ids_BT=segment_ids_BT
    )
    width, parts = k_BTGK.shape[3], []
    for start in range(0, n_keys, width):
      eye_SK = jnp.eye(n_keys, width, -start)
      unit_BSGK = jnp.broadcast_to(eye_SK[:, None], k_BTGK.shape)
      out_BTHK = run(v_BTGK=unit_BSGK, rule=rule, kind='masked')
      parts.append(out_BTHK[0, :, head])
    here_TS = jnp.concatenate(parts, axis=-1)[:, :n_keys]
    weight_TS, n_seen = weight_TS + here_TS * (layer == n_seen), n_seen + 1
    return run(v_BTGK=v_BTGK, rule=rule, kind=kind)

  # Unrolled, so that each layer is seen.
  cfg = dataclasses.replace(cfg, unroll_layers=True, remat='none')
  floats = quantize.as_arrays(params, cfg.dtype)
  transformer.apply(cfg, floats, ids_1T, attend=attend)
  return weight_TS


def neighbours(
  cfg: config.ModelConfig,
  params: types.Params,
  plus: Sequence[int],
  minus: Sequence[int] = (),
  n: int = 10,
) -> list[tuple[int, float]]:
  """Tokens whose embeddings point where the sum of others points.

  Args:
    cfg: the model.
    params: its parameters, or quantize.int8 of them.
    plus: ids whose embeddings, of length 1, are added.
    minus: of those that are subtracted.
    n: tokens that are told.

  Returns:
    Ids and cosines, the nearest first; without those that were given.
  """
  table = quantize.as_arrays(params['embedding'], 'float32')
  table_VD = np.array(table, np.float32)[: cfg.vocab_size]
  norm_V1 = np.linalg.norm(table_VD, axis=1, keepdims=True)
  table_VD /= np.maximum(norm_V1, 1e-30)
  wanted_D = table_VD[[*plus]].sum(axis=0) - table_VD[[*minus]].sum(axis=0)
  cosine_V = table_VD @ wanted_D / max(np.linalg.norm(wanted_D), 1e-30)
  left_out = {*plus, *minus}
  for first, last in cfg.unused_ids:
    left_out |= {*range(first, last)}
  best = [i for i in np.argsort(-cosine_V).tolist() if i not in left_out]
  return [(i, float(cosine_V[i])) for i in best[:n]]
