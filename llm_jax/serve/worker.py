"""One thread a checkpoint, which owns the work of its device."""

import dataclasses
import queue
import threading
from collections.abc import Callable

from llm_jax.agent import turns
from llm_jax.infer import engine, requests, slots
from llm_jax.serve import text

N_TOP = 20  # most likely tokens of each draw, as OpenAI allows


@dataclasses.dataclass(frozen=True)
class Event:
  """What has come of an answer since the last one."""

  text: str
  tokens: list[tuple[int, engine.Choice]]  # without the one that ended it
  n_drawn: int
  finish: str = ''  # stop, length, or the message of a failure: error: ...


@dataclasses.dataclass(eq=False)
class Job:
  """One answer; `emit` is called on the thread of the worker."""

  prompt: list[int]
  seed: int
  request: requests.Request
  pieces: text.Pieces
  emit: Callable[[Event], object]


class Worker:
  """Answers jobs, as many at once as there are rows."""

  def __init__(self, model: turns.Model, n_rows: int, max_chunk: int):
    """Allocate the rows and start the thread.

    Args:
      model: that answers.
      n_rows: answers that are made at once.
      max_chunk: tokens that a row draws between two looks at the queue.
    """
    cfg = model.config
    plan = slots.Plan(
      cfg,
      n_rows=n_rows,
      n_slots=cfg.max_length,
      max_chunk=max_chunk,
      n_top=min(N_TOP, cfg.vocab_size),
    )
    self.model = model
    self.failure = ''
    self.jobs: dict[int, Job] = {}  # by their numbers in the engine
    self._rows = engine.Engine(plan, model.params)
    self._inbox: queue.SimpleQueue = queue.SimpleQueue()
    threading.Thread(target=self._run, daemon=True).start()

  @property
  def n_waiting(self) -> int:
    """Jobs in rows and in queues."""
    return len(self.jobs) + self._inbox.qsize()

  def submit(self, job: Job) -> None:
    """Queue a job, which requests.check has passed."""
    self._inbox.put((self._start, job))

  def cancel(self, job: Job) -> None:
    """Forget a job; its row is free before the next chunk."""
    self._inbox.put((self._forget, job))

  def _start(self, job: Job) -> None:
    self.jobs[self._rows.submit(job.prompt, job.seed, job.request)] = job

  def _forget(self, job: Job) -> None:
    for number in [n for n, other in self.jobs.items() if other is job]:
      self._rows.cancel(number)
      del self.jobs[number]

  def _run(self) -> None:
    try:
      while True:
        while self._rows.is_idle or not self._inbox.empty():
          do, job = self._inbox.get()
          do(job)
        for update in self._rows.step():
          self._tell(update)
    except Exception as error:  # whatever it is, those who wait must hear it
      self.failure = f'error: {type(error).__name__}: {error}'
      for job in self.jobs.values():
        job.emit(Event('', [], n_drawn=0, finish=self.failure))
      raise

  def _tell(self, update: engine.Update) -> None:
    job = self.jobs.get(update.number)
    if job is None:
      return
    written, tokens, n_drawn, finish = '', [], 0, ''
    for token, choice in zip(update.token_ids, update.choices, strict=True):
      n_drawn += 1
      if token in job.request.stop_ids:
        continue
      written += job.pieces.push(token)
      tokens.append((token, choice))
      if job.pieces.is_stopped:
        break
    if update.answer is not None and not job.pieces.is_stopped:
      written += job.pieces.flush()
      finish = 'stop' if update.answer.stopped else 'length'
    if job.pieces.is_stopped:
      finish = 'stop'
    job.emit(Event(written, tokens, n_drawn=n_drawn, finish=finish))
    if finish:
      self._forget(job)
