"""The one command line of every recipe.

A recipe ends with

  if __name__ == '__main__':
    command_line.main(Config, run, documents='folder of Parquet documents')

and `run(cfg, workdir, documents, restore_from=None)` says by its parameters
which flags it takes: `workdir` and `restore_from` are known here, every other
parameter is a path flag whose help text is given to `main`. A parameter
without a default is required; one annotated `Sequence[str]` may be repeated;
one annotated `bool` is a switch, one annotated `int` a number. No recipe
defines flags of its own, so that all recipes can be imported into one process.

`--rerun OLD/run.json` does a run again, into another workdir: configuration and
flags are taken from its record, and what it read must be what it was.

It does NOT hold what is trained: that is the gin file's. It does NOT read any
flag outside of this file.
"""

import gc
import inspect
import os
import sys
import traceback
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags, logging

from experiments import process
from llm_jax import config, dataclass_json, record


def main(
  config_class: type, run: Callable[..., Any], **path_flags: str
) -> typing.NoReturn:
  """Runs a recipe from the command line and exits.

  Args:
    config_class: the recipe's Config.
    run: `run(cfg, workdir, ...)`; `cfg` is its first parameter.
    **path_flags: the help text of each further flag, by parameter name.
  """
  try:
    code = execute(config_class, run, path_flags, sys.argv)
  except Exception:
    traceback.print_exc()
    code = 1
  # Or the collector walks all modules once more: 0.2 s, with JAX 0.7 s.
  gc.freeze()
  process.leave(code)


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
  process.set_up_logging(flag_values.verbosity)
  try:
    if flag_values.rerun:
      cfg = _take_over(config_class, run, path_flags, flag_values)
    else:
      cfg = config.load(
        config_class, flag_values.gin_file, flag_values.gin_bindings
      )
    arguments = _arguments(run, flag_values)
    if flag_values.explain:
      print(config.explain(cfg))
      return 0
    _refuse_missing(run, arguments)
    process.set_up_jax()
    if index := process.join(flag_values.distributed):
      # Records and metrics of its own; checkpoints are shared.
      arguments['workdir'] += f'/process_{index}'
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
  flags.DEFINE_string(
    'distributed', '', 'run as one of several processes that train together: '
    '"auto" on a TPU pod, Slurm, Kubernetes or MPI, elsewhere '
    '"HOST:PORT,INDEX,COUNT" with the address of process 0', **place
  )  # fmt: skip
  flags.DEFINE_boolean('help', False, 'list the flags', short_name='h', **place)
  flags.DEFINE_string(
    'workdir', None, 'folder of this stage; the same folder resumes', **place
  )
  flags.DEFINE_string(
    'restore_from', None, 'folder of the stage to start from', **place
  )
  flags.DEFINE_string(
    'rerun', None, 'run.json of a run that is done again', **place
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
    elif hint is int:
      flags.DEFINE_integer(name, default, path_flags[name], **place)
    elif typing.get_origin(hint) in (list, tuple, Sequence):
      flags.DEFINE_multi_string(
        name, list(default or []), f'{path_flags[name]}; repeatable', **place
      )
    else:
      flags.DEFINE_string(name, default, path_flags[name], **place)
  return own


def _take_over(
  config_class: type,
  run: Callable[..., Any],
  path_flags: Mapping[str, str],
  flag_values: flags.FlagValues,
) -> Any:
  """Takes configuration and flags from the record of an earlier run.

  Returns:
    The configuration. Flags that are not given anew get their earlier value.
  """
  path = flag_values.rerun
  if flag_values.gin_file or flag_values.gin_bindings:
    raise ValueError(
      f'--rerun {path} brings its configuration; leave out --gin_file and '
      '--gin_bindings'
    )
  if not flag_values['workdir'].value:
    raise ValueError('--rerun needs a new folder; give --workdir')
  earlier = record.read_json(path)
  before = _define(run, path_flags)
  before(earlier['argv'])
  if before.rerun:
    first = os.path.join(os.path.dirname(path), 'rerun_of.json')
    raise ValueError(f'{path} is of a run done again; give --rerun {first}')
  for name in _parameters(run):
    if not flag_values[name].present:
      flag_values[name].value = before[name].value
  if earlier['cwd'] != os.getcwd():
    logging.warning('relative paths were those of %s', earlier['cwd'])
  cfg = dataclass_json.from_dict(config_class, earlier['config'])
  if not flag_values.explain:
    record.rerun(flag_values.workdir, earlier)
  return cfg


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
