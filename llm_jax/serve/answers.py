"""Answers of models in the form of OpenAI's API, streamed or whole.

A whole answer is made of the pieces of the streamed one.
"""

import asyncio
import contextlib
import dataclasses
import json
import secrets
import time
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

from fastapi import responses

from llm_jax.agent import tools, turns
from llm_jax.chat import calls, formats, template, usages
from llm_jax.infer import engine, reading, requests
from llm_jax.serve import schema, text, worker

_POLL_S = 0.1  # how often it is asked whether a client is still there
_MOST_CHOICES = 256  # of a request
_SCORED_TOGETHER = 4  # prompts
# Of a request for text, by the fields that have the same names there.
_RULES = (
  *('temperature', 'top_k', 'top_p', 'min_p', 'repetition_penalty'),
  *('presence_penalty', 'frequency_penalty'),
)
IsGone = Callable[[], Awaitable[bool]]


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
  n_prefix: int  # tokens at the beginning that are not of the text
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
  model, n_prefix = served.model, 0
  chat_format, runs_tools = model.chat_format, False
  banned: tuple[int, ...] = ()
  if isinstance(body, schema.Chat):
    if not chat_format.is_chat:
      message = (
        f'the model {served.name} was not trained on conversations; use '
        '/v1/completions'
      )
      raise ApiError(400, message, 'model')
    forbids = body.tool_choice == 'none'
    banned = tuple(chat_format.call_ids) if forbids else ()
    if body.tools and not forbids:
      chat_format = _with_tools(served, body.tools)
    runs_tools = not (body.tools or forbids) and model.using is not None
    prompts = [chat_prompt(chat_format, body.messages)]
  else:
    chat_format = formats.Plain(model.tokenizer)
    prompts = _prompts(model, body)
    has_text = isinstance(body.prompt, str)
    if isinstance(body.prompt, list) and isinstance(body.prompt[0], str):
      has_text = True
    if has_text and body.add_special_tokens is not False:
      n_prefix = len(model.tokenizer.prefix_ids)
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


def _prompts(model: turns.Model, body: schema.Completion) -> list[list[int]]:
  given: Any = body.prompt
  if isinstance(given, str) or isinstance(given[0], int):
    given = [given]
  adds = body.add_special_tokens is not False
  prefix = model.tokenizer.prefix_ids if adds else ()
  prompts = [
    [*prefix, *model.tokenizer.encode(x)] if isinstance(x, str) else x
    for x in given
  ]
  if not all(prompts):
    raise ApiError(400, 'a prompt is empty; give it a text', 'prompt')
  for ids in prompts:
    check_ids(ids, model.config.vocab_size, 'prompt')
  return prompts


def check_ids(ids: Sequence[int], vocab_size: int, param: str) -> None:
  """Refuse what is no token.

  Raises:
    ApiError: 400.
  """
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


async def events(
  several: Sequence[Asked], is_gone: IsGone, timeout_s: float
) -> AsyncGenerator[tuple[int, worker.Event]]:
  """Events of all choices as they come; who goes away frees its rows.

  Args:
    several: requests that are answered together.
    is_gone: whether nobody waits any more.
    timeout_s: after which it fails.

  Yields:
    The number of a choice, among all, and what has come of it.

  Raises:
    ApiError: 408 after timeout_s, 503 if the model has failed.
  """
  loop, found = asyncio.get_running_loop(), asyncio.Queue()
  jobs: list[tuple[worker.Worker, worker.Job]] = []
  n_before = 0
  for asked in several:
    seed, n = asked.body.seed, asked.body.n_choices
    seed = secrets.randbits(32) if seed is None else seed
    for i in range(len(asked.prompts) * n):
      at, choice = divmod(i, n)
      wanted = asked.wanted[at]
      if wanted is None:
        continue

      def emit(event, i=n_before + i):
        loop.call_soon_threadsafe(found.put_nowait, (i, event))

      job = worker.Job(
        asked.prompts[at],
        zlib.crc32(f'{seed}/{choice}'.encode()) if choice else seed,
        request=wanted,
        pieces=asked.pieces(),
        runs_tools=asked.runs_tools,
        emit=emit,
      )
      jobs.append((asked.served.worker, job))
    n_before += len(asked.prompts) * n

  def tick() -> None:
    nonlocal timer
    found.put_nowait(None)
    timer = loop.call_later(_POLL_S, tick)

  end_s = loop.time() + timeout_s
  timer = loop.call_later(min(_POLL_S, timeout_s), tick)
  try:
    for rows, job in jobs:
      rows.submit(job)
    n_left = len(jobs)
    while n_left:
      told = await found.get()
      if told is None:
        # Also while events come: nothing else tells of one who waits for the
        # whole answer and has gone.
        if loop.time() > end_s:
          message = f'no whole answer in {timeout_s:g} s; ask for fewer tokens'
          raise ApiError(408, message, code='timeout')
        if await is_gone():
          return
        continue
      i, event = told
      if event.finish.startswith('error'):
        raise ApiError(503, event.finish)
      n_left -= bool(event.finish)
      yield i, event
  finally:
    timer.cancel()
    for rows, job in jobs:
      rows.cancel(job)


