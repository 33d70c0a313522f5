"""JSON lines that grow while a run works, and survive its end at any moment.

One process writes such a file; see locks.py.
"""

import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from llm_jax import files

_Row = TypeVar('_Row')


def append(path: pathlib.Path, row: Mapping[str, Any]) -> None:
  """Add a line, which is on disk once this returns.

  Raises:
    OSError: it could not be written; what of it was is cut off by the next
      that adds or reads.
  """
  with files.explain_full(path.parent), path.open('ab+') as file:
    _mend(file)
    file.write(json.dumps(row).encode() + b'\n')
    file.flush()
    os.fsync(file.fileno())


def read(
  path: pathlib.Path, read_row: Callable[[dict[str, Any]], _Row]
) -> list[_Row]:
  """The lines, without a last one that a kill left half written.

  Args:
    path: the file; made where there is none.
    read_row: from an object; what it raises is an error of that line.

  Raises:
    ValueError: with the line that is damaged.
  """
  with path.open('ab+') as file:
    _mend(file)
  return list(files.read_jsonl(path, read_row))


def _mend(file) -> None:
  """Cut off what stands behind the last line break."""
  if size := file.seek(0, os.SEEK_END):
    file.seek(size - 1)
    if file.read() != b'\n':
      file.seek(0)
      file.truncate(file.read().rfind(b'\n') + 1)
