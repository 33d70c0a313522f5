"""Files here or at a URL: whole or not at all, and clear words when they fail.

A path is a `pathlib.Path` on this machine or, for a URL of any file system that
fsspec knows (gs://, s3://, https://), a `UPath`, which has the same methods.
Nothing here retries.
"""

import atexit
import contextlib
import errno
import fcntl
import functools
import glob
import gzip
import hashlib
import json
import os
import pathlib
import shutil
import socket
import tempfile
import time
import urllib.parse
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, TypeVar

import numpy as np
import upath
from absl import logging

Path = pathlib.Path | upath.UPath
Name = str | os.PathLike[str]  # of a path; text may be a URL
_Row = TypeVar('_Row')

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LISTS = ('.paths', '.paths.gz')
_LOCK = '.lock'
# Open lock files of this process, by the folder's real path.
_locks: dict[pathlib.Path, int] = {}


def to_path(name: Name | Path) -> Path:
  """The path that text names, a URL where it holds `://`."""
  if isinstance(name, upath.UPath):
    return name
  name = os.fspath(name)
  return upath.UPath(name) if '://' in name else pathlib.Path(name)


def find(flag: str, patterns: Sequence[str], root: str = '') -> list[Path]:
  """Files that match, each once, in an order that no folder changes.

  Args:
    flag: whose values the patterns are, for messages.
    patterns: paths, URLs, either with wildcards, or a list of paths, one a
      line, in a file whose name ends in `.paths` or `.paths.gz`.
    root: what the relative lines of such a list are relative to.

  Returns:
    Files in the order of the patterns; those of one pattern by name and then
    by folder, those of a list in its order.

  Raises:
    FileNotFoundError: nothing matches a pattern.
  """
  found: dict[str, Path] = {}
  for pattern in patterns:
    if pattern.endswith(_LISTS):
      matches = _listed(to_path(pattern), root)
    elif glob.has_magic(pattern):
      matches = sorted(_matches(pattern), key=lambda p: (p.name, str(p)))
    else:
      matches = [to_path(pattern)] if to_path(pattern).exists() else []
    if not matches:
      raise FileNotFoundError(
        f'--{flag} {pattern}: no file matches; give the path or URL of a '
        'file, a pattern in quotes, or a list that ends in .paths or .paths.gz'
      )
    for match in matches:
      match = match.resolve() if is_local(match) else match
      found.setdefault(str(match), match)
  return list(found.values())


def _matches(pattern: str) -> list[Path]:
  if '://' not in pattern:
    return [pathlib.Path(name) for name in glob.glob(pattern, recursive=True)]
  fixed = pattern[: pattern.index('*')].rpartition('/')[0]
  return list(upath.UPath(fixed).glob(pattern[len(fixed) + 1 :]))


def _listed(path: Path, root: str) -> list[Path]:
  data = path.read_bytes()
  if path.name.endswith('.gz'):
    data = gzip.decompress(data)
  lines = [line.strip() for line in data.decode().splitlines()]
  return [
    to_path(line if '://' in line or line.startswith('/') else root + line)
    for line in lines
    if line
  ]


def is_local(path: Path) -> bool:
  """Whether a path is on this machine."""
  return isinstance(path, pathlib.Path)


def fingerprint(path: Path) -> str:
  """What tells a file's content: sha256, or for a URL the URL.

  An object at a URL is taken for immutable, as crawls in archives are.
  """
  return sha256(path) if is_local(path) else show(path)


def sha256(path: Name | Path) -> str:
  """Hashes a file's bytes, as hex."""
  with to_path(path).open('rb') as file:
    # fsspec's files have `readinto` too, though BinaryIO does not say so.
    return hashlib.file_digest(file, 'sha256').hexdigest()  # pyright: ignore


def folder_fingerprint(folder: pathlib.Path) -> str:
  """What tells the names and contents of the files below a folder."""
  files = sorted(path for path in folder.rglob('*') if path.is_file())
  lines = [f'{path.relative_to(folder)} {sha256(path)}' for path in files]
  return hashlib.sha256('\n'.join(lines).encode()).hexdigest()


