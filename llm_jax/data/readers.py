"""Documents of a corpus: FineWeb's Parquet, here or at a URL, or TFDS.

A file is read in pieces, never whole. Decides which documents are held out
from training. Does not clean or encode, and does not try a failed read again.
"""

import hashlib
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import pyarrow
import pyarrow.parquet

from llm_jax import files as storage
from llm_jax.data import tfds_folder

SPLITS = ('train', 'valid')
_HELD_OUT_SHARE = 20  # one document in so many is never trained on
_BATCH_ROWS = 256  # documents decoded at a time
_BUFFER_BYTES = 1 << 20  # read at a time; without it, all of a row group
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


def files(corpus: str) -> list[storage.Path]:
  """The files of a corpus.

  Args:
    corpus: a folder of Parquet files, sorted by name, or of a TFDS data set,
      whose split `train` is read; or a Parquet file, a pattern or a list as
      `storage.find` takes them. All but TFDS as path or URL.

  Raises:
    ValueError: if a folder holds none.
    FileNotFoundError: if there is no such folder or file.
  """
  if '*' in corpus or corpus.endswith(_SUFFIXES):
    return storage.find('documents', [corpus])
  folder = storage.to_path(corpus)
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
  path: storage.Path, text_column: str = 'text'
) -> Iterator[Document]:
  """The documents of one file in their order.

  Args:
    path: a Parquet file or a shard of TFDS; a column `url` is optional.
    text_column: the column that holds the text.

  Raises:
    ValueError: if the file is damaged, or a column or a value is missing.
    OSError: if the file system fails.
  """
  is_parquet = '.array_record' not in path.name
  rows = _parquet_rows(path, text_column) if is_parquet else _tfds_rows(path)
  for row in rows:
    if text_column not in row:
      raise ValueError(
        f'{path} has no column {text_column!r}, only {sorted(row)}; give the '
        f'name of the one that holds the text as Config.text_column'
      )
    text, url = row[text_column], row.get('url', '')
    if text is None or url is None:
      raise ValueError(
        f'{path} holds a document without text or url: {row}; remove it'
      )
    yield Document(text, url)


def _parquet_rows(path, text_column):
  try:
    with (
      path.open('rb') as raw,
      # What is buffered before it is read would stay until the file's end.
      pyarrow.parquet.ParquetFile(
        raw, buffer_size=_BUFFER_BYTES, pre_buffer=False
      ) as file,
    ):
      names = file.schema_arrow.names
      wanted = {text_column, 'url'}.intersection(names)
      # Without the text, all names for the message.
      columns = sorted(wanted) if text_column in wanted else names
      for batch in file.iter_batches(_BATCH_ROWS, columns=columns):
        yield from batch.to_pylist()
  except pyarrow.ArrowInvalid as error:
    raise ValueError(
      f'{path} is not a whole Parquet file ({error}); clean again, or restore '
      f'the file'
    ) from error
  except (ValueError, OSError):
    raise
  except Exception as error:  # each file system of fsspec has its own
    raise OSError(
      f'{storage.show(path)} could not be read ({error!r}); give the same '
      f'command again, what was finished is kept'
    ) from error


def _tfds_rows(path):
  for example in tfds_folder.read(path):
    yield {
      name: value.decode() if isinstance(value, bytes) else value
      for name, value in example.items()
    }


def read(
  corpus: str, split: str, text_column: str = 'text'
) -> Iterator[Document]:
  """The documents of all files of a corpus that belong to a split."""
  if split not in SPLITS:
    raise ValueError(f'there is no split {split!r}; use one of {SPLITS}')
  for path in files(corpus):
    for document in read_file(path, text_column):
      if split_of(document) == split:
        yield document


def fingerprint(corpus: str) -> str:
  """sha256 over the names and contents of a corpus' files.

  What lies at a URL counts by its URL, and is taken for immutable.
  """
  lines = [
    f'{storage.name(path)} {storage.fingerprint(path)}\n'
    for path in files(corpus)
  ]
  return hashlib.sha256(''.join(lines).encode()).hexdigest()
