"""The one command line of every recipe.

A recipe ends with

  if __name__ == '__main__':
    command_line.main(Config, run, documents='folder of Parquet documents')

and `run(cfg, workdir, documents, restore_from=None)` says by its parameters
which flags it takes; see recipe_flags.py.

`--import my_task.py` brings classes of a user's own into the configuration.
`--rerun OLD/run.json` does a run again, into another workdir; see rerun.py.

It does NOT hold what is trained: that is the gin file's.
"""

import gc
import inspect
import pathlib
import signal
import sys
import traceback
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from absl import flags

from experiments import process, recipe_flags, rerun
from llm_jax import config, field_comments, locks, own_code, record

# From the configuration and the flags to further lines for --explain.
Explain = Callable[[Any, Mapping[str, Any]], Iterable[str]]

_INTERRUPTED = 130  # as a shell says it


def main(
  config_class: type,
  run: Callable[..., Any],
  explain: Explain | None = None,
  **path_flags: str,
) -> typing.NoReturn:
  """Runs a recipe from the command line and exits.

  Args:
    config_class: the recipe's Config.
    run: `run(cfg, workdir, ...)`; `cfg` is its first parameter.
    explain: what --explain says beside the settings; see explain.py.
    **path_flags: the help text of each further flag, by parameter name.
  """
  try:
    code = execute(
      config_class, run, path_flags, argv=sys.argv, explain=explain
    )
  except KeyboardInterrupt:  # pressed again, while the first one was handled
    code = _INTERRUPTED
  except Exception:
    traceback.print_exc()
    code = 1
  if code == _INTERRUPTED:  # once more ends at once and prints nothing
    signal.signal(signal.SIGINT, signal.SIG_DFL)
  # Or the collector walks all modules once more: 0.2 s, with JAX 0.7 s.
  gc.freeze()
  process.leave(code)


def execute(
  config_class: type,
  run: Callable[..., Any],
  path_flags: Mapping[str, str],
  argv: Sequence[str],
  explain: Explain | None = None,
) -> int:
  """Parses `argv`, builds the configuration and calls the recipe.

  Returns:
    The exit code: 0, 1 after a clear message about a wrong value or a file,
    2 for a wrong flag, 130 when interrupted.
  """
  flag_values = recipe_flags.define(run, path_flags)
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
    print('\nWhat is set with --gin_bindings is listed by --explain.')
    return 0
  process.set_up_logging(flag_values.verbosity)
  arguments, earlier = {}, None
  try:
    if flag_values.rerun:
      earlier = rerun.take_over(run, path_flags, flag_values)
    imported = own_code.load(
      [recipe_flags.file(name) for name in flag_values['import'].value]
    )
    if earlier:
      cfg = config.from_dict(config_class, earlier['config'], imported)
    else:
      cfg = config.load(
        config_class,
        [recipe_flags.file(name) for name in flag_values.gin_file],
        flag_values.gin_bindings,
        imported=imported,
      )
    arguments = _arguments(run, flag_values)
    if flag_values.explain:
      print(config.explain(cfg, field_comments.of))
      for line in explain(cfg, arguments) if explain else ():
        print(f'# {line}')
      return 0
    _refuse_missing(run, arguments)
    process.set_up_jax()
    if index := process.join(flag_values.distributed):
      # Records and metrics of its own; checkpoints are shared.
      arguments['workdir'] += f'/process_{index}'
    if earlier:
      record.rerun(arguments['workdir'], earlier)
    run(cfg, **arguments)
  except (ValueError, OSError, FloatingPointError) as error:
    if flag_values.verbosity > 0:
      raise
    print(f'error: {error}', file=sys.stderr)
    print('(--verbosity=1 shows where in the code)', file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print('interrupted; the same command resumes', file=sys.stderr)
    return _INTERRUPTED
  finally:
    if arguments.get('workdir'):
      locks.unlock(pathlib.Path(arguments['workdir']))
  return 0


def _arguments(
  run: Callable[..., Any], flag_values: flags.FlagValues
) -> dict[str, Any]:
  parameters = recipe_flags.parameters(run)
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
    for name, parameter in recipe_flags.parameters(run).items()
    if parameter.default is inspect.Parameter.empty
    and arguments[name] in (None, [])
  ]
  if missing:
    raise ValueError(f'{", ".join(missing)} must be given; see --help')
