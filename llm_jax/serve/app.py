"""Checkpoints by HTTP, in the form of OpenAI's API."""

import asyncio
import contextlib
import dataclasses
import hmac
import json
import pathlib
import secrets
import time
import zlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import fastapi
from fastapi import exceptions, responses, staticfiles
from starlette.exceptions import HTTPException
from starlette.middleware import trustedhost

from llm_jax.infer import engine, requests
from llm_jax.serve import schema, text, worker
from llm_jax.train import checkpoint

_PAGE = pathlib.Path(__file__).with_name('page')
_POLL_S = 0.1  # how often it is asked whether a client is still there


@dataclasses.dataclass(frozen=True)
class Served:
  """A checkpoint and what it says of itself."""

  loaded: checkpoint.LoadedModel
  worker: worker.Worker

  def entry(self, name: str, created: int) -> dict[str, Any]:
    """The model in /v1/models."""
    cfg = self.loaded.model_config
    return {
      'id': name,
      'object': 'model',
      'created': created,
      'owned_by': 'llm_jax',
      'max_model_len': cfg.max_length,
      'is_chat': self.worker.model.chat_format.is_chat,
      'max_turns': self.loaded.usage.max_turns,
      'examples': list(self.loaded.usage.examples),
      'stage': self.loaded.stage,
      'vocab_size': cfg.vocab_size,
      'n_layers': cfg.n_layers,
      'n_heads': cfg.n_heads,
      'tools': [],
    }


class _Page(staticfiles.StaticFiles):
  """The files of the page, which may load nothing from elsewhere."""

  def file_response(self, *args, **kwargs):
    response = super().file_response(*args, **kwargs)
    response.headers['Content-Security-Policy'] = "default-src 'self'"
    response.headers['X-Content-Type-Options'] = 'nosniff'
    return response


class _ApiError(Exception):
  """An answer in OpenAI's form of errors."""

  def __init__(
    self, status: int, message: str, param: str | None = None, code: str = ''
  ):
    super().__init__(message)
    kind = 'invalid_request_error' if status < 500 else 'server_error'
    body = {'type': kind, 'param': param, 'code': code or None}
    headers = {'Retry-After': '1'} if status == 429 else None
    self.response = responses.JSONResponse(
      {'error': {'message': message} | body}, status, headers
    )


