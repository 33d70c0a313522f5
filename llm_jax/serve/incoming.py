"""What is asked of a model by HTTP, checked against what it can do."""

import dataclasses
import json
import secrets
from collections.abc import Sequence
from typing import Any

from fastapi import responses

from llm_jax.agent import turns
from llm_jax.chat import calls, formats, template, usages
from llm_jax.infer import requests
from llm_jax.serve import schema, text, worker

_MOST_CHOICES = 256  # of a request
# Of a request for text, by the fields that have the same names there.
_RULES = (
  *('temperature', 'top_k', 'top_p', 'min_p', 'repetition_penalty'),
  *('presence_penalty', 'frequency_penalty'),
)


@dataclasses.dataclass(frozen=True)
class Served:
  """A checkpoint and what it says of itself."""

  name: str
  model: turns.Model
  worker: worker.Worker
  stage: str
  usage: usages.Usage = usages.UNKNOWN

  def entry(self, created: int) -> dict[str, Any]:
    """The model in /v1/models."""
    cfg, using = self.model.config, self.model.using
    return {
      'id': self.name,
      'object': 'model',
      'created': created,
      'owned_by': 'llm_jax',
      'max_model_len': self.worker.n_slots,
      'is_chat': self.model.chat_format.is_chat,
      'max_turns': self.usage.max_turns,
      'examples': [*self.usage.examples],
      'stage': self.stage,
      'vocab_size': cfg.vocab_size,
      'n_layers': cfg.n_layers,
      'n_heads': cfg.n_heads,
      'tools': [] if using is None else [*using.available],
    }


class ApiError(Exception):
  """An answer in OpenAI's form of errors."""

  def __init__(
    self, status: int, message: str, param: str | None = None, code: str = ''
  ):
    """Make the answer.

    Args:
      status: of HTTP.
      message: what is wrong, and the remedy.
      param: the field, if it is one.
      code: of OpenAI's API, if it has one for this.
    """
    super().__init__(message)
    kind = 'invalid_request_error' if status < 500 else 'server_error'
    told = {'type': kind, 'param': param, 'code': code or None}
    self.status = status
    self.body = {'error': {'message': message} | told}

  def response(self) -> responses.Response:
    """What is sent."""
    headers = {'Retry-After': '1'} if self.status == 429 else None
    # Not JSONResponse: what was sent may hold half a character.
    return responses.Response(
      json.dumps(self.body), self.status, headers, 'application/json'
    )


@dataclasses.dataclass(frozen=True)
class Asked:
  """A request that can be answered: one prompt, or several."""

  served: Served
  body: schema.Chat | schema.Completion
  prompts: list[list[int]]
  wanted: list[requests.Request | None]  # one each; None: nothing is drawn
  chat_format: template.Format
  runs_tools: bool  # the server's
  n_prefix: list[int]  # tokens of each before its text
  id: str = dataclasses.field(default_factory=lambda: secrets.token_hex(12))

  @property
  def is_chat(self) -> bool:
    """Whether it is a conversation."""
    return isinstance(self.body, schema.Chat)

  def pieces(self) -> text.Pieces:
    """For the text of one answer."""
    tokenizer, body = self.served.model.tokenizer, self.body
    may_call = False
    if isinstance(body, schema.Chat) and body.tool_choice != 'none':
      # Our own layout shows no tools: such a model may call at any time.
      is_own = tokenizer.chat_template is None
      may_call = is_own or bool(body.tools) or self.runs_tools
    return text.Pieces(
      tokenizer, self.chat_format, stops=body.stops, may_call=may_call
    )


