"""Conversations in the forms of others, as messages of ours.

Which form a row has is seen by its keys: OpenAI's messages, ShareGPT, Alpaca,
Dolly, a prompt and its completion, trees of OASST and the messages of such
trees. What a row holds is kept as it is, or the row is rejected for a reason:
nothing is put into another order. Reads no files (see data/conversations.py).
"""

import collections
import contextlib
import itertools
import json
import re
from collections.abc import (
  Callable,
  Generator,
  Iterable,
  Iterator,
  Mapping,
  Sequence,
)
from typing import Any, NamedTuple, TypeVar

from llm_jax.chat import conversation

_Made = TypeVar('_Made')

Messages = list[dict[str, Any]]

# What reading a row of another form raises.
_FAULTS = (AttributeError, KeyError, TypeError, ValueError, RecursionError)
ROLES = {
  **dict.fromkeys(('human', 'user', 'prompter'), conversation.USER),
  **dict.fromkeys(('gpt', 'assistant', 'chatgpt', 'model', 'bot')
                  + ('function_call', 'tool_call'), conversation.ASSISTANT),
  'system': conversation.SYSTEM,
  **dict.fromkeys(('tool', 'observation', 'function_response')
                  + ('tool_response', 'function'), conversation.TOOL),
}  # fmt: skip
_SHOWN = 20  # rows of the table of rejects
_CALLS = ('function_call', 'tool_call')


class Tally:
  """What was read of a source, and why what was not.

  Attributes:
    forms: conversations of each form.
    ignored: how often a key was there that is not read.
    rejects: rows by the reason why they are left out, and the first's place.
  """

  def __init__(self):
    self.forms: collections.Counter[str] = collections.Counter()
    self.ignored: collections.Counter[str] = collections.Counter()
    self.rejects: dict[str, tuple[int, str]] = {}

  @contextlib.contextmanager
  def rejecting(self, place: str) -> Iterator[None]:
    """Count a row whose reading fails in here."""
    try:
      yield
    except _FAULTS as error:
      self.reject(reason(error), place)

  def reject(self, reason: str, place: str) -> None:
    """Count a row that is left out; place says where it stands."""
    n, first = self.rejects.get(reason, (0, place))
    self.rejects[reason] = (n + 1, first)

  @property
  def n_rejected(self) -> int:
    """How many are left out."""
    return sum(n for n, _ in self.rejects.values())

  def lines(self) -> list[str]:
    """The table of rejects, most frequent first."""
    by_count = sorted(self.rejects.items(), key=lambda item: -item[1][0])
    shown = [
      f'{n:>7,}  {reason} (first: {first})'
      for reason, (n, first) in by_count[:_SHOWN]
    ]
    if rest := by_count[_SHOWN:]:
      shown.append(f'{sum(n for _, (n, _) in rest):>7,}  for other reasons')
    return shown


class Read(NamedTuple):
  """A conversation, and where the row stands that it was read from."""

  place: str
  messages: Messages


def read_rows(
  rows: Iterable[tuple[str, Mapping[str, Any] | str]], tally: Tally
) -> Iterator[Read]:
  """The conversations of a file's rows.

  Args:
    rows: with what names their places; text says why there is no row.
    tally: is kept.

  Yields:
    Conversations that `conversation.check` accepts and in which the assistant
    says something to be learnt; OASST's messages at the end.
  """

  def checked(place: str, messages: Messages) -> Read:
    _check(messages, tally)
    return Read(place, messages)

  trees = yield from each_row(rows, tally, _FORMS, make=checked)
  for root in trees:
    with tally.rejecting(root.place):
      for read in list(_from_paths(_paths(root, [], tally))):
        with tally.rejecting(read.place):
          _check(read.messages, tally)
          tally.forms['OASST'] += 1
          yield read


def _check(messages: Messages, tally: Tally) -> None:
  """Refuse what teaches nothing, or is no conversation; leave keys out."""
  strip(messages, tally)
  conversation.check(
    [{key: m[key] for key in ('role', 'content')} for m in messages]
  )
  learnt = list(filter(conversation.is_learnt, messages))
  if not learnt:
    raise ValueError('no message of the assistant to learn from')
  if not any(m['content'].strip() or m.get('tool_calls') for m in learnt):
    raise ValueError('the assistant says nothing')