def make(
  models: dict[str, Served],
  hosts: Sequence[str] = ('127.0.0.1', 'localhost'),
  key: str = '',
  max_waiting: int = 256,
) -> fastapi.FastAPI:
  """The application.

  Args:
    models: by name.
    hosts: names under which it may be asked, against DNS rebinding.
    key: that clients must give; empty: none.
    max_waiting: answers of a model that run or wait, at most.
  """
  created = int(time.time())

  def check_key(request: fastapi.Request) -> None:
    given = request.headers.get('authorization', '').encode()
    if key and not hmac.compare_digest(given, f'Bearer {key}'.encode()):
      raise _ApiError(401, 'the API key is wrong', code='invalid_api_key')

  app = fastapi.FastAPI(title='llm_jax')
  app.add_middleware(trustedhost.TrustedHostMiddleware, [*hosts])
  api = fastapi.APIRouter(dependencies=[fastapi.Depends(check_key)])

  @app.exception_handler(_ApiError)
  async def api_error(_, error: _ApiError):
    return error.response

  @app.exception_handler(exceptions.RequestValidationError)
  async def invalid(_, error: exceptions.RequestValidationError):
    first = error.errors()[0]
    place = [x for x in first['loc'] if x != 'body']
    name = str(place[0]) if place else None
    where = '.'.join(map(str, place)) or 'the body'
    return _ApiError(400, f'{where}: {first["msg"]}', name).response

  @app.exception_handler(HTTPException)
  async def other(_, error: HTTPException):
    return _ApiError(error.status_code, str(error.detail)).response

  def find(name: str) -> Served:
    if name not in models:
      known = ', '.join(models)
      message = f'there is no model {name!r}; use one of: {known}'
      raise _ApiError(404, message, 'model', code='model_not_found')
    return models[name]

  def entries() -> list[dict[str, Any]]:
    return [served.entry(name, created) for name, served in models.items()]

  @app.get('/health')
  async def health():
    failures = [x.worker.failure for x in models.values() if x.worker.failure]
    if failures:
      raise _ApiError(500, failures[0])
    return {'status': 'ok'}

  @api.get('/v1/models')
  async def list_models():
    return {'object': 'list', 'data': entries()}

  @api.get('/v1/models/{name}')
  async def one_model(name: str):
    return find(name).entry(name, created)

  @api.get('/page/settings')
  async def settings():
    names = [*models]
    return {'models': entries(), 'tokenizers': names} | {
      'arena': False,
      'runs': False,
    }

  @api.post('/tokenize')
  async def tokenize(body: schema.Tokenize):
    served = find(body.model)
    model = served.worker.model
    if (body.prompt is None) == (body.messages is None):
      raise _ApiError(400, 'give prompt or messages, one of them', 'prompt')
    if body.messages is not None:
      ids = _chat_prompt(served, body.messages)
    else:
      adds = body.add_special_tokens is not False
      ids = [
        *(model.tokenizer.prefix_ids if adds else ()),
        *model.tokenizer.encode(_text(body.prompt or '', 'prompt')),
      ]
    strings = [model.tokenizer.shown(i) for i in ids]
    return {
      'count': len(ids),
      'max_model_len': model.config.max_length,
      'tokens': ids,
      'token_strs': strings if body.return_token_strs else None,
    }

  @api.post('/detokenize')
  async def detokenize(body: schema.Detokenize):
    model = find(body.model).worker.model
    _check_ids(body.tokens, model.config.vocab_size, 'tokens')
    return {'prompt': model.tokenizer.decode(body.tokens)}

  @api.post('/v1/chat/completions')
  async def chat(body: schema.Chat, request: fastapi.Request):
    if body.top_logprobs is not None and not body.logprobs:
      raise _ApiError(400, 'top_logprobs needs logprobs', 'top_logprobs')
    served = find(body.model)
    prompts = [_chat_prompt(served, body.messages)]
    return await answer(body, request, prompts)

  @api.post('/v1/completions')
  async def complete(body: schema.Completion, request: fastapi.Request):
    model = find(body.model).worker.model
    given: Any = body.prompt
    if isinstance(given, str) or (given and isinstance(given[0], int)):
      given = [given]
    prompts = []
    for one in given:
      if isinstance(one, str):
        ids = model.tokenizer.encode(_text(one, 'prompt'))
        prompts.append([*model.tokenizer.prefix_ids, *ids])
      else:
        _check_ids(one, model.config.vocab_size, 'prompt')
        prompts.append(one)
    if not prompts or not all(prompts):
      raise _ApiError(400, 'the prompt is empty', 'prompt')
    return await answer(body, request, prompts)

  async def answer(body, request, prompts):
    served = find(body.model)
    n_choices = len(prompts) * (body.n or 1)
    if served.worker.failure:
      raise _ApiError(500, served.worker.failure)
    if served.worker.n_waiting + n_choices > max_waiting:
      raise _ApiError(429, 'the queue is full; try again', code='queue_full')
    if body.stream_options is not None and not body.stream:
      raise _ApiError(400, 'stream_options needs stream', 'stream_options')
    wanted = [_request(served, body, prompt) for prompt in prompts]
    events = _events(served, body, request, prompts=prompts, wanted=wanted)
    chunks = _chunks(served, body, events, prompts=prompts)
    if body.stream:
      lines = _lines(body, chunks)
      return responses.StreamingResponse(lines, media_type='text/event-stream')
    return await _whole(body, chunks, n_choices)

  app.include_router(api)
  app.mount('/', _Page(directory=_PAGE, html=True))
  return app


def _text(given: str, param: str) -> str:
  """Text that can be encoded: JSON lets half a character through."""
  try:
    given.encode()
  except UnicodeEncodeError as error:
    raise _ApiError(400, f'{param}: {error}', param) from error
  return given


