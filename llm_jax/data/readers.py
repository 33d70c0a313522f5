"""Documents of a corpus: FineWeb's Parquet, here or at a URL, or TFDS.

A file is read in pieces, never whole. Decides which documents are held out
from training.
"""

import hashlib
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from absl import logging

from llm_jax import files, parquet
from llm_jax.data import tfds_folder

SPLITS = ('train', 'valid')
_HELD_OUT_SHARE = 20  # one document in so many is never trained on
_SUFFIXES = ('.parquet', '.paths', '.paths.gz')


class Document(NamedTuple):
  """A page: its text and where it is from, '' where the file does not say."""

  text: str
  url: str


def split_of(document: Document) -> str:
  """'valid' for held-out documents, else 'train'; for ever the same."""
  key = document.url or document.text
  held_out = zlib.crc32(key.encode()) % _HELD_OUT_SHARE == 0
  return 'valid' if held_out else 'train'


def find(corpus: str) -> list[files.Path]:
  """The files of a corpus.

  Args:
    corpus: a folder of Parquet files, sorted by name, or of a TFDS data set,
      whose split `train` is read; or a Parquet file, a pattern or a list as
      `files.find` takes them. All but TFDS as path or URL.

  Raises:
    ValueError: if a folder holds none.
    FileNotFoundError: if there is no such folder or file.
  """
  if '*' in corpus or corpus.endswith(_SUFFIXES):
    return files.find('documents', [corpus])
  folder = files.to_path(corpus)
  if not folder.is_dir():
    raise FileNotFoundError(
      f'{corpus} is no folder; give a folder, a .parquet file, or a pattern '
      f'of such files in quotes, as path or URL'
    )
  if (folder / tfds_folder.INFO_FILE).exists():
    return tfds_folder.shards(folder)
  found = sorted(p for p in folder.iterdir() if p.name.endswith('.parquet'))
  if not found:
    raise ValueError(
      f'{corpus} holds no .parquet file; give the folder that '
      f'experiments.clean wrote, or one of Parquet files with columns text and '
      f'url'
    )
  return found


def read_file(
  path: files.Path, text_column: str = 'text'
) -> Iterator[Document]:
  """The documents of one file in their order.

  Args:
    path: a Parquet file or a shard of TFDS; a column `url` is optional.
    text_column: the column that holds the text, as text or as UTF-8 bytes. A
      row without text is no document: such rows are counted in a warning.

  Raises:
    ValueError: if the file is damaged, has no such column, or holds something
      else in it.
    OSError: if the file system fails.
  """
  is_parquet = '.array_record' not in path.name
  rows = _parquet(path, text_column) if is_parquet else tfds_folder.read(path)
  n_without_text = 0
  for row in rows:
    if text_column not in row:
      raise ValueError(
        f'{path} has no column {text_column!r}, only {sorted(row)}; give the '
        f'name of the one that holds the text as Config.text_column'
      )
    text, url = (_text(path, row, name) for name in (text_column, 'url'))
    if text is None:
      n_without_text += 1
    else:
      yield Document(text, url or '')
  if n_without_text:
    logging.warning(
      '%d rows of %s have no text and are left out',
      n_without_text,
      files.show(path),
    )


def _parquet(path: files.Path, text_column: str) -> Iterator[dict[str, Any]]:
  with parquet.opened(path) as file:
    names = file.schema_arrow.names
    # Without the text, all names for the message.
    has_text = text_column in names
    columns = {text_column, 'url'}.intersection(names) if has_text else names
    yield from parquet.rows(file, sorted(columns))


def _text(path: files.Path, row: dict[str, Any], name: str) -> str | None:
  value = row.get(name)
  try:
    value = value.decode() if isinstance(value, bytes) else value
  except UnicodeDecodeError as error:
    raise ValueError(
      f'{path} holds bytes that are not UTF-8 in column {name!r} ({error}); '
      'convert them to text'
    ) from None
  if not isinstance(value, str | None):
    raise ValueError(
      f'{path} holds {value!r:.60} in column {name!r}, which is '
      f'{type(value).__name__} and not text; give the name of the column that '
      f'holds the text as Config.text_column, or convert it'
    )
  return value


def read(
  corpus: str, split: str, text_column: str = 'text'
) -> Iterator[Document]:
  """The documents of all files of a corpus that belong to a split."""
  if split not in SPLITS:
    raise ValueError(f'there is no split {split!r}; use one of {SPLITS}')
  for path in find(corpus):
    for document in read_file(path, text_column):
      if split_of(document) == split:
        yield document


def fingerprint(corpus: str) -> str:
  """sha256 over the names and contents of a corpus' files.

  What lies at a URL counts by its URL, and is taken for immutable.
  """
  lines = [
    f'{files.name(path)} {files.fingerprint(path)}\n' for path in find(corpus)
  ]
  return hashlib.sha256(''.join(lines).encode()).hexdigest()
