"""What the page shows beside answers: battles, weights, and runs."""

import asyncio
import contextlib
import dataclasses
import datetime
import json
import pathlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import fastapi
from fastapi import responses

from llm_jax.evals import arena, inside
from llm_jax.model import params
from llm_jax.serve import answers, incoming, schema

_METRICS = 'metrics.jsonl'
_MOST_BATTLES = 1000  # that wait for a vote; older ones are forgotten
_MOST_ROWS = 4 << 20  # bytes of metrics in one reply
Begin = Callable[[incoming.Served, Any], Awaitable[incoming.Asked]]


@dataclasses.dataclass(frozen=True)
class Lab:
  """What there is to show."""

  votes: str = ''  # file of the arena; empty: no arena
  runs: str = ''  # folder in which runs write metrics.jsonl; empty: none

  @property
  def shown(self) -> dict[str, bool]:
    """For the page."""
    return {'arena': bool(self.votes), 'runs': bool(self.runs)}


NO_LAB = Lab()


def add(
  api: fastapi.APIRouter,
  models: Mapping[str, incoming.Served],
  lab: Lab,
  find: Callable[[str], incoming.Served],
  begin: Begin,
  timeout_s: float,
) -> None:
  """Add the routes.

  Args:
    api: the router.
    models: by name.
    lab: what there is to show.
    find: a model, or an error.
    begin: checks a request, and that there is room for it.
    timeout_s: of an answer.
  """
  _add_arena(api, models, lab, begin=begin, timeout_s=timeout_s)
  _add_inside(api, find)
  _add_runs(api, lab)


def _add_arena(api, models, lab, begin, timeout_s) -> None:
  battles: dict[str, dict[str, Any]] = {}
  writing = asyncio.Lock()  # one vote after the other

  def check_arena() -> None:
    if not lab.votes:
      message = 'there is no arena; start the server with --votes FILE'
      raise incoming.ApiError(404, message)

  @api.post('/arena/battles')
  async def fight(body: schema.Battle, request: fastapi.Request):
    check_arena()
    talks = [n for n, x in models.items() if x.model.chat_format.is_chat]
    if len(talks) < 2:
      message = 'a battle needs two chat models; give more --checkpoint'
      raise incoming.ApiError(400, message)
    names = dict(
      zip('ab', secrets.SystemRandom().sample(talks, 2), strict=True)
    )
    seed = secrets.randbits(32)
    asked = [
      await begin(
        models[name],
        schema.Chat(model=name, messages=body.messages, seed=seed),
      )
      for name in names.values()
    ]
    battle = names | {'messages': body.messages, 'seed': seed}

    async def lines() -> AsyncIterator[str]:
      texts = {'a': '', 'b': ''}
      try:
        found = answers.events(asked, request.is_disconnected, timeout_s)
        async with contextlib.aclosing(found):
          async for i, event in found:
            side = 'ab'[i]
            texts[side] += event.text
            told = {'side': side, 'text': event.text}
            yield f'data: {json.dumps(told)}\n\n'
        number = secrets.token_hex(12)
        battles[number] = battle | {'answers': texts}
        while len(battles) > _MOST_BATTLES:
          del battles[next(iter(battles))]
        yield f'data: {json.dumps({"battle": number})}\n\n'
      except incoming.ApiError as error:
        yield f'data: {json.dumps(error.body)}\n\n'
      yield 'data: [DONE]\n\n'

    return responses.StreamingResponse(lines(), media_type='text/event-stream')

  @api.post('/arena/votes')
  async def vote(body: schema.Vote):
    check_arena()
    async with writing:
      if body.battle not in battles:
        message = 'there is no such battle without a vote'
        raise incoming.ApiError(400, message, 'battle')
      battle = battles[body.battle]
      now = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
      one = {'time': now, 'vote': body.vote} | battle
      await asyncio.to_thread(arena.append, lab.votes, one)
      del battles[body.battle]
    return {'a': battle['a'], 'b': battle['b']}

  @api.get('/arena/ratings')
  def ratings():
    check_arena()
    found = arena.ratings(arena.read(lab.votes))
    rated = [dataclasses.asdict(one) for one in found.models]
    return {'ratings': rated, 'n_named': found.n_named}


def _add_inside(api, find) -> None:
  @api.post('/inside/attention')
  async def attention(body: schema.Attention):
    served = find(body.model)
    cfg = served.model.config
    incoming.check_ids(body.tokens, cfg.vocab_size, 'tokens')
    for name, given, most in (
      ('tokens', len(body.tokens) - 1, served.worker.n_slots),
      ('layer', body.layer, cfg.n_layers),
      ('head', body.head, cfg.n_heads),
    ):
      if given >= most:
        message = f'{name}: {given} is too many; the model has {most}'
        raise incoming.ApiError(400, message, name)
    weights = await asyncio.wrap_future(
      served.worker.call(
        lambda model: inside.attention(
          cfg, model.params, body.tokens, layer=body.layer, head=body.head
        )
      )
    )
    return {'weights': weights.astype(float).round(4).tolist()}

  @api.post('/inside/neighbours')
  async def neighbours(body: schema.Neighbours):
    served = find(body.model)
    tokenizer = served.model.tokenizer
    try:
      plus, minus = (
        [_one_token(tokenizer, word) for word in words]
        for words in (body.plus, body.minus)
      )
    except ValueError as error:
      raise incoming.ApiError(400, str(error), 'plus') from error
    found = await asyncio.wrap_future(
      served.worker.call(
        lambda model: inside.neighbours(
          model.config, model.params, plus, minus=minus, n=body.n
        )
      )
    )
    return [
      {'token': tokenizer.shown(token), 'id': token, 'cosine': cosine}
      for token, cosine in found
    ]

  @api.get('/inside/parameters')
  async def parameters(model: str):
    counts = params.count(find(model).model.config)
    return [
      {'part': part, 'count': count}
      for part, count in counts.items()
      if count and part not in ('total', 'active', 'padding')
    ]


def _one_token(tokenizer, word: str) -> int:
  """A word's only token; with a blank before it if it has none without."""
  for spelling in (word, f' {word}'):
    ids = tokenizer.encode(spelling)
    if len(ids) == 1:
      return ids[0]
  parts = ' '.join(tokenizer.shown(i) for i in tokenizer.encode(word)[:20])
  raise ValueError(f'{word!r} is no token, but several: {parts}')


def _add_runs(api, lab) -> None:
  def found() -> dict[str, pathlib.Path]:
    if not lab.runs:
      return {}
    folder = pathlib.Path(lab.runs).resolve()
    return {
      path.parent.relative_to(folder.parent).as_posix(): path
      for path in sorted(folder.glob(f'**/{_METRICS}'))
    }

  @api.get('/runs')
  def runs():
    return [*found()]

  @api.get('/runs/{name:path}/metrics')
  def rows(name: str, offset: int = 0):
    path = found().get(name)
    if path is None:
      raise incoming.ApiError(404, f'there is no run {name!r}')
    with path.open('rb') as file:
      file.seek(max(offset, 0))
      text = file.read(_MOST_ROWS)
    # The last line may not be whole yet.
    whole = text[: text.rfind(b'\n') + 1]
    try:
      told = [json.loads(line) for line in whole.splitlines() if line.strip()]
    except ValueError as error:
      message = f'{path.name} of {name} behind byte {offset}: {error}'
      raise incoming.ApiError(400, message, 'offset') from error
    return {'rows': told, 'offset': max(offset, 0) + len(whole)}
