"""Conversations in which the model calls tools, many at once.

The turns of one conversation alternate: the model draws an answer, its calls
are done by threads while other rows go on drawing, their results are put behind
it, by ids, and it draws on. Everything that was drawn keeps its ids: nothing is
encoded again. A conversation depends on its own prompt and seed only, whatever
its neighbours and tools take in time.
"""

import concurrent.futures
import dataclasses
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jax.sharding import Mesh

from llm_jax import types
from llm_jax.agent import tools
from llm_jax.chat import template
from llm_jax.infer import engine, generate, requests, slots
from llm_jax.model import config


@dataclasses.dataclass(frozen=True)
class Tools:
  """What models may call, and how much of it."""

  available: Mapping[str, tools.Tool]
  chat_format: template.Format
  pool: concurrent.futures.Executor  # threads that do calls
  max_calls: int = 4  # of a conversation; no more are done
  max_chars: int = 1000  # of a result
  max_seconds: float = 0.0  # of a conversation with its calls; 0: any


@dataclasses.dataclass(frozen=True)
class Episode:
  """What came of a prompt: answers of the model and results of its calls.

  Attributes:
    token_ids: of all, behind the prompt.
    logps: nats, of each token that was drawn; 0 of the others.
    drawn: 1 where the model drew the token, 0 in what tools gave.
    last_ids: of the answer without calls that ends it; empty if there is none,
      so that nothing in a call is taken for an answer.
    stopped: whether there is one.
    ended_by: '' if it stopped; else what ran out: 'tokens', 'calls' or
      'seconds'.
    results: of the calls, in order.
  """

  token_ids: list[int]
  logps: list[float]
  drawn: list[int]
  last_ids: list[int]
  stopped: bool
  ended_by: str
  results: list[tools.Result]


@dataclasses.dataclass
class _Running:
  """A conversation under way."""

  prompt: tuple[int, ...]
  seed: int
  started_s: float
  token_ids: list[int] = dataclasses.field(default_factory=list)
  logps: list[float] = dataclasses.field(default_factory=list)
  drawn: list[int] = dataclasses.field(default_factory=list)
  results: list[tools.Result] = dataclasses.field(default_factory=list)
  n_turns: int = 0


@dataclasses.dataclass(frozen=True)
class Step:
  """Something that happened to one conversation."""

  index: int  # of the prompt
  drawn: Sequence[int] = ()  # tokens, since the last step
  results: Sequence[tools.Result] = ()  # of calls, since the last step
  episode: Episode | None = None  # all of it, once it has ended


def run(
  rows: engine.Engine,
  prompts: Sequence[Sequence[int]],
  seeds: Sequence[int],
  request: requests.Request,
  using: Tools,
) -> Iterator[Step]:
  """Hold conversations, each from its prompt to an answer without calls.

  Args:
    rows: an idle engine, whose rows have room for a prompt and max_new_tokens.
    prompts: token ids.
    seeds: one for each prompt, in [0, 2^32).
    request: max_new_tokens count all that follows the prompt, results of tools
      included.
    using: what may be called.

  Yields:
    Steps; as many with an episode as there are prompts.
  """
  running = [
    _Running(tuple(prompt), seed, time.monotonic())
    for prompt, seed in zip(prompts, seeds, strict=True)
  ]
  numbers: dict[int, int] = {}  # of requests -> of conversations
  waiting: dict[concurrent.futures.Future[list[tools.Result]], int] = {}

  def submit(index: int) -> None:
    one = running[index]
    seed = one.seed
    if one.n_turns:
      seed = zlib.crc32(f'{one.seed}/{one.n_turns}'.encode())
    n_left = request.max_new_tokens - len(one.token_ids)
    number = rows.submit(
      [*one.prompt, *one.token_ids],
      seed,
      dataclasses.replace(request, max_new_tokens=n_left),
    )
    one.n_turns += 1
    numbers[number] = index

  for index in range(len(running)):
    submit(index)
  while numbers or waiting:
    for update in rows.step():
      index = numbers[update.number]
      episode = None
      if update.answer is not None:
        del numbers[update.number]
        found, episode = _take(running[index], update.answer, using)
        if episode is None:
          future = using.pool.submit(_do, using, found, running[index].results)
          waiting[future] = index
      yield Step(index, drawn=update.token_ids, episode=episode)
    if not waiting:
      continue
    timeout = 0 if numbers else None  # rows go on while tools work
    for future in concurrent.futures.wait(
      waiting, timeout, concurrent.futures.FIRST_COMPLETED
    ).done:
      index = waiting.pop(future)
      results = future.result()
      limit = request.max_new_tokens
      episode = _put(running[index], results, using=using, limit=limit)
      if episode is None:
        submit(index)
      yield Step(index, results=results, episode=episode)


