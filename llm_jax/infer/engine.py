"""The host's part of generation: which request is in which row, and since when.

An answer depends on its own request only: not on its neighbours, its row or the
number of rows. Requests start in the order in which they came; a row is free
again as soon as its answer ends; a prompt that several requests share is read
once. Takes token ids, never text.
"""

import collections
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from llm_jax import types
from llm_jax.infer import requests, slots
from llm_jax.parallel import device_mesh

MIN_BUCKET = 16  # prompts are padded to a power of two, at least this
_MIN_READ = 128  # slots; what is read is a power of two, at least this
_LOOK_AHEAD = 4  # prompts that are read together, if there are as many
_MAX_PREFILL = 1 << 15  # tokens that are read together, padding included


@dataclasses.dataclass(frozen=True)
class Choice:
  """What the model thought of a token that was drawn, before all rules."""

  logp: float  # nats
  top_ids: list[int]  # the most likely tokens, the first one most
  top_logps: list[float]


@dataclasses.dataclass(frozen=True)
class Answer:
  """The continuation of one prompt."""

  token_ids: list[int]  # without the prompt; ends in the stop token if any
  logps: list[float]  # nats of each token under the distribution drawn from
  stopped: bool = False  # False: cut off by max_new_tokens
  choices: list[Choice] = dataclasses.field(default_factory=list)
  stop_string: bytes = b''  # the one that ended it; text behind it is left over

  @property
  def drawn(self) -> list[int]:
    """1 for each token: the model drew it, and no tool gave it."""
    return [1] * len(self.token_ids)

  @property
  def last_ids(self) -> list[int]:
    """The answer itself, which is all of it where no tool was called."""
    return self.token_ids

  @property
  def results(self) -> list[Any]:
    """Of tools: none."""
    return []


@dataclasses.dataclass
class _Job:
  """A request and what has come of it."""

  number: int
  prompt: tuple[int, ...]  # as it stands in the row
  seed: int
  request: requests.Request
  n_wanted: int  # tokens, at most, of the present prompt
  answer: Answer  # so far
  offset: int = 0  # tokens that have slid out
  n_in_row: int = 0  # tokens drawn since the prompt was read
  tail: bytes = b''  # the last bytes, in which a stop string may have begun


@dataclasses.dataclass(frozen=True)
class Update:
  """What has come of a request since the last step."""

  number: int
  token_ids: list[int]
  answer: Answer | None  # all of it, once it has ended


