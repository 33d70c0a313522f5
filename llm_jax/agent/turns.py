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
from llm_jax.agent import toolbox, tools
from llm_jax.chat import calls, formats, template
from llm_jax.infer import engine, generate, requests, slots
from llm_jax.model import config
from llm_jax.tokenizer import loading, text_tokenizer
from llm_jax.train import checkpoint, start, train_state


@dataclasses.dataclass(frozen=True)
class Model:
  """A model that answers, and the tools that it may call."""

  config: config.ModelConfig
  params: types.Params
  tokenizer: text_tokenizer.TextTokenizer
  chat_format: template.Format  # how it is spoken to
  using: toolbox.Tools | None = None
  mesh: Mesh | None = None  # where the parameters live; None: on one device


def of_stage(
  stage: start.Stage,
  state: train_state.TrainState,
  using: toolbox.Tools | None = None,
  mesh: Mesh | None = None,
) -> Model:
  """The model that a stage trains as it is now, with its adapters in it."""
  return Model(
    stage.model_config,
    train_state.merged(state),
    stage.tokenizer,
    chat_format=stage.chat_format,
    using=using,
    mesh=mesh,
  )


def of_checkpoint(
  loaded: checkpoint.LoadedModel,
  is_chat: bool | None = None,
  schemas: Sequence[Mapping[str, Any]] = (),
) -> Model:
  """A model that a stage left.

  Args:
    loaded: the checkpoint.
    is_chat: whether it takes conversations; None: as it says itself.
    schemas: of what it may call, as `tools` of OpenAI's requests.
  """
  tokenizer = loading.load(loaded.tokenizer_dir)
  is_chat = loaded.is_chat if is_chat is None else is_chat
  return Model(
    loaded.model_config,
    loaded.params,
    tokenizer,
    chat_format=formats.choose(tokenizer, is_chat, schemas),
  )


@dataclasses.dataclass
class Episode:
  """What comes of a prompt: answers of the model and results of its calls.

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
    n_turns: answers that were asked for.
  """

  token_ids: list[int] = dataclasses.field(default_factory=list)
  logps: list[float] = dataclasses.field(default_factory=list)
  drawn: list[int] = dataclasses.field(default_factory=list)
  last_ids: list[int] = dataclasses.field(default_factory=list)
  stopped: bool = False
  ended_by: str = ''
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
  model: Model,
  rows: engine.Engine,
  prompts: Sequence[Sequence[int]],
  seeds: Sequence[int],
  request: requests.Request,
) -> Iterator[Step]:
  """Hold conversations, each from its prompt to an answer without calls.

  Args:
    model: that answers, with tools.
    rows: an idle engine, whose rows have room for a prompt and max_new_tokens.
    prompts: token ids.
    seeds: one for each prompt, in [0, 2^32).
    request: max_new_tokens count all that follows the prompt, results of tools
      included.

  Yields:
    Steps; as many with an episode as there are prompts.
  """
  assert model.using is not None
  pool, began_s = model.using.pool, time.monotonic()
  episodes = [Episode() for _ in prompts]
  numbers: dict[int, int] = {}  # of requests -> of conversations
  waiting: dict[concurrent.futures.Future[list[tools.Result]], int] = {}

  def submit(index: int) -> None:
    one, seed = episodes[index], seeds[index]
    if one.n_turns:
      seed = zlib.crc32(f'{seed}/{one.n_turns}'.encode())
    n_left = request.max_new_tokens - len(one.token_ids)
    number = rows.submit(
      [*prompts[index], *one.token_ids],
      seed,
      dataclasses.replace(request, max_new_tokens=n_left),
    )
    one.n_turns += 1
    numbers[number] = index

  for index in range(len(prompts)):
    submit(index)
  while numbers or waiting:
    for update in rows.step():
      index, episode = numbers[update.number], None
      if update.answer is not None:
        del numbers[update.number]
        one = episodes[index]
        wanted = _take(one, update.answer, model=model, began_s=began_s)
        if wanted:
          future = pool.submit(_do, model.using, wanted, one.results)
          waiting[future] = index
        else:
          episode = one
      yield Step(index, drawn=update.token_ids, episode=episode)
    if not waiting:
      continue
    timeout = 0 if numbers else None  # rows go on while tools work
    for future in concurrent.futures.wait(
      waiting, timeout, concurrent.futures.FIRST_COMPLETED
    ).done:
      index, results = waiting.pop(future), future.result()
      one = episodes[index]
      _put(one, results, model=model, limit=request.max_new_tokens)
      if not one.ended_by:
        submit(index)
      yield Step(index, results=results, episode=one if one.ended_by else None)