Answer = engine.Answer | Episode


def answers(
  using: Tools | None,
  cfg: config.ModelConfig,
  params: types.Params,
  prompts: Sequence[Sequence[int]],
  seeds: Sequence[int],
  request: requests.Request,
  batch_size: int,
  mesh: Mesh | None = None,
  on_answer: Callable[[int, Any], object] | None = None,
) -> list[Any]:
  """Answer prompts, with tools where there are some.

  Args:
    using: what may be called; None: nothing is, see generate.generate, which
      describes the other arguments.

  Returns:
    One Answer a prompt, in order; an Episode if there are tools.
  """
  if using is None:
    return generate.generate(
      cfg,
      params,
      prompts=prompts,
      seeds=seeds,
      request=request,
      batch_size=batch_size,
      mesh=mesh,
      on_answer=on_answer,
    )
  bucket, plan = generate.plan_for(
    cfg, prompts, request=request, batch_size=batch_size, mesh=mesh
  )
  rows = engine.Engine(plan, params, min_bucket=bucket)
  result: dict[int, Episode] = {}
  for step in run(rows, prompts, seeds, request=request, using=using):
    if step.episode is not None:
      result[step.index] = step.episode
      if on_answer is not None:
        on_answer(step.index, step.episode)
  return [result[i] for i in range(len(prompts))]


def stream(
  using: Tools,
  cfg: config.ModelConfig,
  params: types.Params,
  prompt: Sequence[int],
  seed: int,
  request: requests.Request,
) -> Iterator[int | tools.Result]:
  """Answer one prompt: tokens as they are drawn, results as they come."""
  plan = slots.Plan(
    cfg, n_rows=1, n_slots=cfg.max_length, max_chunk=generate.STREAM_CHUNK
  )
  rows = engine.Engine(plan, params)
  for step in run(rows, [prompt], [seed], request=request, using=using):
    yield from step.drawn
    yield from step.results


def _take(one: _Running, answer: engine.Answer, using: Tools):
  """Add an answer.

  Returns:
    Its calls, and the episode if they are not to be done.
  """
  one.token_ids += answer.token_ids
  one.logps += answer.logps
  one.drawn += [1] * len(answer.token_ids)
  if not answer.stopped:
    return [], _ended(one, [], 'tokens')
  _, found = using.chat_format.split_calls(answer.token_ids)
  if not found:
    return [], _ended(one, answer.token_ids, '')
  if len(one.results) + len(found) > using.max_calls:
    return [], _ended(one, [], 'calls')
  passed_s = time.monotonic() - one.started_s
  if using.max_seconds and passed_s > using.max_seconds:
    return [], _ended(one, [], 'seconds')
  return found, None


def _do(using: Tools, found, earlier) -> list[tools.Result]:
  """The calls of one answer, one after the other."""
  results: list[tools.Result] = []
  for call in found:
    before = [*earlier, *results]
    results.append(
      tools.run(
        using.available, call, earlier=before, max_chars=using.max_chars
      )
    )
  return results


def _put(
  one: _Running, results: list[tools.Result], using: Tools, limit: int
) -> Episode | None:
  """Add the results of calls; the episode, if there is no room to go on."""
  one.results += results
  ids = using.chat_format.after_tools([result.text for result in results])
  if len(one.token_ids) + len(ids) >= limit:
    return _ended(one, [], 'tokens')
  one.token_ids += ids
  one.logps += [0.0] * len(ids)
  one.drawn += [0] * len(ids)
  return None


def _ended(one: _Running, last_ids: list[int], ended_by: str) -> Episode:
  return Episode(
    token_ids=one.token_ids,
    logps=one.logps,
    drawn=one.drawn,
    last_ids=last_ids,
    stopped=not ended_by,
    ended_by=ended_by,
    results=one.results,
  )
