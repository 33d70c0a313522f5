"""The Transformer in every layout, against a slow version and itself."""

import dataclasses
import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo

from llm_jax.model import (
  config,
  kv_cache,
  likelihood,
  packed_attention,
  params,
  transformer,
)
from llm_jax.parallel import device_mesh
from tests.model import slow_transformer, start_params

LAYOUTS = slow_transformer.LAYOUTS
CFG = LAYOUTS['qwen3']
NIGHTLY = pytest.mark.nightly
RANDOM = np.random.default_rng(0)
TOKENS_BT = RANDOM.integers(60, size=(3, 12)).astype(np.int32)
POSITIONS_BT = np.broadcast_to(np.arange(12, dtype=np.int32), (3, 12))


@functools.cache
def make_params(cfg):
  """Parameters away from their start: no scale is 1, no bias 0."""
  random = np.random.default_rng(1)

  def draw(path, x):
    one = path[-1].key == 'scale' and cfg.norm != 'rms_plus_one'
    return one + random.normal(0, 0.1 if one else 0.2, x.shape).astype(x.dtype)

  init = functools.partial(transformer.init, cfg)
  shapes = jax.eval_shape(init, jax.random.key(0))
  return jax.tree.map_with_path(draw, shapes)


@pytest.fixture(params=LAYOUTS)
def model(request):
  cfg = LAYOUTS[request.param]
  return cfg, make_params(cfg)


def with_layouts(names, variants, layouts):
  """Every variant with every layout by night; else each of some with one."""
  chosen = itertools.cycle(variants)
  by_day = {(layout, next(chosen)) for layout in layouts}
  cases = [
    pytest.param(layout, *variant, marks=() if key in by_day else NIGHTLY)
    for key in itertools.product(LAYOUTS, variants)
    for layout, variant in [key]
  ]
  names = f'model,{names}'.rstrip(',')
  return pytest.mark.parametrize(names, cases, indirect=['model'])


@functools.partial(jax.jit, static_argnums=0)
def logits(cfg, params, tokens_BT, positions_BT, segment_ids_BT=None):
  hidden_BTD, *_ = transformer.apply(
    cfg, params, tokens_BT, positions_BT, segment_ids_BT
  )
  return transformer.unembed(cfg, params, hidden_BTD)


@functools.partial(jax.jit, static_argnums=0)
def cached(cfg, params, tokens_BT, positions_BT, cache):
  hidden_BTD, cache, _ = transformer.apply(
    cfg, params, tokens_BT, positions_BT, cache=cache
  )
  return transformer.unembed(cfg, params, hidden_BTD), cache


def test_equals_the_slow_version(model):
  cfg, params = model
  got = logits(cfg, params, TOKENS_BT, POSITIONS_BT)
  for row in range(3):
    expected = slow_transformer.logits(cfg, params, TOKENS_BT[row])
    # float32 against float64 over some thirty operations.
    np.testing.assert_allclose(got[row, :, :60], expected[:, :60], atol=2e-5)


@with_layouts('', [()], ('gemma2', 'gpt2', 'experts'))
def test_no_token_sees_a_later_one_or_beyond_its_windows(model):
  """The gradient of position t reaches the embeddings of those it may see."""
  cfg, params = model
  # Tokens differ, so a row of the embedding's gradient is a position.
  tokens_BT = np.arange(12, dtype=np.int32)[None]
  untied = dataclasses.replace(cfg, tied_embeddings=False)
  if cfg.value_embeddings:
    params = params | {'value_embedding': 0 * params['value_embedding']}

  def at(embedding_VD, t):
    hidden_BTD, *_ = transformer.apply(
      untied, params | {'embedding': embedding_VD}, tokens_BT, POSITIONS_BT[:1]
    )
    return (hidden_BTD[0, t] * jnp.arange(24)).sum()

  grad = jax.jit(jax.grad(at))
  reach = 12
  if 'G' not in cfg.layer_kinds:
    reach = cfg.n_layers * (cfg.window - 1)
  for t in (0, 5, 11):
    grad_VD = grad(params['embedding'], t)
    reached = np.abs(np.asarray(grad_VD)).sum(axis=1)[:12] > 0
    assert reached.tolist() == [t - reach <= i <= t for i in range(12)]


