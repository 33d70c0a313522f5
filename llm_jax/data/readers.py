"""Documents of a corpus: text, JSON lines, Parquet, here or at a URL, or TFDS.

JSON lines and Parquet are read in pieces, never whole. Decides which documents
are held out from training.
"""

import collections
import dataclasses
import functools
import glob
import hashlib
import itertools
import os
import pathlib
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from absl import logging

from llm_jax import files, parquet
from llm_jax.data import tfds_folder

SPLITS = ('train', 'valid')
_HELD_OUT_SHARE = 20  # one document in so many is never trained on
_KINDS = {
  '.parquet': 'parquet',
  **dict.fromkeys(('.jsonl', '.ndjson', '.json'), 'jsonl'),
  **dict.fromkeys(('.txt', '.text', '.md', '.markdown'), 'text'),
}
_PACKED = ('.gz', '.zst')
_LISTS = ('.paths', '.paths.gz')
# Small files share a shard: so many of them, or of so many bytes together.
_FILES_A_PART = 1000
_BYTES_A_PART = 4 << 20


class Document(NamedTuple):
  """A page: its text and where it is from, '' where the file does not say."""

  text: str
  url: str


@dataclasses.dataclass(frozen=True)
class Form:
  """How the files of a corpus are read.

  Attributes:
    text_column: of JSON lines, Parquet and TFDS: what holds the text, as text
      or as UTF-8 bytes.
    blank_lines: whether blank lines separate documents in .txt files; else
      such a file is one document.
  """

  text_column: str = 'text'
  blank_lines: bool = False


_FORM = Form()


@dataclasses.dataclass(frozen=True)
class Part:
  """Files that become one shard of each split.

  Attributes:
    paths: the files.
    holds_tails: whether the end of each document is held out; else some whole
      documents are.
  """

  paths: tuple[files.Path, ...]
  holds_tails: bool = False


def split_of(document: Document) -> str:
  """'valid' for held-out documents, else 'train'; for ever the same."""
  key = document.url or document.text
  held_out = zlib.crc32(key.encode()) % _HELD_OUT_SHARE == 0
  return 'valid' if held_out else 'train'


def named(given: Sequence[str], flag: str, taken: Sequence[str] = ()):
  """Sources by name, from `name=source` or one source alone.

  >>> named(['a=x', 'y'], 'documents')
  {'a': 'x', 'documents': 'y'}

  Args:
    given: values of a flag.
    flag: its name, which is that of a source without one.
    taken: names that no source can have.

  Raises:
    ValueError: if two have one name.
  """
  sources: dict[str, str] = {}
  for text in given:
    match = re.fullmatch(r'([\w-]+)=(.+)', text)
    name, source = match.groups() if match else (flag, text)
    if name in sources or name in taken:
      raise ValueError(
        f'--{flag} {text}: the name {name!r} is taken; write --{flag} '
        f'another-name={source}, or one pattern for all files of a name'
      )
    sources[name] = source
  return sources


def find(
  corpus: str,
  flag: str = 'documents',
  kinds: Sequence[str] = ('text', 'jsonl', 'parquet'),
) -> list[files.Path]:
  """The files of a corpus.

  Args:
    corpus: a folder of text, JSON lines and Parquet, with those below it
      sorted by path, or of a TFDS data set, whose split `train` is read; or a
      file, a pattern or a list as `files.find` takes them. All but TFDS as
      path or URL, of which a folder's own files are read only.
    flag: whose value it is, for messages.
    kinds: of files that are read.

  Raises:
    FileNotFoundError: if there is no such folder or file.
    ValueError: if none of it can be read.
    OSError: if a URL cannot be reached.
  """
  source = f'--{flag} {corpus}'
  if not glob.has_magic(corpus) and not corpus.endswith(_LISTS):
    with files.reaching(corpus):
      path = files.to_path(corpus)
      # Of a URL the name decides: its server would list what is a file too.
      if (files.is_local(path) or not _kind(path)) and path.is_dir():
        if (path / tfds_folder.INFO_FILE).exists():
          return tfds_folder.shards(path)
        # A .json in a folder mostly says something of the other files.
        return _readable(source, _below(path), kinds=kinds, other='.json')
  return _readable(source, files.find(flag, [corpus]), kinds=kinds)


