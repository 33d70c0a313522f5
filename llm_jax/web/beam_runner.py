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

_Pair = tuple[int, int, int]


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
  from apache_beam.options import pipeline_options

  with beam.Pipeline(
    options=pipeline_options.PipelineOptions(list(options))
  ) as root:
    numbers = [shard.number for shard in todo.shards]
    filtered = (
      root
      | 'shards' >> beam.Create(numbers)
      | 'spread' >> beam.Reshuffle()
      | 'filter' >> beam.Map(_filter, todo)
    )
    earlier = root | 'earlier runs' >> beam.Create(range(len(todo.earlier)))
    own = filtered | 'own' >> beam.Map(
      lambda n, first: first + n, len(todo.earlier)
    )
    verified = (
      (earlier, own)
      | 'parts' >> beam.Flatten()
      | 'keys' >> beam.FlatMap(_keys, todo)
      | 'by key' >> beam.GroupByKey()
      | 'pairs' >> beam.FlatMap(_pairs, todo)
      | 'by shard' >> beam.GroupByKey()
      | 'verify' >> beam.FlatMap(_verify, todo)
    )
    gone = (
      verified
      | 'all' >> beam.GroupByKey()
      | 'copies' >> beam.FlatMap(_copies, todo)
    )
    marks = filtered | 'mark' >> beam.Map(lambda number: (number, ()))
    _ = (
      (gone, marks)
      | 'with copies' >> beam.Flatten()
      | 'by number' >> beam.GroupByKey()
      | 'write' >> beam.Map(_write, todo)
    )
  return pipeline.summarize(todo)


def _filter(number: int, todo: pipeline.Plan) -> int:
  # The collector shall not walk Beam's modules again: it does so when a worker
  # ends, in 0.7 s, and one worker waits for the other.
  gc.freeze()
  pipeline.filter_shard(todo, number)
  return number


def _keys(number: int, todo: pipeline.Plan) -> Iterator[tuple[bytes, int]]:
  """(which key and its value, document) for each key of each document."""
  part = todo.parts[number]
  first = deduplication.document_id(number, 0)
  for i, row in enumerate(files.read_array(part.keys)):
    values = row.tobytes()
    for place in range(len(row)):
      value = values[8 * place : 8 * place + 8]
      yield i.to_bytes(2, 'big') + value, first + place


def _pairs(
  group: tuple[bytes, Iterable[int]], todo: pipeline.Plan
) -> Iterator[tuple[int, _Pair]]:
  """(shard, (later, earlier, band)) of the documents that share a key."""
  ids = np.fromiter(group[1], 'u8')
  if len(ids) > 1:
    place = int.from_bytes(group[0][:2], 'big')
    pairs = deduplication.pairs(np.zeros_like(ids), ids, place)
    numbers, _ = deduplication.file_and_row(pairs[0])
    for number, *pair in zip(numbers.tolist(), *pairs.tolist(), strict=True):
      if number >= len(todo.earlier):
        yield number, tuple(pair)


def _verify(
  group: tuple[int, Iterable[_Pair]], todo: pipeline.Plan
) -> Iterator[tuple[None, tuple[int, ...]]]:
  pairs = deduplication.unique_pairs(np.array(list(group[1]), 'u8').T)
  for verified in pipeline.verify(todo, pairs).T.tolist():
    yield None, tuple(verified)


def _copies(
  group: tuple[None, Iterable[tuple[int, ...]]], todo: pipeline.Plan
) -> Iterable[tuple[int, list[tuple[int, str]]]]:
  verified = np.array(sorted(group[1]), 'u8').T
  return pipeline.copies(todo, [verified]).items()


def _write(group: tuple[int, Iterable[tuple]], todo: pipeline.Plan):
  number, gone = group
  pipeline.write_shard(todo, number, [row for rows in gone for row in rows])
