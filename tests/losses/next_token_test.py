"""Cross-entropy by hand, in chunks, and with a padded vocabulary."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llm_jax.losses import next_token

Head = next_token.Head


class TokenLogpTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_by_hand(self):
    """Logits log 1, log 3 and a padding row: p = 1/4, 3/4."""
    hidden_BTD = jnp.array([[[1.0], [1.0]]])
    w_VD = jnp.array([[0.0], [jnp.log(3.0)], [9.0]])
    logp_BT = self.variant(
      lambda h, w: next_token.token_logp(h, Head(w, 2), np.array([[0, 1]]))
    )(hidden_BTD, w_VD)
    np.testing.assert_allclose(logp_BT, np.log([[0.25, 0.75]]), rtol=1e-6)


def test_ids_without_a_token_get_no_mass():
  """As in rows that pad: logits log 1, 9, log 3, 9, with the nines unused."""
  hidden_BTD = jnp.ones((1, 2, 1))
  w_VD = jnp.array([[0.0], [9.0], [jnp.log(3.0)], [9.0]])
  for chunk_length in (0, 1):
    head = Head(w_VD, 4, unused_ids=((1, 1), (3, 3)))
    logp_BT = next_token.token_logp(
      hidden_BTD, head, np.array([[0, 2]]), chunk_length
    )
    np.testing.assert_allclose(logp_BT, np.log([[0.25, 0.75]]), rtol=1e-6)


def random_inputs():
  keys = jax.random.split(jax.random.key(0), 2)
  hidden_BTD = jax.random.normal(keys[0], (2, 12, 8))
  w_VD = jax.random.normal(keys[1], (32, 8))
  targets_BT = np.random.default_rng(0).integers(30, size=(2, 12))
  return hidden_BTD, w_VD, targets_BT


@pytest.mark.parametrize('chunk_length', [1, 4, 12])
def test_chunks_change_neither_value_nor_gradient(chunk_length):
  hidden_BTD, w_VD, targets_BT = random_inputs()

  def loss(hidden_BTD, w_VD, chunk_length):
    logp_BT = next_token.token_logp(
      hidden_BTD, Head(w_VD, 30), targets_BT, chunk_length
    )
    return (logp_BT * jnp.arange(12)[None]).sum(), logp_BT

  def run(chunk_length):
    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(
      hidden_BTD, w_VD, chunk_length
    )

  chex.assert_trees_all_close(run(0), run(chunk_length), rtol=1e-5, atol=1e-4)


def test_chunk_that_does_not_divide_is_refused():
  hidden_BTD, w_VD, targets_BT = random_inputs()
  with pytest.raises(ValueError, match='5 does not divide 12 tokens'):
    next_token.token_logp(hidden_BTD, Head(w_VD, 30), targets_BT, 5)


def test_masked_tokens_count_neither_above_nor_below():
  logp_BT = jnp.array([[-1.0, -2.0, -9.0], [-3.0, -9.0, -9.0]])
  mask_BT = jnp.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
  assert float(next_token.cross_entropy(logp_BT, mask_BT)) == 2.0
  assert float(next_token.cross_entropy(logp_BT, 0 * mask_BT)) == 0.0


@pytest.mark.parametrize('softcap', [0.0, 2.0])
def test_gradient_is_that_of_the_plain_formula(softcap):
  """Also where the vocabulary is padded and a target is nearly certain."""
  hidden_BTD, w_VD, targets_BT = random_inputs()
  w_VD = w_VD.at[targets_BT[0, 0]].set(20 * hidden_BTD[0, 0])
  weight_BT = jnp.arange(24.0).reshape(2, 12) - 12

  def plain(hidden_BTD, w_VD):
    logits_BTV = jnp.einsum('BTD,VD->BTV', hidden_BTD, w_VD[:30])
    if softcap:
      logits_BTV = softcap * jnp.tanh(logits_BTV / softcap)
    logp_BTV = jax.nn.log_softmax(logits_BTV)
    logp_BT1 = jnp.take_along_axis(logp_BTV, targets_BT[..., None], axis=-1)
    return (logp_BT1[..., 0] * weight_BT).sum()

  def ours(hidden_BTD, w_VD):
    logp_BT = next_token.token_logp(
      hidden_BTD, Head(w_VD, 30, softcap), targets_BT
    )
    return (logp_BT * weight_BT).sum()

  wanted = jax.value_and_grad(plain, (0, 1))(hidden_BTD, w_VD)
  got = jax.value_and_grad(ours, (0, 1))(hidden_BTD, w_VD)
  chex.assert_trees_all_close(got, wanted, rtol=1e-5, atol=1e-4)


def test_products_are_of_the_compute_dtype():
  """Three of bfloat16; one of float32 would take a GPU twice as long."""
  hidden_BTD, w_VD, targets_BT = random_inputs()

  def loss(hidden_BTD, w_VD):
    head = Head(w_VD, 30)
    return next_token.token_logp(hidden_BTD, head, targets_BT).sum()

  grad = jax.grad(loss, (0, 1))
  hidden_BTD = hidden_BTD.astype(jnp.bfloat16)
  products = [
    equation
    for equation in jax.make_jaxpr(grad)(hidden_BTD, w_VD).eqns
    if equation.primitive.name == 'dot_general'
  ]
  assert len(products) == 3
  for product in products:
    assert all(x.aval.dtype == jnp.bfloat16 for x in product.invars)
  assert [x.dtype for x in grad(hidden_BTD, w_VD)] == [jnp.bfloat16, w_VD.dtype]