def _below(folder: files.Path) -> list[files.Path]:
  """Files in a folder and, on this machine, below it, without hidden ones."""
  if not isinstance(folder, pathlib.Path):
    return sorted(folder.iterdir(), key=lambda p: p.name)
  if (folder / 'run.json').exists():  # of a stage, which has text of its own
    return sorted(folder.glob('*.parquet'))
  found = []
  for root, names, own in os.walk(folder):
    names[:] = [name for name in names if not name.startswith('.')]
    found += [pathlib.Path(root, n) for n in own if not n.startswith('.')]
  return sorted(found)


def _readable(
  source: str,
  found: Sequence[files.Path],
  kinds: Sequence[str],
  other: str | None = None,
) -> list[files.Path]:
  """Those of a kind that is read; says how many of others are left out."""
  kept = [p for p in found if _kind(p) in kinds and p.suffix.lower() != other]
  counts = collections.Counter(p.suffix or 'without extension' for p in found)
  counts.subtract(path.suffix or 'without extension' for path in kept)
  left_out = ', '.join(f'{n} {kind}' for kind, n in counts.most_common() if n)
  if not kept:
    suffixes = {'text': '.txt, .md', 'jsonl': '.jsonl', 'parquet': '.parquet'}
    raise ValueError(
      f'{source} holds no file that is read, only {left_out or "nothing"}; '
      f'what is read is {", ".join(suffixes[kind] for kind in kinds)}, packed '
      "by gzip or zstd too, and .json by a pattern such as 'folder/*.json'"
    )
  if left_out:
    _warn_once(
      f'{source}: {len(kept)} files are read; others are left out: {left_out}'
    )
  return kept


@functools.cache
def _warn_once(text: str):
  logging.warning('%s', text)


def _kind(path: files.Path) -> str:
  """parquet, jsonl, text or ''; by the name."""
  name = path.name.lower()
  for packed in _PACKED:
    name = name.removesuffix(packed)
  kind = _KINDS.get(pathlib.PurePath(name).suffix, '')
  return '' if kind == 'parquet' and name != path.name.lower() else kind


def read_file(path: files.Path, form: Form = _FORM) -> Iterator[Document]:
  """The documents of one file in their order.

  Args:
    path: a file that `find` finds; a column `url` is optional.
    form: how it is read. A row without text, or a file of blanks, is no
      document: such are counted in a warning.

  Raises:
    ValueError: if the file is damaged, has no such column, holds something
      else in it, or is not UTF-8.
    OSError: if the file system fails.
  """
  n_without_text, name = 0, files.show(path)
  for document in _read(path, form):
    if document is None:
      n_without_text += 1
    else:
      yield document
  if n_without_text:
    logging.warning(
      '%d rows of %s have no text and are left out', n_without_text, name
    )


def _read(path: files.Path, form: Form) -> Iterator[Document | None]:
  kind = _kind(path)
  with files.reaching(files.show(path)):
    if kind == 'text':
      yield from _texts(path, form.blank_lines and '.txt' in path.name.lower())
    elif kind == 'jsonl':
      row = functools.partial(_document, text_column=form.text_column)
      yield from files.read_jsonl(path, row)
    else:
      rows = _parquet(path, form) if kind else tfds_folder.read(path)
      for number, row in enumerate(rows, start=1):
        try:
          yield _document(row, form.text_column)
        except ValueError as error:
          raise ValueError(f'{path}, row {number}: {error}') from None


def _texts(path: files.Path, blank_lines: bool) -> Iterator[Document | None]:
  first_line = 1
  with files.opened(path) as file:
    begin = file.readline().removeprefix(b'\xef\xbb\xbf')
    lines = itertools.chain([begin], file)
    pieces = lines if blank_lines else [b''.join(lines)]
    for has_text, group in itertools.groupby(pieces, lambda x: bool(x.strip())):
      own = list(group)
      text = b''.join(own)
      if has_text:
        text = text.rstrip(b'\r\n') if blank_lines else text
        try:
          yield Document(files.decode(text, first_line), url='')
        except ValueError as error:
          raise ValueError(f'{files.show(path)}, {error}') from None
      elif not blank_lines:
        yield None
      first_line += len(own)


def _parquet(path: files.Path, form: Form) -> Iterator[dict[str, Any]]:
  with parquet.opened(path) as file:
    names = file.schema_arrow.names
    # Without the text, all names for the message.
    has_text = form.text_column in names
    columns = {form.text_column, 'url'}.intersection(names)
    yield from parquet.rows(file, sorted(columns if has_text else names))


