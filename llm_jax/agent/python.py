"""The tool `python`: a program in the sandbox, which prints what it finds.

A session needs no process that lives on: a program of the sandbox does the
same each time it runs, so the cells before are run again, unseen.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from llm_jax.agent import tools
from llm_jax.verify.sandbox import sandbox

SIGNATURE = tools.Signature(
  'python',
  'Runs a Python program and gives what it prints, or the value of its last '
  'expression.',
  {
    'type': 'object',
    'properties': {'code': {'type': 'string'}},
    'required': ['code'],
    'additionalProperties': False,
  },
)
# Runs in the sandbox. The value of a last expression is shown as Python's own
# prompt shows it.
_CELLS = """
import ast, contextlib, io, sys
def run(cells):
  names = {'__name__': '__main__'}
  for cell in cells[:-1]:
    unseen = io.TextIOWrapper(io.BytesIO())
    with contextlib.redirect_stdout(unseen), contextlib.redirect_stderr(unseen):
      execute(cell, names)
  execute(cells[-1], names)
def execute(cell, names):
  tree = ast.parse(cell)
  last = None
  if tree.body and isinstance(tree.body[-1], ast.Expr):
    last = ast.Expression(tree.body.pop().value)
  exec(compile(tree, 'cell', 'exec'), names)
  if last is not None:
    sys.displayhook(eval(compile(last, 'cell', 'eval'), names))
"""


def make(box: sandbox.Sandbox, is_session: bool = True) -> tools.Tool:
  """The tool.

  Args:
    box: where programs run, with its limits.
    is_session: whether a call sees what those before it have defined.
  """

  def run(
    arguments: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]
  ) -> str:
    cells = [one['code'] for one in earlier] * is_session
    try:
      done = box.run(_CELLS, 'run', [(([*cells, arguments['code']],), {})])
    except ValueError as error:  # a surrogate in the code
      raise tools.ToolError(str(error)) from None
    text = done.output.rstrip('\n')
    if done.error:
      raise tools.ToolError('\n'.join(filter(None, [done.error, text])))
    return text or 'Nothing was printed.'

  return tools.Tool(SIGNATURE, run)
