"""Measures the house: lines by room, calls that hide meaning, ways of data.

python -m tools.house
python -m tools.house --walk llm_jax.rl.learn:learn -- experiments.rl \
  --workdir runs/walk --gin_file gin_configs/rl_tiny.gin \
  --import examples/assistant.py --restore_from runs/speedrun/sft

The first prints code lines (without docstrings, comments and blank lines) and
files of each room, and the calls of our own functions with more than three
positional arguments. The second runs a recipe and prints through which files
the first call of a function went: arrows are distinct pairs of calling and
called file, and one climbs if it enters a file that stands above its caller.
A file stands one floor above the highest that it imports.
"""

import ast
import collections
import functools
import importlib
import io
import json
import pathlib
import sys
import threading
import tokenize

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ('llm_jax', 'experiments', 'tools', 'tests')
_LAYOUT = (
  tokenize.COMMENT,
  tokenize.NL,
  tokenize.NEWLINE,
  tokenize.INDENT,
  tokenize.DEDENT,
  tokenize.ENDMARKER,
)
_NAMED = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_SCOPES = ast.Module | _NAMED


def code_lines(source: str) -> int:
  '''Lines that hold code.

  >>> code_lines('"""Says."""\\n\\n# why\\nx = [\\n  1,\\n]\\n')
  3

  Args:
    source: text of a Python file.

  Returns:
    How many, without docstrings, comments and blank lines.
  '''
  lines, prose = set(), set()
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, _SCOPES) and ast.get_docstring(node) is not None:
      text = node.body[0]
      prose |= set(range(text.lineno, (text.end_lineno or 0) + 1))
  for token in tokenize.generate_tokens(io.StringIO(source).readline):
    if token.type not in _LAYOUT:
      lines |= set(range(token.start[0], token.end[0] + 1))
  return len(lines - prose)


def rooms(root: pathlib.Path) -> dict[str, tuple[int, int]]:
  """Code lines and files by room, and of each folder as a whole."""
  found: dict[str, tuple[int, int]] = {}
  for folder in FOLDERS:
    for path in sorted((root / folder).rglob('*.py')):
      n = code_lines(path.read_text(encoding='utf-8'))
      parts = path.relative_to(root).parts
      names = {folder, '/'.join(parts[:2]) if len(parts) > 2 else folder}
      for name in names:
        lines, files = found.get(name, (0, 0))
        found[name] = lines + n, files + 1
  return found


def positional_calls(root: pathlib.Path) -> list[str]:
  """Calls of our own functions and classes with over three unnamed arguments.

  Ours is what the file itself defines, by its name or as a method of `self`,
  and what it names through an import of our modules. A method of any other
  object could be anybody's, so it does NOT count.
  """
  trees = {
    module: ast.parse(path.read_text(encoding='utf-8'))
    for module, path in _modules(root).items()
  }
  own = {
    module: {n.name for n in ast.walk(tree) if isinstance(n, _NAMED)}
    for module, tree in trees.items()
  }
  found = []
  for module, tree in trees.items():
    named = {
      alias.asname or alias.name: f'{node.module}.{alias.name}'
      for node in ast.walk(tree)
      if isinstance(node, ast.ImportFrom)
      for alias in node.names
    } | dict.fromkeys({*own[module], 'self', 'cls'}, module)
    for node in ast.walk(tree):
      if isinstance(node, ast.Call) and len(node.args) > 3:
        name = ast.unparse(node.func)
        first, last = name.partition('.')[0], name.rpartition('.')[2]
        is_deep = first in ('self', 'cls') and name.count('.') > 1
        is_ours = last in own.get(named.get(first, ''), ()) and not is_deep
        if is_ours and not any(isinstance(a, ast.Starred) for a in node.args):
          path = module.replace('.', '/') + '.py'
          found.append(
            f'{path}:{node.lineno}: {name} with {len(node.args)} unnamed '
            'arguments'
          )
  return found


def _modules(root: pathlib.Path) -> dict[str, pathlib.Path]:
  """Files of the library and its programs by dotted name."""
  return {
    '.'.join(path.relative_to(root).with_suffix('').parts): path
    for folder in FOLDERS[:3]
    for path in sorted((root / folder).rglob('*.py'))
  }


def floors(root: pathlib.Path) -> dict[str, int]:
  """The floor of each file: 1, or one above the highest file it imports."""
  paths = _modules(root)

  @functools.cache
  def floor(module: str) -> int:
    below = [0]
    for node in ast.walk(ast.parse(paths[module].read_text('utf-8'))):
      if isinstance(node, ast.ImportFrom) and node.module:
        names = [f'{node.module}.{alias.name}' for alias in node.names]
        names = [name if name in paths else node.module for name in names]
        below += [floor(n) for n in names if n in paths and n != module]
    return 1 + max(below)

  return {str(path): floor(module) for module, path in paths.items()}


def walk(entry: str, recipe: str, arguments: list[str]) -> None:
  """Run a recipe and print the way of the first call of a function."""
  module, _, function = entry.partition(':')
  floor = floors(ROOT)
  arrows: collections.Counter[tuple[str, str]] = collections.Counter()
  state = {'inside': None, 'done': False}

  def follow(frame, event, _) -> None:
    name = frame.f_code.co_filename
    if state['done'] or name not in floor:
      return
    if state['inside'] is None:
      is_entry = frame.f_code.co_name == function
      if event == 'call' and is_entry and frame.f_globals['__name__'] == module:
        state['inside'] = frame
    elif event == 'return' and frame is state['inside']:
      state['done'] = True
    elif event == 'call':
      caller = frame.f_back
      while caller is not None and caller.f_code.co_filename not in floor:
        caller = caller.f_back
      if caller is not None and caller.f_code.co_filename != name:
        arrows[caller.f_code.co_filename, name] += 1

  sys.argv = [recipe, *arguments]
  loaded = importlib.import_module(recipe)
  threading.setprofile(follow)
  sys.setprofile(follow)
  try:
    loaded.command_line.main(loaded.Config, loaded.run)
  finally:
    sys.setprofile(None)
    files = {name for arrow in arrows for name in arrow}
    climbs = [(a, b) for a, b in arrows if floor[b] > floor[a]]
    for a, b in sorted(climbs):
      print(f'climbs: {_short(a)} -> {_short(b)}')
    print(
      json.dumps(
        {'files': len(files), 'arrows': len(arrows), 'climbs': len(climbs)}
      )
    )


def _short(path: str) -> str:
  return str(pathlib.Path(path).relative_to(ROOT))


def main(arguments: list[str]) -> None:
  """Print what is asked for; see the module's docstring."""
  if arguments[:1] == ['--walk'] and arguments[2:3] == ['--']:
    walk(arguments[1], arguments[3], arguments[4:])
    return
  calls = positional_calls(ROOT)
  for line in calls:
    print(line)
  for name, (lines, files) in sorted(rooms(ROOT).items()):
    print(f'{lines:7,} code lines in {files:3} files  {name}')
  print(json.dumps({'rooms': rooms(ROOT), 'positional_calls': len(calls)}))


if __name__ == '__main__':
  main(sys.argv[1:])
