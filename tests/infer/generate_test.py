"""Generation against the plain forward pass, and its independence."""

import pytest

from llm_jax.infer import generate
from llm_jax.parallel import device_mesh
from tests.infer import engine_test

params = engine_test.params  # a fixture
CFG = engine_test.CFG
PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8, 9, 10], [11], [12, 13, 14, 15]]
STOP = 49


def request(**values):
  return generate.Request(
    **{'max_new_tokens': 12, 'stop_ids': (STOP,)} | values
  )


def run(params, prompts=PROMPTS, seeds=(5, 6, 7, 8), batch_size=4, mesh=None,
        **values):  # fmt: skip
  return generate.generate(
    CFG, params, prompts, seeds, request(**values), batch_size, mesh
  )


def test_stream_equals_generate_in_any_batch_on_any_mesh(params):
  mesh = device_mesh.make(device_mesh.MeshConfig(data=4))
  together = run(params, mesh=mesh)
  for i, prompt in enumerate(PROMPTS):
    streamed = list(generate.stream(CFG, params, prompt, 5 + i, request()))
    (alone,) = run(params, [prompt], [5 + i], batch_size=2)
    assert streamed == alone.token_ids == together[i].token_ids


def test_stop_token_ends_an_answer_and_is_kept(params):
  first = run(params)[1].token_ids
  stop = first[4]
  answer = run(params, stop_ids=(stop,))[1]
  assert answer.token_ids == first[: first.index(stop) + 1]
  assert answer.stopped
  assert not run(params, stop_ids=())[1].stopped


@pytest.mark.parametrize(
  ('prompts', 'values', 'message'),
  [
    ([[1], []], {}, 'prompt 1 is empty'),
    ([[1] * 60, [2]], {}, 'prompt 0 has 60 tokens; with max_new_tokens 12'),
    ([[1], [2]], {'max_new_tokens': 0}, 'max_new_tokens 0; use 1 to inf'),
    ([[1]], {}, '1 prompts but 2 seeds'),
  ],
)
def test_impossible_requests_are_refused(params, prompts, values, message):
  with pytest.raises(ValueError, match=message):
    run(params, prompts, [1, 2], **values)
