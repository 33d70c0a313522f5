"""Generation against the plain forward pass, and its independence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llm_jax.infer import generate, sampling
from llm_jax.model import config, transformer
from llm_jax.parallel import device_mesh
from tests.model import start_params

CFG = config.ModelConfig(
  vocab_size=50, n_layers=2, d_model=16, n_heads=2, n_kv_heads=1, head_dim=8,
  d_ff=24, max_length=64,
)  # fmt: skip
PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8, 9, 10], [11], [12, 13, 14, 15]]
STOP = 49


@pytest.fixture(scope='module')
def params():
  tree = start_params.init(CFG)
  # Sharper logits, so that draws and greedy choices differ clearly.
  return tree | {'head': tree['head'] * 6}


def request(**values):
  return generate.Request(
    **{'max_new_tokens': 12, 'stop_ids': (STOP,)} | values
  )


def run(params, prompts=PROMPTS, seeds=(5, 6, 7, 8), batch_size=4, mesh=None,
        **values):  # fmt: skip
  return generate.generate(
    CFG, params, prompts, seeds, request(**values), batch_size, mesh
  )


@jax.jit
def forward_logp(params, tokens_1T, positions_1T):
  hidden_BTD, _ = transformer.apply(CFG, params, tokens_1T, positions_1T)
  return jax.nn.log_softmax(transformer.unembed(CFG, params, hidden_BTD))[0]


def slow_logp(params, tokens):
  """Log-probabilities after each token, in one pass without a cache."""
  padded = np.zeros((1, 24), np.int32)
  padded[0, : len(tokens)] = tokens
  return forward_logp(params, padded, np.arange(24, dtype=np.int32)[None])


@pytest.mark.parametrize('temperature', [0.0, 1.0])
def test_logps_are_those_of_the_training_pass(params, temperature):
  for prompt, answer in zip(
    PROMPTS, run(params, temperature=temperature), strict=True
  ):
    tokens = prompt + answer.token_ids
    logp_TV = slow_logp(params, tokens)
    for i, (token, logp) in enumerate(
      zip(answer.token_ids, answer.logps, strict=True)
    ):
      at = len(prompt) + i - 1
      # float32 with sums in another order.
      np.testing.assert_allclose(logp, logp_TV[at, token], atol=1e-4)
      if temperature == 0:
        assert token == int(logp_TV[at].argmax())


def test_answer_depends_on_neither_neighbours_nor_batch_nor_mesh(params):
  together = run(params)
  for i, prompt in enumerate(PROMPTS):
    alone = run(params, [prompt], [5 + i], batch_size=2)
    assert alone[0].token_ids == together[i].token_ids
  mesh = device_mesh.make(device_mesh.MeshConfig(data=4))
  sharded = run(params, mesh=mesh)
  assert [a.token_ids for a in sharded] == [a.token_ids for a in together]


def test_stream_equals_generate(params):
  for i, prompt in enumerate(PROMPTS):
    streamed = generate.stream(CFG, params, prompt, 5 + i, request())
    assert list(streamed) == run(params)[i].token_ids


def test_stop_token_ends_an_answer_and_is_kept(params):
  first = run(params)[1].token_ids
  stop = first[4]
  answer = run(params, stop_ids=(stop,))[1]
  assert answer.token_ids == first[: first.index(stop) + 1]
  assert answer.stopped
  assert not run(params, stop_ids=())[1].stopped


def test_banned_tokens_are_never_drawn(params):
  allowed = {3, 4}
  banned = tuple(set(range(50)) - allowed)
  for answer in run(params, banned_ids=banned, stop_ids=()):
    assert set(answer.token_ids) <= allowed
    assert len(answer.token_ids) == 12


def test_other_seeds_give_other_answers(params):
  same_prompt = [PROMPTS[0]] * 4
  answers = run(params, same_prompt, [1, 2, 3, 1])
  assert answers[0].token_ids == answers[3].token_ids
  assert len({tuple(a.token_ids) for a in answers}) == 3


def test_every_position_is_drawn_anew(params):
  """All 50 tokens alike: one number used again would repeat one token."""
  flat = params | {'head': 0 * params['head']}
  for answer in run(flat, stop_ids=()):
    assert len(set(answer.token_ids)) > 6
    np.testing.assert_allclose(answer.logps, -np.log(50), atol=1e-5)


def test_sampling_follows_the_distribution():
  """20,000 draws of 6 tokens: chi-square with 5 degrees of freedom."""
  n = 20_000
  logits_V = jnp.log(jnp.array([0.4, 0.3, 0.15, 0.1, 0.04, 0.01]))
  padded_V = jnp.full(128, -1e30).at[:6].set(logits_V * 2)
  tokens, logps = jax.jit(sampling.sample)(
    jnp.broadcast_to(padded_V, (n, 128)), sampling.Rules(jnp.full(n, 2.0)),
    jnp.arange(n, dtype=jnp.uint32), jnp.full(n, 3),
  )  # fmt: skip
  expected = n * np.exp(logits_V)
  counts = np.bincount(tokens, minlength=128)
  assert counts[6:].sum() == 0
  chi_square = ((counts[:6] - expected) ** 2 / expected).sum()
  assert chi_square < 20.5  # exceeded once in a thousand
  np.testing.assert_allclose(logps, np.asarray(logits_V)[tokens], atol=1e-5)


@pytest.mark.parametrize(
  ('prompts', 'values', 'message'),
  [
    ([[1], []], {}, 'prompt 1 is empty'),
    ([[1] * 60, [2]], {}, 'prompt 0 has 60 tokens; with max_new_tokens 12'),
    (
      [[1], [2]],
      {'max_new_tokens': 0},
      'max_new_tokens 0; use 1 to inf',
    ),
    ([[1]], {}, '1 prompts but 2 seeds'),
  ],
)
def test_impossible_requests_are_refused(params, prompts, values, message):
  with pytest.raises(ValueError, match=message):
    run(params, prompts, [1, 2], **values)
