"""Adapters against their definition, with the shapes of matrices by hand."""

import functools
from typing import Any

import jax
import numpy as np
import pytest

from llm_jax.model import config, likelihood, lora
from llm_jax.model import params as param_table
from llm_jax.parallel import device_mesh
from tests.model import start_params

SIZE: dict[str, Any] = {
  'vocab_size': 60, 'n_layers': 2, 'd_model': 12, 'n_heads': 4,
  'n_kv_heads': 2, 'head_dim': 6, 'd_ff': 10, 'max_length': 8,
  'unroll_layers': False,
}  # fmt: skip
EXPERTS = config.ModelConfig(**SIZE, n_experts=4, d_shared=14)
LEARNED = config.ModelConfig(
  **SIZE, value_embeddings=True, positions='learned', norm='layer', bias='all'
)
# Axes before a matrix, of its rows, of its columns; 60 tokens are padded.
MATRICES = {
  'layers/wq': (EXPERTS, (2,), (12,), (4, 6)),
  'layers/wv': (EXPERTS, (2,), (12,), (2, 6)),
  'layers/wo': (EXPERTS, (2,), (4, 6), (12,)),
  'layers/down': (EXPERTS, (2,), (14,), (12,)),
  'layers/expert_up': (EXPERTS, (2, 4), (12,), (10,)),
  'layers/expert_down': (EXPERTS, (2, 4), (10,), (12,)),
  'layers/router': (EXPERTS, (2,), (12,), (4,)),
  'embedding': (EXPERTS, (), (128,), (12,)),
  'head': (EXPERTS, (), (128,), (12,)),
  'position_embedding': (LEARNED, (), (8,), (12,)),
  'value_embedding': (LEARNED, (1,), (128,), (2, 6)),
  'value_gate': (LEARNED, (1,), (12,), (2,)),
}
ALL = 'w[qkvo]$|(/|_)(?<!b_)(gate|up|down)$|router|embedding|head'


@functools.cache
def new_params(cfg):
  shapes = param_table.abstract(param_table.table(cfg))
  return start_params.random_like(shapes, scale=0.3)


@functools.partial(jax.jit, static_argnums=(0, 1))
def init(cfg, model):
  lines = lora.trained(cfg, param_table.table(model))
  return lora.init(lines, jax.random.key(1))


def at(tree, path):
  return np.asarray(functools.reduce(lambda x, k: x[k], path.split('/'), tree))


def drawn(tree):
  """Other numbers in the same shapes: b is 0 where it starts."""
  return start_params.random_like(tree, seed=1)


@pytest.mark.parametrize('model', [EXPERTS, LEARNED])
def test_the_start_is_the_base_bit_for_bit(model):
  params, cfg = new_params(model), lora.Lora(rank=2, pattern=ALL)
  adapters = init(cfg, model)
  jax.tree.map(
    np.testing.assert_array_equal, lora.merge(cfg, params, adapters), params
  )


@pytest.mark.parametrize('path', MATRICES)
def test_merged_is_base_plus_product(path):
  model, stack, rows, columns = MATRICES[path]
  params = new_params(model)
  cfg = lora.Lora(rank=2, alpha=3.0, pattern=f'^{path}$')
  adapters = init(cfg, model)
  a = at(adapters, f'{path}/a')
  # As wide as the rows that it is multiplied with, or that are looked up.
  n_inputs = np.prod(columns if 'em' in path or path == 'head' else rows)
  assert a.std() == pytest.approx(n_inputs**-0.5, rel=0.35)
  adapters = drawn(adapters)
  merged = lora.merge(cfg, params, adapters)
  a, b = (at(adapters, f'{path}/{name}') for name in 'ab')
  change = np.zeros((*stack, *rows, *columns))
  for index in np.ndindex(stack):
    change[index] = np.tensordot(
      a[index].reshape(*rows, 2), b[index].reshape(2, *columns), 1
    )
  np.testing.assert_allclose(
    at(merged, path), at(params, path) + 1.5 * change, atol=1e-5
  )
  others = jax.tree.map(lambda x, y: (x != y).sum(), merged, params)
  n_changed = sum(jax.tree.leaves(others))
  assert n_changed == at(others, path) > 0.9 * change.size


