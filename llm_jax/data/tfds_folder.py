"""Folders of TFDS data sets in ArrayRecord, read without TensorFlow.

Any builder's, whoever wrote it, as long as the files are ArrayRecord. Knows
nothing of what the examples mean, and does not download or build.
"""

import re
from collections.abc import Sequence
from typing import Any

from llm_jax import files

INFO_FILE = 'dataset_info.json'
_SHARD = re.compile(r'.*-train\.array_record-(\d+)-of-\d+')


def shards(folder: files.Path) -> list[files.Path]:
  """The files of the split `train`, in their order.

  Raises:
    ValueError: if there are none, or the folder is not on this machine.
  """
  found = sorted(p for p in folder.iterdir() if _SHARD.fullmatch(p.name))
  if not found or not files.is_local(folder):
    raise ValueError(
      f'{folder} holds no ArrayRecord file of a split train on this machine; '
      f"copy the folder here, or build it with file_format='array_record'"
    )
  return found


def read(shard: files.Path) -> Sequence[dict[str, Any]]:
  """The examples of one file of `shards`; text is bytes, as TFDS has it."""
  # Here, because it takes a second that readers of Parquet need not wait.
  import tensorflow_datasets as tfds

  match = _SHARD.fullmatch(shard.name)
  assert match, shard
  index = int(match[1])
  builder = tfds.builder_from_directory(str(shard.parent))
  split = f'train[{index}shard:{index + 1}shard]'
  return builder.as_data_source(split)  # pyright: ignore
