"""Every form of attention over packed rows gives the same, and its gradient."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo as cudnn

from llm_jax.model import attention, block_attention, packed_attention
from llm_jax.parallel import device_mesh

RULES = {
  'global': attention.Rule(0.2),
  'window': attention.Rule(0.2, window=70),
  'softcap': attention.Rule(0.2, cap=1.5),
}


def arrays(length, n_heads=4, n_groups=2, head_dim=64, batch=2):
  random = np.random.default_rng(0)

  def draw(heads):
    shape = (batch, length, heads, head_dim)
    return jnp.asarray(random.normal(size=shape), jnp.float32)

  q_BTHK, k_BTGK, v_BTGK = map(draw, (n_heads, n_groups, n_groups))
  return q_BTHK, k_BTGK, v_BTGK, draw(n_heads)


def segments(length, batch=2):
  """Documents that end in the middle of a block and at its border."""
  index_T = jnp.arange(length)
  ids_T = (index_T >= 37).astype(jnp.int32) + (index_T >= 128)
  return jnp.tile(ids_T, (batch, 1)).at[1].set(0)


def out_and_grads(form, rule, segment_ids_BT, q, k, v, g):
  """In double precision where the form allows it."""

  def loss(q, k, v):
    out = packed_attention.FORMS[form](q, k, v, segment_ids_BT, rule)
    return jnp.sum(out * g), out

  (_, out), grads = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(
    q, k, v
  )
  return out, *grads


@pytest.mark.parametrize(
  ('form', 'length', 'rule', 'documents'),
  [  # every pair
    ('blocks', 200, 'global', False), ('blocks', 200, 'window', True),
    ('blocks', 200, 'softcap', False), ('blocks', 30, 'global', True),
    ('blocks', 30, 'softcap', False), ('splash', 256, 'global', True),
    ('splash', 256, 'window', False), ('splash', 256, 'softcap', True),
  ],
)  # fmt: skip
def test_forms_agree(form, length, rule, documents):
  ids_BT = segments(length) if documents else None
  inputs = arrays(length)
  expected = out_and_grads('masked', RULES[rule], ids_BT, *inputs)
  found = out_and_grads(form, RULES[rule], ids_BT, *inputs)
  for x, y in zip(found, expected, strict=True):
    np.testing.assert_allclose(x, y, atol=2e-5)


@pytest.mark.parametrize('rule', RULES)
@pytest.mark.parametrize('form', ['blocks', 'cudnn'])
def test_forms_in_bfloat16(form, rule):
  """As near to float32 as the masked form in bfloat16 is."""
  if form == 'cudnn' and (jax.default_backend() != 'gpu' or rule == 'softcap'):
    pytest.skip('cudnn needs a GPU and has no softcap')
  inputs = arrays(200)
  with jax.default_matmul_precision('highest'):  # of a GPU, too
    exact = out_and_grads('masked', RULES[rule], segments(200), *inputs)
  rounded = [x.astype(jnp.bfloat16) for x in inputs]
  errors = {}
  for name in ('masked', form):
    found = out_and_grads(name, RULES[rule], segments(200), *rounded)
    assert {x.dtype for x in found} == {jnp.dtype(jnp.bfloat16)}
    errors[name] = [
      float(jnp.linalg.norm(x - y) / jnp.linalg.norm(y))
      for x, y in zip(found, exact, strict=True)
    ]
  assert max(errors['masked']) < 0.01
  for found, masked in zip(errors[form], errors['masked'], strict=True):
    assert found < 1.3 * masked


def test_angles_from_the_table_are_those_computed():
  """A token beyond the row is NaN, never another's angle."""
  positions_BT = jnp.array([[0, 3, 7, 8, 100]])
  frequency_K = attention.rope_frequencies(8, 10_000.0)
  computed = attention.rotation(positions_BT, frequency_K)
  looked_up = attention.rotation(positions_BT, frequency_K, 8)
  for x, y in zip(looked_up, computed, strict=True):
    np.testing.assert_allclose(x[:, :3], y[:, :3], atol=1e-6)
    assert jnp.isnan(x[:, 3:]).all()


def test_blocks_skip_what_is_masked():
  seen = 0
  for queries, keys in block_attention.blocks(4096, 0):
    seen += (queries.stop - queries.start) * (keys.stop - keys.start)
  assert seen / 4096**2 == pytest.approx(17 / 32)
  seen = 0
  for queries, keys in block_attention.blocks(4096, 300):
    seen += (queries.stop - queries.start) * (keys.stop - keys.start)
  assert seen < 4096 * (256 + 300)


def test_blocks_keep_no_scores():
  q, k, v, g = arrays(512)

  def residuals(form):
    def loss(q):
      out = packed_attention.FORMS[form](q, k, v, None, RULES['global'])
      return jnp.sum(out * g)

    kept = jax.eval_shape(lambda q: jax.vjp(loss, q)[1], q)
    return max(x.size for x in jax.tree.leaves(kept))

  assert residuals('masked') == 2 * 4 * 512**2
  assert residuals('blocks') == q.size


def test_auto_takes_blocks_on_a_cpu_and_masked_over_context():
  q, k, v, _ = arrays(64)

  def program(mesh_config):
    mesh = device_mesh.make(mesh_config)

    def run(q):
      with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        return packed_attention.attend(q, k, v, None, RULES['global'])

    return str(jax.make_jaxpr(run)(q))

  assert 'custom_vjp' in program(device_mesh.MeshConfig())
  assert 'custom_vjp' not in program(device_mesh.MeshConfig(context=2))


def test_a_form_that_cannot_run_here_is_refused():
  q, k, v, _ = arrays(64)
  with pytest.raises(ValueError, match="'splash' runs on TPUs, this is cpu.*b"):
    packed_attention.attend(q, k, v, None, RULES['global'], 'splash')
  with pytest.raises(ValueError, match=r"'cudnn' runs on GPUs, this is cpu.*b"):
    packed_attention.attend(q, k, v, None, RULES['global'], 'cudnn')


@pytest.mark.parametrize('documents', [False, True])
@pytest.mark.parametrize('window', [0, 70])
def test_cudnn_gets_the_same_mask(documents, window, monkeypatch):
  """As far as it goes without a GPU: what JAX asks the GPU first is given."""
  q, k, v, _ = (x.astype(jnp.bfloat16) for x in arrays(256))
  for name, answer in (
    ('check_cudnn_version', 91_000),
    ('check_compute_capability', True),
    ('is_cuda_compute_capability_equal', False),
  ):
    monkeypatch.setattr(cudnn, name, lambda *_, answer=answer: answer)
  ids_BT = segments(256) if documents else None

  def loss(q, k, v):
    rule = attention.Rule(0.2, window)
    return packed_attention.FORMS['cudnn'](q, k, v, ids_BT, rule).sum()

  traced = jax.jit(jax.grad(loss, (0, 1, 2))).trace(q, k, v)
  program = traced.lower(lowering_platforms=('cuda',)).as_text()
  program = program.replace(r'\22', '"')
  kernel = 'fmhaScaleBiasSoftmax' if documents else 'fmhaSoftmax'
  assert re.findall(r'__cudnn\$(\w+)', program) == [kernel, f'{kernel}Backward']
  assert re.findall(r'mask_type\W+(\w+)', program) == ['CAUSAL'] * 2
  lengths = re.findall(r'sliding_window_length\W+(\d+)', program)
  assert lengths == [str(window)] * 2
