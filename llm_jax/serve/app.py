"""Checkpoints by HTTP, in the form of OpenAI's API, and a page for people."""

import asyncio
import dataclasses
import hmac
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import fastapi
import prometheus_client
from fastapi import exceptions, responses, staticfiles
from starlette.exceptions import HTTPException
from starlette.middleware import cors, trustedhost

from llm_jax.chat import formats
from llm_jax.serve import answers, incoming, page_routes, schema
from llm_jax.tokenizer import text_tokenizer

_PAGE = pathlib.Path(__file__).with_name('page')


@dataclasses.dataclass(frozen=True)
class Limits:
  """What is too much."""

  max_waiting: int = 256  # answers of a model that run or wait, before 429
  max_body: int = 4 << 20  # bytes of a request, before 413
  timeout_s: float = 600.0  # of a request, before 408


@dataclasses.dataclass(frozen=True)
class Access:
  """Who may ask."""

  hosts: Sequence[str] = ('127.0.0.1', 'localhost')  # against DNS rebinding
  origins: Sequence[str] = ()  # other pages in browsers that may
  key: str = ''  # that clients must give; empty: none


class _Page(staticfiles.StaticFiles):
  """The files of the page, which may load nothing from elsewhere."""

  def file_response(self, *args, **kwargs):
    response = super().file_response(*args, **kwargs)
    response.headers['Content-Security-Policy'] = "default-src 'self'"
    response.headers['X-Content-Type-Options'] = 'nosniff'
    return response


class _BodyLimit:
  """Reads no more of a request than it may have."""

  def __init__(self, app, max_body: int):
    self._app = app
    self._max_body = max_body

  async def __call__(self, scope, receive, send):
    n_bytes = 0

    async def limited():
      nonlocal n_bytes
      message = await receive()
      n_bytes += len(message.get('body', b''))
      if n_bytes > self._max_body:
        raise HTTPException(
          413, f'the request is larger than {self._max_body} bytes'
        )
      return message

    await self._app(scope, limited, send)