@with_layouts('', [()], ('gemma2', 'gpt2', 'experts'))
def test_packed_documents_equal_documents_alone(model):
  cfg, params = model
  segment_ids_BT = np.array([[1] * 6 + [2] * 6], np.int32)
  positions_BT = np.array([[*range(6), *range(6)]], np.int32)
  row_BT = TOKENS_BT[:1]
  packed = logits(cfg, params, row_BT, positions_BT, segment_ids_BT)
  apart = logits(cfg, params, row_BT.reshape(2, 6), POSITIONS_BT[:2, :6])
  apart = apart.reshape(packed.shape)
  chex.assert_trees_all_close(packed, apart, atol=1e-5)


@with_layouts(
  'unroll',
  [(True,), (False,)],
  ('qwen3', 'gemma3', 'gpt2', 'value_embeddings', 'experts'),
)
def test_cache_equals_no_cache_with_ragged_rows(model, unroll):
  """Rows read 3, 7 and 5 tokens at once, then one by one from there."""
  cfg, params = model
  cfg = dataclasses.replace(cfg, unroll_layers=unroll)
  expected = logits(cfg, params, TOKENS_BT, POSITIONS_BT)
  length_B = np.array([3, 7, 5])
  cache = kv_cache.init(cfg, 3, 12)
  _, cache = cached(cfg, params, TOKENS_BT[:, :7], POSITIONS_BT[:, :7], cache)
  for i in range(5):
    position_B1 = (length_B + i)[:, None].astype(np.int32)
    token_B1 = np.take_along_axis(TOKENS_BT, position_B1, axis=1)
    got_B1V, cache = cached(cfg, params, token_B1, position_B1, cache)
    wanted = np.take_along_axis(expected, position_B1[..., None], axis=1)[:, 0]
    chex.assert_trees_all_close(got_B1V[:, 0], wanted, atol=1e-5)


@functools.partial(jax.jit, static_argnums=0)
@functools.partial(jax.grad, argnums=1)
def gradient(cfg, params):
  return (logits(cfg, params, TOKENS_BT, POSITIONS_BT)[..., :60] ** 2).mean()


@with_layouts(
  'unroll,remat',
  [(False, 'none'), (False, 'dots'), (False, 'full'), (True, 'full')],
  ('gpt2', 'gemma3', 'value_embeddings', 'experts'),
)
def test_scan_and_remat_change_no_gradient(model, unroll, remat):
  cfg, params = model
  change = {'unroll_layers': unroll, 'remat': remat}
  plain = gradient(cfg, params)
  other = gradient(dataclasses.replace(cfg, **change), params)
  chex.assert_trees_all_close(plain, other, atol=1e-5, rtol=1e-4)


def count_primitive(name, jaxpr):
  n = 0
  for equation in jaxpr.eqns:
    n += equation.primitive.name == name
    for value in jax.tree.leaves(tuple(equation.params.values())):
      value = getattr(value, 'jaxpr', value)  # of a closed one
      if hasattr(value, 'eqns'):
        n += count_primitive(name, value)
  return n


def test_no_attention_runs_twice_where_products_are_kept():
  """`dots` computes norms and activations again, and no scores' weights."""
  params = make_params(CFG)

  def n_exponentials(remat):
    part = dataclasses.replace(CFG, attention='blocks', remat=remat)

    def loss(params):
      return logits(part, params, TOKENS_BT, POSITIONS_BT).sum()

    return count_primitive('exp', jax.make_jaxpr(jax.grad(loss))(params).jaxpr)

  assert n_exponentials('dots') == n_exponentials('none')
  assert n_exponentials('full') > n_exponentials('none')