class Engine:
  """Continues prompts, as many at once as there are rows."""

  def __init__(
    self,
    plan: slots.Plan,
    params: types.Params,
    min_bucket: int = MIN_BUCKET,
    token_bytes: Callable[[int], bytes] | None = None,
  ):
    """Allocates the rows.

    Args:
      plan: the model, the rows and where they are.
      params: of the model, or quantize.int8 of them.
      min_bucket: prompts are padded to a power of two, at least this.
      token_bytes: of a token id; for stop strings.

    Raises:
      ValueError: for a size below 1, rows longer than the model's, or more
        most likely tokens than there are.
    """
    for name, value, least, most in (
      ('n_rows', plan.n_rows, 1, math.inf),
      ('n_slots', plan.n_slots, 1, plan.cfg.max_length),
      ('max_chunk', plan.max_chunk, 1, math.inf),
      ('min_bucket', min_bucket, 1, math.inf),
      ('n_top', plan.n_top, 0, plan.cfg.vocab_size),
    ):
      if not least <= value <= most:
        raise ValueError(f'Engine: {name} = {value}; use {least} to {most}')
    self.params = params
    self.n_steps = 0  # of all rows
    self.n_drawn = 0  # tokens; of n_rows * n_steps that could have been
    self._plan = plan
    self._min_bucket = min_bucket
    self._token_bytes = token_bytes
    self._state = slots.start(self._plan)
    self._queue: collections.deque[_Job] = collections.deque()
    self._rows: list[_Job | None] = [None] * plan.n_rows
    self._released: set[int] = set()  # rows
    self._prefixes: dict[tuple[int, ...], tuple[slots.Prefix, int]] = {}
    self._numbers = itertools.count()

  @property
  def is_idle(self) -> bool:
    """Whether nothing is waiting or being made."""
    return not self._queue and not any(self._rows)

  def submit(
    self, prompt: Sequence[int], seed: int, request: requests.Request
  ) -> int:
    """Queue a request.

    Args:
      prompt: token ids.
      seed: in [0, 2^32); the same prompt, seed and request give the same
        answer.
      request: how to continue it.

    Returns:
      Its number, by which updates name it.

    Raises:
      ValueError: for what `requests.check` refuses, and for stop strings
        without token_bytes. Requests that wait or run are not touched.
    """
    plan = self._plan
    requests.check(plan.cfg, prompt, request, n_slots=plan.n_slots, seed=seed)
    if request.stop_strings and self._token_bytes is None:
      raise ValueError('stop_strings need the bytes of tokens: token_bytes')
    self._state = slots.with_features(plan, self._state, request.features)
    job = _Job(
      number=next(self._numbers),
      prompt=tuple(prompt),
      seed=seed,
      request=request,
      n_wanted=min(plan.n_slots - len(prompt), request.max_new_tokens),
      answer=Answer([], []),
    )
    self._queue.append(job)
    return job.number

  def cancel(self, number: int) -> None:
    """Forget a request; its row is free at the next step. Unknown: no error."""
    self._queue = collections.deque(
      job for job in self._queue if job.number != number
    )
    for row, job in enumerate(self._rows):
      if job is not None and job.number == number:
        self._rows[row] = None
        self._released.add(row)

  def step(self) -> list[Update]:
    """Start what can be started, draw up to max_chunk tokens of each answer.

    Returns:
      One update for each answer that has got longer, by row.
    """
    self._admit()
    plan = self._plan
    released_B = np.zeros(plan.n_rows, bool)
    released_B[list(self._released)] = True
    self._released.clear()
    used = [
      len(job.prompt) + job.n_in_row for job in self._rows if job is not None
    ]
    if not used:
      return []
    # The first token of a new answer is in its row already, but not counted.
    n_read = bucket(max(used) + plan.max_chunk + 1, _MIN_READ)
    self._state, drawn = slots.decode(
      plan,
      min(n_read, plan.n_slots),
      params=self.params,
      state=self._state,
      **self._put({'released_B': released_B}),
    )
    if plan.mesh is not None and jax.process_count() > 1:
      drawn = multihost_utils.process_allgather(drawn, tiled=True)
    return self._collect(jax.device_get(drawn))

  def _put(self, arrays):
    mesh = self._plan.mesh
    return arrays if mesh is None else device_mesh.put_batch(mesh, arrays)

  def _admit(self) -> None:
    """Fill free rows with what has waited longest."""
    free = [row for row, job in enumerate(self._rows) if job is None]
    chosen = [(row, self._queue.popleft()) for row in free[: len(self._queue)]]
    if not chosen:
      return

    def missing(jobs: Iterable[_Job]) -> dict[tuple[int, ...], None]:
      prompts = (job.prompt for job in jobs)
      return dict.fromkeys(x for x in prompts if x not in self._prefixes)

    # Prompts to read: those that start, and a few that are next.
    needed = missing(job for _, job in chosen)
    if needed:
      n_read = max(_LOOK_AHEAD, len(needed))
      self._prefill(list(needed | missing(self._queue))[:n_read])
    sources: dict[int, tuple[slots.Prefix, list[tuple[int, int, _Job]]]] = {}
    for row, job in chosen:
      prefix, at = self._prefixes[job.prompt]
      sources.setdefault(id(prefix), (prefix, []))[1].append((row, at, job))
      self._rows[row] = job
      self._released.discard(row)
    for prefix, started in sources.values():
      row_B, new = self._describe(started)
      self._state = slots.admit(
        self._plan,
        params=self.params,
        state=self._state,
        prefix=prefix,
        row_B=row_B,
        new=new,
      )
    waiting = {job.prompt for job in self._queue}
    self._prefixes = {
      prompt: found
      for prompt, found in self._prefixes.items()
      if prompt in waiting
    }

  def _prefill(self, prompts: list[tuple[int, ...]]) -> None:
    """Read prompts into prefixes, those of one length class together."""
    plan = self._plan
    shards = 1 if plan.mesh is None else device_mesh.n_row_shards(plan.mesh)
    by_length: dict[int, list[tuple[int, ...]]] = {}
    for prompt in prompts:
      length = min(bucket(len(prompt), self._min_bucket), plan.n_slots)
      by_length.setdefault(length, []).append(prompt)
    for length, group in by_length.items():
      # At most what memory allows, at least what the devices share.
      limit = max(bucket(_MAX_PREFILL // length, 1), shards)
      n_rows = min(bucket(len(group), 1), limit)
      n_rows = -(-n_rows // shards) * shards
      for start in range(0, len(group), n_rows):
        part = group[start : start + n_rows]
        prompt_PT = np.zeros((n_rows, length), np.int32)
        length_P = np.ones(n_rows, np.int32)
        for at, prompt in enumerate(part):
          prompt_PT[at, : len(prompt)] = prompt
          length_P[at] = len(prompt)
        arrays = self._put({'prompt_PT': prompt_PT, 'length_P': length_P})
        prefix = slots.prefill(plan, self.params, **arrays)
        for at, prompt in enumerate(part):
          self._prefixes[prompt] = prefix, at

  def _describe(self, started):
    """The arrays of answers that start, those of other rows being 0."""
    row_B = np.full(self._plan.n_rows, -1, np.int32)
    new = {
      name: np.zeros(x.shape, x.dtype)
      for name, x in self._state.items()
      if name in slots.GIVEN
    }
    new['stop_BJ'] -= 1
    for row, at, job in started:
      row_B[row] = at
      request = job.request
      values = vars(request) | {
        'n_left': job.n_wanted,
        'seed': job.seed,
        'offset': job.offset,
      }
      for name, x in new.items():
        if x.ndim == 1:
          x[row] = values[name.removesuffix('_B')]
      new['stop_BJ'][row, : len(request.stop_ids)] = request.stop_ids
      if 'banned_BV' in new:
        new['banned_BV'][row, list(request.banned_ids)] = True
    put = self._put({'row_B': row_B} | new)
    return put.pop('row_B'), put

  def _collect(self, drawn) -> list[Update]:
    """Hand out what was drawn, and free the rows of what has ended."""
    self.n_steps += int(drawn['n_steps'])
    updates = []
    for row, job in enumerate(self._rows):
      if job is None:
        continue
      n_out = int(drawn['n_out_B'][row])
      self.n_drawn += n_out
      new, stop_string = [], b''
      for token in drawn['out_token_BC'][row, :n_out].tolist():
        new.append(token)
        stop_string = self._stop_string(job, token)
        if stop_string:
          self._released.add(row)
          break
      so_far = job.answer
      so_far.token_ids.extend(new)
      so_far.logps.extend(drawn['out_logp_BC'][row, : len(new)].tolist())
      if self._plan.n_top:
        names = ('out_model_logp_BC', 'out_top_token_BCJ', 'out_top_logp_BCJ')
        found = (drawn[name][row, : len(new)].tolist() for name in names)
        so_far.choices.extend(map(Choice, *found))
      job.n_in_row += n_out
      answer = None
      if stop_string or drawn['done_B'][row]:
        self._rows[row] = None
        last = so_far.token_ids[-1]
        is_stopped = bool(stop_string) or last in job.request.stop_ids
        n_more = job.request.max_new_tokens - len(so_far.token_ids)
        if job.request.slides and n_more and not is_stopped:
          self._slide(job, n_more)
        else:
          answer = dataclasses.replace(
            so_far, stopped=is_stopped, stop_string=stop_string
          )
      if new or answer is not None:
        updates.append(Update(job.number, new, answer))
    return updates

  def _stop_string(self, job: _Job, token: int) -> bytes:
    """The stop string that a token completes, if any."""
    strings = job.request.stop_strings
    if not strings:
      return b''
    assert self._token_bytes is not None
    job.tail += self._token_bytes(token)
    found = [string for string in strings if string in job.tail]
    longest = max(map(len, strings)) - 1
    text, job.tail = job.tail, job.tail[-longest:] if longest else b''
    return min(found, key=text.index) if found else b''

  def _slide(self, job: _Job, n_more: int) -> None:
    """Let an answer that fills its row go on from the last half of it."""
    text = [*job.prompt, *job.answer.token_ids[-job.n_in_row :]]
    kept = text[-(self._plan.n_slots // 2) :]
    job.offset += len(text) - len(kept)
    job.prompt, job.n_in_row = tuple(kept), 0
    job.n_wanted = min(self._plan.n_slots - len(kept), n_more)
    self._queue.appendleft(job)


def bucket(length: int, least: int = MIN_BUCKET) -> int:
  """The least power of two that holds a length, and `least`."""
  return max(least, 1 << (length - 1).bit_length())
