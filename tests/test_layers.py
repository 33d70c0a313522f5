"""The house stands: who may import whom, and what a file may be.

Arrows between rooms are contracts of import-linter, places of packages rules
of ruff; both are in pyproject.toml and run by tools/test.sh. What they cannot
say is a rule here: a function from a source tree to its faults, run on the
repository, where it must find none, and on small trees with one planted fault
each, where it must find exactly that. What breaks a contract is planted too,
each kind once, in a copy of the repository.
"""

import ast
import itertools
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
_PROGRAMS = ('llm_jax', 'experiments', 'tools')
_FORBIDDEN_NAMES = ('utils', 'common', 'helpers')


def sources(root: pathlib.Path) -> dict[str, pathlib.Path]:
  """Maps dotted module names to files, for the library and its programs."""
  result = {}
  for folder in _PROGRAMS:
    for path in sorted((root / folder).rglob('*.py')):
      parts = path.relative_to(root).with_suffix('').parts
      result['.'.join(parts).removesuffix('.__init__')] = path
  return result


def _texts(root: pathlib.Path) -> Iterator[tuple[pathlib.Path, str]]:
  for path in sources(root).values():
    name = path.relative_to(root)
    if str(name) != 'llm_jax/__init__.py':  # the door, which imports by text
      yield name, path.read_text(encoding='utf-8')


def _nodes(root: pathlib.Path) -> Iterator[tuple[pathlib.Path, ast.AST]]:
  for path, text in _texts(root):
    for node in ast.walk(ast.parse(text)):
      yield path, node


# The rules -----------------------------------------------------------------


def imported_names(root: pathlib.Path) -> Iterator[str]:
  """Modules are imported, not names; types.py holds only names."""
  modules = sources(root)
  for path, node in _nodes(root):
    if isinstance(node, ast.ImportFrom) and _is_ours(node):
      for alias in node.names:
        full = f'{node.module}.{alias.name}'
        if full not in modules and node.module != 'llm_jax.types':
          yield f'{path}:{node.lineno}: {full} is no module'


def lazy_imports(root: pathlib.Path) -> Iterator[str]:
  """Only packages of others may be loaded where they are used."""
  for path, function in _nodes(root):
    if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
      for node in filter(_is_ours, ast.walk(function)):
        yield f'{path}:{node.lineno}: {ast.unparse(node)} in a function'


def imports_by_text(root: pathlib.Path) -> Iterator[str]:
  """Of our own modules: no contract sees them."""
  pattern = r'(import_module|__import__)\(\s*[\'"]({})\b'
  for path, text in _texts(root):
    for match in re.finditer(pattern.format('|'.join(_PROGRAMS)), text):
      yield f'{path}:{text[: match.start()].count(chr(10)) + 1}: {match[0]}'


def _is_ours(node: ast.AST) -> bool:
  if isinstance(node, ast.ImportFrom):
    return (node.module or '').split('.')[0] in _PROGRAMS
  return isinstance(node, ast.Import) and any(
    alias.name.split('.')[0] in _PROGRAMS for alias in node.names
  )


def long_files(root: pathlib.Path) -> Iterator[str]:
  for path, text in _texts(root):
    n = len(text.splitlines())
    limit = 180 if path.parts[0] == 'experiments' else 500
    if n > limit:
      yield f'{path}: {n} lines, over {limit}'


def forbidden_names(root: pathlib.Path) -> Iterator[str]:
  for module in sources(root):
    if set(module.split('.')) & set(_FORBIDDEN_NAMES):
      yield f'{module}: name the subject instead'


def docstrings(root: pathlib.Path) -> Iterator[str]:
  """A module says what it does; an __init__.py holds nothing else."""
  for path, node in _nodes(root):
    if not isinstance(node, ast.Module):
      continue
    text = ast.get_docstring(node) or ''
    if path.name != '__init__.py' and len(text) < 40:
      yield f'{path} does not say what it does'
    if path.name == '__init__.py' and len(node.body) > bool(text):
      yield f'{path} holds more than a docstring'


