"""The house stands: who may import whom, and what a file may be.

Every rule is a function from a source tree to a list of faults. It is run on
the repository, where it must find none, and on small trees with one planted
fault each, where it must find exactly that.
"""

import ast
import dataclasses
import functools
import itertools
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Imports go downward only; rooms on one floor do not import each other.
FLOORS = [
  ['types', 'dataclass_json', 'config', 'files', 'pool', 'record'],
  ['visible_text'],
  ['web', 'tokenizer', 'losses', 'parallel'],
  ['chat', 'data', 'model', 'verify'],
  ['tasks', 'optim'],
  ['train', 'infer'],
  ['rl', 'factuality', 'evals'],
  ['serve', 'interop', 'report'],
  ['experiments', 'tools'],
]
# The arrows that are drawn on one floor.
ARROWS = {
  ('config', 'dataclass_json'),
  ('record', 'dataclass_json'),
  ('rl', 'evals'),  # pass@k
  ('experiments', 'tools'),
  ('tools', 'experiments'),
}
FLOOR = {room: n for n, rooms in enumerate(FLOORS) for room in rooms}

# What a package may be imported by: patterns of module names.
ONLY_IN = {
  'gin': r'llm_jax\.config',
  'absl.flags': r'(experiments|tools)(\..*)?',
  'flax.linen': r'llm_jax\.model(\..*)?',
  'orbax': r'llm_jax\.train\.checkpoint',
}
# Their workers fork or start often, so they load no JAX.
WITHOUT_JAX = (
  r'llm_jax\.(web|tokenizer|chat|tasks|verify|report)(\..*)?'
  r'|llm_jax\.(record|config|dataclass_json|files|pool|visible_text)'
)
IMPORTING_JAX = ('jax', 'jaxlib', 'flax', 'optax', 'chex', 'orbax')
FORBIDDEN_NAMES = ('utils', 'common', 'helpers')


@dataclasses.dataclass(frozen=True)
class Import:
  """One import of one module; `target` is dotted and absolute."""

  module: str
  target: str
  place: str
  in_function: bool
  name: str | None  # of a name imported from a module, not of a module


def sources(root: pathlib.Path) -> dict[str, pathlib.Path]:
  """Maps dotted module names to files, for the library and its programs."""
  result = {}
  for folder in ('llm_jax', 'experiments', 'tools'):
    for path in sorted((root / folder).rglob('*.py')):
      parts = list(path.relative_to(root).with_suffix('').parts)
      if parts[-1] == '__init__':
        parts.pop()
      result['.'.join(parts)] = path
  return result


@functools.cache
def imports(root: pathlib.Path) -> list[Import]:
  modules = sources(root)
  result = []
  for module, path in modules.items():
    tree = ast.parse(path.read_text(encoding='utf-8'))
    for node, in_function in _walk(tree, False):
      place = f'{path.relative_to(root)}:{getattr(node, "lineno", 0)}'
      for target, name in _targets(node, module, modules):
        result.append(Import(module, target, place, in_function, name))
  return result


def _walk(node: ast.AST, inside: bool) -> Iterator[tuple[ast.AST, bool]]:
  for child in ast.iter_child_nodes(node):
    yield child, inside
    is_function = isinstance(
      child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    )
    yield from _walk(child, inside or is_function)


def _targets(
  node: ast.AST, module: str, modules: dict[str, pathlib.Path]
) -> Iterator[tuple[str, str | None]]:
  if isinstance(node, ast.Import):
    for alias in node.names:
      yield alias.name, None
  elif isinstance(node, ast.ImportFrom):
    base = node.module or ''
    if node.level:
      package = module.split('.')[: -node.level] or module.split('.')
      base = '.'.join([*package, *base.split('.')]).rstrip('.')
    for alias in node.names:
      full = f'{base}.{alias.name}'
      if not _internal(full) or full in modules:
        yield full, None
      else:
        yield base, alias.name
  elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
    'importlib.import_module',
    'import_module',
    '__import__',
  ):
    if node.args and isinstance(node.args[0], ast.Constant):
      yield str(node.args[0].value), None


def _internal(name: str) -> bool:
  return name.split('.')[0] in ('llm_jax', 'experiments', 'tools', 'tests')


