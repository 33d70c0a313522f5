"""Conversations as token ids, with the mask of what is learnt from them.

The layout is cl100k's own, without line breaks:
`<|im_start|>user<|im_sep|>...<|im_end|>`. Control tokens are put in by id and
never parsed from text, so no content can end its own message. Calls of tools
stand at the end of the assistant's message, each between tokens of its own (see
calls.py). Nothing is cut to a length.
"""

import abc
from collections.abc import Sequence
from typing import Any, NamedTuple

from llm_jax.chat import calls, conversation
from llm_jax.tokenizer import specials, text_tokenizer

# The same layout for Hugging Face's chat_template.jinja; the roles and their
# order are not checked there. transformers has arguments as objects.
JINJA = (
  '{% for message in messages %}<|im_start|>{{ message.role }}<|im_sep|>'
  '{{ message.content }}{% for call in message.tool_calls or [] %}'
  '{% set f = call.function %}{% set a = f.arguments %}'
  "{% if a is string %}{{ raise_exception('arguments of a call are an object "
  "here, not JSON text') }}{% endif %}"
  "{% if f.name == 'python' and a.keys() | list == ['code'] %}"
  '<PYTHON_START>{{ a.code }}<PYTHON_END>'
  "{% elif f.name == 'search' and a.keys() | list == ['query'] %}"
  '<SEARCH_START>{{ a.query }}<SEARCH_END>'
  '{% else %}<CALL_START>{"name": {{ f.name | tojson }}, "arguments": '
  '{{ a | tojson }}}<CALL_END>{% endif %}{% endfor %}<|im_end|>{% endfor %}'
  '{% if add_generation_prompt %}<|im_start|>assistant<|im_sep|>{% endif %}'
)


THOUGHT = ('<think>', '</think>')  # marks of ours, which verifiers read


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


class Format(abc.ABC):
  """What a model reads before it answers, and what its answer is.

  Attributes:
    is_chat: whether it takes conversations; else one text to continue.
    stop_ids: each of them ends an answer.
    hidden_ids: control tokens, which are no part of an answer's text.
    opening: the beginning of an answer that the prompt holds already, such as
      `<think>`; mostly empty.
    think_start: what opens a thought, as the model writes it.
    call_ids: control tokens that open a call of a tool.
  """

  is_chat = True
  opening = ''
  think_start = THOUGHT[0]

  def __init__(self, tokenizer: text_tokenizer.TextTokenizer):
    names = [name for name in tokenizer.special_names if name not in THOUGHT]
    self._tokenizer = tokenizer
    self.stop_ids = tokenizer.eos_ids
    self.hidden_ids = frozenset(map(tokenizer.special_id, names))
    known = {*calls.OPENINGS} & {*names}
    self.call_ids = frozenset(map(tokenizer.special_id, known))

  def rows(self, messages: Sequence[conversation.Message]) -> list[Rendered]:
    """What is learnt from a conversation, in one row or several.

    Raises:
      ValueError: if it is no conversation, or none that the format can lay out.
    """
    raise ValueError(f'a text of {len(messages)} messages; use a chat format')

  @abc.abstractmethod
  def prompt(
    self, messages: Sequence[conversation.Message], direct: bool = False
  ) -> list[int]:
    """The ids that the model continues with its answer.

    Args:
      messages: up to one of the user or of a tool.
      direct: end at once a thought that the format opens.

    Raises:
      ValueError: if there is nothing to answer.
    """

  def text(self, token_ids: Sequence[int], direct: bool = False) -> str:
    """The text of an answer, with its thought between <think> and </think>.

    Args:
      token_ids: what the model drew; control tokens in it are left out.
      direct: whether its prompt was.
    """
    del direct
    shown = [i for i in token_ids if i not in self.hidden_ids]
    return self._tokenizer.decode(shown)

  def split_calls(
    self, token_ids: Sequence[int]
  ) -> tuple[str, list[calls.Call]]:
    """An answer's text without its calls of tools, and these.

    Calls that cannot be read are among them, with their fault.
    """
    return self.text(token_ids), []

  def message(self, token_ids: Sequence[int]) -> dict[str, Any]:
    """An answer as a message, with its readable calls in `tool_calls`."""
    content, found = self.split_calls(token_ids)
    sound = [call.message() for call in found if not call.fault]
    message = {'role': conversation.ASSISTANT, 'content': content}
    return message | ({'tool_calls': sound} if sound else {})

  def after_tools(self, results: Sequence[str]) -> list[int]:
    """The ids behind an answer with calls that ended by a stop token.

    Args:
      results: what came of each call, in order; it is encoded as text.

    Returns:
      The tools' messages, and the beginning of the next answer.

    Raises:
      ValueError: if the format shows no results of tools.
    """
    raise ValueError(f'{len(results)} results for a model without tools')


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
  for message in messages:
    token_ids += header(tokenizer, message['role'])
    loss_mask += [0] * (len(token_ids) - len(loss_mask))
    token_ids += tokenizer.encode(message['content'])
    for call in calls.of_message(message):
      opening, text, close = calls.pieces(call)
      token_ids.append(tokenizer.special_id(opening))
      token_ids += [*tokenizer.encode(text), tokenizer.special_id(close)]
    token_ids.append(end)
    # A result of a tool only where it says so: a control, which shows why not.
    is_result = message['role'] == conversation.TOOL
    learnt = int(
      message.get('weight') == 1
      if is_result
      else conversation.is_learnt(message)
    )
    loss_mask += [learnt] * (len(token_ids) - len(loss_mask))
  if add_generation_prompt:
    token_ids += header(tokenizer, conversation.ASSISTANT)
    loss_mask += [0] * (len(token_ids) - len(loss_mask))
  return Rendered(token_ids, loss_mask)


def header(tokenizer: text_tokenizer.TextTokenizer, role: str) -> list[int]:
  """What stands before the text of a message."""
  return [
    tokenizer.special_id(specials.IM_START),
    *tokenizer.encode(role),
    tokenizer.special_id(specials.IM_SEP),
  ]
