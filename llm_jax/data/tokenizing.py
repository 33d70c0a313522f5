"""Files of documents to shards of tokens, each on its own, in any process.

The work that experiments.tokenize shares out. Does not write the manifest,
which makes shards readable.
"""

import dataclasses
import functools
import pathlib
from typing import Any

from llm_jax import files
from llm_jax.data import readers, shards
from llm_jax.tokenizer import loading

load_tokenizer = functools.cache(loading.load)  # once in each process


@dataclasses.dataclass(frozen=True)
class Job:
  """What all files are encoded with.

  Attributes:
    tokenizer: folder of the tokenizer.
    sequence_length: targets in a row.
    form: how the files are read.
  """

  tokenizer: str
  sequence_length: int
  form: readers.Form


def entry_path(folder: pathlib.Path, split: str, index: int) -> pathlib.Path:
  """The manifest entry of a shard; it appears after its shard."""
  return folder / f'{split}-{index:05d}.json'


def shard_writer(job: Job, entry: pathlib.Path) -> shards.ShardWriter:
  """The writer of the shard that belongs to an entry."""
  return shards.ShardWriter(entry.with_suffix('.array_record'), layout(job))


def layout(job: Job) -> shards.Layout:
  """How the tokens of a job's tokenizer lie in records."""
  encoder = load_tokenizer(job.tokenizer)
  return shards.Layout(
    job.sequence_length,
    end_of_text_id=encoder.separator_id,
    vocab_size=encoder.vocab_size,
  )


def write_shards(
  job: Job, part: readers.Part, folder: pathlib.Path, index: int
) -> None:
  """Encode files into a shard of each split, unless that is done.

  Args:
    job: what to encode with.
    part: the files, read once.
    folder: of the shards and their entries.
    index: number of the part, which names its shards.
  """
  entries = {s: entry_path(folder, s, index) for s in readers.SPLITS}
  if all(entry.exists() for entry in entries.values()):
    return
  encoder = load_tokenizer(job.tokenizer)
  writers = {split: shard_writer(job, entries[split]) for split in entries}
  for split, page in readers.read_part(part, job.form):
    ids = encoder.encode(page.text)
    writers[split].add(ids, len(page.text.encode()))
  for split, writer in writers.items():
    files.write_json(entries[split], writer.close())


def read_entries(
  folder: pathlib.Path, n_parts: int
) -> dict[str, list[dict[str, Any]]]:
  """The entries of a source's shards by split, in the order of its parts."""
  return {
    split: [
      files.read_json(entry_path(folder, split, index))
      for index in range(n_parts)
    ]
    for split in readers.SPLITS
  }
