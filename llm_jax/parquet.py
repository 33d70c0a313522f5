"""Parquet files of documents, here or at a URL, read in pieces."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow
import pyarrow.parquet

from llm_jax import files

_BATCH_ROWS = 256  # decoded at a time
_BUFFER_BYTES = 1 << 20  # read at a time; without it, all of a row group


@contextlib.contextmanager
def opened(path: files.Path) -> Iterator[pyarrow.parquet.ParquetFile]:
  """An open file, of which only what is used is read.

  Raises:
    ValueError: if the file is damaged, at whatever place it is read.
    OSError: if the file system fails.
  """
  # Where Python takes it: Arrow's own pool keeps 50 MB a worker.
  pyarrow.set_memory_pool(pyarrow.system_memory_pool())
  try:
    with (
      path.open('rb') as raw,
      # What is buffered before it is read would stay until the file's end.
      pyarrow.parquet.ParquetFile(
        raw, buffer_size=_BUFFER_BYTES, pre_buffer=False
      ) as file,
    ):
      yield file
  except (pyarrow.ArrowInvalid, UnicodeDecodeError) as error:
    raise ValueError(
      f'{files.show(path)} is not a whole Parquet file of documents ({error}); '
      'make it again, or restore the file'
    ) from error
  except (ValueError, OSError):
    raise
  except Exception as error:  # each file system of fsspec has its own
    raise OSError(
      f'{files.show(path)} could not be read ({error!r}); give the same '
      'command again, what was finished is kept'
    ) from error


def rows(
  file: pyarrow.parquet.ParquetFile, columns: Sequence[str]
) -> Iterator[dict[str, Any]]:
  """The rows of an open file in their order."""
  batches = file.iter_batches(
    _BATCH_ROWS, columns=list(columns), use_threads=False
  )
  for batch in batches:
    yield from batch.to_pylist()