def strip(messages: Messages, tally: Tally) -> None:
  """Leave out of messages what no format shows, and count it."""
  for message in messages:
    kept = {'role', 'content', 'tool_calls', 'tool_call_id', 'weight'}
    if message['role'] == conversation.TOOL:
      kept.add('name')
    for key in message.keys() - kept:
      tally.ignored[f'{key} of a message'] += 1
      del message[key]


def reason(error: Exception) -> str:
  """Why a row is left out, in words that are equal for equal faults."""
  text = str(error) if isinstance(error, ValueError) else f'{error!r}'
  return re.sub(r'^message \d+ ', 'a message ', text)


class Form(NamedTuple):
  """How rows with some keys are read; keys are words apart by blanks."""

  name: str
  needs: str  # keys that tell it
  more: str  # keys that are read too
  read: Callable[[Mapping[str, Any]], Any]


def form_of(row: Mapping[str, Any], known: Sequence[Form]) -> Form:
  """The first of the known forms whose keys a row has.

  Raises:
    ValueError: if it has those of none.
  """
  for form in known:
    if row.keys() >= set(form.needs.split()):
      return form
  raise ValueError(
    f'no known form, but the keys {", ".join(sorted(map(str, row)))}'
  )


def _openai(row: Mapping[str, Any]) -> Messages:
  return list(map(to_message, to_list(row['messages'], 'messages')))


def _sharegpt(row: Mapping[str, Any]) -> Messages:
  turns = to_list(row['conversations'], 'conversations')
  return [*_system(row), *map(_turn, turns)]


def _system(row: Mapping[str, Any]) -> Messages:
  text = row.get('system')
  return [to_message({'role': 'system', 'content': text})] if text else []


def _turn(turn: Mapping[str, Any]) -> dict[str, Any]:
  if 'role' in turn and 'content' in turn:
    return to_message(turn)
  speaker, value = turn['from'], turn['value']
  if speaker not in ROLES:
    raise ValueError(f'a message is from {speaker!r}, which is no known role')
  rest = {k: v for k, v in turn.items() if k not in ('from', 'value')}
  if speaker in _CALLS:
    try:
      call = json.loads(value) if isinstance(value, str) else value
    except ValueError:
      raise ValueError('the call of a function is not JSON') from None
    calls = call if isinstance(call, list) else [call]
    rest['tool_calls'] = [{'type': 'function', 'function': c} for c in calls]
    value = ''
  return to_message({**rest, 'role': ROLES[speaker], 'content': value})


def _instruct(row: Mapping[str, Any]) -> Messages:
  """Alpaca's, and Dolly's; history holds earlier questions with answers."""
  messages = _system(row)
  for question, answer in row.get('history') or ():
    messages += _exchange(question, answer)
  question, more = row['instruction'], row.get('input', row.get('context', ''))
  if more.strip():
    question = f'{question}\n\n{more}'
  return messages + _exchange(question, row.get('output', row.get('response')))


def _prompt(row: Mapping[str, Any]) -> Messages:
  """Both are texts, or lists of messages."""
  prompt, completion = row['prompt'], row.get('completion', row.get('response'))
  if isinstance(prompt, str) and isinstance(completion, str):
    return _exchange(prompt, completion)
  given = [*to_list(prompt, 'prompt'), *to_list(completion, 'completion')]
  return [to_message(message) for message in given]


def _exchange(question: Any, answer: Any) -> Messages:
  return [
    to_message({'role': 'user', 'content': question}),
    to_message({'role': 'assistant', 'content': answer}),
  ]


def to_message(message: Any) -> dict[str, Any]:
  """A message with content as text; ValueError if it has none."""
  if not isinstance(message, Mapping):
    raise ValueError(f'a message is {type(message).__name__}, not an object')
  # Parquet gives every message the keys of all.
  message = {key: value for key, value in message.items() if value is not None}
  content = message.get('content')
  if content is None and message.get('tool_calls'):
    content = ''
  if isinstance(content, list):
    content = ''.join(map(_part, content))
  if not isinstance(content, str):
    raise ValueError(
      'a message has no content'
      if content is None
      else f'a message has content of type {type(content).__name__}'
    )
  if 'weight' in message and message['weight'] not in (0, 1):
    raise ValueError(f'a message has weight {message["weight"]!r}, not 0 or 1')
  return {**message, 'role': message.get('role'), 'content': content}


def _part(part: Any) -> str:
  if isinstance(part, Mapping):
    part = {key: value for key, value in part.items() if value is not None}
    if part.get('type', 'text') == 'text' and isinstance(part.get('text'), str):
      return part['text']
    part = part.get('type')
  raise ValueError(f'a message has a content part {part!r}, which is no text')


