"""Conversations in which the model calls tools, many at once.

The turns of one conversation alternate: the model draws an answer, its calls
are done by threads while other rows go on drawing, their results are put behind
it, by ids, and it draws on. Everything that was drawn keeps its ids: nothing is
encoded again. A conversation depends on its own prompt and seed only, whatever
its neighbours and tools take in time.
"""

import concurrent.futures
import dataclasses
import itertools
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

  index: int  # in which the conversations came
  drawn: Sequence[int] = ()  # tokens, since the last step
  choices: Sequence[engine.Choice] = ()  # one a token; see Request.n_top
  results: Sequence[tools.Result] = ()  # of calls, since the last step
  episode: Episode | None = None  # all of it, once it has ended


@dataclasses.dataclass
class _Talk:
  """A conversation that is held."""

  index: int
  prompt: Sequence[int]
  seed: int
  request: requests.Request
  runs_tools: bool
  began_s: float
  episode: Episode = dataclasses.field(default_factory=Episode)
  number: int = -1  # in the engine


class Turns:
  """Conversations, which may be joined by others while they are held."""

  def __init__(self, model: Model, rows: engine.Engine):
    """Hold none yet.

    Args:
      model: that answers; without tools nothing is called.
      rows: an engine that nobody else uses, whose rows have room for a prompt
        and max_new_tokens.
    """
    self._model = model
    self._rows = rows
    self._indices = itertools.count()
    self._drawing: dict[int, _Talk] = {}  # by the engine's numbers
    self._calling: dict[concurrent.futures.Future[list[tools.Result]], _Talk]
    self._calling = {}

  @property
  def is_idle(self) -> bool:
    """Whether no conversation is held."""
    return not self._drawing and not self._calling

  def submit(
    self,
    prompt: Sequence[int],
    seed: int,
    request: requests.Request,
    runs_tools: bool = True,
  ) -> int:
    """Begin a conversation, from its prompt to an answer without calls.

    Args:
      prompt: token ids.
      seed: in [0, 2^32).
      request: max_new_tokens count all that follows the prompt, results of
        tools included.
      runs_tools: False: its first answer ends it, whatever that calls.

    Returns:
      The index by which steps name it: 0, 1, ...

    Raises:
      ValueError: for what the engine refuses.
    """
    talk = _Talk(
      next(self._indices),
      prompt,
      seed=seed,
      request=request,
      runs_tools=runs_tools and self._model.using is not None,
      began_s=time.monotonic(),
    )
    self._draw(talk)
    return talk.index

  def cancel(self, index: int) -> None:
    """Forget a conversation; calls that run end unheard. Unknown: no error."""
    for number, talk in [*self._drawing.items()]:
      if talk.index == index:
        self._rows.cancel(number)
        del self._drawing[number]
    for future, talk in [*self._calling.items()]:
      if talk.index == index:
        future.cancel()
        del self._calling[future]

  def step(self, wait_s: float | None = None) -> Iterator[Step]:
    """Draw up to a chunk of each answer, and take what calls have given.

    Args:
      wait_s: for calls where nothing can be drawn; None: until one is done.

    Yields:
      Steps; the last one of a conversation has the episode.
    """
    for update in self._rows.step():
      talk, episode = self._drawing[update.number], None
      if update.answer is not None:
        del self._drawing[update.number]
        wanted = _take(talk, update.answer, self._model)
        if wanted:
          assert self._model.using is not None
          future = self._model.using.pool.submit(
            _do, self._model.using, wanted, talk.episode.results
          )
          self._calling[future] = talk
        else:
          episode = talk.episode
      yield Step(
        talk.index,
        drawn=update.token_ids,
        choices=update.choices,
        episode=episode,
      )
    if not self._calling:
      return
    wait_s = 0 if self._drawing else wait_s  # rows go on while tools work
    for future in concurrent.futures.wait(
      self._calling, wait_s, concurrent.futures.FIRST_COMPLETED
    ).done:
      talk, results = self._calling.pop(future), future.result()
      one = talk.episode
      _put(one, results, self._model, limit=talk.request.max_new_tokens)
      if not one.ended_by:
        self._draw(talk)
      yield Step(
        talk.index, results=results, episode=one if one.ended_by else None
      )

  def _draw(self, talk: _Talk) -> None:
    one, seed = talk.episode, talk.seed
    if one.n_turns:
      seed = zlib.crc32(f'{seed}/{one.n_turns}'.encode())
    n_left = talk.request.max_new_tokens - len(one.token_ids)
    number = self._rows.submit(
      [*talk.prompt, *one.token_ids],
      seed,
      dataclasses.replace(talk.request, max_new_tokens=n_left),
    )
    one.n_turns += 1
    self._drawing[number] = talk


def run(
  model: Model,
  rows: engine.Engine,
  prompts: Sequence[Sequence[int]],
  seeds: Sequence[int],
  request: requests.Request,
) -> Iterator[Step]:
  """Hold conversations; see Turns.submit for the last three arguments.

  Yields:
    Steps; as many with an episode as there are prompts.
  """
  held = Turns(model, rows)
  for prompt, seed in zip(prompts, seeds, strict=True):
    held.submit(prompt, seed, request)
  while not held.is_idle:
    yield from held.step()


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
  talk: _Talk, answer: engine.Answer, model: Model
) -> Sequence[calls.Call]:
  """Add an answer, and give its calls that are to be done; none end it."""
  one, using = talk.episode, model.using
  one.token_ids += answer.token_ids
  one.logps += answer.logps
  one.drawn += answer.drawn
  wanted: Sequence[calls.Call] = ()
  if talk.runs_tools:
    wanted = model.chat_format.split_calls(answer.token_ids)[1]
  passed_s = time.monotonic() - talk.began_s
  if not answer.stopped:
    one.ended_by = 'tokens'
  elif using is None or not wanted:
    one.last_ids, one.stopped = answer.token_ids, True
  elif len(one.results) + len(wanted) > using.box.max_calls:
    one.ended_by = 'calls'
  elif using.box.max_seconds and passed_s > using.box.max_seconds:
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
