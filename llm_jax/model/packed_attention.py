"""Causal self-attention over packed rows, by the fastest form that can run.

`masked` computes all scores; `blocks` skips what is masked and keeps none for
the gradient; `splash` and `cudnn` are the kernels of TPUs and of NVIDIA's GPUs.
Tests hold them equal. Does not read a cache: see attention.py.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import ad_checkpoint
from jax.sharding import PartitionSpec

from llm_jax import types
from llm_jax.model import attention, block_attention
from llm_jax.parallel import device_mesh

_LANES = 128  # of a TPU: rows and blocks of splash are multiples
_SPLASH_BLOCK = 512  # at most; not tuned
_CUDNN_HEAD_DIM = 128  # at most


def attend(
  q_BTHK: jax.Array,
  k_BTGK: jax.Array,
  v_BTGK: jax.Array,
  segment_ids_BT: types.Array | None,
  rule: attention.Rule,
  kind: str = 'auto',
) -> jax.Array:
  """Attention of each token to itself and earlier ones of its document.

  Args:
    q_BTHK: queries.
    k_BTGK: keys; query head h reads key head h // (H / G).
    v_BTGK: values.
    segment_ids_BT: the document that each token of a row belongs to; None: a
      row is one document.
    rule: scale, window and softcap.
    kind: the form; auto: the first of splash, cudnn, blocks and masked that
      runs here.

  Returns:
    out_BTHK in the dtype of the values.

  Raises:
    ValueError: if the form that was asked for cannot run here.
  """
  refusals = _refusals(q_BTHK, rule)
  if kind == 'auto':
    kind = next(name for name in FORMS if not refusals[name])
  if refusals[kind]:
    raise ValueError(
      f'attention {kind!r} {refusals[kind]}; use auto, or one of '
      f'{", ".join(name for name in FORMS if not refusals[name])}'
    )
  return FORMS[kind](
    q_BTHK, k_BTGK, v_BTGK, segment_ids_BT=segment_ids_BT, rule=rule
  )


def is_result(primitive: Any, *_, **params) -> bool:
  """A policy of jax.checkpoint that keeps what attention gives.

  Its output and what its gradient needs beside queries, keys and values: the
  logarithm of each query's sum. No kernel runs twice.
  """
  if primitive.name == 'dot_product_attention_fwd_wrapper':  # of cudnn
    return True
  return primitive.name == 'name' and params['name'] == block_attention.RESULT


def _refusals(q_BTHK: jax.Array, rule: attention.Rule) -> dict[str, str]:
  """Why each form cannot run here, on the mesh that is compiled for."""
  _, length, _, head_dim = q_BTHK.shape
  mesh = device_mesh.current()
  platform = device_mesh.platform(mesh)
  refusals = dict.fromkeys(FORMS, '')
  if platform != 'tpu':
    refusals['splash'] = f'runs on TPUs, this is {platform}'
  elif length % _LANES:
    refusals['splash'] = f'needs rows of a multiple of {_LANES} tokens'
  if platform != 'gpu':
    refusals['cudnn'] = f'runs on GPUs, this is {platform}'
  elif jax.default_backend() != 'gpu':
    refusals['cudnn'] = 'cannot be compiled ahead: JAX asks the GPU for cuDNN'
  elif q_BTHK.dtype != jnp.bfloat16 or rule.cap:
    refusals['cudnn'] = 'needs bfloat16 and no attention_softcap'
  elif head_dim % 8 or head_dim > _CUDNN_HEAD_DIM:
    refusals['cudnn'] = f'needs a head_dim up to {_CUDNN_HEAD_DIM}, of eights'
  if mesh is not None and mesh.shape['context'] > 1:
    for name in ('splash', 'cudnn', 'blocks'):
      refusals[name] = 'cannot have rows split over the axis context'
  return refusals


def _masked(q_BTHK, k_BTGK, v_BTGK, segment_ids_BT, rule):
  if segment_ids_BT is None:
    segment_ids_BT = jnp.zeros((1, q_BTHK.shape[1]), jnp.int32)
  mask_BTS = attention.packed_mask(segment_ids_BT, rule.window)
  k_BGSK, v_BGSK = (jnp.swapaxes(x, 1, 2) for x in (k_BTGK, v_BTGK))
  out_BTHK = attention.attend(
    q_BTHK, k_BGSK, v_BGSK, mask_BTS=mask_BTS, rule=rule
  )
  return ad_checkpoint.checkpoint_name(out_BTHK, block_attention.RESULT)


def _cudnn(q_BTHK, k_BTGK, v_BTGK, segment_ids_BT, rule):
  """cuDNN's flash attention, as jax.nn calls it."""
  mask_B1TS = None
  if segment_ids_BT is not None:
    same_BTS = segment_ids_BT[:, :, None] == segment_ids_BT[:, None, :]
    mask_B1TS = same_BTS[:, None]
  return jax.nn.dot_product_attention(
    q_BTHK,
    k_BTGK,
    v_BTGK,
    mask=mask_B1TS,
    scale=rule.scale,
    is_causal=True,
    local_window_size=(rule.window - 1, 0) if rule.window else None,
    implementation='cudnn',
  )


