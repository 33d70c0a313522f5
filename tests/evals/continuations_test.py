"""Texts that a base model continues, by a sampler that repeats the prompt."""

from llm_jax.agent import turns
from llm_jax.chat import formats
from llm_jax.evals import continuations
from llm_jax.infer import generate
from tests.evals import tiny_checkpoint

VOCABULARY = tiny_checkpoint.tokenizer()
MODEL = turns.Model(
  tiny_checkpoint.MODEL, {}, VOCABULARY, formats.choose(VOCABULARY, False)
)


def test_each_prompt_comes_with_what_follows(monkeypatch):
  def repeated(cfg, params, prompts, request, **_):
    assert all(ids[0] in request.stop_ids for ids in prompts)
    return [generate.Answer(ids[1:], [], False) for ids in prompts]

  monkeypatch.setattr(generate, 'generate', repeated)
  found = continuations.sample(MODEL, ['one', 'two'], 8)
  assert [*found] == [('one', 'one'), ('two', 'two')]
  assert [*continuations.sample(MODEL, [], 8)] == []