def _check_ids(ids: Sequence[int], vocab_size: int, param: str) -> None:
  for token in ids:
    if not 0 <= token < vocab_size:
      message = f'{token} is no token; ids are 0 to {vocab_size - 1}'
      raise _ApiError(400, message, param)


def _chat_prompt(served: Served, messages) -> list[int]:
  for message in messages:
    _text(message.content, 'messages')
  said = [message.model_dump() for message in messages]
  try:
    return served.worker.model.chat_format.prompt(said)
  except ValueError as error:
    raise _ApiError(400, str(error), 'messages') from error


def _request(served: Served, body, prompt: list[int]) -> requests.Request:
  """The request of a body; what does not fit is refused."""
  model = served.worker.model
  is_chat = isinstance(body, schema.Chat)
  n_left = model.config.max_length - len(prompt)
  asked = body.max_tokens or (is_chat and body.max_completion_tokens)
  n_new = asked or (n_left if is_chat else min(16, n_left))
  if n_left < max(n_new, 1):
    message = (
      f'the prompt has {len(prompt)} tokens; with {max(n_new, 1)} new ones it '
      f'exceeds the {model.config.max_length} tokens of the context'
    )
    param = 'messages' if is_chat else 'prompt'
    raise _ApiError(400, message, param, code='context_length_exceeded')
  names = ('temperature', 'top_k', 'top_p', 'min_p', 'repetition_penalty')
  rules = {name: getattr(body, name) for name in names}
  return requests.Request(
    n_new,
    model.chat_format.stop_ids,
    **{name: x for name, x in rules.items() if x is not None},
  )


async def _events(
  served, body, request, prompts, wanted
) -> AsyncIterator[tuple[int, worker.Event]]:
  """Events of all choices as they come; who goes away frees its rows."""
  loop, found = asyncio.get_running_loop(), asyncio.Queue()
  seed = secrets.randbits(32) if body.seed is None else body.seed
  model = served.worker.model
  is_chat = isinstance(body, schema.Chat)
  opening = model.chat_format.opening if is_chat else ''
  jobs = []
  for i in range(len(prompts) * (body.n or 1)):
    at, choice = divmod(i, body.n or 1)

    def emit(event, i=i):
      loop.call_soon_threadsafe(found.put_nowait, (i, event))

    jobs.append(
      worker.Job(
        prompts[at],
        zlib.crc32(f'{seed}/{choice}'.encode()) if choice else seed,
        request=wanted[at],
        pieces=text.Pieces(model, body.stops, opening),
        emit=emit,
      )
    )
  try:
    for job in jobs:
      served.worker.submit(job)
    n_left, asked_s = len(jobs), time.monotonic()
    while n_left:
      # Also while events come: nothing else tells of one who waits for the
      # whole answer and has gone.
      if time.monotonic() - asked_s > _POLL_S:
        asked_s = time.monotonic()
        if await request.is_disconnected():
          return
      try:
        i, event = await asyncio.wait_for(found.get(), _POLL_S)
      except TimeoutError:
        continue
      n_left -= bool(event.finish)
      yield i, event
  finally:
    for job in jobs:
      served.worker.cancel(job)


async def _chunks(served, body, events, prompts) -> AsyncIterator[dict]:
  """Chunks of a stream; the last has the usage."""
  is_chat = isinstance(body, schema.Chat)
  head = {
    'id': ('chatcmpl-' if is_chat else 'cmpl-') + secrets.token_hex(12),
    'object': 'chat.completion.chunk' if is_chat else 'text_completion',
    'created': int(time.time()),
    'model': body.model,
  }

  def chunk(i, said, logprobs=None, finish=None):
    choice = {'index': i, 'logprobs': logprobs, 'finish_reason': finish}
    return head | {'choices': [choice | said]}

  n_choices, n_drawn = len(prompts) * (body.n or 1), 0
  if is_chat:
    for i in range(n_choices):
      yield chunk(i, {'delta': {'role': 'assistant', 'content': ''}})
  n_chars = [0] * n_choices
  async with contextlib.aclosing(events):
    async for i, event in events:
      if event.finish.startswith('error'):
        raise _ApiError(500, event.finish)
      n_drawn += event.n_drawn
      logprobs = _logprobs(served, body, event.tokens, offset=n_chars[i])
      n_chars[i] += len(event.text)
      if event.text or (logprobs and event.tokens):
        said = (
          {'delta': {'content': event.text}}
          if is_chat
          else {'text': event.text}
        )
        yield chunk(i, said, logprobs)
      if event.finish:
        said = {'delta': {}} if is_chat else {'text': ''}
        yield chunk(i, said, finish=event.finish)
  n_prompt = sum(map(len, prompts))
  usage = {
    'prompt_tokens': n_prompt,
    'completion_tokens': n_drawn,
    'total_tokens': n_prompt + n_drawn,
  }
  yield head | {'choices': [], 'usage': usage}


