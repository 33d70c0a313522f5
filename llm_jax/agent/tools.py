"""What a model may call, and what it is told when it calls it.

A tool is a function with a JSON schema of its arguments. Whatever a model
writes, a call gives a text: the result, or a sentence that says what is wrong.
"""

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jsonschema

from llm_jax.chat import calls

# run(arguments, earlier) -> text, where earlier are the arguments of the calls
# of this tool before it in the conversation, oldest first.
RunFn = Callable[[Mapping[str, Any], Sequence[Mapping[str, Any]]], str]


@dataclasses.dataclass(frozen=True)
class Signature:
  """What a model is told of a tool."""

  name: str
  description: str  # for the model, where its chat template shows it
  parameters: Mapping[str, Any]  # JSON schema of an object

  def __post_init__(self):
    jsonschema.Draft202012Validator.check_schema(self.parameters)

  def schema(self) -> dict[str, Any]:
    """An entry of `tools` in OpenAI's form."""
    function = {
      'name': self.name,
      'description': self.description,
      'parameters': dict(self.parameters),
    }
    return {'type': 'function', 'function': function}


@dataclasses.dataclass(frozen=True)
class Tool:
  """A function that a model may call; used from several threads."""

  signature: Signature
  run: RunFn  # raises ToolError for what the model is to know


class ToolError(Exception):
  """What went wrong, for the model; the conversation goes on."""


@dataclasses.dataclass(frozen=True)
class Result:
  """What came of a call."""

  call: calls.Call
  text: str  # for the model
  is_error: bool


# What imported modules have made.
_OWN: dict[str, tuple[Signature, Callable[..., Any]]] = {}


def tool(
  description: str, parameters: Mapping[str, Any]
) -> Callable[[Callable[..., str]], Callable[..., str]]:
  """Make a function one that a model may call, by the function's name.

  Args:
    description: for the model.
    parameters: JSON schema of its arguments, an object; they are passed by
      name.

  Returns:
    A decorator; the function itself is not changed.
  """

  def register(function: Callable[..., str]) -> Callable[..., str]:
    name = function.__name__
    _OWN[name] = Signature(name, description, parameters), function
    return function

  return register


def registered(name: str, timeout_s: float) -> Tool:
  """A tool that an imported module has made.

  Args:
    name: of its function.
    timeout_s: a call that takes longer is given up; its thread is left behind.

  Raises:
    ValueError: if there is none of that name.
  """
  if name not in _OWN:
    known = ', '.join(['python', 'search', *_OWN])
    raise ValueError(
      f'there is no tool {name!r}, but {known}; give the module that makes it '
      'by --import'
    )
  signature, function = _OWN[name]

  def call(given: Mapping[str, Any], _: Sequence[Mapping[str, Any]]) -> str:
    found: list[Any] = []

    def work() -> None:
      try:
        found.append(str(function(**given)))
      except Exception as error:  # foreign code: the conversation goes on
        found.append(ToolError(f'{type(error).__name__}: {error}'))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout_s)
    result = found[0] if found else ToolError(f'no result in {timeout_s:g} s.')
    if isinstance(result, ToolError):
      raise result
    return result

  return Tool(signature, call)


def run(
  available: Mapping[str, Tool],
  wanted: calls.Call,
  earlier: Sequence[Result] = (),
  max_chars: int = 1000,
) -> Result:
  """Do what a model asks for, if it can be done.

  Args:
    available: the tools, by name.
    wanted: the call.
    earlier: of the conversation.
    max_chars: of the text; what is longer is cut, and says so.

  Returns:
    Its result; an error where nothing was executed or it failed. What a tool
    raises besides a ToolError, as a sandbox that has ended, goes through.
  """

  def fail(text: str) -> Result:
    return Result(wanted, _cut(text, max_chars), is_error=True)

  if wanted.fault:
    return fail(f'Error: this was no call: {wanted.fault}.')
  found = available.get(wanted.name)
  if found is None:
    names = ', '.join(available) or 'none'
    return fail(f'Error: there is no tool {wanted.name[:40]!r}; use {names}.')
  try:
    jsonschema.validate(dict(wanted.arguments), found.signature.parameters)
  except jsonschema.ValidationError as error:
    return fail(f'Error: {error.message[:200]}.')
  before = [
    one.call.arguments
    for one in earlier
    if one.call.name == wanted.name and not one.is_error
  ]
  try:
    text = found.run(wanted.arguments, before)
  except ToolError as error:
    return fail(f'Error: {error}')
  return Result(wanted, _cut(text, max_chars), is_error=False)


def _cut(text: str, max_chars: int) -> str:
  # A lone surrogate is no text that could be encoded.
  text = text.encode(errors='replace').decode()
  left_out = len(text) - max_chars
  if left_out <= 0:
    return text
  return f'{text[:max_chars]}\n... ({left_out} more characters)'
