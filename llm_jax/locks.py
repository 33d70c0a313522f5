"""Which process works in a folder: one, and others are told who."""

import fcntl
import os
import pathlib
import socket
import time

from absl import logging

_LOCK = '.lock'
# Open lock files by process, as fork copies them, and the folder's real path.
_locks: dict[tuple[int, pathlib.Path], int] = {}


def lock(folder: pathlib.Path) -> bool:
  """Keeps other processes out of a folder until `unlock` or our end.

  The kernel holds the lock, so it goes with a process that is killed. Children
  made by fork do not have it, as POSIX wants it. The file `.lock` says who has
  it; a process that closed it elsewhere would lose the lock.

  Args:
    folder: an existing folder.

  Returns:
    True if the lock is new, False if this process has it already.

  Raises:
    BlockingIOError: another process has it; the message names that one.
  """
  key = os.getpid(), folder.resolve()
  path = key[1] / _LOCK
  if key in _locks:
    if _is_open_file(_locks[key], path):
      return False
    os.close(_locks.pop(key))  # the folder was deleted and made anew
  while True:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
      fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      owner = os.read(handle, 1000).decode('utf-8', 'replace').strip()
      os.close(handle)
      raise BlockingIOError(
        f'{folder} is in use by {owner or "another process"}; wait for its '
        'end or give another folder'
      ) from None
    except OSError as error:  # some network file systems
      os.close(handle)
      logging.warning('%s: no lock (%s); run one process there', folder, error)
      return False
    if _is_open_file(handle, path):
      break
    os.close(handle)  # its owner removed it before we had it
  os.ftruncate(handle, 0)
  since = time.strftime('%Y-%m-%d %H:%M:%S')
  owner = f'process {os.getpid()} on {socket.gethostname()} since {since}'
  os.write(handle, owner.encode())
  _locks[key] = handle
  return True


def unlock(folder: pathlib.Path):
  """Lets other processes into a folder that this one locked."""
  handle = _locks.pop((os.getpid(), folder.resolve()), None)
  if handle is not None:
    path = folder.resolve() / _LOCK
    if _is_open_file(handle, path):
      path.unlink()  # before others can have it
    os.close(handle)


def _is_open_file(handle: int, path: pathlib.Path) -> bool:
  try:
    return os.path.samestat(os.fstat(handle), os.stat(path))
  except FileNotFoundError:
    return False
