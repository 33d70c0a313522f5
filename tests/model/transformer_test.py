"""The Transformer against a slow float64 version and its own invariants."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llm_jax.model import config, transformer

CFG = config.ModelConfig(
  vocab_size=60,
  n_layers=2,
  d_model=24,
  n_heads=4,
  n_kv_heads=2,
  head_dim=8,
  d_ff=40,
  max_length=16,
)
RANDOM = np.random.default_rng(0)
TOKENS_BT = RANDOM.integers(60, size=(3, 12)).astype(np.int32)
POSITIONS_BT = np.broadcast_to(np.arange(12, dtype=np.int32), (3, 12))


@pytest.fixture(scope='module')
def params():
  """Parameters away from their start: no norm scale is 1."""
  tree = transformer.init(CFG, jax.random.key(0))
  return jax.tree.map(
    lambda x: x + 0.1 * RANDOM.normal(size=x.shape).astype(np.float32), tree
  )


def slow_forward(params, tokens):
  """One row of tokens to logits, in numpy float64, by loops over heads."""
  p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)

  def norm(x, scale):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale

  def rotate(x):
    out = np.empty_like(x)
    for t in range(len(x)):
      for i in range(4):
        z = complex(x[t, i], x[t, i + 4]) * np.exp(1j * t * 1e4 ** (-i / 4))
        out[t, i], out[t, i + 4] = z.real, z.imag
    return out

  x = p['embedding'][tokens]
  n = len(tokens)
  for layer in range(2):
    w = jax.tree.map(lambda a, layer=layer: a[layer], p['layers'])
    y = norm(x, w['attention_norm']['scale'])
    total = 0
    for head in range(4):
      q = rotate(norm(y @ w['wq'][:, head], w['q_norm']['scale']))
      k = rotate(norm(y @ w['wk'][:, head // 2], w['k_norm']['scale']))
      scores = q @ k.T / np.sqrt(8)
      scores[np.triu_indices(n, 1)] = -np.inf
      weights = np.exp(scores - scores.max(-1, keepdims=True))
      weights /= weights.sum(-1, keepdims=True)
      total = total + weights @ (y @ w['wv'][:, head // 2]) @ w['wo'][head]
    x = x + total
    y = norm(x, w['mlp_norm']['scale'])
    gate = y @ w['gate']
    x = x + (gate / (1 + np.exp(-gate)) * (y @ w['up'])) @ w['down']
  return norm(x, p['final_norm']['scale']) @ p['head'].T


@functools.partial(jax.jit, static_argnums=0)
def logits(cfg, params, tokens_BT, positions_BT, segment_ids_BT=None):
  hidden_BTD, _ = transformer.apply(
    cfg, params, tokens_BT, positions_BT, segment_ids_BT
  )
  return transformer.unembed(cfg, params, hidden_BTD)


@functools.partial(jax.jit, static_argnums=0)
def cached(cfg, params, tokens_BT, positions_BT, cache):
  hidden_BTD, cache = transformer.apply(
    cfg, params, tokens_BT, positions_BT, cache=cache
  )
  return transformer.unembed(cfg, params, hidden_BTD), cache


def test_equals_the_slow_version(params):
  got = logits(CFG, params, TOKENS_BT, POSITIONS_BT)
  for row in range(3):
    expected = slow_forward(params, TOKENS_BT[row])
    # float32 against float64 over some twenty operations.
    np.testing.assert_allclose(got[row, :, :60], expected[:, :60], atol=2e-5)


def test_no_token_sees_a_later_one(params):
  """The gradient of position t reaches the embeddings of tokens 0..t only."""
  tokens_BT = np.arange(12, dtype=np.int32)[None]

  def at(embedding_VD, t):
    hidden_BTD, _ = transformer.apply(
      CFG, params | {'embedding': embedding_VD}, tokens_BT, POSITIONS_BT[:1]
    )
    return hidden_BTD[0, t].sum()

  grad = jax.jit(jax.grad(at))
  for t in (0, 5, 11):
    grad_VD = grad(params['embedding'], t)
    reached = np.abs(np.asarray(grad_VD)).sum(axis=1)[:12] > 0
    assert reached.tolist() == [i <= t for i in range(12)]


def test_packed_documents_equal_documents_alone(params):
  segment_ids_BT = np.array([[1] * 5 + [2] * 7], np.int32)
  positions_BT = np.array([[*range(5), *range(7)]], np.int32)
  row_BT = TOKENS_BT[:1]
  packed = logits(CFG, params, row_BT, positions_BT, segment_ids_BT)
  first = logits(CFG, params, row_BT[:, :5], POSITIONS_BT[:1, :5])
  second = logits(CFG, params, row_BT[:, 5:], POSITIONS_BT[:1, :7])
  apart = jnp.concatenate([first, second], axis=1)
  chex.assert_trees_all_close(packed, apart, atol=1e-5)


@pytest.mark.parametrize('unroll', [True, False])
def test_cache_equals_no_cache_with_ragged_rows(params, unroll):
  """Rows read 3, 7 and 5 tokens at once, then one by one from there."""
  cfg = dataclasses.replace(CFG, unroll_layers=unroll)
  expected = logits(cfg, params, TOKENS_BT, POSITIONS_BT)
  length_B = np.array([3, 7, 5])
  cache = transformer.init_cache(cfg, 3, 12)
  _, cache = cached(cfg, params, TOKENS_BT[:, :7], POSITIONS_BT[:, :7], cache)
  for i in range(5):
    position_B1 = (length_B + i)[:, None].astype(np.int32)
    token_B1 = np.take_along_axis(TOKENS_BT, position_B1, axis=1)
    got_B1V, cache = cached(cfg, params, token_B1, position_B1, cache)
    wanted = np.take_along_axis(expected, position_B1[..., None], axis=1)[:, 0]
    chex.assert_trees_all_close(got_B1V[:, 0], wanted, atol=1e-5)


@pytest.mark.parametrize('change', [{'unroll_layers': False}, {'remat': True}])
def test_scan_and_remat_change_no_gradient(params, change):
  def loss(cfg, params):
    return (logits(cfg, params, TOKENS_BT, POSITIONS_BT)[..., :60] ** 2).mean()

  grad = jax.jit(jax.grad(loss, argnums=1), static_argnums=0)
  plain = grad(CFG, params)
  other = grad(dataclasses.replace(CFG, **change), params)
  chex.assert_trees_all_close(plain, other, atol=1e-5, rtol=1e-4)


def test_padding_of_the_vocabulary_has_no_mass(params):
  got = logits(CFG, params, TOKENS_BT, POSITIONS_BT)
  assert got.shape[-1] == 128
  assert float(jax.nn.softmax(got)[..., 60:].max()) == 0.0


@pytest.mark.parametrize('tied', [True, False])
def test_parameters_are_counted_as_they_are(tied):
  cfg = dataclasses.replace(CFG, tied_embeddings=tied)
  tree = jax.eval_shape(lambda: transformer.init(cfg, jax.random.key(0)))
  counted = sum(x.size for x in jax.tree.leaves(tree))
  assert config.n_params(cfg)['total'] == counted
  assert ('head' in tree) != tied


def test_flops_by_hand():
  """6 * (2 layers * (96*8*3... weights) + head) + 6 * N H K T."""
  attention = 2 * 24 * 8 * (4 + 2 + 2 + 4)
  mlp = 2 * 3 * 24 * 40
  head = 128 * 24
  by_hand = 6 * (attention + mlp + head) + 6 * 2 * 4 * 8 * 12
  assert config.train_flops_per_token(CFG, 12) == by_hand


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'n_kv_heads': 3}, 'n_heads 4 is not a multiple of n_kv_heads 3'),
    ({'head_dim': 7}, 'head_dim 7 is odd'),
    ({'dtype': 'float16'}, "dtype 'float16' is not known"),
    ({'n_layers': 0}, 'ModelConfig.n_layers = 0; use 1 or more'),
  ],
)
def test_impossible_sizes_are_refused(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(CFG, **change)
