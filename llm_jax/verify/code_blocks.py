"""Where the program stands in what a model wrote.

The function that tests will call decides which code counts: the last block that
defines it, with what other blocks import and define. Examples of its use may
fail. Text is parsed here, never executed.
"""

import ast
import re
import textwrap
import threading
import warnings
from collections.abc import Iterable

from llm_jax.verify import grading

MAX_CHARS = 20_000  # of a program
_MAX_TEXT_CHARS = 10 * MAX_CHARS  # of a longer answer the last ones are read
_OPENING = re.compile(r'([ \t]*)(`{3,}|~{3,})[^`\n]*')
# From a line that is not indented, or its decorators, to the next such line.
_PART = re.compile(r'(?:^@.*\n)*^\S.*(?:\n(?:[ \t)\]}#].*)?)*', re.MULTILINE)
# Top-level statements that stay as they are; others are examples, or tables.
_DEFINITIONS = (
  ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import,
  ast.ImportFrom,
)  # fmt: skip
_WARNINGS_LOCK = threading.Lock()


def program(answer: str, entry: str, start: str = '') -> str | None:
  r"""The code of an answer, so that it defines a function if it can.

  >>> print(program('See\n~~~py\ndef f(x):\n  return x\n~~~\n    f(1)', 'f'))
  def f(x):
      return x

  Args:
    answer: anything a model wrote.
    entry: name of the function that is called.
    start: the beginning of a module, which an answer may go on from or repeat.

  Returns:
    A module, which begins with start; None if a thought does not end.
  """
  if grading.final(answer) is None:
    return None
  text = answer.rpartition(grading.THINK_END)[2][-_MAX_TEXT_CHARS:]
  blocks = _blocks(text)
  modules = [_statements(block) for block in blocks or [text]]
  defining = [n for n, module in enumerate(modules) if _defines(module, entry)]
  if not defining:
    return start + _body(start, blocks[-1] if blocks else text)
  chosen = modules[defining[-1]]
  names = {name for node in chosen for name in _names(node)}
  around = [
    node
    for module in modules
    for node in module
    if module is not chosen and not names & {*_names(node)}
    if isinstance(node, (*_DEFINITIONS, ast.Assign, ast.AnnAssign))
  ]
  try:
    return _written(start, [*around, *chosen], entry)
  except RecursionError:  # nested too deeply to be written
    return start + text


def _blocks(text: str) -> list[str]:
  """What stands between fences, the last of which may be open."""
  blocks, fence, lines = [], None, []
  for line in text.splitlines():
    if fence is None:
      fence = _OPENING.fullmatch(line)
      lines = []
      continue
    marks = line.strip()
    if marks.startswith(fence[2]) and not marks.strip(fence[2][0]):
      blocks.append('\n'.join(lines))
      fence = None
    else:
      lines.append(line.removeprefix(fence[1]))
  return [*blocks, '\n'.join(lines)] if fence else blocks


def _statements(text: str) -> list[ast.stmt]:
  """Its statements; of text between which there is other text, the code."""
  text = textwrap.dedent(text.replace('\r\n', '\n'))
  if (whole := _parsed(text)) is not None:
    return whole
  return [node for part in _PART.findall(text) for node in _parsed(part) or ()]


def _parsed(text: str) -> list[ast.stmt] | None:
  if len(text) > MAX_CHARS:
    return None
  try:
    with _WARNINGS_LOCK, warnings.catch_warnings():
      warnings.simplefilter('ignore')  # such as '\d'
      tree = ast.parse(text)
      compile(tree, '', 'exec', dont_inherit=True)  # no return at the top
      return tree.body
  except (SyntaxError, ValueError, RecursionError, MemoryError):
    return None


def _names(node: ast.stmt) -> Iterable[str]:
  """What a statement defines."""
  match node:
    case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
      yield node.name
    case ast.Import() | ast.ImportFrom():
      yield from ((a.asname or a.name).partition('.')[0] for a in node.names)
    case ast.Assign(targets):
      yield from (t.id for t in targets if isinstance(t, ast.Name))
    case ast.AnnAssign(ast.Name(name)):
      yield name


def _methods(node: ast.stmt) -> list[str]:
  body = node.body if isinstance(node, ast.ClassDef) else []
  return [n.name for n in body if isinstance(n, ast.FunctionDef)]


def _defines(module: list[ast.stmt], entry: str) -> bool:
  return any(entry in (*_names(node), *_methods(node)) for node in module)


def _written(start: str, nodes: list[ast.stmt], entry: str) -> str:
  """A module in which what defines nothing may fail."""
  nodes = [node for node in nodes if not _reads_input(node)]
  lines = [*map(ast.unparse, filter(_is_future, nodes)), start.rstrip()]
  nodes = [node for node in nodes if not _is_future(node)]
  for node in nodes:
    text = ast.unparse(node)
    if not isinstance(node, _DEFINITIONS):
      text = textwrap.indent(text, '  ')
      text = f'try:\n{text}\nexcept BaseException:\n  pass'
    lines.append(text)
  if not any(entry in _names(node) for node in nodes):
    owner = [node for node in nodes if entry in _methods(node)][-1]
    lines.append(f'{entry} = {next(iter(_names(owner)))}().{entry}')
  return '\n'.join(filter(None, lines))


def _is_future(node: ast.stmt) -> bool:
  return isinstance(node, ast.ImportFrom) and node.module == '__future__'


def _reads_input(node: ast.stmt) -> bool:
  return not isinstance(node, _DEFINITIONS) and any(
    isinstance(part, ast.Name) and part.id == 'input' for part in ast.walk(node)
  )


def _body(start: str, text: str) -> str:
  """Text that goes on from start, indented as that needs it."""
  line = start.rstrip().rpartition('\n')[2]
  indent = line[: len(line) - len(line.lstrip())]
  first, _, rest = text.lstrip('\r\n').partition('\n')
  whole = textwrap.indent(textwrap.dedent(text), indent)
  candidates = (text, whole, f'{indent}{first.lstrip()}\n{rest}')
  return next((c for c in candidates if _parsed(start + c) is not None), text)
