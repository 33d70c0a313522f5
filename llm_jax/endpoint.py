"""A model behind OpenAI's chat completions over HTTP, and answers kept on disk.

The key is read from the environment and stands in no message and no file.
Redirects are not followed, as they would take it along, and proxies not used. A
server that is silent is given up; one that goes on sending is waited for.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import urllib3

from llm_jax import journal

KEY = 'OPENAI_API_KEY'
NO_END = 'no end within the limit of tokens'
_FAULTS = {'length': NO_END, 'content_filter': 'filtered by the server'}
_BUSY = (408, 409, 425, 429, *range(500, 600))

Request = Mapping[str, Any]  # messages, temperature, ... of a completion


class Reply(NamedTuple):
  """What a model answered."""

  text: str
  fault: str  # why it is no whole answer; '' if it is one
  n_tokens: int = 0  # that it read and wrote, where the server says so


AskFn = Callable[[list[Request], Callable[[Request, Reply], object]], object]


@dataclasses.dataclass(frozen=True)
class Endpoint:
  """Where a model is asked."""

  url: str  # up to /v1
  model: str  # as the server calls it
  timeout_s: float = 300.0  # of silence, or of a wait that a server asks for
  n_tries: int = 7  # where the server is busy, or does not answer
  wait_s: float = 0.5  # before the third try; doubles before each one more

  def __post_init__(self):
    if not self.url.startswith(('http://', 'https://')):
      raise ValueError(
        f'{self.url!r} is no address; give one as http://localhost:8000/v1'
      )

  def ask(self, request: Request) -> Reply:
    """Ask for one completion.

    Raises:
      OSError: there was no answer in all tries.
      ValueError: the server refuses the request, or answers something else.
    """
    url, key = f'{self.url.rstrip("/")}/chat/completions', os.environ.get(KEY)
    retries = urllib3.Retry(
      self.n_tries - 1,
      allowed_methods=None,
      status_forcelist=_BUSY,
      backoff_factor=self.wait_s,
      retry_after_max=int(self.timeout_s),
      raise_on_status=False,
    )
    try:
      answer = _pool().request(
        'POST',
        url,
        json={'model': self.model, **request},
        headers={'Authorization': f'Bearer {key.strip()}'} if key else {},
        timeout=self.timeout_s,
        retries=retries,
        redirect=False,
      )
    except urllib3.exceptions.HTTPError as error:
      raise OSError(
        f'{url} does not answer: {getattr(error, "reason", None) or error}; '
        'give the same command again when it does'
      ) from None
    said = f'{url} answers {answer.status}: {answer.data[:200]!r}'
    if answer.status in _BUSY:
      raise OSError(
        f'{said}, {self.n_tries} times; give the same command again later'
      )
    try:
      if answer.status != 200:
        raise ValueError
      said_all = answer.json()
      choice = said_all['choices'][0]
      text = choice['message']['content']
      n_tokens = (said_all.get('usage') or {}).get('total_tokens') or 0
      # A lone surrogate is no text that could be encoded.
      text = '' if text is None else text.encode(errors='replace').decode()
      fault = _FAULTS.get(choice.get('finish_reason'), '')
      return Reply(text, fault, int(n_tokens))
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError):
      raise ValueError(
        f"{said}, which is no chat completion of OpenAI's form; check the "
        f'address, which ends in /v1, the model {self.model!r} and {KEY}'
      ) from None


@functools.cache
def _pool() -> urllib3.PoolManager:
  return urllib3.PoolManager(maxsize=256)


def ask_all(
  server: Endpoint,
  requests: Iterable[Request],
  on_reply: Callable[[Request, Reply], object],
  n_threads: int,
) -> None:
  """Ask several at once.

  Args:
    server: is asked.
    requests: see Endpoint.ask.
    on_reply: called as each answer comes, one at a time.
    n_threads: requests under way together.

  Raises:
    OSError, ValueError: of the first that failed, once those under way have
      ended.
  """
  lock = threading.Lock()

  def work(request: Request) -> None:
    reply = server.ask(request)
    with lock:
      on_reply(request, reply)

  with concurrent.futures.ThreadPoolExecutor(n_threads) as pool:
    futures = [pool.submit(work, request) for request in requests]
    try:
      for future in concurrent.futures.as_completed(futures):
        future.result()
    finally:
      pool.shutdown(cancel_futures=True)


class Answers:
  """Replies on disk, by the content of what was asked and whom.

  Several threads may ask.
  """

  def __init__(self, path: pathlib.Path, who: str):
    """Read what is there.

    Args:
      path: a file of JSON lines, of this process alone.
      who: which model answers, such as a fingerprint of it.

    Raises:
      ValueError: if the file is damaged.
    """
    self._path, self._who = path, who
    self._lock = threading.Lock()
    self._found = dict(
      journal.read(path, lambda x: (x.pop('asked'), Reply(**x)))
    )

  def get(self, requests: Sequence[Request], ask_fn: AskFn) -> list[Reply]:
    """Replies in order, of which those that are not there are asked for.

    Args:
      requests: what is asked.
      ask_fn: called with those that nobody has answered, if there are some, and
        with what it calls for each reply, which is then on disk.
    """
    named = {self._name(request): request for request in requests}
    missing = [r for name, r in named.items() if name not in self._found]
    if missing:
      ask_fn(missing, self._put)
    return [self._found[self._name(request)] for request in requests]

  def _put(self, request: Request, reply: Reply) -> None:
    name = self._name(request)
    with self._lock:
      journal.append(self._path, {'asked': name, **reply._asdict()})
      self._found[name] = reply

  def _name(self, request: Request) -> str:
    text = json.dumps([self._who, request], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
