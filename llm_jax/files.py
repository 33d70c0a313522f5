"""Files here or at a URL: whole or not at all, and clear words when they fail.

A path is a `pathlib.Path` on this machine or, for a URL of any file system that
fsspec knows (gs://, s3://, https://), a `UPath`, which has the same methods.
Nothing here retries.
"""

import atexit
import codecs
import contextlib
import errno
import functools
import glob
import gzip
import hashlib
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
import tomllib
import urllib.parse
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, TypeVar

import numpy as np
import upath

if sys.version_info >= (3, 14):
  from compression import zstd
else:
  from backports import zstd

Path = pathlib.Path | upath.UPath
Name = str | os.PathLike[str]  # of a path; text may be a URL
_Row = TypeVar('_Row')

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MAKE_ROOM = 'make room and give the same command again: what is done is kept'
_LISTS = ('.paths', '.paths.gz')
_PACKED = {'.gz': ('gzip', gzip.open), '.zst': ('zstd', zstd.open)}
_CHECKSUM = 'sha256'


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
    OSError, ValueError: see `reaching`.
  """
  found: dict[str, Path] = {}
  for pattern in patterns:
    with reaching(pattern):
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
  fixed = re.split('[*?[]', pattern)[0].rpartition('/')[0]
  return list(upath.UPath(fixed).glob(pattern[len(fixed) + 1 :]))


def _listed(path: Path, root: str) -> list[Path]:
  with opened(path) as file:
    lines = [line.strip() for line in file.read().decode().splitlines()]
  return [
    to_path(line if '://' in line or line.startswith('/') else root + line)
    for line in lines
    if line
  ]


@contextlib.contextmanager
def reaching(url: str) -> Iterator[None]:
  """Adds to what the file system of a URL raises which one it is.

  Raises:
    ValueError: nothing that is installed reads such URLs.
    OSError: it could not be reached.
  """
  try:
    yield
  except ImportError as error:
    raise ValueError(
      f'{url} cannot be read with what is installed ({error}); `pip install '
      "'.[cloud]'` brings https://, s3:// and gs://, huggingface_hub hf://"
    ) from error
  except (OSError, ValueError) as error:
    if '://' not in url or url in str(error):
      raise
    kind = OSError if isinstance(error, OSError) else ValueError
    raise kind(f'{url}: {error}') from error
  except Exception as error:  # each file system of fsspec has its own
    if '://' not in url:
      raise
    raise OSError(
      f'{url} could not be reached ({error!r}); give the same command again '
      'when it can, or the path of a copy on this machine'
    ) from error


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
    reason = f'{os.strerror(error.errno)}; {_MAKE_ROOM}'
    raise OSError(error.errno, reason, str(folder)) from error


def unfinished(path: pathlib.Path) -> pathlib.Path:
  """The name under which a file or folder is written; see `put_in_place`.

  It holds the process number, as a killed run's worker may live a moment more.
  """
  return path.with_name(f'.{path.name}.{os.getpid()}.tmp')


def put_in_place(temporary: pathlib.Path, path: pathlib.Path):
  """Gives a whole file or folder its name, for good once it returns."""
  sync(temporary)
  os.replace(temporary, path)
  sync(path.parent)


def sync(path: pathlib.Path):
  """Waits until a file, or the names in a folder, are on the disk."""
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


def read_json(path: Name | Path) -> dict[str, Any]:
  """Reads a JSON object from a file.

  Raises:
    FileNotFoundError: it is not there.
    ValueError: it is something else.
  """
  try:
    values = json.loads(to_path(path).read_bytes().decode())
    if not isinstance(values, dict):
      raise ValueError('it is no JSON object')
    return values
  except ValueError as error:
    raise ValueError(
      f'{path} is damaged: {error}; restore this file, or remove it and run '
      'again what wrote it'
    ) from None


@functools.cache
def tables_of(module: str) -> dict[str, Any]:
  """The TOML file beside a module, by its `__file__`; not to be changed."""
  path = pathlib.Path(module).with_suffix('.toml')
  return tomllib.loads(path.read_text(encoding='utf-8'))


def read_object(path: Name | Path) -> dict[str, Any]:
  """Reads a JSON object of a published model.

  Raises:
    ValueError: it is not there, or is no object.
  """
  if not to_path(path).is_file():
    raise ValueError(
      f'{path} is missing; give a folder that save_pretrained wrote'
    )
  return read_json(path)


def write_checked_json(path: Name | Path, values: Mapping[str, Any]):
  """Writes an object with the sha256 of its values; see `write_json`."""
  write_json(path, {**values, _CHECKSUM: _values_sha256(values)})


def read_checked_json(path: Name | Path) -> dict[str, Any]:
  """Reads what `write_checked_json` wrote, without the checksum.

  Raises:
    FileNotFoundError: it is not there.
    ValueError: it is no object, or not what was written. Files of before there
      was a checksum are not checked.
  """
  values = read_json(path)
  saved = values.pop(_CHECKSUM, None)
  if saved not in (None, actual := _values_sha256(values)):
    raise ValueError(
      f'{path} is damaged: its values have sha256 {actual}, but {saved} was '
      f'written; restore the file; if you changed it on purpose, delete '
      f'{_CHECKSUM!r} in it'
    )
  return values


def _values_sha256(values: Mapping[str, Any]) -> str:
  text = json.dumps(values, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


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
    path: the file, unpacked if its name ends in .gz or .zst.
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
  with opened(path) as lines:
    for number, line in enumerate(lines, start=1):
      if not line.strip():
        continue
      try:
        row = read_row(json_object(line, is_first=number == 1))
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


def json_object(line: bytes, is_first: bool) -> dict[str, Any]:
  """The JSON object of a line.

  Raises:
    ValueError: it is something else.
  """
  text = decode(line.removeprefix(codecs.BOM_UTF8) if is_first else line)
  try:
    value = json.loads(text)
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{line[:40]!r} is not JSON ({error})') from error
  if not isinstance(value, dict):
    raise ValueError(f'a line is an object, not {type(value).__name__}')
  if b'\\ud' in line.lower():  # half of a surrogate pair, perhaps
    json.dumps(value, ensure_ascii=False).encode()
  return value


def decode(data: bytes, first_line: int = 0) -> str:
  """Text from UTF-8.

  Args:
    data: one line or several.
    first_line: the number of the first one, if the message shall name it.

  Raises:
    ValueError: with the first byte that is wrong, counted from 1 in its line.
  """
  try:
    return data.decode()
  except UnicodeDecodeError as error:
    line = data.count(b'\n', 0, error.start) + first_line
    byte = error.start - data.rfind(b'\n', 0, error.start)
    is_wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    raise ValueError(
      f'{f"line {line}, " if first_line else ""}byte {byte} is '
      f'0x{data[error.start]:02x}, which is not UTF-8 text; convert the file, '
      f'as by `iconv -f {"UTF-16" if is_wide else "WINDOWS-1252"} -t UTF-8`'
    ) from None


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
  """A file to read, unpacked if its name ends in .gz or .zst.

  Raises:
    ValueError: if it is no whole file of that kind.
  """
  kind, unpack = _PACKED.get(path.suffix.lower(), ('', contextlib.nullcontext))
  try:
    with path.open('rb') as raw, unpack(raw) as file:
      yield file
  except (EOFError, gzip.BadGzipFile, zlib.error, zstd.ZstdError) as error:
    raise ValueError(
      f'{show(path)} is not a whole {kind} file ({error}); restore the file'
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
