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

  @property
  def token_count(self) -> int:
    """A quarter of the text's bytes."""
    return max(1, round(len(self.text.encode()) / funnel.BYTES_PER_TOKEN))


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
  pa.set_memory_pool(pa.system_memory_pool())  # see parquet.opened
  rows: list[Document] = []
  with (
    files.replacing(path) as file,
    pq.ParquetWriter(file, SCHEMA, compression='zstd') as writer,
  ):

    def flush():
      columns = {n: [getattr(row, n) for row in rows] for n in SCHEMA.names}
      table = pa.table(columns, schema=SCHEMA)
      writer.write_table(table, row_group_size=row_group)
      rows.clear()

    def take(document: Document):
      rows.append(document)
      if len(rows) == row_group:
        flush()

    yield take
    flush()


def read(path: files.Path) -> Iterator[Document]:
  """The documents of a file in order, a few in memory at a time.

  Raises:
    ValueError: the file is no Parquet file.
  """
  with parquet.opened(path) as file:
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
  texts, start = [], 0
  with parquet.opened(path) as file:
    for i in range(file.num_row_groups):
      end = start + file.metadata.row_group(i).num_rows
      inside = [row - start for row in rows if start <= row < end]
      if inside:
        table = file.read_row_group(i, columns=['text'], use_threads=False)
        texts += table['text'].take(inside).to_pylist()
      start = end
  return texts