async def chunks(
  asked: Asked, is_gone: IsGone, timeout_s: float
) -> AsyncGenerator[dict[str, Any]]:
  """Chunks of a stream; the last has the usage; see `events`."""
  body, is_chat = asked.body, asked.is_chat
  head = {
    'id': ('chatcmpl-' if is_chat else 'cmpl-') + asked.id,
    'object': 'chat.completion.chunk' if is_chat else 'text_completion',
    'created': int(time.time()),
    'model': body.model,
  }

  def chunk(i, said, logprobs=None, finish=None, **more):
    choice = {'index': i, 'logprobs': logprobs, 'finish_reason': finish}
    return head | {'choices': [choice | said]} | more

  def words(text: str) -> dict[str, Any]:
    return {'delta': {'content': text}} if is_chat else {'text': text}

  n_choices, n_drawn = len(asked.prompts) * body.n_choices, 0
  n_chars, n_calls = [0] * n_choices, [0] * n_choices
  for i in range(n_choices if is_chat else 0):
    yield chunk(i, {'delta': {'role': 'assistant', 'content': ''}})
  async for i, said, logprobs in _echoes(asked):
    n_chars[i] = len(said)
    yield chunk(i, words(said), logprobs)
  for i in range(n_choices):
    if asked.wanted[i // body.n_choices] is None:
      yield chunk(i, words(''), finish='length')
  found = events([asked], is_gone, timeout_s)
  async with contextlib.aclosing(found):
    async for i, event in found:
      n_drawn += event.n_drawn
      logprobs = _logprobs(asked, event.tokens, n_chars[i])
      n_chars[i] += len(event.text)
      if event.text or (logprobs and event.tokens):
        yield chunk(i, words(event.text), logprobs)
      for result in event.results:
        yield chunk(i, {'delta': {}}, llm_jax=_result(result))
      for call in event.calls:
        number, n_calls[i] = n_calls[i], n_calls[i] + 1
        made = call.message() | {
          'index': number,
          'id': f'call_{asked.id}_{i}_{number}',
        }
        yield chunk(i, {'delta': {'tool_calls': [made]}})
      if event.finish:
        said = {'delta': {}} if is_chat else {'text': ''}
        yield chunk(i, said, finish=event.finish)
  n_prompt = sum(map(len, asked.prompts))
  usage = {
    'prompt_tokens': n_prompt,
    'completion_tokens': n_drawn,
    'total_tokens': n_prompt + n_drawn,
  }
  yield head | {'choices': [], 'usage': usage}


def _result(result: tools.Result) -> dict[str, Any]:
  call = result.call.message()['function']
  return {'call': call, 'result': result.text, 'is_error': result.is_error}


async def _echoes(asked: Asked) -> AsyncGenerator[tuple[int, str, Any]]:
  """The prompts of a completion as the beginnings of its answers."""
  body, served = asked.body, asked.served
  if not isinstance(body, schema.Completion) or not body.echo:
    return
  scored: list[list[engine.Choice]] = [[] for _ in asked.prompts]
  several = [i for i, ids in enumerate(asked.prompts) if len(ids) > 1]
  # A few at a time: others' answers go on between them.
  for start in range(0, len(several) if body.n_top else 0, _SCORED_TOGETHER):
    part = several[start : start + _SCORED_TOGETHER]
    future = served.worker.call(
      lambda model, part=part: reading.likely(
        model.config,
        model.params,
        texts=[asked.prompts[i] for i in part],
        n_top=body.n_top,
        batch_size=_SCORED_TOGETHER,
      )
    )
    found = await asyncio.wrap_future(future)
    for i, choices in zip(part, found, strict=True):
      scored[i] = choices
  for i in range(len(asked.prompts) * body.n_choices):
    ids = asked.prompts[i // body.n_choices]
    choices = [None, *scored[i // body.n_choices]]
    logprobs = None
    if body.n_top:
      told = zip(ids, choices, strict=True)
      logprobs = _logprobs(asked, [*told], offset=0, n_prefix=asked.n_prefix)
    said = served.model.tokenizer.decode(ids[asked.n_prefix :])
    yield i, said, logprobs


def _logprobs(
  asked: Asked,
  tokens: Sequence[tuple[int, engine.Choice | None]],
  offset: int,
  n_prefix: int = 0,
) -> dict[str, list[Any]] | None:
  body, tokenizer = asked.body, asked.served.model.tokenizer
  if not body.n_top:
    return None
  by_id = isinstance(body, schema.Completion) and (
    body.return_tokens_as_token_ids
  )

  def name(token: int) -> str:
    return f'token_id:{token}' if by_id else tokenizer.shown(token)

  def entry(token: int, logp: float) -> dict[str, Any]:
    raw = list(tokenizer.token_bytes(token))
    return {'token': name(token), 'logprob': logp, 'bytes': raw}

  def top(choice: engine.Choice | None) -> list[tuple[int, float]]:
    if choice is None:
      return []
    pairs = zip(choice.top_ids, choice.top_logps, strict=True)
    return [*pairs][: body.n_listed]

  if asked.is_chat:
    content = [
      entry(token, x.logp if x else 0.0)
      | {'top_logprobs': [entry(*pair) for pair in top(x)]}
      for token, x in tokens
    ]
    return {'content': content}
  offsets = []
  for at, (token, _) in enumerate(tokens):
    offsets.append(offset)
    offset += len(tokenizer.decode([token])) if at >= n_prefix else 0
  return {
    'tokens': [name(token) for token, _ in tokens],
    'token_logprobs': [x.logp if x else None for _, x in tokens],
    'top_logprobs': [
      {name(t): logp for t, logp in top(x)} if x else None for _, x in tokens
    ],
    'text_offset': offsets,
  }


async def lines(
  asked: Asked, is_gone: IsGone, timeout_s: float
) -> AsyncGenerator[str]:
  """Server-sent events; the usage only if it was asked for; see `events`."""
  options = asked.body.stream_options
  found = chunks(asked, is_gone, timeout_s)
  try:
    async with contextlib.aclosing(found):
      async for chunk in found:
        if chunk['choices'] or (options and options.include_usage):
          yield f'data: {json.dumps(chunk)}\n\n'
  except ApiError as error:
    yield f'data: {json.dumps(error.body)}\n\n'
  yield 'data: [DONE]\n\n'


async def whole(
  asked: Asked, is_gone: IsGone, timeout_s: float
) -> dict[str, Any]:
  """An answer that is not streamed: the pieces of the stream together."""
  n_choices = len(asked.prompts) * asked.body.n_choices
  made: list[dict[str, Any]] = [
    {
      'text': '',
      'finish': None,
      'calls': [],
      'results': [],
      'logprobs': _logprobs(asked, [], offset=0),
    }
    for _ in range(n_choices)
  ]
  result: dict[str, Any] = {}
  found = chunks(asked, is_gone, timeout_s)
  async with contextlib.aclosing(found):
    async for chunk in found:
      results = [chunk.pop('llm_jax')] if 'llm_jax' in chunk else []
      result |= chunk
      for choice in chunk['choices']:
        one, delta = made[choice['index']], choice.get('delta', choice)
        one['text'] += delta.get('content') or delta.get('text') or ''
        one['finish'] = choice['finish_reason']
        one['results'] += results
        for call in delta.get('tool_calls', ()):
          one['calls'].append({k: x for k, x in call.items() if k != 'index'})
        for name, new in (choice['logprobs'] or {}).items():
          one['logprobs'][name] += new
  result['object'] = 'chat.completion' if asked.is_chat else 'text_completion'
  result['choices'] = []
  for i, one in enumerate(made):
    said: dict[str, Any] = {'text': one['text']}
    if asked.is_chat:
      message = {'role': 'assistant', 'content': one['text']}
      if one['calls']:
        message['content'] = one['text'] or None
        message['tool_calls'] = one['calls']
      if one['results']:
        message['llm_jax'] = one['results']
      said = {'message': message}
    ended = {'finish_reason': one['finish'], 'logprobs': one['logprobs']}
    result['choices'].append({'index': i} | ended | said)
  return result
