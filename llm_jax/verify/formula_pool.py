"""Child processes that compare formulas, and a timer that kills them.

There are as many as are asked at a time, and they stay for the next question.
One that is killed or crashes is replaced; its formulas are not equal, which is
said and counted. Only children load sympy: see formula_equality.py.
"""

import atexit
import contextlib
import functools
import json
import multiprocessing
import signal
import threading

from absl import logging

from llm_jax.verify import children

_START_S = 120.0
_CPU_S = 3.0  # of computing that a comparison may take
_WALL_S = 60.0  # until a child that does not even compute is killed
_MEMORY_BYTES = 1 << 30  # address space of a child, on Linux
_SERVE = 'llm_jax.verify.formula_equality.serve'


class Pool:
  """Children that wait for formulas; may be used from several threads."""

  def __init__(self):
    """Starts nothing: children start when they are needed."""
    self._lock = threading.Lock()  # of the count
    self._idle: list[_Child] = []
    self.n_killed = 0  # comparisons without an end

  def close(self):
    """Ends the children that wait."""
    while self._idle:
      self._idle.pop().close()

  def difference(self, answer: str, reference: str) -> str:
    """Why an answer does not equal the reference as a formula; '' if it does.

    Args:
      answer: anything a model wrote.
      reference: the right answer.

    Raises:
      OSError: if a child does not start, such as without sympy.
    """
    verdict, reason = self._ask(answer, reference)
    if verdict == 'unreadable':
      return f'{answer[:40]!r} is no formula: {reason}'
    return reason

  def is_readable(self, reference: str) -> bool:
    """Whether a reference is a formula that answers can be compared with."""
    return self._ask(reference, reference)[0] == 'equal'

  def _ask(self, answer: str, reference: str) -> tuple[str, str]:
    child = self._idle_child()
    try:
      child.pipe.send_bytes(json.dumps([answer, reference]).encode())
      if child.pipe.poll(_WALL_S):
        verdict, reason = json.loads(child.pipe.recv_bytes())
        self._idle.append(child)
        return verdict, reason
      child.close()
      reason = f'timed out after {_WALL_S:g} s'
    except (EOFError, ConnectionError):  # it has ended
      code = child.close()
      reason = f'the comparison crashed with code {code}'
      if code == -signal.SIGPROF:
        reason = f'timed out after {_CPU_S:g} s of computing'
    except BaseException:
      child.close()
      raise
    with self._lock:
      self.n_killed += 1
    pair = f'{answer!r} and {reference!r}'
    logging.warning(
      '%s are not equal: %s; %d such so far', pair, reason, self.n_killed
    )
    return 'unequal', f'not equal: {reason}'

  def _idle_child(self) -> '_Child':
    with contextlib.suppress(IndexError):  # nobody is left who waits
      while True:
        child = self._idle.pop()
        if child.is_alive():
          return child
        child.close()
    return _Child()


class _Child:
  """One process and the pipe to it."""

  def __init__(self):
    self.pipe, theirs = multiprocessing.Pipe()
    with theirs:
      arguments = (theirs.fileno(), _CPU_S, _MEMORY_BYTES)
      self._process = children.start(_SERVE, arguments, flags=())
    try:
      if not self.pipe.poll(_START_S):
        raise OSError(f'a child has not started in {_START_S} s')
      self.pipe.recv_bytes()
    except BaseException as error:
      self.close()
      if not isinstance(error, EOFError):
        raise
      raise OSError(
        'a child that compares formulas ended at its start; see its error '
        'above, and `pip install sympy` if that is missing'
      ) from error

  def is_alive(self) -> bool:
    return self._process.poll() is None

  def close(self) -> int:
    """Its exit code; it is killed if it has not ended."""
    self.pipe.close()
    self._process.kill()
    return self._process.wait()


@functools.cache
def shared() -> Pool:
  """The pool of this process, which ends with it."""
  pool = Pool()
  atexit.register(pool.close)
  return pool
