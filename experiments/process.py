"""Sets up the process that a recipe runs in, its log lines and JAX; ends it.

It does NOT parse flags and does NOT choose devices.
"""

import logging as python_logging
import os
import pathlib
import sys
import typing

from absl import flags, logging

_ROOT = pathlib.Path(__file__).resolve().parent.parent


class _OwnLines(python_logging.Filter):
  """Keeps libraries' chatter out: below a warning only our own lines pass."""

  def filter(self, record: python_logging.LogRecord) -> bool:
    if record.levelno >= python_logging.WARNING:
      return True
    path = pathlib.Path(record.pathname)
    return any(
      path.is_relative_to(_ROOT / folder)
      for folder in ('llm_jax', 'experiments', 'tools')
    )


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
  """Compiled programs are kept between runs; shapes must be spelled out."""
  if 'jax' not in sys.modules:
    return
  import jax  # here, because recipes without JAX must not load it

  folder = os.environ.get('LLM_JAX_CACHE') or '~/.cache/llm_jax'
  jax.config.update('jax_compilation_cache_dir', os.path.expanduser(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
  jax.config.update('jax_numpy_rank_promotion', 'raise')


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