def _splash(q_BTHK, k_BTGK, v_BTGK, segment_ids_BT, rule):
  """JAX's Pallas kernel for TPUs; elsewhere interpreted, and very slow."""
  # Here, because it loads for a fifth of a second.
  from jax.experimental.pallas.ops.tpu import splash_attention

  mesh = device_mesh.current()
  length = q_BTHK.shape[1]
  if segment_ids_BT is None:
    segment_ids_BT = jnp.zeros(q_BTHK.shape[:2], jnp.int32)
  mask = splash_attention.CausalMask((length, length))
  if rule.window:
    mask = splash_attention.LocalMask((length, length), (rule.window - 1, 0), 0)
  size = next(n for n in range(_SPLASH_BLOCK, 0, -_LANES) if length % n == 0)
  names = 'block_q block_kv block_kv_compute block_q_dkv block_kv_dkv '
  names += 'block_kv_dkv_compute block_q_dq block_kv_dq'
  sizes: dict[str, Any] = dict.fromkeys(names.split(), size)

  def one_device(q_BTHK, k_BTGK, v_BTGK, segment_ids_BT):
    kernel = splash_attention.make_splash_mha(
      splash_attention.MultiHeadMask([mask] * q_BTHK.shape[2]),
      block_sizes=splash_attention.BlockSizes(**sizes),
      head_shards=1,
      q_seq_shards=1,
      attn_logits_soft_cap=rule.cap or None,
      residual_checkpoint_name=block_attention.RESULT,
      interpret=device_mesh.platform(mesh) != 'tpu',
    )
    ids = splash_attention.SegmentIds(segment_ids_BT, segment_ids_BT)
    heads_first = (jnp.swapaxes(x, 1, 2) for x in (q_BTHK, k_BTGK, v_BTGK))
    q_BHTK, k_BGSK, v_BGSK = heads_first
    out: Any = jax.vmap(kernel)(q_BHTK * rule.scale, k_BGSK, v_BGSK, ids)
    return jnp.swapaxes(out, 1, 2).astype(v_BTGK.dtype)

  arrays = q_BTHK, k_BTGK, v_BTGK, segment_ids_BT
  if mesh is None:
    return one_device(*arrays)
  # Each device runs the kernel on its rows and heads. Heads are split as keys
  # are, so that each query stays with its key.
  rows = device_mesh.BATCH[0]
  heads = device_mesh.fit(
    mesh, PartitionSpec(rows, None, 'tensor', None), k_BTGK.shape
  )
  specs = heads, heads, heads, PartitionSpec(heads[0], None)
  return jax.shard_map(
    one_device, mesh=mesh, in_specs=specs, out_specs=heads, check_vma=False
  )(*arrays)


# In the order in which auto tries them.
FORMS: dict[str, Callable[..., jax.Array]] = {
  'splash': _splash,
  'cudnn': _cudnn,
  'blocks': block_attention.attend,
  'masked': _masked,
}