def test_the_name_of_cudnns_attention_is_known():
  """Its results are kept by name, which JAX does not promise."""
  primitive = fused_attention_stablehlo._dot_product_attention_fwd_p_wrapper
  assert packed_attention.is_result(primitive)


@pytest.mark.parametrize('name', ['gpt2', 'gemma3', 'value_embeddings'])
def test_sharded_equals_a_single_device(name):
  cfg, whole = LAYOUTS[name], make_params(LAYOUTS[name])
  mesh = device_mesh.make(device_mesh.MeshConfig(data=1, fsdp=2, tensor=2))
  shardings = params.shardings(params.table(cfg), mesh)
  sharded = jax.device_put(whole, shardings)
  got = logits(cfg, sharded, TOKENS_BT, POSITIONS_BT)
  plain = logits(cfg, whole, TOKENS_BT, POSITIONS_BT)
  np.testing.assert_allclose(got, plain, atol=1e-5)


# Tied and capped, and neither.
@with_layouts('chunk', [(4,), (0,)], ('gemma2', 'qwen3'))
def test_likelihood_is_that_of_the_logits(model, chunk):
  cfg, params = model
  targets_BT = np.roll(TOKENS_BT, -1, axis=1)
  batch = {'inputs_BT': TOKENS_BT, 'targets_BT': targets_BT}
  batch['positions_BT'] = POSITIONS_BT
  got = jax.jit(likelihood.of_targets, static_argnums=(0, 3))(
    cfg, params, batch, chunk
  )
  logp_BTV = jax.nn.log_softmax(logits(cfg, params, TOKENS_BT, POSITIONS_BT))
  wanted = jnp.take_along_axis(logp_BTV, targets_BT[..., None], axis=-1)
  np.testing.assert_allclose(got.logp_BT, wanted[..., 0], atol=1e-5)


def test_padding_of_the_vocabulary_has_no_mass(model):
  got = logits(*model, TOKENS_BT, POSITIONS_BT)
  assert got.shape[-1] == 128
  assert float(jax.nn.softmax(got)[..., 60:].max()) == 0.0


def test_embedding_scale_is_rounded_to_the_compute_dtype():
  """sqrt(24) = 4.899 is 4.90625 in bfloat16, and 1 * 4.90625 is exact."""
  cfg = dataclasses.replace(LAYOUTS['gemma2'], dtype='bfloat16')
  params = {'embedding': jnp.ones((128, 24))}
  x_BTD = transformer._embed(cfg, params, TOKENS_BT, POSITIONS_BT)
  assert set(np.asarray(x_BTD, np.float32).ravel()) == {4.90625}


@pytest.mark.parametrize('name', ['qwen3', 'gemma2', 'gpt2'])  # every norm
def test_new_norms_do_nothing_but_normalise(name):
  cfg = LAYOUTS[name]
  tree = start_params.init(cfg)
  scale = 0.0 if cfg.norm == 'rms_plus_one' else 1.0
  for norm in (tree['final_norm'], tree['layers']['mlp_norm']):
    assert float(abs(norm['scale'] - scale).max()) == 0.0