def name(path: Path) -> str:
  """How records name a file: without the folders of this machine, or by URL."""
  return path.name if is_local(path) else show(path)


def show(path: Path) -> str:
  """The path for people and records, without a password."""
  parts = urllib.parse.urlsplit(str(path))
  if not parts.password:
    return str(path)
  return str(path).replace(f':{parts.password}@', '@')


@functools.cache
def local_copy(path: Path) -> pathlib.Path:
  """The file itself, or a copy on this machine that lives as long as we do."""
  if isinstance(path, pathlib.Path):
    return path
  with tempfile.NamedTemporaryFile(delete=False, suffix=path.name) as file:
    file.write(path.read_bytes())
  atexit.register(os.unlink, file.name)
  return pathlib.Path(file.name)


@contextlib.contextmanager
def explain_full(folder: Path) -> Iterator[None]:
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


def unfinished(path: pathlib.Path) -> pathlib.Path:
  """The name under which a file or folder is written; see `put_in_place`.

  It holds the process number, as a killed run's worker may live a moment more.
  """
  return path.with_name(f'.{path.name}.{os.getpid()}.tmp')


def put_in_place(temporary: pathlib.Path, path: pathlib.Path):
  """Gives a whole file or folder its name, for good once it returns."""
  _sync(temporary)
  os.replace(temporary, path)
  _sync(path.parent)


def _sync(path: pathlib.Path):
  handle = os.open(path, os.O_RDONLY)
  try:
    os.fsync(handle)
  finally:
    os.close(handle)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
  """A file to write that takes its name only when it is complete.

  Args:
    path: the name; a file of that name stays until the new one is on disk.
      For a URL the file is written on this machine first and put there in
      one request, which object stores make visible whole.

  Yields:
    The open file, under a name of its own.

  Raises:
    OSError: nothing is left of the new file.
  """
  if isinstance(path, pathlib.Path):
    temporary = unfinished(path)
  else:
    handle, name = tempfile.mkstemp()
    os.close(handle)
    temporary = pathlib.Path(name)
  try:
    with explain_full(temporary.parent):
      with open(temporary, 'wb') as file:
        yield file
      if isinstance(path, pathlib.Path):
        put_in_place(temporary, path)
    if not isinstance(path, pathlib.Path):
      path.fs.put_file(str(temporary), path.path)
  finally:
    temporary.unlink(missing_ok=True)


def lock(folder: pathlib.Path) -> bool:
  """Keeps other processes out of a folder until `unlock` or our end.

  The kernel holds the lock, so it goes with a process that is killed. Children
  made by fork do not have it. The file `.lock` says who has it.

  Args:
    folder: an existing folder.

  Returns:
    True if the lock is new, False if this process has it already.

  Raises:
    BlockingIOError: another process has it; the message names that one.
  """
  key = folder.resolve()
  path = key / _LOCK
  _leave_locks_after_fork()
  if key in _locks:
    if _is_open_file(_locks[key], path):
      return False
    os.close(_locks.pop(key))  # the folder was deleted and made anew
  while True:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
      fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
  handle = _locks.pop(folder.resolve(), None)
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


@functools.cache
def _leave_locks_after_fork():
  os.register_at_fork(after_in_child=_leave_locks)


def _leave_locks():
  """Closes what fork copied; a worker may outlive the lock's owner."""
  while _locks:
    os.close(_locks.popitem()[1])


def remove_leftovers(folder: Path):
  """Removes what killed processes left behind instead of finished files."""
  if isinstance(folder, pathlib.Path):
    for path in folder.glob('.*.tmp'):
      if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
      else:
        path.unlink(missing_ok=True)


def remove_folder(folder: Path):
  """Removes a folder of files, if it is there."""
  if folder.exists():
    for path in list(folder.iterdir()):
      path.unlink()
    with contextlib.suppress(OSError):  # object stores have no folders
      folder.rmdir()


