"""The chain on Apache Beam: the pipeline's own functions on many machines.

Elements are numbers of shards, keys and document ids; documents stay in files
at the output, which every worker must reach, such as gs:// or s3://. The
result is byte for byte what `pipeline.clean` writes. It does NOT set up a
cluster, and does not upload this library: the options of the runner do
(--setup_file, --environment_config).
"""

import gc
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from llm_jax import files
from llm_jax.web import pipeline
from llm_jax.web.dedup import deduplication


def clean(todo: pipeline.Plan, options: Sequence[str]) -> dict:
  """Runs the chain on Beam.

  Args:
    todo: as `pipeline.plan` made it.
    options: command line of Beam's runner, such as `--runner=FlinkRunner`.

  Returns:
    As `pipeline.summarize`.

  Raises:
    ImportError: Beam is not installed.
    RuntimeError: a worker failed, with its traceback.
  """
  # Here, because it is an extra, and takes two seconds to load.
  import apache_beam as beam

  with beam.Pipeline(argv=list(options)) as root:
    _ = (
      root
      | 'parts' >> beam.Create(range(len(todo.parts)))
      | 'spread' >> beam.Reshuffle()
      | 'filter' >> beam.Map(_filter, todo)
      | 'keys' >> beam.FlatMap(_keys, todo)
      | 'by key' >> beam.GroupByKey()
      | 'pairs' >> beam.FlatMap(_pairs, todo)
      | 'by shard' >> beam.GroupByKey()
      | 'verify' >> beam.Map(_verify, todo)
      | 'all' >> beam.combiners.ToList()
      | 'copies' >> beam.FlatMap(lambda all_: pipeline.copies(todo, all_))
      | 'spread again' >> beam.Reshuffle()
      | 'write' >> beam.Map(lambda task: pipeline.write_shard(todo, *task))
    )
  return pipeline.summarize(todo)


def _filter(number: int, todo: pipeline.Plan) -> int:
  """Filters a part of this run; those of earlier ones are there."""
  # The collector shall not walk Beam's modules again: it does so when a worker
  # ends, in 0.7 s, and one worker waits for the other.
  gc.freeze()
  if number >= len(todo.earlier):
    pipeline.filter_shard(todo, number - len(todo.earlier))
  return number


def _keys(number: int, todo: pipeline.Plan) -> Iterator[tuple[bytes, int]]:
  """(which key and its value, document) for each key of each document."""
  first = deduplication.document_id(number, 0)
  for i, row in enumerate(files.read_array(todo.parts[number].keys)):
    for place, value in enumerate(row):
      yield i.to_bytes(2, 'big') + value.tobytes(), first + place


def _pairs(
  group: tuple[bytes, Iterable[int]], todo: pipeline.Plan
) -> Iterator[tuple[int, tuple[int, ...]]]:
  """(part, (later, earlier, band)) of the documents that share a key."""
  ids = np.fromiter(group[1], 'u8')
  place = int.from_bytes(group[0][:2], 'big')
  if len(ids) > 1:
    pairs = deduplication.pairs(np.zeros_like(ids), ids, place)
    for pair in pairs[:, pairs[0] >= todo.first_id].T.tolist():
      yield deduplication.file_and_row(pair[0])[0], tuple(pair)


def _verify(
  group: tuple[int, Iterable[tuple[int, ...]]], todo: pipeline.Plan
) -> np.ndarray:
  pairs = deduplication.unique_pairs(np.array(list(group[1]), 'u8').T)
  return pipeline.verify(todo, pairs)
