"""How a question is put to a model: as plain text, or as a conversation.

The one place that knows what a base model and an assistant read before they
answer, and what ends their answer. Does not render whole conversations; see
chat/template.py.
"""

from llm_jax.chat import template
from llm_jax.tokenizer import text_tokenizer


def token_ids(
  tokenizer: text_tokenizer.TextTokenizer, text: str, is_chat: bool
) -> list[int]:
  """Token ids that a model continues with its answer.

  Args:
    tokenizer: the model's tokenizer.
    text: the question; special tokens in it stay text.
    is_chat: True: a user's message with the assistant's turn opened; False:
      the start of a document.

  Returns:
    The prompt.
  """
  if is_chat:
    messages = [{'role': 'user', 'content': text}]
    return template.prompt_ids(tokenizer, messages)
  start = tokenizer.special_id('<|endoftext|>')
  return [start, *tokenizer.encode(text)]


def stop_id(tokenizer: text_tokenizer.TextTokenizer, is_chat: bool) -> int:
  """The token that ends an answer."""
  return tokenizer.special_id('<|im_end|>' if is_chat else '<|endoftext|>')


def answer_text(
  tokenizer: text_tokenizer.TextTokenizer, token_ids_of_answer: list[int]
) -> str:
  """Decode an answer; the control tokens in it, its stop among them, go.

  Args:
    tokenizer: the model's tokenizer.
    token_ids_of_answer: what the model drew.

  Returns:
    The text.
  """
  specials = tokenizer.special_ids
  return tokenizer.decode([i for i in token_ids_of_answer if i not in specials])