def careless_gin_files(root: pathlib.Path) -> Iterator[str]:
  for path in sorted((root / 'gin_configs').rglob('*')):
    name = path.relative_to(root)
    if path.is_dir():
      continue
    if path.suffix != '.gin':
      yield f'{name} is no gin file'
      continue
    lines = path.read_text(encoding='utf-8').splitlines()
    header = itertools.takewhile(lambda line: line.startswith('#'), lines)
    header = [line.lstrip('# ').rstrip('\\ ') for line in header]
    command = r'python -m experiments\.\w+ .*--gin_file ' + re.escape(str(name))
    if len(lines) > 25:
      yield f'{name}: {len(lines)} lines, over 25'
    if not re.search(command, ' '.join(header)):
      yield f'{name}: the header lacks `python -m ... --gin_file`'
    if len(header) < 3:
      yield f'{name}: the header lacks hardware, time or result'


RULES = (
  imported_names,
  lazy_imports,
  imports_by_text,
  long_files,
  forbidden_names,
  docstrings,
  careless_gin_files,
)


@pytest.mark.parametrize('rule', RULES, ids=lambda rule: rule.__name__)
def test_repository(rule):
  faults = list(rule(ROOT))
  assert not faults, '\n'.join(faults)


_DOC = '"""Says what it does, and what it does not do or guarantee."""\n'
_HEADER = """# python -m experiments.sft --workdir runs/sft \\
#   --gin_file gin_configs/a.gin
# Hardware: 2 cores. Time: 1 minute. Result: loss 1.0.
"""
_SOUND = {
  'llm_jax/types.py': _DOC + 'Array = int\n',
  'llm_jax/losses/__init__.py': '"""Losses."""\n',
  'llm_jax/losses/next_token.py': _DOC + 'import jax\n',
  'experiments/sft.py': (
    _DOC + 'from llm_jax.losses import next_token\n'
    'from llm_jax.types import Array\ndef f():\n  import tensorflow_datasets\n'
  ),
  'gin_configs/a.gin': _HEADER + 'Config.seed = 1\n',
}
_LONG_GIN = _HEADER.replace('a.gin', 'b.gin') + 'C.x = 1\n' * 23
_NO_RESULT = '# python -m experiments.sft --gin_file gin_configs/b.gin\n'


@pytest.mark.parametrize(
  ('rule', 'name', 'text', 'fault'),
  [
    (imported_names, 'llm_jax/train/a.py',
     'from llm_jax.losses.next_token import loss\n', 'next_token.loss is no m'),
    (lazy_imports, 'llm_jax/train/a.py',
     'def f():\n  if True:\n    from llm_jax.losses import next_token\n',
     'a.py:3: from llm_jax.losses import next_token in a function'),
    (imports_by_text, 'llm_jax/train/a.py',
     'import importlib as i\ni.import_module("experiments.sft")\n', 'a.py:2'),
    (long_files, 'llm_jax/train/a.py', 'x = 1\n' * 501, '501 lines, over 500'),
    (long_files, 'experiments/rl.py', 'x = 1\n' * 181, '181 lines, over 180'),
    (forbidden_names, 'llm_jax/train/utils.py', '', 'llm_jax.train.utils'),
    (docstrings, 'llm_jax/train/__init__.py',
     '"""Training."""\nimport os\n', 'holds more than a docstring'),
    (docstrings, 'llm_jax/web/a.py', 'x = 1\n', 'a.py does not say'),
    (careless_gin_files, 'gin_configs/b.gin', _LONG_GIN, '26 lines, over 25'),
    (careless_gin_files, 'gin_configs/b.gin', _HEADER + 'Config.seed = 1\n',
     'b.gin: the header lacks `python -m ... --gin_file`'),
    (careless_gin_files, 'gin_configs/b.gin', _NO_RESULT,
     'b.gin: the header lacks hardware, time or result'),
  ],
)  # fmt: skip
def test_planted_fault(rule, name, text, fault, tmp_path):
  _plant(tmp_path, _SOUND | {name: text})
  (found,) = rule(tmp_path)
  assert fault in found


def _plant(root: pathlib.Path, files: dict[str, str]) -> None:
  for name, text in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')


# What pyproject.toml says ---------------------------------------------------

