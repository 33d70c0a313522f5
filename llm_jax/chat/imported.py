"""The conversation format of a published model: its own chat template.

The ids are those of transformers' apply_chat_template, with two exceptions. A
control token that is spelled in a message stays text, as it does there with
sanitize_control_tokens alone; only the marks of a thought are tokens in what
the assistant says. And no token reaches over the beginning of an answer, since
none is drawn that way.
"""

import functools
import itertools
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from llm_jax.chat import calls, conversation, jinja_template, template
from llm_jax.tokenizer import text_tokenizer

# How published models mark a thought.
_THOUGHTS = (
  template.THOUGHT,
  ('[THINK]', '[/THINK]'),
  ('<thinking>', '</thinking>'),
  ('<thought>', '</thought>'),
  ('<seed:think>', '</seed:think>'),
  ('<|begin_of_thought|>', '<|end_of_thought|>'),
)
_NO_THOUGHT = '\n{}\n\n'  # ends a thought that the prompt has opened
_PRIVATE = range(0xF0000, 0xFFFFE)  # characters without a meaning
_QUESTION = ({'role': conversation.USER, 'content': 'Question'},)
_ANSWER = 'AnswerOfAProbe'
_PROBE = {
  'type': 'function',
  'function': {'name': _ANSWER, 'arguments': {'key': 'value'}},
}


