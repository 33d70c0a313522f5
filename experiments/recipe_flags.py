"""The flags of a recipe, which the parameters of its `run` name.

`workdir`, `restore_from`, `chat` and `base` are known here; every other
parameter is a path flag whose help text the recipe gives. A parameter without a
default is required; one annotated `Sequence[str]` may be repeated; one
annotated `bool` is a switch, one annotated `int` a number. No recipe defines
flags of its own, so that all recipes can be imported into one process.
"""

import functools
import inspect
import os
import pathlib
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags

_DEFINE = {
  bool: flags.DEFINE_boolean,
  int: flags.DEFINE_integer,
  str: flags.DEFINE_string,
  list: flags.DEFINE_multi_string,
}
# What flags of several recipes say where a recipe says nothing.
_KNOWN = {
  'conversations': 'conversations as experiments.sft reads them, learnt beside '
  'rewards',
  'reward_model': 'folder of experiments.reward_model, for Config.reward = '
  "'model'; several: their mean",
  'chat': 'speak to the model in conversations, whatever its checkpoint says',
  'base': 'speak to the model in plain text, whatever its checkpoint says',
}
SHARED = {
  'gin_file': (list, [], 'gin file with what is trained'),
  'gin_bindings': (list, [], "'Class.field = value'"),
  'import': (
    list,
    [],
    'module name or .py file with a task, optimizer or schedule of your own',
  ),
  'explain': (bool, False, 'print every setting, what it means, and stop'),
  'verbosity': (int, 0, '1: debug lines and tracebacks; -1: warnings only'),
  'distributed': (
    str,
    '',
    'run as one of several processes that train together: "auto" on a TPU '
    'pod, Slurm, Kubernetes or MPI, elsewhere "HOST:PORT,INDEX,COUNT" with the '
    'address of process 0',
  ),
  'workdir': (str, None, 'folder of this stage; the same folder resumes'),
  'restore_from': (str, None, 'folder of the stage to start from'),
  'rerun': (str, None, 'run.json of a run that is done again'),
}


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
  define = {
    kind: functools.partial(function, flag_values=own)
    for kind, function in _DEFINE.items()
  }
  for name, (kind, default, text) in SHARED.items():
    define[kind](name, default, f'{text}{"; repeatable" * (kind is list)}')
  define[bool]('help', False, 'list the flags', short_name='h')
  hints = typing.get_type_hints(run)
  names = [n for n in parameters(run) if n not in ('workdir', 'restore_from')]
  known = {name: text for name, text in _KNOWN.items() if name in names}
  path_flags = known | dict(path_flags)
  if set(names) != set(path_flags):
    raise TypeError(
      f'run() takes the flags {names}, but main() describes {list(path_flags)}'
    )
  for name in names:
    default = parameters(run)[name].default
    default = None if default is inspect.Parameter.empty else default
    kind, text = hints.get(name, str), path_flags[name]
    if typing.get_origin(kind) in (list, tuple, Sequence):
      define[list](name, list(default or []), f'{text}; repeatable')
    else:
      define[kind if kind in (bool, int) else str](name, default, text)
  return own


def parameters(run: Callable[..., Any]) -> dict[str, inspect.Parameter]:
  """The parameters of `run` after the configuration."""
  return dict(list(inspect.signature(run).parameters.items())[1:])


def file(name: str, folder: str = '') -> str:
  """A file below the folder, or else the one that comes with the recipes."""
  path = os.path.join(folder, name)
  ours = pathlib.Path(__file__).resolve().parent.parent / name
  return path if os.path.exists(path) or not ours.is_file() else str(ours)


def by_name(flag: str, values: Sequence[str]) -> dict[str, str]:
  """Folders by name, from `name=folder` of a flag that may be repeated.

  Raises:
    ValueError: for another form, or a name that stands twice.
  """
  folders: dict[str, str] = {}
  for given in values:
    name, _, folder = given.partition('=')
    if not re.fullmatch(r'[\w.-]+', name) or not folder:
      raise ValueError(
        f'--{flag} {given!r} is not name=folder; write for example '
        f'--{flag} sft=runs/speedrun/sft'
      )
    if name in folders:
      raise ValueError(
        f'two {flag}s are called {name!r}: {folders[name]} and {folder}; '
        'give each its own name'
      )
    folders[name] = folder
  return folders