# Imports of a module planted.py in a folder; each breaks a contract.
_ARROWS = {
  'llm_jax/losses': 'llm_jax.train.fit',
  'llm_jax/parallel': 'llm_jax.losses.next_token',  # of its own floor
  'llm_jax/train': 'experiments.process',
  'experiments': 'tools.peer',
  'llm_jax/web/filter': 'llm_jax.web.pipeline',
  'llm_jax/web/dedup': 'llm_jax.web.extract.warc',
  'llm_jax/data': 'llm_jax.web.funnel',
  'llm_jax/agent': 'llm_jax.web.dedup.hashes',
  'llm_jax/verify': 'chex',
  'llm_jax/chat': 'llm_jax.losses.next_token',  # which imports JAX
  'llm_jax/infer': 'gin',
  'llm_jax/serve': 'orbax',
  'tools': 'flax',
  'llm_jax/model': 'absl',
}
_OTHERS = {
  'llm_jax/evals/a.py': 'from llm_jax.evals import b',
  'llm_jax/evals/b.py': 'from llm_jax.evals import a',
  'llm_jax/cellar/__init__.py': '',
}
# What ruff says of a file.
_PLACES = {
  'llm_jax/train/flags.py': ('from absl import flags', 'TID251'),
  'llm_jax/train/linen.py': ('from flax import linen as nn', 'TID251'),
  'llm_jax/train/relative.py': ('from ..losses import policy', 'TID252'),
  'llm_jax/bare/a.py': ('import json', 'INP001'),
}


def _run(root: pathlib.Path, *words: str) -> tuple[int, str]:
  words = (str(pathlib.Path(sys.executable).with_name(words[0])), *words[1:])
  done = subprocess.run(
    words, cwd=root, capture_output=True, text=True, check=False, timeout=120
  )
  return done.returncode, done.stdout + done.stderr


def test_contracts_and_places(tmp_path):
  """The repository with every fault is told each of them."""
  for path in sources(ROOT).values():
    _plant(tmp_path, {str(path.relative_to(ROOT)): path.read_text()})
  shutil.copy(ROOT / 'pyproject.toml', tmp_path)
  _plant(
    tmp_path, {f'{k}/planted.py': f'import {v}' for k, v in _ARROWS.items()}
  )
  _plant(tmp_path, _OTHERS | {k: text for k, (text, _) in _PLACES.items()})
  code, found = _run(tmp_path, 'lint-imports', '--no-logo', '--no-cache')
  assert code == 1, found
  for folder, target in _ARROWS.items():
    assert f'{folder.replace("/", ".")}.planted -> {target}' in found
  assert 'No cycles are allowed in llm_jax.evals' in found
  assert '- llm_jax.cellar\n' in found
  assert ' KEPT' not in found
  words = ('check', '--select=TID,INP', '--output-format=concise', '-q')
  code, found = _run(tmp_path, 'ruff', *words)
  assert code == 1, found
  assert dict(re.findall(r'^(\S+?):\d+:\d+: (\w+)', found, re.MULTILINE)) == {
    name: rule for name, (_, rule) in _PLACES.items()
  }


def test_the_door_is_small():
  """Its one purpose is that plain `import llm_jax` imports nothing else."""
  assert len((ROOT / 'llm_jax/__init__.py').read_text().splitlines()) < 40
  program = (
    'import sys; before = {*sys.modules}; import llm_jax\n'
    'print([m for m in {*sys.modules} - before if m.startswith("llm_jax.")])\n'
    'assert "jax" not in sys.modules; print(sorted(llm_jax.__all__))\n'
    'assert {*llm_jax.__all__} <= {*dir(llm_jax)}; llm_jax.__version__\n'
    'from llm_jax import load; assert "jax" in sys.modules\n'
  )
  assert _run(ROOT, 'python', '-c', program) == (0, "[]\n['Model', 'load']\n")


def test_no_jax_when_imported():
  """As the contract has it, through packages of others too."""
  text = (ROOT / 'pyproject.toml').read_text(encoding='utf-8')
  contracts = tomllib.loads(text)['tool']['importlinter']['contracts']
  (rooms,) = (
    '|'.join(c['source_modules']) for c in contracts if 'JAX' in c['name']
  )
  names = [m for m in sources(ROOT) if re.match(rf'({rooms})(\.|$)', m)]
  assert len(names) > 50
  program = (
    f'import importlib, sys\nfor name in {names!r}:\n'
    '  importlib.import_module(name)\n'
    '  assert "jax" not in sys.modules, name\n'
  )
  assert _run(ROOT, 'python', '-c', program) == (0, '')