def to_list(value: Any, name: str) -> Sequence[Any]:
  """The list itself; ValueError if it is none, or empty."""
  if not isinstance(value, list) or not value:
    raise ValueError(f'{name} is not a list of at least one message')
  return value


class Node(NamedTuple):
  """A message of a tree of OASST, where its row stands, and its replies."""

  place: str
  message: Mapping[str, Any]
  replies: Sequence['Node']


def from_tree(place: str, message: Mapping[str, Any]) -> Node:
  """A tree of which each message holds its replies."""
  replies = [from_tree(place, r) for r in message.get('replies') or ()]
  return Node(place, message, replies)


def each_row(
  rows: Iterable[tuple[str, Mapping[str, Any] | str]],
  tally: Tally,
  known: Sequence[Form],
  make: Callable[[str, Any], _Made],
) -> Generator[_Made, None, Iterator[Node]]:
  """What is made of each row; OASST's, which may be anywhere, are returned.

  Args:
    rows: with what names their places; text says why there is no row.
    tally: is kept.
    known: forms that a row may have.
    make: of the place of a row and what its form reads; its ValueError rejects
      the row.

  Yields:
    What `make` returns.

  Returns:
    The trees of OASST, once all rows are read.
  """
  messages: dict[str, tuple[str, Mapping[str, Any]]] = {}
  trees: list[Node] = []
  for place, row in rows:
    with tally.rejecting(place):
      if isinstance(row, str):
        raise ValueError(row)
      row = {key: value for key, value in row.items() if value is not None}
      if {'message_id', 'text', 'role'} <= row.keys():
        messages[row['message_id']] = place, row
      elif {'message_tree_id', 'prompt'} <= row.keys():
        trees.append(from_tree(place, row['prompt']))
      else:
        form = form_of(row, known)
        made = make(place, form.read(row))
        names = f'{form.needs} {form.more}'.split()
        tally.ignored.update(key for key in row if key not in names)
        tally.forms[form.name] += 1
        yield made
  return itertools.chain(trees, from_messages(messages, tally))


def from_messages(
  rows: Mapping[str, tuple[str, Mapping[str, Any]]], tally: Tally
) -> Iterator[Node]:
  """Trees of messages that name their parents, in whatever order."""
  replies: dict[str | None, list[str]] = collections.defaultdict(list)
  for name, (_, row) in rows.items():
    replies[row.get('parent_id')].append(name)
  missing = set(rows)

  def node(name: str) -> Node:
    missing.remove(name)
    return Node(*rows[name], [node(reply) for reply in replies[name]])

  yield from map(node, replies[None])
  for name, (place, _) in rows.items():
    if name in missing:
      tally.reject('the first message of its tree is not there', place)


def _paths(node: Node, above: Sequence[Node], tally: Tally) -> list[list[Node]]:
  """From the root of a tree to each leaf.

  Deleted messages go with all behind them, and questions without an answer;
  both are counted.
  """
  if node.message.get('deleted'):
    tally.ignored['deleted messages'] += 1
    return []
  path = [*above, node]
  found = [p for reply in node.replies for p in _paths(reply, path, tally)]
  is_question = ROLES.get(node.message['role']) == conversation.USER
  if above and is_question and not found:
    tally.ignored['questions without an answer'] += 1
    return []
  return found or [path]


def _from_paths(paths: Sequence[Sequence[Node]]) -> Iterator[Read]:
  """The conversations of a tree.

  An answer that several paths share is read in each of them, and learnt in
  none, as it would be learnt more often than others.
  """
  n_paths = collections.Counter(id(node) for p in paths for node in p)
  for path in paths:
    messages = []
    for node in path:
      given, role = node.message, node.message['role']
      message = {'role': ROLES.get(role, role), 'content': given['text']}
      if message['role'] == conversation.ASSISTANT and n_paths[id(node)] > 1:
        message['weight'] = 0
      messages.append(to_message(message))
    yield Read(path[-1].place, messages)


_FORMS = (
  Form('OpenAI', 'messages', '', read=_openai),
  Form('ShareGPT', 'conversations', 'system', read=_sharegpt),
  Form('Alpaca', 'instruction output', 'input system history', read=_instruct),
  Form('Dolly', 'instruction response', 'context', read=_instruct),
  Form('prompt and completion', 'prompt completion', '', read=_prompt),
  Form('prompt and response', 'prompt response', '', read=_prompt),
)
