"""Runs functions over many shards in processes of their own.

Workers are forked by a process that has loaded the code and nothing else,
never by the caller, which may have threads; so they start at once and share
the memory of that code. They end when their parent is killed. What they
return is sent to the caller, so documents are files that the function writes.
It does NOT retry a shard that failed.
"""

import contextlib
import multiprocessing
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from multiprocessing import connection
from typing import Any

import tqdm

_POLL_S = 0.5
# What a worker is given when it starts: the argument that all tasks share,
# and the documents and bytes that it and its siblings have read.
_shared: Any = None
_read: Any = None
_MAIN_LOCK = threading.Lock()


class Pool:
  """Processes that all work with the same first argument."""

  def __init__(self, shared: Any, n_workers: int, modules: Sequence[str]):
    """Starts processes as they are needed.

    Args:
      shared: first argument of each call; sent to each process once.
      n_workers: processes at a time.
      modules: loaded once for all workers.
    """
    context = _forkserver(modules)
    self._n_workers = n_workers
    self._read = context.Array('q', 2)
    self._executor = futures.ProcessPoolExecutor(
      n_workers,
      context,
      initializer=_start_worker,
      initargs=(shared, self._read),
    )

  def __enter__(self):
    return self

  def __exit__(self, kind, *_):
    if kind is KeyboardInterrupt:  # they do not hear it, and tasks may be long
      for child in multiprocessing.active_children():
        child.kill()
    self._executor.shutdown(cancel_futures=True)

  def run(
    self,
    function: Callable[..., object],
    tasks: Sequence[tuple],
    on_done: Callable[[], object] = lambda: None,
    total_bytes: int = 0,
  ) -> list[Any]:
    """Calls the function with each task's arguments.

    Args:
      function: importable by name.
      tasks: its further arguments in each call, picklable.
      on_done: called here after each task.
      total_bytes: what all calls of `report` will add up to; a progress bar
        shows documents/s, bytes/s and the time left. 0 for no bar.

    Returns:
      The results in the order of the tasks.

    Raises:
      OSError: a process died, such as for lack of memory.
      Exception: what the function raised first.
    """
    bar = tqdm.tqdm(
      total=total_bytes,
      unit='B',
      unit_scale=True,
      desc=function.__name__,
      # None: where the output is no terminal, as in a log file.
      disable=None if total_bytes else True,
      mininterval=_POLL_S,
    )
    with bar:
      with without_main():
        calls = [self._executor.submit(_call, function, t) for t in tasks]
      running = {*calls}
      try:
        while running:
          done, running = futures.wait(
            running, _POLL_S, futures.FIRST_COMPLETED
          )
          _show(bar, *self._read[:])
          for future in done:
            future.result()
            on_done()
        return [call.result() for call in calls]
      except futures.process.BrokenProcessPool as error:
        raise OSError(
          f'a worker of {function.__name__} was killed, perhaps for lack of '
          'memory; give the same command again with --n_workers below '
          f'{self._n_workers}'
        ) from error


def _show(bar: tqdm.tqdm, n_documents: int, n_bytes: int):
  seconds = bar.format_dict['elapsed']
  if not bar.disable and seconds:
    rate = f'{n_documents / seconds:.0f} documents/s'
    bar.set_postfix_str(rate, refresh=False)
    bar.update(n_bytes - bar.n)


def report(documents: int, n_bytes: int):
  """Counts what this worker has read, for the progress bar of its pool."""
  if _read is not None:
    with _read.get_lock():
      _read[0] += documents
      _read[1] += n_bytes


def _start_worker(shared: Any, read: Any):
  global _shared, _read
  _shared, _read = shared, read
  end_with_parent()


def _call(function: Callable[..., object], task: tuple) -> object:
  return function(_shared, *task)


@contextlib.contextmanager
def without_main() -> Iterator[None]:
  """Processes that start meanwhile do not load the program's main module."""
  with _MAIN_LOCK:
    main = sys.modules['__main__']
    sys.modules['__main__'] = types.ModuleType('__main__')
    try:
      yield
    finally:
      sys.modules['__main__'] = main


def context_of_children(modules: Sequence[str]) -> Any:
  """How this process starts children: a context of multiprocessing.

  A worker of a pool forks, as it has no threads that could hold a lock. Others
  have them forked by a server.

  Args:
    modules: what the server loads once for all children.
  """
  if _read is not None and sys.platform == 'linux':
    return multiprocessing.get_context('fork')
  return _forkserver(modules)


def _forkserver(modules: Sequence[str]):
  context = multiprocessing.get_context('forkserver')
  context.set_forkserver_preload([*modules])
  return context


def end_with_parent():
  """Ends this process when its parent is killed, so that no orphan works on.

  Ctrl-C on a terminal, which all its processes get, is for the parent alone.
  Does nothing in a process that multiprocessing did not start.
  """
  parent = multiprocessing.parent_process()
  if parent is not None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent):
  connection.wait([parent.sentinel])
  signal.raise_signal(signal.SIGKILL)