def _logprobs(
  served, body, tokens: list[tuple[int, engine.Choice]], offset: int
) -> dict[str, list] | None:
  if body.logprobs is None or body.logprobs is False:
    return None
  tokenizer = served.worker.model.tokenizer
  is_chat = isinstance(body, schema.Chat)
  n_top = (body.top_logprobs or 0) if is_chat else body.logprobs
  by_id = not is_chat and body.return_tokens_as_token_ids

  def name(token: int) -> str:
    return f'token_id:{token}' if by_id else tokenizer.shown(token)

  def entry(token: int, logp: float) -> dict[str, Any]:
    raw = list(tokenizer.token_bytes(token))
    return {'token': name(token), 'logprob': logp, 'bytes': raw}

  tops = [
    list(zip(x.top_ids[:n_top], x.top_logps[:n_top], strict=True))
    for _, x in tokens
  ]
  if is_chat:
    content = [
      entry(token, x.logp) | {'top_logprobs': [entry(*pair) for pair in top]}
      for (token, x), top in zip(tokens, tops, strict=True)
    ]
    return {'content': content}
  offsets = []
  for token, _ in tokens:
    offsets.append(offset)
    offset += len(tokenizer.decode([token]))
  return {
    'tokens': [name(token) for token, _ in tokens],
    'token_logprobs': [x.logp for _, x in tokens],
    'top_logprobs': [{name(t): logp for t, logp in top} for top in tops],
    'text_offset': offsets,
  }


async def _lines(body, chunks) -> AsyncIterator[str]:
  """Server-sent events; the usage only if it was asked for."""
  options = body.stream_options
  try:
    async with contextlib.aclosing(chunks):
      async for chunk in chunks:
        if chunk['choices'] or (options and options.include_usage):
          yield f'data: {json.dumps(chunk)}\n\n'
  except _ApiError as error:
    yield f'data: {bytes(error.response.body).decode()}\n\n'
  yield 'data: [DONE]\n\n'


async def _whole(body, chunks, n_choices: int) -> dict[str, Any]:
  """An answer that is not streamed: the pieces of the stream together."""
  is_chat = isinstance(body, schema.Chat)
  texts, finishes = [''] * n_choices, [None] * n_choices
  logprobs: list[Any] = [None] * n_choices
  whole: dict[str, Any] = {}
  async with contextlib.aclosing(chunks):
    async for chunk in chunks:
      whole |= chunk
      for choice in chunk['choices']:
        i, delta = choice['index'], choice.get('delta', choice)
        key = 'content' if is_chat else 'text'
        texts[i] += delta.get(key, '')
        finishes[i] = choice['finish_reason']
        for name, new in (choice['logprobs'] or {}).items():
          logprobs[i] = logprobs[i] or {}
          logprobs[i][name] = logprobs[i].get(name, []) + new
  whole['object'] = 'chat.completion' if is_chat else 'text_completion'
  whole['choices'] = []
  for i in range(n_choices):
    said: dict[str, Any] = {'text': texts[i]}
    if is_chat:
      said = {'message': {'role': 'assistant', 'content': texts[i]}}
    whole['choices'].append(
      {'index': i, 'finish_reason': finishes[i], 'logprobs': logprobs[i]} | said
    )
  return whole