class Imported(template.Format):
  """A chat template with the tokenizer that it was made for; see Format."""

  def __init__(
    self,
    tokenizer: text_tokenizer.TextTokenizer,
    source: str,
    tools: Sequence[Mapping[str, Any]] = (),
  ):
    """Read a template.

    Args:
      tokenizer: of the model.
      source: the template.
      tools: what the model may call, as `tools` of OpenAI's requests.

    Raises:
      ValueError: if it is no template, or refuses a question.
    """
    super().__init__(tokenizer)
    names = tokenizer.published.token_names if tokenizer.published else {}
    variables = {**names, 'tools': [*tools] or None}
    self._template = jinja_template.Template(source, variables)
    # An added token that is text elsewhere is one of the layout where the
    # template writes it.
    added = [
      token
      for token in tokenizer.added
      if token.is_special or token.name in source
    ]
    self._written_texts = [t.name for t in added if not t.is_special]
    tokens = {
      name: text_tokenizer.AddedToken(name, tokenizer.special_id(name))
      for name in tokenizer.special_names
    } | {token.name: token for token in added}
    # Of two at one place the longer one counts.
    by_length = sorted(tokens.values(), key=lambda token: -len(token.name))
    self._control = re.compile('|'.join(t.search for t in by_length) or '(?!)')
    self._control_ids = {t.name: t.token_id for t in by_length}
    self._thought = next(
      (p for p in _THOUGHTS if p[0] in tokens or p[0] in source),
      template.THOUGHT,
    )
    self._guard = _make_guard(tokens, allowed=())
    self._guard_answer = _make_guard(tokens, allowed=self._thought)
    self.think_start = self._thought[0]
    self.hidden_ids = frozenset(
      t.token_id for t in tokens.values() if t.name not in self._thought
    )
    self.stop_ids = tuple(dict.fromkeys([*tokenizer.eos_ids, *self._end_id()]))
    prompt = self._template.render(_QUESTION, add_generation_prompt=True)
    found = re.search(re.escape(self._thought[0]) + r'\s*$', prompt)
    self._opening = found[0] if found else ''
    self.opening = self._in_our_marks(self._opening)

  def rows(
    self, messages: Sequence[conversation.Message]
  ) -> list[template.Rendered]:
    """Lay out a conversation to learn from.

    What is learnt is what {% generation %} says; else each assistant message,
    from where the model would be asked for it to the token that ends it.
    Where a template shows an answer otherwise than it asks for it, as those do
    that open a thought or drop the thoughts of earlier turns, each answer is a
    row of its own, behind what the model would read.

    Args:
      messages: the conversation.

    Returns:
      One row, or one for each answer.

    Raises:
      ValueError: if the messages are not a conversation, the template refuses
        them, or no stop token ends an answer.
    """
    conversation.check(messages)
    texts = self._texts(messages)
    if self._template.has_generation:
      text, spans = texts.with_generation()
      learnt = [conversation.is_learnt(m) for m in messages if _is_answer(m)]
      if not all(learnt):  # a block is an answer
        spans = [s for s, own in zip(spans, learnt, strict=True) if own]
      return [self._row(texts, text, spans)]
    answers = [i for i, m in enumerate(messages) if conversation.is_learnt(m)]
    whole = texts.until(len(messages))
    spans = []
    for i in answers:
      before, until = texts.before(i), texts.until(i + 1)
      if not (until.startswith(before) and whole.startswith(until)):
        return [self._answer_row(texts, i) for i in answers]
      spans.append((len(before), self._last_stop(until, len(before))[1]))
    return [self._row(texts, whole, spans)]

  def prompt(
    self, messages: Sequence[conversation.Message], direct: bool = False
  ) -> list[int]:
    """The ids that the model continues with its answer.

    Args:
      messages: the conversation, up to a message of the user or of a tool.
      direct: end at once a thought that the template opens.

    Raises:
      ValueError: if there is nothing to answer, or the template refuses the
        messages.
    """
    conversation.check_answerable(messages)
    texts = self._texts(messages)
    text = texts.before(len(messages))
    befores = [texts.before(i) for i, m in enumerate(messages) if _is_answer(m)]
    starts = [(len(b), len(b)) for b in befores if text.startswith(b)]
    if direct and self._opening:
      text += _NO_THOUGHT.format(self._thought[1])
    return self._row(texts, text, starts).token_ids

  def text(self, token_ids: Sequence[int], direct: bool = False) -> str:
    """The text of an answer, its thought between our marks.

    Args:
      token_ids: what the model drew, with or without the stop token.
      direct: whether its prompt was.
    """
    opening = '' if direct else self._opening
    return self._in_our_marks(opening + super().text(token_ids))

  def _in_our_marks(self, text: str) -> str:
    for theirs, ours in zip(self._thought, template.THOUGHT, strict=True):
      text = text.replace(theirs, ours)
    return text

  def after_tools(self, results: Sequence[str]) -> list[int]:
    """The ids behind an answer that called tools, up to the next answer.

    Args:
      results: text of each tool message.

    Raises:
      ValueError: if the template does not show results of tools.
    """
    messages = [
      *_QUESTION,
      {
        'role': conversation.ASSISTANT,
        'content': '',
        'tool_calls': [_PROBE],
      },
      *({'role': conversation.TOOL, 'content': text} for text in results),
    ]
    texts = self._texts(messages)
    text = texts.before(len(messages))
    behind = text.rpartition(_ANSWER)[2]
    stops = (
      end
      for _, end, token_id in self._pieces(behind)
      if token_id in self.stop_ids
    )
    end = next(stops, None)
    if _ANSWER not in text or end is None:
      raise ValueError(
        'the chat template shows no calls of tools, so this model cannot be '
        'given any; leave --tools out'
      )
    start = len(text) - len(behind) + end
    row = self._row(texts, text, [(start, len(text))])
    return [i for i, behind in zip(*row, strict=True) if behind]

  @functools.cached_property
  def _call_marks(self) -> tuple[str, str] | None:
    """What stands around a call that is written as JSON; None: no calls."""
    answer = {'role': conversation.ASSISTANT, 'content': _ANSWER}
    call = answer | {'content': '', 'tool_calls': [_PROBE]}
    frame, text = (
      self._template.render([*_QUESTION, message]) for message in (answer, call)
    )
    found = re.search(r'\{[^{}]*' + _ANSWER + r'[^{}]*\{[^{}]*\}[^{}]*\}', text)
    if found is None:
      return None
    before = text[: found.start()].removeprefix(frame.partition(_ANSWER)[0])
    behind = text[found.end() :]
    stops = [
      begin for begin, _, i in self._pieces(behind) if i in self.stop_ids
    ]
    return before.strip(), behind[: stops[0] if stops else None].strip()

  def split_calls(
    self, token_ids: Sequence[int]
  ) -> tuple[str, list[calls.Call]]:
    """See Format; calls are written as the template writes them."""
    whole = self.text(token_ids)
    # With the control tokens of calls, which `whole` leaves out.
    shown = [i for i in token_ids if i not in self.stop_ids]
    text = self._in_our_marks(self._opening + self._tokenizer.decode(shown))
    # What is thought is not done: calls stand behind the thought, if at all.
    start, end = template.THOUGHT
    thought, is_ended, said = text.rpartition(end)
    thought += is_ended
    if self._call_marks is None or start in said:
      return whole, []
    before, behind = self._call_marks
    if not before:  # a message is a call, or none
      is_call = said.lstrip().startswith('{') and '"name"' in said
      return (thought, calls.parse(said)) if is_call else (whole, [])
    content, found = thought, []
    while before in said:
      part, _, said = said.partition(before)
      inside, is_closed, said = said.partition(behind or '\0')
      content += part
      if behind and not is_closed:
        found.append(calls.Call('', {}, f'{before} has no {behind}'))
      else:
        found += calls.parse(inside)
    return (content + said).strip() if found else whole, found

  def _texts(self, messages: Sequence[conversation.Message]) -> '_Texts':
    """The conversation with what is spelled like control tokens marked."""
    content = json.dumps(list(messages), ensure_ascii=False)
    free = (chr(i) for i in _PRIVATE if chr(i) not in content)
    mark = next(free)
    marked = []
    for message in messages:
      text, guard = message['content'], self._guard
      if _is_answer(message):
        guard = self._guard_answer
        for theirs, ours in zip(self._thought, template.THOUGHT, strict=True):
          text = text.replace(ours, theirs)
      marked.append({**message, 'content': guard(text, mark)})
      if message.get('tool_calls'):
        marked[-1]['tool_calls'] = [
          _guarded(call, self._guard, mark)
          for call in calls.of_message(message)
        ]
    return _Texts(
      template=self._template,
      messages=marked,
      mark=mark,
      generation_marks=(next(free), next(free)),
    )

  def _row(
    self, texts: '_Texts', text: str, spans: Sequence[tuple[int, int]]
  ) -> template.Rendered:
    """Encode a text of which the characters of `spans` are to be learnt."""
    bounds = sorted({bound for span in spans for bound in span})
    token_ids: list[int] = []
    loss_mask: list[int] = []
    for start, end, token_id in self._pieces(text):
      ids: list[int] = []
      inner = [bound for bound in bounds if start < bound < end]
      for done, bound in itertools.pairwise([start, *inner, end]):
        if token_id is not None:
          new = [token_id]
        else:
          joined = self._encode(text[start:bound], texts.mark)
          new = joined[len(ids) :]
          if joined[: len(ids)] != ids:
            new = self._encode_inside(text[done:bound], texts.mark)
        ids += new
        is_learnt = any(first <= done < last for first, last in spans)
        loss_mask += [int(is_learnt)] * len(new)
      token_ids += ids
    return template.Rendered(token_ids, loss_mask)

  def _answer_row(self, texts: '_Texts', index: int) -> template.Rendered:
    """One answer, behind what the model reads before it."""
    before, until = texts.before(index), texts.until(index + 1)
    stop = self._last_stop(until, 0)
    if until.startswith(before):
      return self._row(texts, until, [(len(before), stop[1])])
    start, close = self._thought
    if not self._opening or not before.endswith(self._opening):
      raise ValueError(
        f'message {index}: the chat template asks for an answer by '
        f'{before[-40:]!r}, but shows it otherwise; mark in the template what '
        'is learnt, by {% generation %}'
      )
    content = texts.messages[index]['content'].strip()
    if content.startswith(start):
      blank = self._opening.removeprefix(start)
      rest = content.removeprefix(start).removeprefix(blank)
    else:
      rest = _NO_THOUGHT.format(close) + content
    whole = before + rest + until[slice(*stop)]
    return self._row(texts, whole, [(len(before), len(whole))])

  def _last_stop(self, text: str, start: int) -> tuple[int, int]:
    """Begin and end of the last stop token behind start."""
    stops = [
      (begin, end)
      for begin, end, token_id in self._pieces(text)
      if begin >= start and token_id in self.stop_ids
    ]
    if not stops:
      raise ValueError(
        f'no stop token ends the answer in {text[start:][-60:]!r}, as the chat '
        'template writes it; set eos_token_id in generation_config.json and '
        'import the model again'
      )
    return stops[-1]

  def _end_id(self) -> list[int]:
    """The control token behind an answer, if there is one."""
    answer = {'role': conversation.ASSISTANT, 'content': _ANSWER}
    text = self._template.render([*_QUESTION, answer])
    behind = text.rpartition(_ANSWER)[2].lstrip()
    first = [token_id for *_, token_id in self._pieces(behind)][:1]
    return [i for i in first if i in self.hidden_ids]

  def _pieces(self, text: str) -> Iterator[tuple[int, int, int | None]]:
    """Begin, end and, of a control token, id of each part of a text."""
    start = 0
    for match in self._control.finditer(text):
      if match.start() > start:
        yield start, match.start(), None
      yield *match.span(), self._control_ids[match[match.lastindex or 0]]
      start = match.end()
    if start < len(text):
      yield start, len(text), None

  def _encode(self, text: str, mark: str) -> list[int]:
    """Ids of a text without control tokens but those that are marked."""
    for name in self._written_texts:  # which `encode` finds in every text
      before, found, behind = text.partition(self._guard(name, mark))
      if found:
        ids = self._encode(before + name[0], mark)
        return ids + self._encode_inside(found[2:] + behind, mark)
    return self._tokenizer.encode(text.replace(mark, ''))

  def _encode_inside(self, text: str, mark: str) -> list[int]:
    """Ids of a text that follows another one."""
    # A tokenizer that begins every text with a blank has done so before.
    line, ids = self._tokenizer.encode('\n'), self._encode('\n' + text, mark)
    if ids[: len(line)] == line:
      return ids[len(line) :]
    return self._encode(text, mark)


