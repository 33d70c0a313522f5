"""Documents as Parquet files with FineWeb's columns.

FineWeb's own files can stand in their place. `token_count` is an estimate here,
as no vocabulary exists yet: a quarter of its bytes, at least 1.
It does NOT decide what is held out.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from llm_jax import files, parquet
from llm_jax.web import funnel


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


_NAMES = [field.name for field in dataclasses.fields(Document)]
_TYPES = dict.fromkeys(_NAMES, pa.string()) | {
  'language_score': pa.float64(),
  'token_count': pa.int64(),
}
SCHEMA = pa.schema(
  [pa.field(name, kind, nullable=False) for name, kind in _TYPES.items()]
)


@contextlib.contextmanager
def writing(
  path: files.Path, row_group: int = 1000
) -> Iterator[Callable[[Document], None]]:
  """A file of documents; the same documents give the same bytes.

  Args:
    path: the file, which is there whole or not at all.
    row_group: documents that are held in memory, and read back at a time.

  Yields:
    What takes each document.

  Raises:
    OSError: the disk is full.
  """
  _share_memory()
  rows: list[Document] = []
  with (
    files.replacing(path) as file,
    pq.ParquetWriter(file, SCHEMA, compression='zstd') as writer,
  ):

    def flush():
      writer.write_table(_table(rows), row_group_size=row_group)
      rows.clear()

    def take(document: Document):
      rows.append(document)
      if len(rows) == row_group:
        flush()

    yield take
    flush()


def _share_memory():
  """Arrow takes memory where Python does: its own pool keeps 50 MB a worker."""
  pa.set_memory_pool(pa.system_memory_pool())


def _table(rows: Sequence[Document]) -> pa.Table:
  columns = {name: [getattr(row, name) for row in rows] for name in _NAMES}
  columns['token_count'] = [estimate_tokens(row.text) for row in rows]
  return pa.table(columns, schema=SCHEMA)


def read(path: files.Path) -> Iterator[Document]:
  """The documents of a file in order, a few in memory at a time.

  Raises:
    ValueError: the file is no Parquet file or lacks a column.
  """
  with _opened(path) as file:
    missing = set(_NAMES) - set(file.schema_arrow.names)
    if missing:
      raise ValueError(
        f'{path} lacks the columns {sorted(missing)}; it has '
        f"{file.schema_arrow.names}, and FineWeb's names are needed"
      )
    for row in parquet.rows(file, _NAMES):
      yield Document(**row)


def read_texts(path: files.Path, rows: Sequence[int]) -> list[str]:
  """Texts of some documents; reads no row group that holds none of them.

  Args:
    path: the file.
    rows: ascending numbers of documents.

  Returns:
    Their texts in that order.
  """
  texts, start, wanted = [], 0, list(rows)
  with _opened(path) as file:
    for i in range(file.num_row_groups):
      end = start + file.metadata.row_group(i).num_rows
      inside = [row - start for row in wanted if start <= row < end]
      if inside:
        table = file.read_row_group(i, columns=['text'], use_threads=False)
        column = table['text']
        texts += column.take(inside).to_pylist()
      start = end
  return texts


@contextlib.contextmanager
def _opened(path: files.Path) -> Iterator[pq.ParquetFile]:
  _share_memory()
  with parquet.opened(path) as file:
    yield file


def count(path: files.Path) -> dict[str, int]:
  """Documents and estimated tokens of a file."""
  with _opened(path) as file:
    tokens = file.read(columns=['token_count'])['token_count']
  return {'documents': len(tokens), 'tokens': sum(tokens.to_pylist())}


def estimate_tokens(text: str) -> int:
  """Tokens of a text, for want of a vocabulary; at least 1."""
  return max(1, round(len(text.encode()) / funnel.BYTES_PER_TOKEN))
