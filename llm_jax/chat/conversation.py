"""Conversations in OpenAI's message form: what is allowed, and why not.

A conversation is a list of {'role': ..., 'content': ...}; what the assistant
says is learnt, its calls of tools included, unless the message has a weight of
0. Does not render (see template.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from llm_jax.chat import calls

SYSTEM = 'system'
USER = 'user'
ASSISTANT = 'assistant'
TOOL = 'tool'
ROLES = (SYSTEM, USER, ASSISTANT, TOOL)

Message = Mapping[str, Any]

# Of a message. Our own layout shows neither names nor numbers of calls: results
# stand in the order of the calls.
_KEYS = {'role', 'content', 'weight', 'name', 'tool_call_id', 'tool_calls'}
# Who may speak after whom; None is the beginning.
_MAY_FOLLOW = {
  None: (SYSTEM, USER),
  SYSTEM: (USER,),
  USER: (ASSISTANT,),
  ASSISTANT: (USER, TOOL),
  TOOL: (ASSISTANT, TOOL),
}


def check(messages: Sequence[Message]) -> None:
  """Refuse what is not a conversation.

  It may begin with one system message; then a user and the assistant take
  turns, and results of tools may stand between two assistant messages. It may
  end anywhere.

  Raises:
    ValueError: with the index of the first wrong message and what it needs.
  """
  if isinstance(messages, Mapping | str) or not isinstance(messages, Sequence):
    raise ValueError(
      f'a conversation is a list of messages, not {type(messages).__name__}'
    )
  if not messages:
    raise ValueError('the conversation has no messages; give at least one')
  previous = None
  for index, message in enumerate(messages):
    _check_message(index, message)
    role = message['role']
    if role not in _MAY_FOLLOW[previous]:
      raise ValueError(
        f'message {index} has role {role!r} '
        f'{f"after {previous!r}" if previous else "at the beginning"}; here '
        f'comes {" or ".join(_MAY_FOLLOW[previous])}'
      )
    previous = role


def is_learnt(message: Message) -> bool:
  """Whether it is the assistant's, and not one with a weight of 0."""
  return message['role'] == ASSISTANT and message.get('weight', 1) != 0


def check_answerable(messages: Sequence[Message]) -> None:
  """Refuse what is not a conversation, or has nothing to answer.

  Raises:
    ValueError: see `check`, and if the assistant would answer itself or the
      system message.
  """
  check(messages)
  role = messages[-1]['role']
  if role in (ASSISTANT, SYSTEM):
    raise ValueError(
      f'the last message is of the {role}, so there is nothing to answer; '
      f'end with a user or tool message, or leave out the generation prompt'
    )


def _check_message(index: int, message: Message) -> None:
  if not isinstance(message, Mapping):
    raise ValueError(
      f'message {index} is {type(message).__name__}; make it an object'
    )
  role, content = message.get('role'), message.get('content')
  if role not in ROLES:
    raise ValueError(
      f'message {index} has role {role!r}; use one of {", ".join(ROLES)}'
    )
  if not isinstance(content, str):
    raise ValueError(
      f'message {index} has content {content!r}; it must be a string'
    )
  if 'tool_calls' in message:
    if message['role'] != ASSISTANT:
      raise ValueError(
        f'message {index} of the {message["role"]} has tool_calls; only the '
        'assistant calls tools'
      )
    try:
      calls.of_message(message)
    except ValueError as error:
      raise ValueError(f'message {index} is wrong: {error}') from None
  unknown = sorted(message.keys() - _KEYS)
  if unknown:
    raise ValueError(
      f'message {index} has {unknown[0]!r}, which the format does not show'
    )