class _Texts(NamedTuple):
  """What a template makes of the first messages of a conversation."""

  template: jinja_template.Template
  messages: list[dict[str, str]]
  mark: str  # stands in what is spelled like a control token
  generation_marks: tuple[str, str]

  def before(self, index: int) -> str:
    """What the model reads when it is asked for a message."""
    return self.template.render(
      self.messages[:index], add_generation_prompt=True
    )

  def until(self, index: int) -> str:
    """The text of the messages before one."""
    return self.template.render(self.messages[:index])

  def with_generation(self) -> tuple[str, list[tuple[int, int]]]:
    """The text, and where in it blocks of {% generation %} begin and end."""
    begin, end = self.generation_marks
    marked = self.template.render(self.messages, marks=self.generation_marks)
    text, spans = '', []
    for part in re.split(f'([{begin}{end}])', marked):
      if part == begin:
        spans.append((len(text), len(text)))
      elif part == end:
        spans[-1] = (spans[-1][0], len(text))
      else:
        text += part
    return text, spans


def _guarded(
  call: calls.Call, guard: Callable[[str, str], str], mark: str
) -> dict[str, Any]:
  """A call for a template: arguments as an object, its texts guarded."""

  def inside(value: Any) -> Any:
    if isinstance(value, str):
      return guard(value, mark)
    if isinstance(value, Mapping):
      return {key: inside(one) for key, one in value.items()}
    return [*map(inside, value)] if isinstance(value, list) else value

  arguments = inside(dict(call.arguments))
  function = {'name': guard(call.name, mark), 'arguments': arguments}
  return {'type': 'function', 'function': function}


def _is_answer(message: conversation.Message) -> bool:
  return message['role'] == conversation.ASSISTANT


def _make_guard(
  names: Collection[str], allowed: Sequence[str]
) -> Callable[[str, str], str]:
  """A function that breaks the control tokens in a text by a mark.

  The mark stands behind every character that could begin a name, and before a
  text that could end one, so that neither the template nor a neighbour can
  put one together.

  Args:
    names: of control tokens.
    allowed: those that stay whole.

  Returns:
    guard(text, mark) -> text, where mark is a character that is in no text.
  """
  first = ''.join({re.escape(name[0]) for name in names})
  whole = '|'.join(map(re.escape, allowed)) or '(?!)'
  begin = re.compile(f'(?!{whole})[{first}]' if first else '(?!)')
  ends = tuple({name[i:] for name in names for i in range(1, len(name))})

  def guard(text: str, mark: str) -> str:
    text = begin.sub(lambda match: match[0] + mark, text)
    body = text.lstrip()
    if body.startswith(ends):
      text = text[: len(text) - len(body)] + mark + body
    return text

  return guard
