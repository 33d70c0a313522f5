"""How a model is spoken to: what it reads, what it learns, where it stops.

A checkpoint has one format: plain text where it was only pretrained; its own
chat template where it was published with one; else the control tokens of
template.py. Every stage asks `choose` for it and knows no other way.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from llm_jax.chat import calls, conversation, imported, template
from llm_jax.tokenizer import infilling, specials, text_tokenizer


def choose(
  tokenizer: text_tokenizer.TextTokenizer,
  is_chat: bool,
  tools: Sequence[Mapping[str, Any]] = (),
) -> template.Format:
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
  if tokenizer.chat_template is not None:
    return imported.Imported(tokenizer, tokenizer.chat_template, tools)
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


class Own(template.Format):
  """Our own layout by control tokens; see template.py."""

  def __init__(self, tokenizer: text_tokenizer.TextTokenizer):
    """Take the tokens of the layout.

    Raises:
      ValueError: if the vocabulary has not all of them.
    """
    super().__init__(tokenizer)
    names = (specials.IM_START, specials.IM_SEP, specials.IM_END)
    missing = [name for name in names if name not in tokenizer.special_names]
    if missing:
      raise ValueError(
        f'the vocabulary has no {", ".join(missing)}, so this model has no way '
        'to hold a conversation; import it again with --grow, which adds rows '
        'for them to its embedding, or put a chat_template.jinja that writes '
        'tokens of the vocabulary into the folder'
      )
    end = tokenizer.special_id(specials.IM_END)
    self.stop_ids = tuple(dict.fromkeys([end, *tokenizer.eos_ids]))

  def rows(self, messages):
    """See Format."""
    return [template.render(self._tokenizer, messages)]

  def prompt(self, messages, direct=False):
    """See Format; it opens no thought."""
    del direct
    return template.render(self._tokenizer, messages, True).token_ids

  def split_calls(self, token_ids):
    """See Format."""
    known = {*calls.TOKENS} & {*self._tokenizer.special_names}
    names = {self._tokenizer.special_id(name): name for name in known}
    outside: list[int] = []
    inside: list[int] = []
    found: list[calls.Call] = []
    opening = ''
    for token in [*token_ids, None]:
      name = names.get(token)
      if opening and (name or token is None):
        is_ended = name == calls.ENDS[opening]
        found += calls.read(opening, self._tokenizer.decode(inside), is_ended)
        opening, inside = '', []
        if is_ended:
          continue
      if name in calls.ENDS:
        opening = name
      elif token is not None:
        (inside if opening else outside).append(token)
    return self.text(outside), found

  def after_tools(self, results):
    """See Format."""
    ids = []
    for text in results:
      ids += template.header(self._tokenizer, conversation.TOOL)
      ids += self._tokenizer.encode(text)
      ids.append(self._tokenizer.special_id(specials.IM_END))
    return ids + template.header(self._tokenizer, conversation.ASSISTANT)


class Plain(template.Format):
  """Text that the model continues, as in pretraining."""

  is_chat = False

  def prompt(self, messages, direct=False):
    """The text of the only message, behind what begins every document.

    Raises:
      ValueError: if there is not one message.
    """
    del direct
    if len(messages) != 1:
      raise ValueError(
        f'{len(messages)} messages for a model that continues one text; give '
        'one, or a model that was trained on conversations'
      )
    ids = self._tokenizer.encode(messages[0]['content'])
    return [*self._tokenizer.prefix_ids, *ids]


class Infill(Plain):
  """Text with one infilling.MARK, where the model fills the middle in.

  Our models read the suffix first, behind which the prefix runs on into the
  middle: cheaper by 0.02 bits a byte in the speedrun's. Published ones read the
  prefix first, as all of them can.
  """

  def __init__(self, tokenizer: text_tokenizer.TextTokenizer):
    """Take the tokens for it.

    Raises:
      ValueError: if the vocabulary has none.
    """
    super().__init__(tokenizer)
    infilling.controls(tokenizer)
    self.stop_ids = (*{tokenizer.separator_id, *self.stop_ids},)

  def prompt(self, messages, direct=False):
    """The only message's text around the mark.

    Raises:
      ValueError: if it has not one mark.
    """
    del direct
    parts = messages[-1]['content'].split(infilling.MARK)
    if len(parts) != 2:
      raise ValueError(
        f'the text has {len(parts) - 1} {infilling.MARK}; put one where the '
        'middle is missing'
      )
    is_spm = self._tokenizer.published is None
    prompt = infilling.prompt(self._tokenizer, parts, is_spm)
    return [*self._tokenizer.prefix_ids, *prompt]