def _room(module: str) -> str:
  parts = module.split('.')
  return parts[1] if parts[0] == 'llm_jax' and len(parts) > 1 else parts[0]


# The rules -----------------------------------------------------------------


def upward_imports(root: pathlib.Path) -> list[str]:
  faults = []
  for i in imports(root):
    room, target = _room(i.module), _room(i.target)
    if not _internal(i.target) or room == target:
      continue
    if i.module == 'llm_jax' or room not in FLOOR or target not in FLOOR:
      faults.append(f'{i.place}: {i.module} -> {i.target}: no floor')
    elif FLOOR[target] > FLOOR[room]:
      faults.append(f'{i.place}: {room} imports upward from {target}')
    elif FLOOR[target] == FLOOR[room] and (room, target) not in ARROWS:
      faults.append(f'{i.place}: {room} imports {target} of its own floor')
  return faults


def rooms_without_floor(root: pathlib.Path) -> list[str]:
  rooms = {_room(module) for module in sources(root) if module != 'llm_jax'}
  return [f'llm_jax/{room} has no floor' for room in rooms if room not in FLOOR]


def lazy_imports(root: pathlib.Path) -> list[str]:
  return [
    f'{i.place}: {i.target} is imported inside a function'
    for i in imports(root)
    if i.in_function and _internal(i.target)
  ]


def circular_imports(root: pathlib.Path) -> list[str]:
  graph: dict[str, set[str]] = {}
  for i in imports(root):
    if _internal(i.target) and i.target != i.module:
      graph.setdefault(i.module, set()).add(i.target)
  faults, done = [], set()

  def visit(module: str, above: tuple[str, ...]) -> None:
    if module in above:
      circle = [*above[above.index(module) :], module]
      faults.append('circle: ' + ' -> '.join(circle))
    elif module not in done:
      for target in sorted(graph.get(module, ())):
        visit(target, (*above, module))
      done.add(module)

  for module in sorted(graph):
    visit(module, ())
  return faults


def imported_names(root: pathlib.Path) -> list[str]:
  """Modules are imported, not names; types.py holds only names."""
  return [
    f'{i.place}: import {i.target} instead of its {i.name}'
    for i in imports(root)
    if i.name and i.target != 'llm_jax.types'
  ]


def misplaced_packages(root: pathlib.Path) -> list[str]:
  return [
    f'{i.place}: {package} belongs to {allowed}'
    for i in imports(root)
    for package, allowed in ONLY_IN.items()
    if (i.target + '.').startswith(package + '.')
    and not re.fullmatch(allowed, i.module)
  ]


def jax_where_none_may_be(root: pathlib.Path) -> list[str]:
  graph: dict[str, list[Import]] = {}
  for i in imports(root):
    graph.setdefault(i.module, []).append(i)
  faults = []
  for start in graph:
    if not re.fullmatch(WITHOUT_JAX, start):
      continue
    waiting, seen = [(start, start)], {start}
    while waiting:
      module, way = waiting.pop()
      for i in graph.get(module, []):
        if i.target.split('.')[0] in IMPORTING_JAX:
          faults.append(f'{i.place}: {way} -> {i.target}')
        elif i.target not in seen:
          seen.add(i.target)
          waiting.append((i.target, f'{way} -> {i.target}'))
  return faults


def long_files(root: pathlib.Path) -> list[str]:
  faults = []
  for module, path in sources(root).items():
    n = len(path.read_text(encoding='utf-8').splitlines())
    is_recipe = _room(module) == 'experiments' and path.stem != 'command_line'
    limit = 180 if is_recipe else 500
    if n > limit:
      faults.append(f'{path.relative_to(root)}: {n} lines, over {limit}')
  return faults


def forbidden_names(root: pathlib.Path) -> list[str]:
  return [
    f'{module}: name the subject instead'
    for module in sources(root)
    if set(module.split('.')) & set(FORBIDDEN_NAMES)
  ]


def filled_init_files(root: pathlib.Path) -> list[str]:
  faults = []
  for path in sources(root).values():
    if path.name != '__init__.py':
      continue
    tree = ast.parse(path.read_text(encoding='utf-8'))
    if len(tree.body) > (ast.get_docstring(tree) is not None):
      faults.append(f'{path.relative_to(root)} holds more than a docstring')
  return faults


