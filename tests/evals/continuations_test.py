"""Texts that a base model continues, by a model that was never trained."""

from llm_jax.chat import formats
from llm_jax.evals import continuations, scoring
from tests.evals import tiny_checkpoint
from tests.model import start_params

CFG = tiny_checkpoint.MODEL


def sample(prompts):
  params = start_params.init(CFG)
  vocabulary = tiny_checkpoint.tokenizer()
  text = formats.choose(vocabulary, is_chat=False)
  model = scoring.Model(CFG, params, vocabulary, text)
  return list(continuations.sample(model, prompts, 8))


def test_each_prompt_comes_with_what_follows():
  found = sample(['one', 'two'])
  assert [prompt for prompt, _ in found] == ['one', 'two']
  assert all(text for _, text in found)


def test_no_prompts_give_nothing():
  assert sample([]) == []
