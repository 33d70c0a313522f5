"""Runs a recipe or a tool by its name, from any folder.

  llm_jax pretrain --help

is `python -m experiments.pretrain --help` in a checkout. A wheel has recipes,
tools and gin files inside this package; they import each other by the names
that they have in a checkout, so that their folder comes first on the path.
"""

import pathlib
import re
import runpy
import sys

_HERE = pathlib.Path(__file__).resolve().parent
_IN_WHEEL = _HERE / 'recipes'
ROOT = _IN_WHEEL if _IN_WHEEL.is_dir() else _HERE.parent


def programs() -> dict[str, str]:
  """Modules that can be run, by the name that a user gives."""
  return {
    path.stem: f'{folder}.{path.stem}'
    for folder in ('tools', 'experiments')
    for path in sorted((ROOT / folder).glob('[a-z]*.py'))
    if re.search(r'^if __name__ ==', path.read_text('utf-8'), re.MULTILINE)
  }


def main() -> None:
  """Run the program that the first argument names; without one, list them."""
  known, (name, *rest) = programs(), [*sys.argv[1:], '']
  if name not in known:
    print('usage: llm_jax NAME [arguments]; llm_jax NAME --help says which.')
    for folder in ('experiments', 'tools'):
      names = [n for n, module in known.items() if module.startswith(folder)]
      print(f'{folder}: {", ".join(names)}')
    print(f'gin files: {ROOT / "gin_configs"}')
    sys.exit(0 if name in ('', '--help', '-h') else 2)
  sys.path.insert(0, str(ROOT))
  sys.argv = [known[name], *rest[:-1]]
  runpy.run_module(known[name], run_name='__main__', alter_sys=True)


if __name__ == '__main__':
  main()
