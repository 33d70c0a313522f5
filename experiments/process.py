"""Sets up the process that a recipe runs in, its log lines and JAX; ends it.

It does NOT parse the command line and does NOT choose devices.
"""

import ctypes
import logging as python_logging
import os
import pathlib
import re
import sys
import typing

from absl import flags, logging

from llm_jax import files

# Options of mallopt(3), as in malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8

# Of experiments and tools; in a wheel the library lies elsewhere.
_ROOT = pathlib.Path(__file__).resolve().parent.parent
_OWN = (
  _ROOT / 'experiments',
  _ROOT / 'tools',
  pathlib.Path(files.__file__).resolve().parent,
)


class _OwnLines(python_logging.Filter):
  """Keeps libraries' chatter out: below a warning only our own lines pass."""

  def filter(self, record: python_logging.LogRecord) -> bool:
    if record.levelno >= python_logging.WARNING:
      return True
    path = pathlib.Path(record.pathname)
    return any(path.is_relative_to(folder) for folder in _OWN)


def set_up_logging(verbosity: int) -> None:
  """Shows our own lines with their time; of libraries only warnings.

  Args:
    verbosity: 0; 1 adds debug lines and libraries; -1 leaves warnings only.
  """
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()  # or absl says that it logs too early
  logging.use_absl_handler()
  logging.set_verbosity(verbosity)
  handler = logging.get_absl_handler()
  handler.setFormatter(
    python_logging.Formatter('%(asctime)s %(message)s', '%H:%M:%S')
  )
  if verbosity <= 0:
    handler.addFilter(_OwnLines())


def set_up_jax() -> None:
  """Keeps compiled programs between runs, and memory between steps.

  Shapes must be spelled out.
  """
  if 'jax' not in sys.modules:
    return
  import jax  # here, because recipes without JAX must not load it

  keep_freed_memory()

  folder = os.environ.get('LLM_JAX_CACHE') or '~/.cache/llm_jax'
  jax.config.update('jax_compilation_cache_dir', os.path.expanduser(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
  jax.config.update('jax_numpy_rank_promotion', 'raise')


def keep_freed_memory() -> None:
  """Lets glibc give memory that was freed to the next step, not to the system.

  Without, each step gets its buffers as new pages, which the system clears: a
  third of the time of a small model's step on a CPU.
  """
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
  if mallopt is None:  # not glibc
    return
  for option, value in (
    (_M_MMAP_MAX, 0),
    (_M_TRIM_THRESHOLD, 2**31 - 1),
    (_M_ARENA_MAX, 1),  # other arenas have heaps of 64 MB
  ):
    if not mallopt(option, value):
      raise RuntimeError(f'mallopt refuses option {option} = {value}')


def join(distributed: str) -> int:
  """Joins the processes that train one model together, one a host.

  All of them run the same command, with a --workdir on a disk that they share.

  Args:
    distributed: "auto", where jax.distributed finds the others by itself (TPU
      pod, Slurm, Kubernetes, MPI); "HOST:PORT,INDEX,COUNT" with the address of
      process 0, elsewhere; empty for a process that works alone.

  Returns:
    The index of this process; 0 for one that works alone.

  Raises:
    ValueError: if the recipe does not use JAX, or the value is none of these.
  """
  if not distributed:
    return 0
  if 'jax' not in sys.modules:
    raise ValueError(
      f'--distributed {distributed}: this recipe runs as one process; leave it '
      'out'
    )
  import jax

  if distributed == 'auto':
    jax.distributed.initialize()
  else:
    match = re.fullmatch(r'([^,]+:\d+),(\d+),(\d+)', distributed)
    if not match:
      raise ValueError(
        f'--distributed {distributed!r} is neither auto nor HOST:PORT,INDEX,'
        'COUNT; write for example 10.0.0.7:1234,0,2 in process 0 of 2'
      )
    jax.distributed.initialize(match[1], int(match[3]), int(match[2]))
  index = jax.process_index()
  if index:
    logging.set_verbosity(logging.WARNING)
  return index


def leave(code: int) -> typing.NoReturn:
  """Ends the process; one of many that failed ends at once.

  Behind sys.exit it would wait for threads of an unfinished save and for the
  other processes, which wait for its part of the step.

  Args:
    code: 0 if all is well.
  """
  jax = sys.modules.get('jax')
  if code and jax and jax.distributed.is_initialized():
    python_logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
  sys.exit(code)
