"""Batches made ahead of their step, so that the step does not wait for them.

Does not change what a batch holds: it is made from its step number alone, so
a resumed run goes on from its step whatever was made ahead.
"""

import collections
import itertools
import time
from collections.abc import Callable, Generator, Iterable
from concurrent import futures
from typing import TypeVar

T = TypeVar('T')
_N_AHEAD = 2  # batches at most that wait, made or in the making


def ahead(
  make: Callable[[int], T], steps: Iterable[int]
) -> Generator[tuple[T, float], None, None]:
  """Make what each step needs while the steps before it run.

  On one thread, which ends with the iterator; close that to leave early.

  Args:
    make: from a step to its batch, placed on the devices.
    steps: in their order.

  Yields:
    For each step the batch, and the seconds that were waited for it.

  Raises:
    Exception: what `make` raised, at the step that it was called for.
  """
  rest = iter(steps)
  thread = futures.ThreadPoolExecutor(1, 'prefetch')
  try:
    waiting = collections.deque(
      thread.submit(make, step) for step in itertools.islice(rest, _N_AHEAD)
    )
    while waiting:
      start = time.monotonic()
      batch = waiting.popleft().result()
      wait_s = time.monotonic() - start
      for step in itertools.islice(rest, 1):
        waiting.append(thread.submit(make, step))
      yield batch, wait_s
  finally:
    thread.shutdown(cancel_futures=True)