def write_json(path: Name | Path, value: Any):
  """Writes a value as JSON, whole or not at all.

  Args:
    path: the file; its folder must exist.
    value: what `json` can hold; keys keep their order.

  Raises:
    ValueError: for a value that JSON cannot hold, NaN and infinity included.
  """
  try:
    text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False)
    data = text.encode() + b'\n'
  except (TypeError, ValueError) as error:
    raise ValueError(f'{path}: the value is not JSON: {error}') from None
  with replacing(to_path(path)) as file:
    file.write(data)


def read_json(path: Name | Path) -> Any:
  """Reads a JSON file.

  Raises:
    FileNotFoundError: it is not there.
    ValueError: it is not JSON.
  """
  try:
    return json.loads(to_path(path).read_bytes().decode())
  except ValueError as error:
    raise ValueError(
      f'{path} is damaged: {error}; restore this file, or remove it and run '
      'again what wrote it'
    ) from None


def write_jsonl(path: Name | Path, rows: Iterable[Mapping[str, Any]]):
  """Writes one JSON object a line; the whole file or nothing."""
  with replacing(to_path(path)) as file:
    for row in rows:
      file.write(json.dumps(row).encode() + b'\n')


def read_jsonl(
  path: Name | Path,
  read_row: Callable[[dict[str, Any]], _Row],
  errors: list[str] | None = None,
  torn_end: bool = False,
) -> Iterator[_Row]:
  """Reads one JSON object a line; blank lines are no rows.

  Args:
    path: the file, unpacked if its name ends in .gz.
    read_row: from an object to what is yielded, such as `dict`. What it raises
      of an object of another form is an error of that line.
    errors: takes a message for each line that is wrong, and the line is left
      out; None: the first such line is raised.
    torn_end: whether a wrong last line is left out where it has no line break,
      as a killed process leaves one behind.

  Yields:
    The rows.

  Raises:
    FileNotFoundError: it is not there.
    ValueError: with the file and the line that is wrong.
  """
  path = to_path(path)
  with path.open('rb') as file:
    lines = _unpacked(file, path) if path.name.endswith('.gz') else file
    for number, line in enumerate(lines, start=1):
      if not line.strip():
        continue
      try:
        row = read_row(_object(line, is_first=number == 1))
      except (AttributeError, LookupError, TypeError, ValueError) as error:
        if torn_end and not line.endswith(b'\n'):
          return
        message = f'line {number} of {show(path)}: {error}'
        if not isinstance(error, ValueError):
          message = f'line {number} of {show(path)} has another form: {error!r}'
        if errors is None:
          raise ValueError(message) from error
        errors.append(message)
      else:
        yield row


def _object(line: bytes, is_first: bool) -> dict[str, Any]:
  """The JSON object of a line."""
  try:
    value = json.loads(line.decode('utf-8-sig' if is_first else 'utf-8'))
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{line[:40]!r} is not JSON ({error})') from error
  if not isinstance(value, dict):
    raise ValueError(f'a line is an object, not {type(value).__name__}')
  if b'\\ud' in line.lower():  # half of a surrogate pair, perhaps
    json.dumps(value, ensure_ascii=False).encode()
  return value


def _unpacked(file: BinaryIO, path: Path) -> Iterator[bytes]:
  try:
    with gzip.open(file) as lines:
      yield from lines
  except (EOFError, gzip.BadGzipFile, zlib.error) as error:
    raise ValueError(
      f'{show(path)} is not a whole gzip file ({error}); restore the file'
    ) from error


def write_array(path: Path, array: np.ndarray):
  """Writes an array in NumPy's format, whole or not at all."""
  with replacing(path) as file:
    np.save(file, np.ascontiguousarray(array))


def read_array(path: Path) -> np.ndarray:
  """An array to read from; on this machine only what is used is loaded."""
  if isinstance(path, pathlib.Path):
    # An empty file cannot be mapped.
    mode = 'r' if path.stat().st_size > 256 else None
    return np.load(path, mmap_mode=mode)
  with path.open('rb') as file:
    return np.load(file)