Answer = engine.Answer | Episode


def answers(
  model: Model,
  prompts: Sequence[Sequence[int]],
  seeds: Sequence[int],
  request: requests.Request,
  batch_size: int,
  on_answer: Callable[[int, Any], object] = lambda index, answer: None,
) -> list[Any]:
  """Answer prompts, with tools where there are some.

  Args:
    model: that answers; see generate.generate for the other arguments.

  Returns:
    One Answer a prompt, in order; an Episode if there are tools.
  """
  if model.using is None:
    return generate.generate(
      model.config,
      model.params,
      prompts=prompts,
      seeds=seeds,
      request=request,
      batch_size=batch_size,
      mesh=model.mesh,
      on_answer=on_answer,
      token_bytes=model.tokenizer.token_bytes,
    )
  bucket, plan = generate.plan_for(
    model.config, prompts, request, batch_size=batch_size, mesh=model.mesh
  )
  rows = engine.Engine(plan, model.params, min_bucket=bucket)
  result: dict[int, Episode] = {}
  for step in run(model, rows, prompts, seeds=seeds, request=request):
    if step.episode is not None:
      result[step.index] = step.episode
      on_answer(step.index, step.episode)
  return [result[i] for i in range(len(prompts))]


def stream(
  model: Model, prompt: Sequence[int], request: requests.Request, seed: int
) -> Iterator[int | tools.Result]:
  """Answer one prompt: tokens as they are drawn, results as they come."""
  cfg, params = model.config, model.params
  if model.using is None:
    yield from generate.stream(cfg, params, prompt, seed=seed, request=request)
    return
  plan = slots.Plan(
    cfg, n_rows=1, n_slots=cfg.max_length, max_chunk=generate.STREAM_CHUNK
  )
  rows = engine.Engine(plan, params)
  for step in run(model, rows, [prompt], seeds=[seed], request=request):
    yield from step.drawn
    yield from step.results


def _take(
  one: Episode, answer: engine.Answer, model: Model, began_s: float
) -> Sequence[calls.Call]:
  """Add an answer, and give its calls that are to be done; none end it."""
  one.token_ids += answer.token_ids
  one.logps += answer.logps
  one.drawn += answer.drawn
  assert model.using is not None
  box = model.using.box
  wanted = model.chat_format.split_calls(answer.token_ids)[1]
  passed_s = time.monotonic() - began_s
  if not answer.stopped:
    one.ended_by = 'tokens'
  elif not wanted:
    one.last_ids, one.stopped = answer.token_ids, True
  elif len(one.results) + len(wanted) > box.max_calls:
    one.ended_by = 'calls'
  elif box.max_seconds and passed_s > box.max_seconds:
    one.ended_by = 'seconds'
  else:
    return wanted
  return ()


def _do(
  using: toolbox.Tools,
  wanted: Sequence[calls.Call],
  earlier: Sequence[tools.Result],
) -> list[tools.Result]:
  """The calls of one answer, one after the other."""
  done, chars = [*earlier], using.box.max_chars
  for call in wanted:
    result = tools.run(using.available, call, earlier=done, max_chars=chars)
    done.append(result)
  return done[len(earlier) :]


def _put(
  one: Episode, results: list[tools.Result], model: Model, limit: int
) -> None:
  """Add the results of calls, if they leave room to go on."""
  one.results += results
  ids = model.chat_format.after_tools([result.text for result in results])
  if len(one.token_ids) + len(ids) >= limit:
    one.ended_by = 'tokens'
    return
  one.token_ids += ids
  one.logps += [0.0] * len(ids)
  one.drawn += [0] * len(ids)