def test_layers_and_experts_start_apart():
  adapters = init(lora.Lora(rank=2, pattern=ALL), EXPERTS)
  a = at(adapters, 'layers/expert_up/a').reshape(8, -1)
  assert len(np.unique(a, axis=0)) == 8
  wq, wk = (at(adapters, f'layers/{name}/a') for name in ('wq', 'wk'))
  assert not np.array_equal(wq, wk)


BATCH = {
  'inputs_BT': np.arange(16).reshape(2, 8) * 7 % 60,
  'targets_BT': np.arange(16).reshape(2, 8) * 11 % 60,
  'positions_BT': np.tile(np.arange(8), (2, 1)),
}


def loss(params):
  return likelihood.of_targets(EXPERTS, params, BATCH).logp_BT.mean()


@functools.cache
def gradients(axes):
  """Of adapters, and of the whole matrices at the same place."""
  params = new_params(EXPERTS)
  cfg = lora.Lora(rank=4, alpha=2.0, pattern=ALL)
  adapters = jax.tree.map(lambda x: 0.1 * x, drawn(init(cfg, EXPERTS)))
  mesh = device_mesh.make(device_mesh.MeshConfig(*axes))
  shardings = param_table.shardings(param_table.table(EXPERTS), mesh)
  params = jax.device_put(params, shardings)

  @jax.jit
  def both(params, adapters):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      of_parts = jax.grad(lambda x: loss(lora.merge(cfg, params, x)))(adapters)
      return of_parts, jax.grad(loss)(lora.merge(cfg, params, adapters))

  return jax.device_get((adapters, *both(params, adapters)))


@pytest.mark.parametrize(
  'path', [path for path in MATRICES if MATRICES[path][0] is EXPERTS]
)
def test_gradients_are_products_with_the_whole_gradient(path):
  """d loss / db = alpha / rank a^T dW, and for a likewise dW b^T."""
  adapters, of_parts, whole = gradients((1,))
  a, b = (at(adapters, f'{path}/{name}') for name in 'ab')
  dw = at(whole, path).reshape(*a.shape[:-1], b.shape[-1])
  assert np.abs(dw).max() > 1e-5
  expected = {
    'a': 0.5 * dw @ b.swapaxes(-1, -2),
    'b': 0.5 * a.swapaxes(-1, -2) @ dw,
  }
  for name in 'ab':
    # Sums of products in another order.
    np.testing.assert_allclose(
      at(of_parts, f'{path}/{name}'), expected[name], atol=1e-6
    )


@pytest.mark.nightly
def test_gradients_on_a_mesh_are_those_of_one_device():
  one, many = gradients((1,)), gradients((1, 2, 2, 1, 2))
  equal = functools.partial(np.testing.assert_allclose, atol=1e-6)
  jax.tree.map(equal, one, many)


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'rank': -1}, 'Lora.rank = -1 with .* use a rank of 1 or more'),
    ({'rank': 1, 'alpha': 0.0}, 'Lora.alpha = 0.0; use .* an alpha above 0'),
    ({'pattern': 'layers/(wq'}, r"'layers/\(wq' is no regular expression"),
  ],
)
def test_wrong_values_are_refused(values, message):
  with pytest.raises(ValueError, match=message):
    lora.Lora(**values)


@pytest.mark.parametrize(
  ('pattern', 'found'),
  [
    ('layers/query$', 'no parameter'),
    ('attention', 'layers/attention_norm/bias, layers/attention_norm/scale'),
    ('layers/(wq|bq)$', 'layers/bq'),
    ('final_norm/scale', 'final_norm/scale'),
    ('b_up', 'layers/b_up'),
  ],
)
def test_patterns_that_find_no_matrix_are_refused(pattern, found):
  cfg = lora.Lora(rank=1, pattern=pattern)
  with pytest.raises(ValueError, match='use one that is found in') as refusal:
    init(cfg, LEARNED)
  message = str(refusal.value)
  assert f'Lora.pattern = {pattern!r} is found in {found}; use' in message
  assert message.endswith(
    'embedding, head, layers/down, layers/gate, layers/up, layers/wk, '
    'layers/wo, layers/wq, layers/wv, position_embedding, value_embedding, '
    'value_gate'
  )