def missing_init_files(root: pathlib.Path) -> list[str]:
  folders = {path.parent for path in sources(root).values()}
  return [
    f'{folder.relative_to(root)} has no __init__.py'
    for folder in sorted(folders)
    if not (folder / '__init__.py').exists()
  ]


def missing_docstrings(root: pathlib.Path) -> list[str]:
  """A module says what it does, and what it does not do or guarantee."""
  faults = []
  for path in sources(root).values():
    text = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8')))
    if path.name != '__init__.py' and not (text and len(text) > 40):
      faults.append(f'{path.relative_to(root)} does not say what it does')
  return faults


def careless_gin_files(root: pathlib.Path) -> list[str]:
  faults = []
  for path in sorted((root / 'gin_configs').rglob('*')):
    name = path.relative_to(root)
    if path.is_dir():
      continue
    if path.suffix != '.gin':
      faults.append(f'{name} is no gin file')
      continue
    lines = path.read_text(encoding='utf-8').splitlines()
    header = itertools.takewhile(lambda line: line.startswith('#'), lines)
    header = [line.lstrip('# ').rstrip('\\ ') for line in header]
    command = r'python -m experiments\.\w+ .*--gin_file ' + re.escape(str(name))
    if len(lines) > 25:
      faults.append(f'{name}: {len(lines)} lines, over 25')
    if not re.search(command, ' '.join(header)):
      faults.append(f'{name}: the header lacks `python -m ... --gin_file`')
    if len(header) < 3:
      faults.append(f'{name}: the header lacks hardware, time or result')
  return faults


RULES: list[Callable[[pathlib.Path], list[str]]] = [
  upward_imports,
  rooms_without_floor,
  lazy_imports,
  circular_imports,
  imported_names,
  misplaced_packages,
  jax_where_none_may_be,
  long_files,
  forbidden_names,
  filled_init_files,
  missing_init_files,
  missing_docstrings,
  careless_gin_files,
]


@pytest.mark.parametrize('rule', RULES, ids=lambda rule: rule.__name__)
def test_repository(rule):
  faults = rule(ROOT)
  assert not faults, '\n'.join(faults)


