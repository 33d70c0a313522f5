"""What a base model writes behind given texts.

It does NOT judge what it writes.
"""

from collections.abc import Iterator, Sequence

from llm_jax import types
from llm_jax.infer import generate
from llm_jax.model import config
from llm_jax.tokenizer import encoding


def sample(
  cfg: config.ModelConfig,
  params: types.Params,
  vocabulary: encoding.Tokenizer,
  prompts: Sequence[str],
  n_tokens: int,
) -> Iterator[tuple[str, str]]:
  """Sample a continuation of each prompt, as the start of a document.

  Args:
    cfg: the model.
    params: its parameters.
    vocabulary: its tokenizer.
    prompts: the texts; their places are their seeds. May be none.
    n_tokens: at most, of each continuation.

  Yields:
    Each prompt with what continues it.
  """
  if not prompts:
    return
  end_of_text = vocabulary.special_id('<|endoftext|>')
  answers = generate.generate(
    cfg,
    params,
    [[end_of_text, *vocabulary.encode(prompt)] for prompt in prompts],
    range(len(prompts)),
    generate.Request(n_tokens, (end_of_text,)),
    len(prompts),
  )
  for prompt, answer in zip(prompts, answers, strict=True):
    yield prompt, vocabulary.decode(answer.token_ids)
