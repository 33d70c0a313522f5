"""The one command line of every recipe.

A recipe ends with

  if __name__ == '__main__':
    command_line.main(Config, run, documents='folder of Parquet documents')

and `run(cfg, workdir, documents, restore_from=None)` says by its parameters
which flags it takes: `workdir` and `restore_from` are known here, every other
parameter is a path flag whose help text is given to `main`. A parameter
without a default is required; one annotated `Sequence[str]` may be repeated;
one annotated `bool` is a switch. No recipe defines flags of its own, so that
all recipes can be imported into one process.

It does NOT hold what is trained: that is the gin file's. It does NOT read any
flag outside of this file.
"""

import inspect
import logging as python_logging
import os
import pathlib
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags, logging

from llm_jax import config

_ROOT = pathlib.Path(__file__).resolve().parent.parent


def main(
  config_class: type, run: Callable[..., Any], **path_flags: str
) -> typing.NoReturn:
  """Runs a recipe from the command line and exits.

  Args:
    config_class: the recipe's Config.
    run: `run(cfg, workdir, ...)`; `cfg` is its first parameter.
    **path_flags: the help text of each further flag, by parameter name.
  """
  sys.exit(execute(config_class, run, path_flags, sys.argv))


def execute(
  config_class: type,
  run: Callable[..., Any],
  path_flags: Mapping[str, str],
  argv: Sequence[str],
) -> int:
  """Parses `argv`, builds the configuration and calls the recipe.

  Returns:
    The exit code: 0, 1 after a clear message about a wrong value or a file,
    2 for a wrong flag, 130 when interrupted.
  """
  flag_values = _define(run, path_flags)
  try:
    rest = flag_values(list(argv))[1:]
    if rest:
      raise flags.Error(f'unexpected arguments: {" ".join(rest)}')
  except flags.Error as error:
    print(f'{error}\n--help lists the flags', file=sys.stderr)
    return 2
  if flag_values.help:
    print(f'{(sys.modules["__main__"].__doc__ or "").strip()}\n\nFlags:')
    print(flag_values.get_help())
    return 0
  _set_up_logging(flag_values.verbosity)
  try:
    cfg = config.load(
      config_class, flag_values.gin_file, flag_values.gin_bindings
    )
    arguments = _arguments(run, flag_values)
    if flag_values.explain:
      print(config.explain(cfg))
      return 0
    _refuse_missing(run, arguments)
    _set_up_jax()
    run(cfg, **arguments)
  except (ValueError, OSError, FloatingPointError) as error:
    if flag_values.verbosity > 0:
      raise
    print(f'error: {error}', file=sys.stderr)
    print('(--verbosity=1 shows where in the code)', file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print('interrupted; the same command resumes', file=sys.stderr)
    return 130
  return 0


def _define(
  run: Callable[..., Any], path_flags: Mapping[str, str]
) -> flags.FlagValues:
  """Defines the shared flags and those that `run` asks for.

  The flags live in an object of their own instead of absl's global one, so
  that recipes imported side by side do not collide.
  """
  own = flags.FlagValues()
  place = {'flag_values': own}
  flags.DEFINE_multi_string(
    'gin_file', [], 'gin file with what is trained; repeatable', **place
  )
  flags.DEFINE_multi_string(
    'gin_bindings', [], "'Class.field = value'; repeatable", **place
  )
  flags.DEFINE_boolean(
    'explain', False, 'print the resolved configuration and stop', **place
  )
  flags.DEFINE_integer(
    'verbosity', 0, '1: debug lines and tracebacks; -1: warnings only', **place
  )
  flags.DEFINE_boolean('help', False, 'list the flags', short_name='h', **place)
  flags.DEFINE_string(
    'workdir', None, 'folder of this stage; the same folder resumes', **place
  )
  flags.DEFINE_string(
    'restore_from', None, 'folder of the stage to start from', **place
  )
  hints = typing.get_type_hints(run)
  names = [n for n in _parameters(run) if n not in ('workdir', 'restore_from')]
  if set(names) != set(path_flags):
    raise TypeError(
      f'run() takes the flags {names}, but main() describes {list(path_flags)}'
    )
  for name in names:
    default = _parameters(run)[name].default
    default = None if default is inspect.Parameter.empty else default
    hint = hints.get(name, str)
    if hint is bool:
      flags.DEFINE_boolean(name, bool(default), path_flags[name], **place)
    elif typing.get_origin(hint) in (list, tuple, Sequence):
      flags.DEFINE_multi_string(
        name, list(default or []), f'{path_flags[name]}; repeatable', **place
      )
    else:
      flags.DEFINE_string(name, default, path_flags[name], **place)
  return own


def _parameters(run: Callable[..., Any]) -> dict[str, inspect.Parameter]:
  """The parameters of `run` after the configuration."""
  return dict(list(inspect.signature(run).parameters.items())[1:])


def _arguments(
  run: Callable[..., Any], flag_values: flags.FlagValues
) -> dict[str, Any]:
  parameters = _parameters(run)
  for name in ('workdir', 'restore_from'):
    if flag_values[name].value is not None and name not in parameters:
      raise ValueError(
        f'--{name} {flag_values[name].value}: this recipe takes none; leave '
        'it out'
      )
  return {name: flag_values[name].value for name in parameters}


def _refuse_missing(
  run: Callable[..., Any], arguments: Mapping[str, Any]
) -> None:
  missing = [
    f'--{name}'
    for name, parameter in _parameters(run).items()
    if parameter.default is inspect.Parameter.empty
    and arguments[name] in (None, [])
  ]
  if missing:
    raise ValueError(f'{", ".join(missing)} must be given; see --help')


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


def _set_up_logging(verbosity: int) -> None:
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


def _set_up_jax() -> None:
  """Compiled programs are kept between runs; shapes must be spelled out."""
  if 'jax' not in sys.modules:
    return
  import jax  # here, because recipes without JAX must not load it

  folder = os.environ.get('LLM_JAX_CACHE') or '~/.cache/llm_jax'
  jax.config.update('jax_compilation_cache_dir', os.path.expanduser(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
  jax.config.update('jax_numpy_rank_promotion', 'raise')