_HEADER = """# python -m experiments.sft --workdir runs/sft \\
#   --gin_file gin_configs/a.gin
# Hardware: 2 cores. Time: 1 minute. Result: loss 1.0.
"""
_DOC = '"""Says what it does, and what it does not do or guarantee."""\n'
_SOUND = {
  'llm_jax/losses/next_token.py': _DOC + 'import jax\n',
  'llm_jax/model/transformer.py': _DOC + 'import flax.linen as nn\n',
  'llm_jax/train/update.py': _DOC + 'from llm_jax.losses import next_token\n',
  'llm_jax/train/checkpoint.py': _DOC + 'from orbax import checkpoint\n',
  'llm_jax/config.py': (
    _DOC + 'from gin import config_parser\nfrom llm_jax import dataclass_json\n'
  ),
  'llm_jax/dataclass_json.py': _DOC + 'import json\n',
  'llm_jax/web/crawl.py': _DOC + 'import urllib.request\n',
  'llm_jax/types.py': _DOC + 'Array = int\n',
  'experiments/sft.py': (
    _DOC + 'from absl import flags\nfrom llm_jax.train import update\n'
    'from llm_jax.types import Array\n'
  ),
  'tools/inspect.py': _DOC + 'import sys\n',
  'gin_configs/a.gin': _HEADER + 'Config.seed = 1\n',
}
_PLANTED = [
  (
    upward_imports,
    'llm_jax/losses/a.py',
    'from llm_jax.train import update\n',
    'losses imports upward from train',
  ),
  (
    upward_imports,
    'llm_jax/losses/a.py',
    'import llm_jax.web.crawl\n',
    'losses imports web of its own floor',
  ),
  (
    upward_imports,
    'llm_jax/losses/a.py',
    'from ..train import update\n',  # relative
    'losses imports upward from train',
  ),
  (
    upward_imports,
    'llm_jax/train/a.py',
    'import importlib\nimportlib.import_module("experiments.sft")\n',
    'train imports upward from experiments',
  ),
  (rooms_without_floor, 'llm_jax/cellar/a.py', '', 'cellar has no floor'),
  (
    lazy_imports,
    'llm_jax/train/a.py',
    'def f():\n  if True:\n    from llm_jax.losses import next_token\n',
    'a.py:3: llm_jax.losses.next_token is imported inside',
  ),
  (
    circular_imports,
    'llm_jax/losses/next_token.py',
    'from llm_jax.train import update\n',
    'llm_jax.losses.next_token -> llm_jax.train.update',
  ),
  (
    imported_names,
    'llm_jax/train/a.py',
    'from llm_jax.losses.next_token import loss\n',
    'import llm_jax.losses.next_token instead of its loss',
  ),
  (misplaced_packages, 'llm_jax/train/a.py', 'import gin\n', 'gin belongs to'),
  (
    misplaced_packages,
    'llm_jax/train/a.py',
    'from absl import flags\n',
    'absl.flags belongs to',
  ),
  (
    misplaced_packages,
    'llm_jax/train/a.py',
    'from flax import linen as nn\n',
    'flax.linen belongs to',
  ),
  (
    misplaced_packages,
    'llm_jax/train/a.py',
    'def f():\n  import orbax.checkpoint\n',
    'orbax belongs to',
  ),
  (
    jax_where_none_may_be,
    'llm_jax/web/crawl.py',
    'from llm_jax.losses import next_token\n',
    'llm_jax.web.crawl -> llm_jax.losses.next_token -> jax',
  ),
  (
    jax_where_none_may_be,
    'llm_jax/record.py',
    'from jax import numpy as jnp\n',
    'llm_jax.record -> jax.numpy',
  ),
  (long_files, 'llm_jax/train/a.py', 'x = 1\n' * 501, '501 lines, over 500'),
  (long_files, 'experiments/rl.py', 'x = 1\n' * 181, '181 lines, over 180'),
  (forbidden_names, 'llm_jax/train/utils.py', '', 'llm_jax.train.utils'),
  (
    filled_init_files,
    'llm_jax/train/__init__.py',
    '"""Training."""\nimport os\n',
    'holds more than a docstring',
  ),
  (
    missing_init_files,
    'llm_jax/web/rules/a.py',
    '',
    'llm_jax/web/rules has no __init__.py',
  ),
  (missing_docstrings, 'llm_jax/web/a.py', 'x = 1\n', 'a.py does not say'),
  (
    careless_gin_files,
    'gin_configs/b.gin',
    _HEADER.replace('a.gin', 'b.gin') + 'C.x = 1\n' * 23,
    'b.gin: 26 lines, over 25',
  ),
  (
    careless_gin_files,
    'gin_configs/b.gin',
    _HEADER + 'Config.seed = 1\n',
    'b.gin: the header lacks `python -m ... --gin_file`',
  ),
  (
    careless_gin_files,
    'gin_configs/b.gin',
    '# python -m experiments.sft --gin_file gin_configs/b.gin\n',
    'b.gin: the header lacks hardware, time or result',
  ),
]


def _plant(root: pathlib.Path, files: dict[str, str]) -> None:
  for name, text in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')
  for name in _SOUND:
    if name.endswith('.py'):
      (root / name).with_name('__init__.py').touch()


@pytest.mark.parametrize('rule', RULES, ids=lambda rule: rule.__name__)
def test_sound_tree(rule, tmp_path):
  _plant(tmp_path, _SOUND)
  assert rule(tmp_path) == []


@pytest.mark.parametrize(('rule', 'name', 'text', 'fault'), _PLANTED)
def test_planted_fault(rule, name, text, fault, tmp_path):
  _plant(tmp_path, _SOUND)
  _plant(tmp_path, {name: text})
  faults = rule(tmp_path)
  assert len(faults) == 1, faults
  assert fault in faults[0]


def test_no_jax_when_imported():
  """As above, through third-party packages too, by importing for real."""
  names = [m for m in sources(ROOT) if re.fullmatch(WITHOUT_JAX, m)]
  program = (
    f'import importlib, sys\nfor name in {names!r}:\n'
    '  importlib.import_module(name)\n'
    '  assert "jax" not in sys.modules, name\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', program],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
    timeout=120,
  )
  assert done.returncode == 0, done.stderr[-2000:]
