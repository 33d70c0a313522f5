"""One thread a checkpoint, which owns the work of its device."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import functools
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import prometheus_client

from llm_jax.agent import tools, turns
from llm_jax.chat import calls as tool_calls
from llm_jax.infer import engine, requests, slots
from llm_jax.serve import text

_WAIT_S = 0.05  # for tools, before the queue is looked at again
_ROWS = prometheus_client.Gauge(
  'llm_jax_rows_in_use', 'Rows that make answers.', ['model']
)
_WAITING = prometheus_client.Gauge(
  'llm_jax_answers_waiting', 'Answers that run or wait.', ['model']
)
_TOKENS = prometheus_client.Counter(
  'llm_jax_tokens', 'Tokens of prompts, and drawn ones.', ['model', 'kind']
)
_ANSWERS = prometheus_client.Counter(
  'llm_jax_answers', 'Answers that have ended, by how.', ['model', 'finish']
)
_FIRST_TOKEN = prometheus_client.Histogram(
  'llm_jax_first_token_seconds', 'From the queue to the first.', ['model']
)


@dataclasses.dataclass(frozen=True)
class Event:
  """What has come of an answer since the last one."""

  text: str = ''
  # Without the one that ended it; None: nothing was asked of them.
  tokens: Sequence[tuple[int, engine.Choice | None]] = ()
  n_drawn: int = 0
  results: Sequence[tools.Result] = ()  # of tools that the server ran
  calls: Sequence[tool_calls.Call] = ()  # of tools that the client is to run
  # stop, length, tool_calls, or the message of a failure: error: ...
  finish: str = ''


@dataclasses.dataclass(eq=False)
class Job:
  """One answer; `emit` is called in its loop."""

  prompt: list[int]
  seed: int
  request: requests.Request
  pieces: text.Pieces
  runs_tools: bool
  emit: Callable[[Event], object]
  loop: asyncio.AbstractEventLoop
  began_s: float = dataclasses.field(default_factory=time.monotonic)
  has_begun: bool = False  # a token was drawn


class Worker:
  """Answers jobs, as many at once as there are rows."""

  def __init__(
    self,
    model: turns.Model,
    n_rows: int,
    max_chunk: int,
    n_slots: int = 0,
    name: str = '',
  ):
    """Allocate the rows and start the thread.

    Args:
      model: that answers.
      n_rows: answers that are made at once.
      max_chunk: tokens that a row draws between two looks at the queue.
      n_slots: tokens of a prompt and its answer, at most; 0: as many as the
        model can read.
      name: in what is counted.
    """
    self.n_slots = n_slots or model.config.max_length
    plan = slots.Plan(
      model.config, n_rows, n_slots=self.n_slots, max_chunk=max_chunk
    )
    self.model = model
    self.name = name
    self.failure = ''
    self.jobs: dict[int, Job] = {}  # by their conversations
    self._outbox: list[tuple[Job, Event]] = []
    self._turns = turns.Turns(model, engine.Engine(plan, model.params))
    self._inbox: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
    _ROWS.labels(name).set_function(lambda: min(len(self.jobs), n_rows))
    _WAITING.labels(name).set_function(lambda: self.n_waiting)
    threading.Thread(target=self._run, daemon=True).start()

  @property
  def n_waiting(self) -> int:
    """Jobs in rows and in queues."""
    return len(self.jobs) + self._inbox.qsize()

  def submit(self, job: Job) -> None:
    """Queue a job, which requests.check has passed."""
    self._inbox.put(functools.partial(self._start, job))

  def cancel(self, job: Job) -> None:
    """Forget a job; its row is free before the next chunk."""
    self._inbox.put(functools.partial(self._forget, job))

  def call(
    self, fn: Callable[[turns.Model], Any]
  ) -> 'concurrent.futures.Future[Any]':
    """Do something with the model between two chunks."""
    future: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def work() -> None:
      if future.set_running_or_notify_cancel():
        try:
          future.set_result(fn(self.model))
        except Exception as error:  # belongs to who asked
          future.set_exception(error)

    self._inbox.put(work)
    return future

  def _start(self, job: Job) -> None:
    if self.failure:
      self._outbox.append((job, Event(finish=self.failure)))
      self._send()
      return
    index = self._turns.submit(
      job.prompt, job.seed, request=job.request, runs_tools=job.runs_tools
    )
    self.jobs[index] = job
    _TOKENS.labels(self.name, 'prompt').inc(len(job.prompt))

  def _forget(self, job: Job) -> None:
    for index in [n for n, other in self.jobs.items() if other is job]:
      self._turns.cancel(index)
      del self.jobs[index]

  def _run(self) -> None:
    try:
      while True:
        while self._turns.is_idle or not self._inbox.empty():
          self._inbox.get()()
        for step in self._turns.step(_WAIT_S):
          if step.index in self.jobs:
            self._tell(self.jobs[step.index], step)
        self._send()
    except Exception as error:  # whatever it is, those who wait must hear it
      self.failure = f'error: {type(error).__name__}: {error}'
      failed = Event(finish=self.failure)
      self._outbox += [(job, failed) for job in self.jobs.values()]
      self.jobs.clear()
      self._send()
    while True:
      self._inbox.get()()

  def _send(self) -> None:
    """Hand events over, all of a step together: each loop wakes up once."""
    told, self._outbox = self._outbox, []
    for loop in {job.loop for job, _ in told}:
      with contextlib.suppress(RuntimeError):  # it is closed: nobody waits
        loop.call_soon_threadsafe(
          _deliver, [pair for pair in told if pair[0].loop is loop]
        )

  def _tell(self, job: Job, step: turns.Step) -> None:
    written, tokens = '', []
    choices = step.choices or [None] * len(step.drawn)
    for token, choice in zip(step.drawn, choices, strict=True):
      if token in job.request.stop_ids:
        job.pieces.push(token)
        continue
      written += job.pieces.push(token)
      tokens.append((token, choice))
      if job.pieces.is_stopped:
        break
    finish, found = '', []
    if job.pieces.is_stopped:
      finish = 'stop'
    elif step.episode is not None:
      rest, found = job.pieces.finish()
      written += rest
      finish = 'stop' if step.episode.stopped else 'length'
      sound = [call for call in found if not call.fault]
      if sound and finish == 'stop' and not job.runs_tools:
        finish, found = 'tool_calls', sound
      else:
        found = []
    if step.results and not finish:
      job.pieces.turn()
    event = Event(
      text=written,
      tokens=tokens,
      n_drawn=len(step.drawn),
      results=step.results,
      calls=found,
      finish=finish,
    )
    self._outbox.append((job, event))
    if step.drawn and not job.has_begun:
      job.has_begun = True
      _FIRST_TOKEN.labels(self.name).observe(time.monotonic() - job.began_s)
    _TOKENS.labels(self.name, 'drawn').inc(len(step.drawn))
    if finish:
      _ANSWERS.labels(self.name, finish).inc()
      self._forget(job)


def _deliver(told: Sequence[tuple[Job, Event]]) -> None:
  for job, event in told:
    job.emit(event)
