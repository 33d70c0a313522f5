"""Conversations as token ids, with the mask of what is learnt from them.

The layout is cl100k's own, without line breaks:
`<|im_start|>user<|im_sep|>...<|im_end|>`. Control tokens are put in by id and
never parsed from text, so no content can end its own message. Calls of tools
stand at the end of the assistant's message, each between tokens of its own (see
calls.py). Nothing is cut to a length.
"""

from collections.abc import Sequence
from typing import NamedTuple

from llm_jax.chat import calls, conversation
from llm_jax.tokenizer import specials, text_tokenizer

# The same layout for Hugging Face's chat_template.jinja; the roles and their
# order are not checked there.
JINJA = (
  '{% for message in messages %}<|im_start|>{{ message.role }}<|im_sep|>'
  '{{ message.content }}{% for call in message.tool_calls or [] %}'
  '{% set f = call.function %}{% set a = f.arguments %}'
  "{% if f.name == 'python' %}<PYTHON_START>{{ a.code }}<PYTHON_END>"
  "{% elif f.name == 'search' %}<SEARCH_START>{{ a.query }}<SEARCH_END>"
  '{% else %}<CALL_START>{"name": {{ f.name | tojson }}, "arguments": '
  '{{ a | tojson }}}<CALL_END>{% endif %}{% endfor %}<|im_end|>{% endfor %}'
  '{% if add_generation_prompt %}<|im_start|>assistant<|im_sep|>{% endif %}'
)


class Rendered(NamedTuple):
  """A conversation as tokens.

  Attributes:
    token_ids: of the conversation.
    loss_mask: 1 on the assistant's words and the token that ends them, so
      that it learns to stop, where `conversation.is_learnt` says so; 0 on
      all else, results of tools included.
  """

  token_ids: list[int]
  loss_mask: list[int]


def render(
  tokenizer: text_tokenizer.TextTokenizer,
  messages: Sequence[conversation.Message],
  add_generation_prompt: bool = False,
) -> Rendered:
  """Lay out a conversation.

  Args:
    tokenizer: has the control tokens of the layout.
    messages: the conversation.
    add_generation_prompt: end with the beginning of an assistant message.

  Returns:
    Its ids and loss mask, of equal length.

  Raises:
    ValueError: if the messages are not a conversation, or the assistant is to
      answer itself.
  """
  if add_generation_prompt:
    conversation.check_answerable(messages)
  conversation.check(messages)
  end = tokenizer.special_id(specials.IM_END)
  token_ids: list[int] = []
  loss_mask: list[int] = []

  def add(ids: list[int], learnt: bool) -> None:
    token_ids.extend(ids)
    loss_mask.extend([int(learnt)] * len(ids))

  for message in messages:
    is_learnt = conversation.is_learnt(message)
    add(_header(tokenizer, message['role']), learnt=False)
    said = tokenizer.encode(message['content'])
    for call in calls.of_message(message):
      opening, text, close = calls.pieces(call)
      said += [
        tokenizer.special_id(opening),
        *tokenizer.encode(text),
        tokenizer.special_id(close),
      ]
    add([*said, end], learnt=is_learnt)
  if add_generation_prompt:
    add(_header(tokenizer, conversation.ASSISTANT), learnt=False)
  return Rendered(token_ids, loss_mask)


def prompt_ids(
  tokenizer: text_tokenizer.TextTokenizer,
  messages: Sequence[conversation.Message],
) -> list[int]:
  """The ids that a model continues with its answer; see `render`."""
  return render(tokenizer, messages, add_generation_prompt=True).token_ids


def after_tools(
  tokenizer: text_tokenizer.TextTokenizer, results: Sequence[str]
) -> list[int]:
  """The ids behind an answer that called tools, up to the next answer.

  Args:
    tokenizer: has the control tokens of the layout.
    results: text of each tool message.
  """
  end = tokenizer.special_id(specials.IM_END)
  ids: list[int] = []
  for text in results:
    ids += _header(tokenizer, conversation.TOOL)
    ids += [*tokenizer.encode(text), end]
  return ids + _header(tokenizer, conversation.ASSISTANT)


def _header(tokenizer: text_tokenizer.TextTokenizer, role: str) -> list[int]:
  return [
    tokenizer.special_id(specials.IM_START),
    *tokenizer.encode(role),
    tokenizer.special_id(specials.IM_SEP),
  ]
