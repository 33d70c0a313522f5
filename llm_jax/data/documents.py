"""Documents in Parquet, one row each with at least FineWeb's `text` and `url`.

Decides which documents are held out from training. Does not clean or encode.
"""

import hashlib
import os
import pathlib
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import pyarrow
import pyarrow.parquet

from llm_jax import record

SPLITS = ('train', 'valid')
_HELD_OUT_SHARE = 20  # one document in so many is never trained on
_COLUMNS = ('text', 'url')


class Document(NamedTuple):
  """A page: its text and where it is from."""

  text: str
  url: str


def split_of(url: str) -> str:
  """'valid' for held-out documents, else 'train'; for ever the same."""
  held_out = zlib.crc32(url.encode()) % _HELD_OUT_SHARE == 0
  return 'valid' if held_out else 'train'


def files(directory: str | os.PathLike[str]) -> list[pathlib.Path]:
  """The Parquet files of a folder, sorted by name.

  Raises:
    ValueError: if there is none.
  """
  paths = sorted(pathlib.Path(directory).glob('*.parquet'))
  if not paths:
    raise ValueError(
      f'{directory} holds no .parquet file; give the folder that '
      f'experiments.clean wrote, or one of Parquet files with columns text and '
      f'url'
    )
  return paths


def read_file(path: str | os.PathLike[str], split: str) -> Iterator[Document]:
  """The documents of one file that belong to a split, in their order.

  Raises:
    ValueError: if the file is damaged, or a column or a value is missing.
  """
  if split not in SPLITS:
    raise ValueError(f'there is no split {split!r}; use one of {SPLITS}')
  try:
    with pyarrow.parquet.ParquetFile(path) as file:
      missing = [name for name in _COLUMNS if name not in file.schema.names]
      if missing:
        raise ValueError(
          f'{path} has no column {missing[0]!r}, only {file.schema.names}; '
          f'rename the column that holds it'
        )
      for batch in file.iter_batches(batch_size=1024, columns=list(_COLUMNS)):
        for row in batch.to_pylist():
          if row['text'] is None or row['url'] is None:
            raise ValueError(
              f'{path} holds a document without text or url: {row}; remove it'
            )
          if split_of(row['url']) == split:
            yield Document(row['text'], row['url'])
  except pyarrow.ArrowException as error:
    raise ValueError(
      f'{path} is not a whole Parquet file ({error}); clean again, or restore '
      f'the file'
    ) from error


def read(directory: str | os.PathLike[str], split: str) -> Iterator[Document]:
  """The documents of all files of a folder that belong to a split."""
  for path in files(directory):
    yield from read_file(path, split)


def fingerprint(directory: str | os.PathLike[str]) -> str:
  """sha256 over the names and contents of a folder's Parquet files."""
  lines = [
    f'{path.name} {record.file_sha256(path)}\n' for path in files(directory)
  ]
  return hashlib.sha256(''.join(lines).encode()).hexdigest()
