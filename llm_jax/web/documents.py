"""Documents as Parquet files with FineWeb's columns.

FineWeb's own files can stand in their place. `token_count` is an estimate here,
as no vocabulary exists yet: bytes of UTF-8 over BYTES_PER_TOKEN, at least 1.
It does NOT decide what is held out.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

import pyarrow as pa
from pyarrow import parquet

from llm_jax.web import disk

# English web text has 4.0 to 4.6 bytes for each of GPT-2's tokens.
BYTES_PER_TOKEN = 4

SCHEMA = pa.schema(
  [
    pa.field('text', pa.string(), nullable=False),
    pa.field('id', pa.string(), nullable=False),
    pa.field('dump', pa.string(), nullable=False),
    pa.field('url', pa.string(), nullable=False),
    pa.field('date', pa.string(), nullable=False),
    pa.field('file_path', pa.string(), nullable=False),
    pa.field('language', pa.string(), nullable=False),
    pa.field('language_score', pa.float64(), nullable=False),
    pa.field('token_count', pa.int64(), nullable=False),
  ]
)


@dataclasses.dataclass(frozen=True)
class Document:
  """One row.

  Attributes:
    text: the text.
    id: WARC-Record-ID.
    dump: name of the crawl.
    url: address of the page.
    date: when it was fetched, ISO 8601.
    file_path: name of the WARC file.
    language: ISO 639 code.
    language_score: probability of that language.
  """

  text: str
  id: str
  dump: str
  url: str
  date: str
  file_path: str
  language: str
  language_score: float


def write(path: pathlib.Path, rows: Sequence[Document]):
  """Writes documents; the same documents give the same bytes.

  Args:
    path: the file, which is there whole or not at all.
    rows: the documents in order, possibly none.

  Raises:
    OSError: the disk is full.
  """
  columns = {
    name: [getattr(row, name) for row in rows]
    for name in SCHEMA.names
    if name != 'token_count'
  }
  columns['token_count'] = [_estimate_tokens(row.text) for row in rows]
  table = pa.table(columns, schema=SCHEMA)
  with disk.replacing(path) as file:
    parquet.write_table(table, file, compression='zstd', row_group_size=1000)


def read(path: pathlib.Path) -> Iterator[Document]:
  """The documents of a file in order.

  Raises:
    ValueError: the file is no Parquet file or lacks a column.
  """
  names = [field.name for field in dataclasses.fields(Document)]
  try:
    table = parquet.read_table(path, columns=names)
  except pa.ArrowInvalid as error:
    raise ValueError(
      f'{path} is not a Parquet file of documents ({error}); make it again '
      'with experiments.clean'
    ) from error
  missing = set(names) - set(table.column_names)
  if missing:
    raise ValueError(
      f'{path} lacks the columns {sorted(missing)}; it has '
      f"{table.column_names}, and FineWeb's names are needed"
    )
  for batch in table.to_batches(max_chunksize=1000):
    for row in batch.to_pylist():
      yield Document(**row)


def count(path: pathlib.Path) -> dict[str, int]:
  """Documents and estimated tokens of a file."""
  tokens = parquet.read_table(path, columns=['token_count'])['token_count']
  return {'documents': len(tokens), 'tokens': sum(tokens.to_pylist())}


def _estimate_tokens(text: str) -> int:
  return max(1, round(len(text.encode()) / BYTES_PER_TOKEN))
