"""Calls of tools: in OpenAI's messages, and as models write them.

Reads what a model wrote without trusting it: what is no call becomes a `Call`
with the fault, so that somebody can be told. Executes nothing (see
llm_jax.agent).
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from llm_jax.tokenizer import specials

# Tools with tokens of their own: what opens and ends a call, and the one
# argument that stands between them as it is. All others are written as JSON.
_OWN = {
  'python': (specials.PYTHON_START, specials.PYTHON_END, 'code'),
  'search': (specials.SEARCH_START, specials.SEARCH_END, 'query'),
}
_ANY = (specials.CALL_START, specials.CALL_END)
ENDS = dict([_ANY, *(own[:2] for own in _OWN.values())])
OPENINGS = (*ENDS,)
TOKENS = (*OPENINGS, *ENDS.values())


@dataclasses.dataclass(frozen=True)
class Call:
  """What a model wants of a tool, or a fault where that cannot be read."""

  name: str
  arguments: Mapping[str, Any]
  fault: str = ''

  def message(self) -> dict[str, Any]:
    """An entry of `tool_calls` in OpenAI's form."""
    arguments = json.dumps(dict(self.arguments), ensure_ascii=False)
    function = {'name': self.name, 'arguments': arguments}
    return {'type': 'function', 'function': function}


def of_message(message: Mapping[str, Any]) -> list[Call]:
  """The calls of an assistant's message; arguments as JSON or as an object.

  Raises:
    ValueError: for what is no list of calls.
  """
  calls = message.get('tool_calls')
  if calls is None:
    return []
  if not isinstance(calls, Sequence) or isinstance(calls, str):
    raise ValueError(f'tool_calls is {type(calls).__name__}, not a list')
  result = [_read(_member(call, 'function', Mapping)) for call in calls]
  for call in result:
    if call.fault:
      raise ValueError(f'a call in tool_calls: {call.fault}')
  return result


def parse(text: str) -> list[Call]:
  """Calls as JSON: one object with a name, or a list of them."""
  try:
    found = json.loads(text)
  except (ValueError, RecursionError):
    return [Call('', {}, 'it is no JSON')]
  entries = found if isinstance(found, list) else [found]
  return [*map(_read, entries)] or [Call('', {}, 'it names no tool')]


def pieces(call: Call) -> tuple[str, str, str]:
  """The control token before, the text, and the control token behind."""
  if call.name in _OWN:
    start, end, key = _OWN[call.name]
    if [*call.arguments] == [key] and isinstance(call.arguments[key], str):
      return start, call.arguments[key], end
  content = {'name': call.name, 'arguments': dict(call.arguments)}
  return _ANY[0], json.dumps(content, ensure_ascii=False), _ANY[1]


def read(opening: str, text: str, is_ended: bool) -> list[Call]:
  """The calls that a token has opened.

  Args:
    opening: the token.
    text: what stands behind it.
    is_ended: whether its end does, too.
  """
  if not is_ended:
    return [Call('', {}, f'{opening} has no {ENDS[opening]}')]
  for name, (start, _, key) in _OWN.items():
    if start == opening:
      return [Call(name, {key: text})]
  return parse(text)


def _read(entry: Any) -> Call:
  """A call from an object with name and arguments; some say parameters."""
  if not isinstance(entry, Mapping) or not isinstance(entry.get('name'), str):
    return Call('', {}, 'it names no tool')
  arguments = entry.get('arguments', entry.get('parameters')) or {}
  if isinstance(arguments, str):
    try:
      arguments = json.loads(arguments)
    except (ValueError, RecursionError):
      return Call(entry['name'], {}, 'its arguments are no JSON')
  if not isinstance(arguments, Mapping):
    return Call(entry['name'], {}, 'its arguments are no JSON object')
  return Call(entry['name'], arguments)


def _member(call: Any, key: str, kind: type) -> Any:
  found = call.get(key) if isinstance(call, Mapping) else None
  if not isinstance(found, kind):
    raise ValueError(f'a call in tool_calls has no {key}')
  return found
