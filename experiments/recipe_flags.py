"""The flags of a recipe, told by the parameters of its `run`.

`workdir` and `restore_from` are known here; every other parameter is a path
flag whose help text the recipe gives. A parameter without a default is
required; one annotated `Sequence[str]` may be repeated; one annotated `bool` is
a switch, one annotated `int` a number. No recipe defines flags of its own, so
that all recipes can be imported into one process.
"""

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags


def define(
  run: Callable[..., Any], path_flags: Mapping[str, str]
) -> flags.FlagValues:
  """Defines the shared flags and those that `run` asks for.

  The flags live in an object of their own instead of absl's global one, so
  that recipes imported side by side do not collide.

  Args:
    run: `run(cfg, workdir, ...)` of the recipe.
    path_flags: the help text of each parameter that is not known here.

  Returns:
    The flags, not yet parsed.

  Raises:
    TypeError: if path_flags are not those of run.
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
  names = [n for n in parameters(run) if n not in ('workdir', 'restore_from')]
  if set(names) != set(path_flags):
    raise TypeError(
      f'run() takes the flags {names}, but main() describes {list(path_flags)}'
    )
  for name in names:
    default = parameters(run)[name].default
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


def parameters(run: Callable[..., Any]) -> dict[str, inspect.Parameter]:
  """The parameters of `run` after the configuration."""
  return dict(list(inspect.signature(run).parameters.items())[1:])
