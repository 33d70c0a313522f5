"""Answers of models in the form of OpenAI's API, streamed or whole.

A whole answer is made of the pieces of the streamed one.
"""

import asyncio
import contextlib
import json
import secrets
import time
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

from llm_jax.agent import tools
from llm_jax.infer import engine, reading
from llm_jax.serve import incoming, schema, worker

_POLL_S = 0.1  # how often it is asked whether a client is still there
_SCORED_TOGETHER = 4  # prompts
IsGone = Callable[[], Awaitable[bool]]


async def events(
  several: Sequence[incoming.Asked], is_gone: IsGone, timeout_s: float
) -> AsyncGenerator[tuple[int, worker.Event]]:
  """Events of all choices as they come; who goes away frees its rows.

  Args:
    several: requests that are answered together.
    is_gone: whether nobody waits any more.
    timeout_s: after which it fails.

  Yields:
    The number of a choice, among all, and what has come of it.

  Raises:
    incoming.ApiError: 408 after timeout_s, 503 if the model has failed.
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
        found.put_nowait((i, event))

      job = worker.Job(
        asked.prompts[at],
        zlib.crc32(f'{seed}/{choice}'.encode()) if choice else seed,
        request=wanted,
        pieces=asked.pieces(),
        runs_tools=asked.runs_tools,
        emit=emit,
        loop=loop,
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
          raise incoming.ApiError(408, message, code='timeout')
        if await is_gone():
          return
        continue
      i, event = told
      if event.finish.startswith('error'):
        raise incoming.ApiError(503, event.finish)
      n_left -= bool(event.finish)
      yield i, event
  finally:
    timer.cancel()
    for rows, job in jobs:
      rows.cancel(job)


async def chunks(
  asked: incoming.Asked, is_gone: IsGone, timeout_s: float
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
  async for i, said, logprobs in _echo(asked):
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


async def _echo(
  asked: incoming.Asked,
) -> AsyncGenerator[tuple[int, str, Any]]:
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
    at = i // body.n_choices
    ids, n_prefix, logprobs = asked.prompts[at], asked.n_prefix[at], None
    if body.n_top:
      told = zip(ids, [None, *scored[at]], strict=True)
      logprobs = _logprobs(asked, [*told], offset=0, n_prefix=n_prefix)
    yield i, served.model.tokenizer.decode(ids[n_prefix:]), logprobs


def _logprobs(
  asked: incoming.Asked,
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
  asked: incoming.Asked, is_gone: IsGone, timeout_s: float
) -> AsyncGenerator[str]:
  """Server-sent events; the usage only if it was asked for; see `events`."""
  options = asked.body.stream_options
  found = chunks(asked, is_gone, timeout_s)
  try:
    async with contextlib.aclosing(found):
      async for chunk in found:
        if chunk['choices'] or (options and options.include_usage):
          yield f'data: {json.dumps(chunk)}\n\n'
  except incoming.ApiError as error:
    yield f'data: {json.dumps(error.body)}\n\n'
  yield 'data: [DONE]\n\n'


async def whole(
  asked: incoming.Asked, is_gone: IsGone, timeout_s: float
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
