"""Files that are there whole or not at all, and a clear word at a full disk.

It does NOT reserve space, and does not retry.
"""

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator
from typing import BinaryIO

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def explain_full(folder: pathlib.Path) -> Iterator[None]:
  """Adds the remedy to an error of a disk without room.

  Raises:
    OSError: as raised inside; for a full disk with what to do.
  """
  try:
    yield
  except OSError as error:
    if error.errno not in _FULL:
      raise
    reason = os.strerror(error.errno)
    raise OSError(
      error.errno,
      f'{reason}; make room and give the same command again, what was '
      'finished is kept',
      str(folder),
    ) from error


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[BinaryIO]:
  """A file to write that takes its name only when it is complete.

  Args:
    path: the name; a file of that name stays until the new one is on disk.

  Yields:
    The open file, under a name of its own.

  Raises:
    OSError: nothing is left of the new file.
  """
  # The process number, because a killed run's worker may live a moment more.
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    with explain_full(path.parent), open(temporary, 'wb') as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise


def remove_leftovers(folder: pathlib.Path):
  """Removes what `replacing` left behind in killed processes."""
  for path in folder.glob('.*.tmp'):
    path.unlink(missing_ok=True)
