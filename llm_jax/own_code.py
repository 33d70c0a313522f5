"""Modules of a user's own: found by name or by path, and the classes in them.

A class of such a module can stand in a configuration wherever a field has a
Protocol among its types; see config.py. Importing a module runs it, so it is
done only for what the user names on the command line.
"""

import importlib
import os
import pathlib
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType


def load(names: Sequence[str]) -> list[type]:
  """Import modules.

  Args:
    names: of modules, as after `import`, or paths of files that end in .py. The
      folder of such a file is where it may import others from.

  Returns:
    The classes that the modules hold, without those of llm_jax.

  Raises:
    FileNotFoundError, ValueError: a module is not there, or fails when it is
      imported; the message has the line in the user's file.
  """
  found: dict[type, None] = {}
  for name in names:
    module = _load_file(name) if name.endswith('.py') else _import(name, name)
    for value in vars(module).values():
      is_class = isinstance(value, type)
      if is_class and value.__module__.partition('.')[0] != 'llm_jax':
        found[value] = None
  return list(found)


def _load_file(name: str) -> ModuleType:
  path = pathlib.Path(name).resolve()
  if not path.is_file():
    raise FileNotFoundError(
      f'--import {name}: there is no such file; check the path, or give the '
      'name of a module without .py'
    )
  if '.' in path.stem:
    raise ValueError(
      f'--import {name}: a module has no dot in its name; rename the file'
    )
  if str(path.parent) not in sys.path:
    sys.path.append(str(path.parent))
    importlib.invalidate_caches()
  module = _import(path.stem, name)
  origin = module.__file__ or 'Python itself'
  if pathlib.Path(origin).resolve() != path:
    raise ValueError(
      f'--import {name}: the name {path.stem} is that of {origin}; rename the '
      'file'
    )
  return module


def _import(module: str, name: str) -> ModuleType:
  try:
    return importlib.import_module(module)
  except (Exception, SystemExit) as error:  # what the module does when run
    frames = [
      frame
      for frame in traceback.extract_tb(error.__traceback__)
      if not frame.filename.startswith(('<frozen', __file__))
      and frame.filename != importlib.__file__
    ]
    if isinstance(error, SyntaxError) and error.filename:
      where, line = f'{error.filename}:{error.lineno}', error.text or ''
    elif frames:
      # The deepest line beside the user's file, not of a library it calls.
      folder = os.path.dirname(frames[0].filename)
      own = [f for f in frames if os.path.dirname(f.filename) == folder][-1]
      where, line = f'{own.filename}:{own.lineno}', own.line or ''
    else:
      raise ValueError(
        f'--import {name}: {error}; give the path of a .py file, or run the '
        'command in the folder that holds the module'
      ) from error
    reason = f'{type(error).__name__}: {error}'
    raise ValueError(
      f'--import {name} fails at {where}: `{line.strip()}`: {reason}'
    ) from error
