"""Doing a run again, into another workdir.

Configuration and flags are taken from its record, and what it read must be what
it was: see record.rerun.
"""

import inspect
import os
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from absl import flags, logging

from experiments import recipe_flags
from llm_jax import files


def take_over(
  run: Callable[..., Any],
  path_flags: Mapping[str, str],
  flag_values: flags.FlagValues,
) -> dict[str, Any]:
  """The record of an earlier run; flags not given anew get its values."""
  path = flag_values.rerun
  if flag_values.gin_file or flag_values.gin_bindings:
    raise ValueError(
      f'--rerun {path} brings its configuration; leave out --gin_file and '
      '--gin_bindings'
    )
  if not flag_values['workdir'].value:
    raise ValueError('--rerun needs a new folder; give --workdir')
  earlier = files.read_json(path)
  if not {'stage', 'config', 'argv', 'cwd'} <= earlier.keys():
    raise ValueError(
      f'--rerun {path} is no record of a run; give the run.json of a stage'
    )
  recipe = pathlib.Path(inspect.getfile(run))
  stage = earlier['stage']
  if stage != recipe.stem and (recipe.parent / f'{stage}.py').exists():
    raise ValueError(
      f'--rerun {path} is of a run of {stage}, not of {recipe.stem}; give it '
      f'to python -m experiments.{stage}'
    )
  before = recipe_flags.define(run, path_flags)
  try:
    before(earlier['argv'])
  except flags.Error as error:
    raise ValueError(
      f'--rerun {path} has flags that this recipe has not: {error}; run the '
      f'commit {earlier.get("git_sha", "")} that wrote it'
    ) from None
  if before.rerun:
    first = os.path.join(os.path.dirname(path), 'rerun_of.json')
    raise ValueError(f'{path} is of a run done again; give --rerun {first}')
  for name in [*recipe_flags.parameters(run), 'import']:
    if not flag_values[name].present:
      flag_values[name].value = before[name].value
  if earlier['cwd'] != os.getcwd():
    logging.warning('relative paths were those of %s', earlier['cwd'])
    sys.path.append(earlier['cwd'])  # of modules that --import names
    if not flag_values['import'].present:
      flag_values['import'].value = [
        recipe_flags.file(name, earlier['cwd'])
        if name.endswith('.py')
        else name
        for name in before['import'].value
      ]
  return earlier
