"""Runs one function over many shards in processes of their own.

Processes are spawned, never forked, and end when their parent is killed. A
shard's result is a file that the function writes; it does NOT carry documents
between processes, and does not retry a shard that failed.
"""

import multiprocessing
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from multiprocessing import connection


def run(
  function: Callable[..., object],
  tasks: Sequence[tuple],
  n_workers: int,
  on_done: Callable[[], object] = lambda: None,
):
  """Calls the function with each task's arguments.

  Args:
    function: importable by name; its result is thrown away.
    tasks: arguments of each call, picklable.
    n_workers: processes at a time.
    on_done: called here after each task.

  Raises:
    OSError: a process died, such as for lack of memory.
    Exception: what the function raised first; running tasks are waited for.
  """
  if not tasks:
    return
  with futures.ProcessPoolExecutor(
    min(n_workers, len(tasks)),
    multiprocessing.get_context('spawn'),
    initializer=end_with_parent,
  ) as executor:
    running = [executor.submit(function, *task) for task in tasks]
    try:
      for future in futures.as_completed(running):
        future.result()
        on_done()
    except futures.process.BrokenProcessPool as error:
      raise OSError(
        f'a worker of {function.__name__} was killed, perhaps for lack of '
        f'memory; give the same command again with less than {n_workers} '
        'n_workers'
      ) from error
    except BaseException:
      executor.shutdown(cancel_futures=True)
      raise


def end_with_parent():
  """Ends this process when its parent is killed, so that no orphan works on.

  Does nothing in a process that multiprocessing did not start.
  """
  parent = multiprocessing.parent_process()
  if parent is not None:
    threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent):
  connection.wait([parent.sentinel])
  signal.raise_signal(signal.SIGKILL)