@pytest.mark.parametrize('tied', [True, False])
def test_parameters_are_counted_as_they_are(model, tied):
  cfg = dataclasses.replace(model[0], tied_embeddings=tied)
  tree = jax.eval_shape(lambda: transformer.init(cfg, jax.random.key(0)))

  def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))

  counts = params.count(cfg)
  assert counts['total'] == count(tree)
  n_tables = (1 if tied else 2) * 24 + 2 * 2 * 8 * cfg.value_embeddings
  assert counts['padding'] == (128 - 60) * n_tables
  assert ('head' in tree) != tied
  layers = tree['layers']
  norms = {k: v for k, v in layers.items() if 'norm' in k}
  experts = {k: v for k, v in layers.items() if 'expert' in k}
  mlp = {k: v for k, v in layers.items() if 'gate' in k or k[-2:] in 'updown'}
  mlp = {k: v for k, v in mlp.items() if k not in experts}
  router = layers.get('router', ())
  assert counts['norms'] == count(norms) + count(tree['final_norm'])
  assert counts['mlp'] == count(mlp)
  assert counts['experts'] == count(experts)
  assert counts['router'] == count(router)
  parts = (norms, mlp, experts, router)
  assert counts['attention'] == count(layers) - sum(map(count, parts))
  idle = cfg.n_experts - cfg.n_experts_per_token if cfg.n_experts else 0
  idle = sum(x.size * idle // x.shape[1] for x in experts.values())
  assert counts['active'] == counts['total'] - counts['padding'] - idle


def test_flops_by_hand():
  """6 * (3 layers * (4 + 2 + 2 + 4 heads, mlp) + head) + 6 * N H K T."""
  attention = 3 * 24 * 8 * (4 + 2 + 2 + 4)
  mlp = 3 * 3 * 24 * 40
  head = 128 * 24
  by_hand = 6 * (attention + mlp + head) + 6 * 3 * 4 * 8 * 12
  assert params.train_flops_per_token(CFG, 12) == by_hand


def test_flops_of_experts_by_hand():
  """Two matrices of 3 experts and of the shared one, and the router."""
  cfg = LAYOUTS['experts']
  mlp = 2 * 24 * (3 * 40 + 12) + 24 * 8
  matmul = 3 * (24 * 8 * 12 + mlp) + 128 * 24
  by_hand = 6 * matmul + 6 * 3 * 4 * 8 * 12
  assert params.train_flops_per_token(cfg, 12) == by_hand


def test_flops_of_two_matrices_and_windows_by_hand():
  """Layers L, G, L. At T = 12 a window of 4 sees 4 - 16 / 24 keys, all 6."""
  cfg = dataclasses.replace(LAYOUTS['relu_squared'], window=4)
  matmul = 3 * (24 * 8 * 12 + 2 * 24 * 40) + 128 * 24
  n_keys = 2 * (4 - 16 / 24) + 6
  by_hand = 6 * matmul + 12 * 4 * 8 * n_keys
  assert params.train_flops_per_token(cfg, 12) == pytest.approx(by_hand)
  # A window longer than the sequence is none.
  short = params.train_flops_per_token(cfg, 3)
  plain = dataclasses.replace(cfg, window=0, layer_pattern='G')
  assert short == pytest.approx(params.train_flops_per_token(plain, 3))


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'n_kv_heads': 3}, 'n_heads 4 is not a multiple of n_kv_heads 3'),
    ({'head_dim': 7}, 'head_dim 7 is odd'),
    ({'dtype': 'float16'}, "dtype 'float16' is not known"),
    ({'n_layers': 0}, 'ModelConfig.n_layers = 0; use 1 or more'),
    ({'norm': 'batch'}, "norm 'batch' is not known; use rms or"),
    ({'logit_softcap': -1.0}, 'logit_softcap = -1.0; use 0 or more'),
    ({'layer_pattern': 'GS'}, "layer_pattern 'GS'; use G for global"),
    ({'layer_pattern': ''}, "layer_pattern ''; use G for global"),
    ({'layer_pattern': 'LG'}, 'local layers L need a window'),
    ({'window': 8}, 'a window needs local layers'),
    ({'n_experts': 2, 'n_experts_per_token': 3}, 'n_experts 2 with n_exp.* 3'),
    ({'d_shared': 8}, 'd_shared 8 without experts'),
    ({'n_experts': 2, 'bias': 'all'}, 'experts have no biases'),
  ],
)
def test_impossible_sizes_are_refused(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(CFG, **change)


def test_impossible_scalings_are_refused():
  with pytest.raises(ValueError, match="kind = 'yarn'; use linear or llama3"):
    config.RopeScaling('yarn')
  with pytest.raises(ValueError, match='low_freq_factor = 4.0 below'):
    config.RopeScaling(low_freq_factor=4.0)
