"""What a base model writes behind given texts.

It does NOT judge what it writes.
"""

from collections.abc import Iterator, Sequence

from llm_jax.agent import turns
from llm_jax.infer import generate

# As in chat: at 1 the rare words of a small model hide what it has learnt.
_TEMPERATURE = 0.7


def sample(
  model: turns.Model, prompts: Sequence[str], n_tokens: int
) -> Iterator[tuple[str, str]]:
  """Sample a continuation of each prompt, as the start of a document.

  Args:
    model: the base model.
    prompts: the texts; their indices are their seeds. May be none.
    n_tokens: at most, of each continuation.

  Yields:
    Each prompt with what continues it.
  """
  if not prompts:
    return
  start = model.tokenizer.separator_id
  stop_ids = tuple({start, *model.tokenizer.eos_ids})
  answers = turns.answers(
    model,
    prompts=[[start, *model.tokenizer.encode(text)] for text in prompts],
    seeds=range(len(prompts)),
    request=generate.Request(n_tokens, stop_ids, _TEMPERATURE),
    batch_size=len(prompts),
  )
  for prompt, answer in zip(prompts, answers, strict=True):
    yield prompt, model.tokenizer.decode(answer.token_ids)
