"""Experts against a loop over tokens, and no token dropped."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llm_jax.model import experts

RANDOM = np.random.default_rng(0)
N_EXPERTS, D, F = 5, 8, 12


def random(*shape):
  return RANDOM.normal(size=shape).astype(np.float32)


MATRICES = {
  'gate': random(N_EXPERTS, D, F),
  'up': random(N_EXPERTS, D, F),
  'down': random(N_EXPERTS, F, D),
}
# How 3 x 40 tokens choose two experts each: at random, all alike, one unused.
CHOICES = {
  'random': RANDOM.integers(5, size=(3, 40, 2)),
  'all the same': np.full((3, 40, 2), 3),
  'none takes 0 and 4': RANDOM.integers(1, 4, size=(3, 40, 2)),
}


def by_loop(x_BTD, weight_BTJ, expert_BTJ, matrices):
  """Every expert on every token; what a token did not choose weighs 0."""
  y_BTD = jnp.zeros_like(x_BTD)
  for e in range(N_EXPERTS):
    gate_BTF = jnp.einsum('BTD,DF->BTF', x_BTD, matrices['gate'][e])
    up_BTF = jnp.einsum('BTD,DF->BTF', x_BTD, matrices['up'][e])
    out_BTD = (jax.nn.silu(gate_BTF) * up_BTF) @ matrices['down'][e]
    weight_BT = (weight_BTJ * (expert_BTJ == e)).sum(-1)
    y_BTD += weight_BT[..., None] * out_BTD
  return y_BTD


@pytest.mark.parametrize('product', ['by_blocks', 'by_ragged_dot'])
@pytest.mark.parametrize('choice', CHOICES)
def test_value_and_gradients_equal_a_loop_over_all(
  choice, product, monkeypatch
):
  monkeypatch.setattr(experts, '_project', getattr(experts, product))
  x_BTD, weight_BTJ, seed_BTD = random(3, 40, D), random(3, 40, 2), random(D)
  expert_BTJ = CHOICES[choice]

  def loss(mix, x_BTD, weight_BTJ, matrices):
    y_BTD = mix(x_BTD, weight_BTJ, expert_BTJ, matrices)
    return jnp.sum(y_BTD * seed_BTD[None, None])

  mix = functools.partial(experts.mix, act=jax.nn.silu)
  fast, slow = (functools.partial(loss, run) for run in (mix, by_loop))
  arguments = (x_BTD, weight_BTJ, MATRICES)
  got, expected = (
    jax.jit(jax.value_and_grad(f, (0, 1, 2)))(*arguments) for f in (fast, slow)
  )
  # float32: sums in another order.
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-3),
    got,
    expected,
  )


@pytest.mark.parametrize('n_chosen', [1, 2])
@pytest.mark.parametrize('n_tokens', [1, 7, 80, 3000])
def test_every_choice_has_a_slot_in_a_block_of_its_expert(n_tokens, n_chosen):
  for expert_X in (
    RANDOM.integers(5, size=n_tokens * n_chosen),
    np.full(n_tokens * n_chosen, 4),
    np.arange(n_tokens * n_chosen) % 5,  # of 80: every block is full
    RANDOM.integers(-3, 9, size=n_tokens * n_chosen),  # some are elsewhere
  ):
    lay_out = jax.jit(experts._lay_out, static_argnums=(1, 2))
    slot_X, token_X, expert_C, size_E = map(
      np.asarray, lay_out(expert_X, n_chosen, N_EXPERTS)
    )
    here_X = (expert_X >= 0) & (expert_X < 5)
    block = token_X.size // expert_C.size
    taken_X = slot_X[here_X]
    assert len(set(taken_X)) == len(taken_X)
    assert (slot_X[~here_X] == token_X.size).all()
    assert (expert_C[taken_X // block] == expert_X[here_X]).all()
    assert (token_X[taken_X] == np.nonzero(here_X)[0] // n_chosen).all()
    assert (np.delete(token_X, taken_X) == n_tokens).all()
    rows_X = np.repeat(np.arange(5), size_E)  # as ragged_dot sees them
    assert (rows_X[taken_X] == expert_X[here_X]).all()


def test_weights_are_the_largest_probabilities():
  logits_BTE = jnp.log(jnp.array([[[0.1, 0.5, 0.1, 0.3]]]))
  for is_normalized, expected in ((False, [0.5, 0.3]), (True, [0.625, 0.375])):
    weight_BTJ, expert_BTJ, _ = experts.route(logits_BTE, 2, is_normalized)
    np.testing.assert_allclose(weight_BTJ[0, 0], expected, rtol=1e-6)
    assert expert_BTJ.tolist() == [[[1, 3]]]


def test_balance_by_hand():
  """Two tokens take one of four experts each: halves fall on 0 and on 1."""
  p_BTE = jnp.array([[[0.7, 0.1, 0.1, 0.1], [0.1, 0.6, 0.2, 0.1]]])
  balance = experts.route(jnp.log(p_BTE), 1, True)[2]
  assert float(balance) == pytest.approx(4 * (0.5 * 0.4 + 0.5 * 0.35))
  even_BTE = jnp.zeros((1, 2, 4))
  assert float(experts.route(even_BTE, 4, True)[2]) == pytest.approx(1.0)


def test_gradient_of_the_balance_evens_the_router():
  """Descending it makes the expert that all tokens take less likely."""
  logits_BTE = jnp.tile(jnp.array([1.0, 0.0, 0.0]), (2, 4, 1))
  grad_BTE = jax.grad(lambda x: experts.route(x, 1, True)[2])(logits_BTE)
  assert (grad_BTE[..., 0] > 0).all()
  assert (grad_BTE[..., 1:] < 0).all()
