"""The chain on Apache Beam: the pipeline's own functions on many machines.

Elements are numbers of shards and ids of documents; documents and their keys
stay in files at the output, which every worker must reach, such as gs:// or
s3://. The result is byte for byte what `pipeline.clean` writes. It does NOT set
up a cluster, and does not upload this library: the options of the runner do
(--setup_file, --environment_config).
"""

import gc
from collections.abc import Callable, Sequence

from llm_jax.web import pipeline


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
    done = root | beam.Create([None])
    for tasks_of, function in pipeline.STEPS:
      name = function.__name__
      done = (
        done
        # One number, when all is done.
        | f'before {name}' >> beam.combiners.Count.Globally()
        | f'tasks of {name}' >> beam.FlatMap(lambda _, get: get(todo), tasks_of)
        | f'spread {name}' >> beam.Reshuffle()
        | name >> beam.Map(_call, function, todo)
      )
  return pipeline.summarize(todo)


def _call(task: tuple, function: Callable[..., None], todo: pipeline.Plan):
  # The collector shall not walk Beam's modules again: it does so when a worker
  # ends, in 0.7 s, and one worker waits for the other.
  gc.freeze()
  function(todo, *task)
