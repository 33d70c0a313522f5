"""Starts a function of this package in a Python process of its own.

The process is no fork: it holds nothing of its parent but one descriptor. Its
function returns when the other end of that is closed. Loads the standard
library alone, as the sandbox does.
"""

import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

_ROOT = pathlib.Path(__file__).resolve().parents[2]


def start(
  function: str,
  arguments: Sequence[float],
  flags: Sequence[str],
  **options: Any,
) -> subprocess.Popen:
  """Calls a function in a new process, which Ctrl-C does not reach.

  Args:
    function: with its module, such as 'llm_jax.verify.formula_equality.serve'.
    arguments: numbers, the first of which is a descriptor that it inherits.
    flags: of the interpreter, beside no current folder.
    options: further ones of subprocess.Popen.
  """
  module = function.rpartition('.')[0]
  code = (
    f'import sys; sys.path.insert(0, {str(_ROOT)!r}); import {module};'
    f'sys.path.pop(0); {function}(*{[*arguments]!r})'
  )
  return subprocess.Popen(
    [sys.executable, '-P', *flags, '-c', code],
    pass_fds=[int(arguments[0])],
    stdin=subprocess.DEVNULL,
    start_new_session=True,
    **options,
  )