def read(served: Served, body: schema.Chat | schema.Completion) -> Asked:
  """Check a request against its model; encodes text, which takes a while.

  Raises:
    ApiError: 400 for what this model cannot do.
  """
  model, tokenizer = served.model, served.model.tokenizer
  chat_format, runs_tools = model.chat_format, False
  banned: tuple[int, ...] = ()
  n_prefix = [0]
  if isinstance(body, schema.Chat):
    if not chat_format.is_chat:
      message = f'{served.name} holds no conversations; use /v1/completions'
      raise ApiError(400, message, 'model')
    if body.tool_choice == 'none':
      banned = tuple(chat_format.call_ids)
      chat_format = formats.choose(tokenizer, is_chat=True)
    elif body.tools:
      chat_format = _with_tools(served, body.tools)
    else:
      runs_tools = model.using is not None
    prompts = [chat_prompt(chat_format, body.messages)]
  else:
    chat_format = formats.Plain(tokenizer)
    given: Any = body.prompt
    if isinstance(given, str) or isinstance(given[0], int):
      given = [given]
    adds = body.add_special_tokens is not False
    prefix = tokenizer.prefix_ids if adds else ()
    n_prefix = [len(prefix) * isinstance(x, str) for x in given]
    prompts = [
      [*prefix, *tokenizer.encode(x)] if isinstance(x, str) else x
      for x in given
    ]
    for ids in prompts:
      check_ids(ids, model.config.vocab_size, 'prompt')
  if len(prompts) * body.n_choices > _MOST_CHOICES:
    message = f'more than {_MOST_CHOICES} answers; send several requests'
    raise ApiError(400, message, 'n')
  return Asked(
    served,
    body,
    prompts=prompts,
    wanted=[_request(served, body, ids, banned=banned) for ids in prompts],
    chat_format=chat_format,
    runs_tools=runs_tools,
    n_prefix=n_prefix,
  )


def chat_prompt(
  chat_format: template.Format, messages: Sequence[dict[str, Any]]
) -> list[int]:
  """The ids of a conversation that a model answers.

  Raises:
    ApiError: 400 for messages that are none.
  """
  try:
    prompt = chat_format.prompt(messages)
    # Formats show results in the order of the calls, and no ids.
    wanted: list[Any] = []
    for message in messages:
      wanted = [x.get('id') for x in message.get('tool_calls', ())] or wanted
      given = message.get('tool_call_id')
      if given is not None and given != (wanted.pop(0) if wanted else given):
        told = f'the result of {given} is not in its place'
        raise ValueError(f'{told}, the order of the calls')
    return prompt
  except ValueError as error:
    raise ApiError(400, str(error), 'messages') from error


def _with_tools(
  served: Served, given: Sequence[schema.Tool]
) -> template.Format:
  """The format that shows a model what its client can do."""
  tokenizer = served.model.tokenizer
  own = [tool.function.name for tool in given]
  if tokenizer.chat_template is None and {*own} - {*calls.NAMES}:
    message = (
      f'the layout of {served.name} shows no descriptions of tools; it can '
      f'call {" and ".join(calls.NAMES)}, and not {", ".join(own)}'
    )
    raise ApiError(400, message, 'tools')
  shown = [tool.model_dump() for tool in given]
  try:
    found = formats.choose(tokenizer, True, shown)
    if found.openings() == (frozenset(), ''):
      raise ValueError('this model has no way to call tools; send none')
  except ValueError as error:
    raise ApiError(400, str(error), 'tools') from error
  return found


def check_ids(ids: Sequence[int], vocab_size: int, param: str) -> None:
  """Refuse what is no token, or nothing.

  Raises:
    ApiError: 400.
  """
  if not ids:
    raise ApiError(400, f'{param}: it is empty; give it something', param)
  for token in ids:
    if not 0 <= token < vocab_size:
      message = f'{token} is no token; ids are 0 to {vocab_size - 1}'
      raise ApiError(400, message, param)


def _request(
  served: Served,
  body: schema.Chat | schema.Completion,
  prompt: list[int],
  banned: tuple[int, ...],
) -> requests.Request | None:
  """How a prompt is to be continued; what does not fit is refused."""
  model = served.model
  limit = served.worker.n_slots
  n_left = limit - len(prompt)
  n_new = max(n_left, 1) if body.n_new is None else body.n_new
  if n_left < n_new:
    message = (
      f'the prompt has {len(prompt)} tokens; with {n_new} new ones it exceeds '
      f'the {limit} tokens of the context'
    )
    param = 'messages' if isinstance(body, schema.Chat) else 'prompt'
    raise ApiError(400, message, param, code='context_length_exceeded')
  if not n_new:
    return None
  bias = body.logit_bias or {}
  if bias:
    check_ids([*map(int, bias)], model.config.vocab_size, 'logit_bias')
  rules = {name: getattr(body, name) for name in _RULES}
  try:
    wanted = requests.Request(
      n_new,
      () if body.ignore_eos else model.chat_format.stop_ids,
      banned_ids=banned,
      bias=tuple((int(token), value) for token, value in bias.items()),
      min_new_tokens=body.min_tokens or 0,
      n_top=body.n_top,
      **{name: x for name, x in rules.items() if x is not None},
    )
    requests.check(model.config, prompt, wanted, n_slots=limit)
  except ValueError as error:
    raise ApiError(400, str(error)) from error
  return wanted