def _document(row: Mapping[str, Any], text_column: str) -> Document | None:
  """A row as a document, None if it has no text."""
  if text_column not in row:
    raise ValueError(
      f'there is no column {text_column!r}, only {sorted(row)}; give the one '
      'that holds the text as Config.text_column'
    )
  text, url = (_text(row, name) for name in (text_column, 'url'))
  return None if text is None else Document(text, url or '')


def _text(row: Mapping[str, Any], name: str) -> str | None:
  value = row.get(name)
  try:
    value = value.decode() if isinstance(value, bytes) else value
  except UnicodeDecodeError as error:
    raise ValueError(
      f'column {name!r} holds bytes that are not UTF-8 ({error}); convert it'
    ) from None
  if not isinstance(value, str | None):
    raise ValueError(
      f'column {name!r} holds {value!r:.60}, which is {type(value).__name__} '
      'and not text; give another as Config.text_column, or convert it'
    )
  return value


def parts(corpus: str, form: Form = _FORM) -> list[Part]:
  """The files of a corpus as they become shards.

  A file of rows is a part of its own; files of text share one. If there are so
  few documents that all of them are of one split, the ends are held out.

  Raises:
    ValueError: if there is no document on this machine.
  """
  paths = find(corpus)
  splits = _splits(paths, form)
  if not splits:
    raise ValueError(nothing(corpus))
  tails = len(splits) == 1
  if tails:
    _warn_once(
      f'--documents {corpus}: too few documents to hold some of them out; the '
      'last twentieth of each is held out instead'
    )
  groups: list[list[files.Path]] = []
  n_bytes = 0
  for path in paths:
    is_text = _kind(path) == 'text'
    size = path.stat().st_size if is_text and files.is_local(path) else 0
    if (
      not (is_text and groups and _kind(groups[-1][0]) == 'text')
      or len(groups[-1]) == _FILES_A_PART
      or n_bytes + size > _BYTES_A_PART
    ):
      groups.append([])
      n_bytes = 0
    groups[-1].append(path)
    n_bytes += size
  return [Part(tuple(group), tails) for group in groups]


def _splits(paths: Sequence[files.Path], form: Form) -> set[str]:
  """The splits of the documents; those at URLs are taken to be many."""
  if not all(map(files.is_local, paths)):
    return set(SPLITS)
  splits: set[str] = set()
  for document in itertools.chain(*(read_file(p, form) for p in paths)):
    splits.add(split_of(document))
    if len(splits) == len(SPLITS):
      break
  return splits


def read_part(part: Part, form: Form) -> Iterator[tuple[str, Document]]:
  """The documents of a part, each behind its split."""
  for path in part.paths:
    for document in read_file(path, form):
      if part.holds_tails:
        cut = len(document.text) * (_HELD_OUT_SHARE - 1) // _HELD_OUT_SHARE
        # At the end of a line, or of a word, unless there is none.
        rest = document.text[cut:]
        match = re.search(r'\n+', rest) or re.search(r'\s+', rest)
        cut += match.end() if match and match.end() < len(rest) else 0
        halves = document.text[:cut], document.text[cut:]
        for own, text in zip(SPLITS, halves, strict=True):
          if text:
            yield own, document._replace(text=text)
      else:
        yield split_of(document), document


def read(corpus: str, split: str, form: Form = _FORM) -> Iterator[Document]:
  """The documents of all files of a corpus that belong to a split.

  Raises:
    ValueError: if there is none in the whole corpus.
  """
  n_documents = 0
  for part in parts(corpus, form):
    for own, document in read_part(part, form):
      n_documents += 1
      if own == split and document.text:
        yield document
  if not n_documents:
    raise ValueError(nothing(corpus))


def nothing(corpus: str, name: str = '') -> str:
  """What to say of a corpus without text."""
  named = f'{name}={corpus}' if name else corpus
  return (
    f'--documents {named} holds no text: all its files or rows are empty; give '
    'other documents, or the name of the column that holds the text as '
    'Config.text_column'
  )


def fingerprint(corpus: str) -> str:
  """sha256 over the names and contents of a corpus' files."""
  return fingerprint_of(find(corpus))


def fingerprint_of(paths: Sequence[files.Path]) -> str:
  """sha256 over the names and contents of files.

  What lies at a URL counts by its URL, and is taken for immutable.
  """
  lines = [f'{files.name(path)} {files.fingerprint(path)}\n' for path in paths]
  return hashlib.sha256(''.join(lines).encode()).hexdigest()
