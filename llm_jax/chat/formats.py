"""How a model is spoken to: what it reads, what it learns, where it stops.

A checkpoint has one format: plain text where it was only pretrained; its own
chat template where it was published with one; else the control tokens of
template.py. Every stage asks `choose` for it and knows no other way.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from llm_jax.chat import calls, conversation, imported, template
from llm_jax.tokenizer import specials, text_tokenizer


class Format(Protocol):
  """What a model reads before it answers, and what its answer is.

  Attributes:
    is_chat: whether it takes conversations; else one text to continue.
    stop_ids: each of them ends an answer.
    hidden_ids: control tokens, which are no part of an answer's text.
    opening: the beginning of an answer that the prompt holds already, such as
      `<think>`; mostly empty.
    think_start: what opens a thought, as the model writes it.
  """

  is_chat: bool
  stop_ids: tuple[int, ...]
  hidden_ids: frozenset[int]
  opening: str
  think_start: str

  def rows(
    self, messages: Sequence[conversation.Message]
  ) -> list[template.Rendered]:
    """What is learnt from a conversation, in one row or several.

    Raises:
      ValueError: if it is no conversation, or none that the format can lay out.
    """
    ...

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
    ...

  def text(self, token_ids: Sequence[int], direct: bool = False) -> str:
    """The text of an answer, with its thought between <think> and </think>.

    Args:
      token_ids: what the model drew; control tokens in it are left out.
      direct: whether its prompt was.
    """
    ...

  def read_calls(self, token_ids: Sequence[int]) -> list[calls.Call]:
    """The calls of tools in an answer, with those that cannot be read."""
    ...

  def message(self, token_ids: Sequence[int]) -> dict[str, Any]:
    """An answer as a message, with its readable calls in `tool_calls`."""
    ...

  def after_tools(self, results: Sequence[str]) -> list[int]:
    """The ids behind an answer with calls that ended by a stop token.

    Args:
      results: what came of each call, in order; it is encoded as text.

    Returns:
      The tools' messages, and the beginning of the next answer.
    """
    ...


def choose(
  tokenizer: text_tokenizer.TextTokenizer,
  is_chat: bool,
  tools: Sequence[Mapping[str, Any]] = (),
) -> Format:
  """The format of a checkpoint.

  Args:
    tokenizer: of the model; a published one may bring a chat template.
    is_chat: whether the model takes conversations.
    tools: what it may call, as `tools` of OpenAI's requests; our own layout
      does not show them.

  Raises:
    ValueError: if the vocabulary has no tokens for a conversation.
  """
  if not is_chat:
    return Plain(tokenizer)
  published = tokenizer.published
  if published is not None and published.chat_template is not None:
    return imported.Imported(tokenizer, published.chat_template, tools)
  return Own(tokenizer)


def override(chat: bool, base: bool) -> bool | None:
  """Whether flags say that a model takes conversations; None: they do not.

  Raises:
    ValueError: if they say both.
  """
  if chat and base:
    raise ValueError('--chat and --base exclude each other; give one of them')
  return chat if chat or base else None


def inputs(is_chat: bool | None) -> dict[str, str]:
  """What `override` says, for the record of a run; empty for None."""
  return {} if is_chat is None else {'format': 'chat' if is_chat else 'base'}


def plain(text: str) -> str:
  r"""A question as a base model reads it, which pages do not look like.

  >>> plain('What is 12 + 7?')
  'Question: What is 12 + 7?\nAnswer:'
  """
  return f'Question: {text}\nAnswer:'


def question(
  text: str, before: Sequence[tuple[str, str]] = (), is_chat: bool = True
) -> list[dict[str, str]]:
  """A conversation that ends with a question.

  Args:
    text: the question.
    before: earlier questions and answers.
    is_chat: False: of a model that continues text.
  """
  roles = itertools.cycle([conversation.USER, conversation.ASSISTANT])
  said = [
    *itertools.chain.from_iterable(before),
    text if is_chat else plain(text),
  ]
  return [
    {'role': role, 'content': content}
    for role, content in zip(roles, said, strict=False)
  ]


class Own:
  """Our own layout by control tokens; see template.py and Format."""

  is_chat = True
  opening = ''
  think_start = imported.THOUGHT[0]

  def __init__(self, tokenizer: text_tokenizer.TextTokenizer):
    """Take the tokens of the layout.

    Raises:
      ValueError: if the vocabulary has not all of them.
    """
    names = (specials.IM_START, specials.IM_SEP, specials.IM_END)
    missing = [name for name in names if name not in tokenizer.special_names]
    if missing:
      raise ValueError(
        f'the vocabulary has no {", ".join(missing)}, so this model has no way '
        'to hold a conversation; import it again with --grow, which adds rows '
        'for them to its embedding, or put a chat_template.jinja that writes '
        'tokens of the vocabulary into the folder'
      )
    self._tokenizer = tokenizer
    end = tokenizer.special_id(specials.IM_END)
    self.stop_ids = tuple(dict.fromkeys([end, *tokenizer.eos_ids]))
    self.hidden_ids = _hidden(tokenizer)

  def rows(self, messages):
    """See Format."""
    return [template.render(self._tokenizer, messages)]

  def prompt(self, messages, direct=False):
    """See Format; it opens no thought."""
    del direct
    return template.prompt_ids(self._tokenizer, messages)

  def text(self, token_ids, direct=False):
    """See Format."""
    del direct
    shown = [i for i in token_ids if i not in self.hidden_ids]
    return self._tokenizer.decode(shown)

  def read_calls(self, token_ids):
    """See Format."""
    _, found = calls.split(self._names(token_ids))
    return [
      call
      for opening, places, is_ended in found
      for call in calls.read(
        opening,
        self._tokenizer.decode([token_ids[i] for i in places]),
        is_ended,
      )
    ]

  def message(self, token_ids):
    """See Format."""
    outside, _ = calls.split(self._names(token_ids))
    content = self.text([token_ids[i] for i in outside])
    return _message(content, self.read_calls(token_ids))

  def after_tools(self, results):
    """See Format."""
    return template.after_tools(self._tokenizer, results)

  def _names(self, token_ids):
    ids = {self._tokenizer.special_id(name): name for name in calls.TOKENS
           if name in self._tokenizer.special_names}  # fmt: skip
    return [ids.get(token) for token in token_ids]


class Plain:
  """Text that the model continues, as in pretraining; see Format."""

  is_chat = False
  opening = ''
  think_start = imported.THOUGHT[0]

  def __init__(self, tokenizer: text_tokenizer.TextTokenizer):
    self._tokenizer = tokenizer
    self.stop_ids = tokenizer.eos_ids
    self.hidden_ids = _hidden(tokenizer)

  def rows(self, messages):
    """Refused: a text has no turns."""
    raise ValueError(
      f'{len(messages)} messages for a model that continues plain text; use a '
      'chat format'
    )

  def prompt(self, messages, direct=False):
    """The text of the only message, behind what begins every document.

    Raises:
      ValueError: if there is not one message.
    """
    del direct
    if len(messages) != 1:
      raise ValueError(
        f'{len(messages)} messages for a model that continues one text; give '
        'one (Assistant.max_turns = 1), or a model that was trained on '
        'conversations'
      )
    ids = self._tokenizer.encode(messages[0]['content'])
    return [*self._tokenizer.prefix_ids, *ids]

  def text(self, token_ids, direct=False):
    """See Format."""
    del direct
    shown = [i for i in token_ids if i not in self.hidden_ids]
    return self._tokenizer.decode(shown)

  def read_calls(self, token_ids):
    """See Format; a text has none."""
    del token_ids
    return []

  def message(self, token_ids):
    """See Format."""
    return _message(self.text(token_ids), [])

  def after_tools(self, results):
    """Refused: a text has no turns."""
    raise ValueError(f'{len(results)} results for a model without turns')


def _message(content: str, found: Sequence[calls.Call]) -> dict[str, Any]:
  sound = [call.message() for call in found if not call.fault]
  message = {'role': conversation.ASSISTANT, 'content': content}
  return message | ({'tool_calls': sound} if sound else {})


def _hidden(tokenizer: text_tokenizer.TextTokenizer) -> frozenset[int]:
  """The control tokens, but the marks of a thought."""
  names = (n for n in tokenizer.special_names if n not in imported.THOUGHT)
  return frozenset(map(tokenizer.special_id, names))