def make(
  models: Mapping[str, incoming.Served],
  access: Access = Access(),
  limits: Limits = Limits(),
  tokenizers: Mapping[str, text_tokenizer.TextTokenizer] | None = None,
  lab: page_routes.Lab = page_routes.NO_LAB,
) -> fastapi.FastAPI:
  """The application.

  Args:
    models: by name.
    access: who may ask.
    limits: what is too much.
    tokenizers: further vocabularies for /tokenize, by name.
    lab: what the page shows besides.
  """
  created = int(time.time())
  extra = dict(tokenizers or {})

  async def check_key(request: fastapi.Request) -> None:
    given = request.headers.get('authorization', '').encode()
    if access.key and not hmac.compare_digest(
      given, f'Bearer {access.key}'.encode()
    ):
      raise incoming.ApiError(
        401, 'the API key is wrong', code='invalid_api_key'
      )

  # Its own pages about the API would load scripts from another host.
  app = fastapi.FastAPI(title='llm_jax', docs_url=None, redoc_url=None)
  app.add_middleware(_BodyLimit, max_body=limits.max_body)
  if access.origins:
    app.add_middleware(
      cors.CORSMiddleware,
      allow_origins=[*access.origins],
      allow_methods=['GET', 'POST'],
      allow_headers=['authorization', 'content-type'],
    )
  app.add_middleware(trustedhost.TrustedHostMiddleware, [*access.hosts])
  api = fastapi.APIRouter(dependencies=[fastapi.Depends(check_key)])

  @app.exception_handler(incoming.ApiError)
  async def api_error(_, error: incoming.ApiError):
    return error.response()

  @app.exception_handler(exceptions.RequestValidationError)
  async def invalid(_, error: exceptions.RequestValidationError):
    first = error.errors()[0]
    place = [x for x in first['loc'] if x != 'body']
    # Where it is no JSON there is an offset instead.
    name = place[0] if place and isinstance(place[0], str) else None
    where = '.'.join(map(str, place)) or 'the body'
    return incoming.ApiError(400, f'{where}: {first["msg"]}', name).response()

  @app.exception_handler(HTTPException)
  async def other(_, error: HTTPException):
    return incoming.ApiError(error.status_code, str(error.detail)).response()

  def find(name: str) -> incoming.Served:
    if name not in models:
      known = ', '.join(models)
      message = f'there is no model {name!r}; use one of: {known}'
      raise incoming.ApiError(404, message, 'model', code='model_not_found')
    return models[name]

  def vocabulary(name: str) -> text_tokenizer.TextTokenizer:
    name = name or next(iter(models))
    return extra[name] if name in extra else find(name).model.tokenizer

  def entries() -> list[dict[str, Any]]:
    return [served.entry(created) for served in models.values()]

  @app.get('/health')
  async def health():
    failures = [x.worker.failure for x in models.values() if x.worker.failure]
    if failures:
      raise incoming.ApiError(503, failures[0])
    return {'status': 'ok'}

  @api.get('/metrics')
  async def metrics():
    return responses.PlainTextResponse(
      prometheus_client.generate_latest(),
      media_type=prometheus_client.CONTENT_TYPE_LATEST,
    )

  @api.get('/v1/models')
  async def list_models():
    return {'object': 'list', 'data': entries()}

  @api.get('/v1/models/{name}')
  async def one_model(name: str):
    return find(name).entry(created)

  @api.get('/page/settings')
  async def settings():
    return {'models': entries(), 'tokenizers': [*extra]} | lab.shown

  @api.post('/tokenize')
  def tokenize(body: schema.Tokenize):
    tokenizer, mask = vocabulary(body.model), None
    served = models.get(body.model or next(iter(models)))
    if body.messages is None:
      adds = body.add_special_tokens is not False
      prefix = tokenizer.prefix_ids if adds else ()
      ids = [*prefix, *tokenizer.encode(body.prompt or '')]
    else:
      # Of a model that was only pretrained, that of fine-tuning.
      asks = body.add_generation_prompt
      if asks is None:
        asks = body.messages[-1]['role'] != 'assistant'
      try:
        chat_format = formats.choose(tokenizer, is_chat=True)
        if asks:
          ids = incoming.chat_prompt(chat_format, body.messages)
          mask = [0] * len(ids)
        else:
          ids, mask = chat_format.rows(body.messages)[-1]
      except ValueError as error:
        raise incoming.ApiError(400, str(error), 'messages') from error
    length = served.worker.n_slots if served else None
    found = {'count': len(ids), 'max_model_len': length, 'tokens': ids}
    strings = [tokenizer.shown(i) for i in ids]
    found['token_strs'] = strings if body.return_token_strs else None
    return found | ({} if mask is None else {'loss_mask': mask})

  @api.post('/detokenize')
  def detokenize(body: schema.Detokenize):
    tokenizer = vocabulary(body.model)
    if body.tokens:
      incoming.check_ids(body.tokens, tokenizer.vocab_size, 'tokens')
    return {'prompt': tokenizer.decode(body.tokens)}

  @api.get('/tokenizer_info')
  def tokenizer_info(model: str = ''):
    tokenizer = vocabulary(model)
    names = tokenizer.published.token_names if tokenizer.published else {}
    ends = [tokenizer.shown(i) for i in tokenizer.eos_ids]
    return {
      'tokenizer_class': type(tokenizer).__name__,
      'vocab_size': tokenizer.vocab_size,
      'bos_token': names.get('bos_token'),
      'eos_token': ends[0] if ends else None,
      'chat_template': tokenizer.chat_template,
    }

  @api.post('/v1/chat/completions')
  async def chat(body: schema.Chat, request: fastapi.Request):
    return await answer(body, request)

  @api.post('/v1/completions')
  async def complete(body: schema.Completion, request: fastapi.Request):
    return await answer(body, request)

  async def answer(body, request: fastapi.Request):
    asked = await begin(find(body.model), body)
    given = asked, request.is_disconnected, limits.timeout_s
    if body.stream:
      lines = answers.lines(*given)
      return responses.StreamingResponse(lines, media_type='text/event-stream')
    return await answers.whole(*given)

  async def begin(served: incoming.Served, body) -> incoming.Asked:
    """A request that may start: there is room for it."""
    if served.worker.failure:
      raise incoming.ApiError(503, served.worker.failure)
    asked = await asyncio.to_thread(incoming.read, served, body)
    n_answers = len(asked.prompts) * body.n_choices
    if served.worker.n_waiting + n_answers > limits.max_waiting:
      message = 'the queue is full; try again'
      raise incoming.ApiError(429, message, code='queue_full')
    return asked

  page_routes.add(
    api,
    models,
    lab,
    find=find,
    begin=begin,
    timeout_s=limits.timeout_s,
  )
  app.include_router(api)
  app.mount('/', _Page(directory=_PAGE, html=True))
  return app
