"""Conversations as a TFDS data set, built from JSONL and read at random.

A line is {"messages": [{"role": ..., "content": ...}, ...]}, OpenAI's form.
Needs neither TensorFlow nor the network, and keeps the order of the lines.
Checks the form of the messages, not who speaks after whom: rendering does that
(see llm_jax.chat). Does not pack (see packing.py).
"""

import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow_datasets as tfds

from llm_jax import record

_SOURCES_FILE = 'sources.json'


class Conversations(tfds.core.GeneratorBasedBuilder):
  """The data set; use `build` and `read`."""

  VERSION = tfds.core.Version('1.0.0')
  # Where TFDS would look for checksums of downloads. There are none, and the
  # search needs importlib_resources, which TFDS does not install.
  code_path = None

  def __init__(self, *, jsonl_paths: Sequence[str] = (), **kwargs: Any):
    self._jsonl_paths = [os.fspath(path) for path in jsonl_paths]
    super().__init__(file_format='array_record', **kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    message = {'role': tfds.features.Text(), 'content': tfds.features.Text()}
    return self.dataset_info_from_configs(
      description='Conversations in the message form of OpenAI.',
      features=tfds.features.FeaturesDict(
        {'messages': tfds.features.Sequence(message)}
      ),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    return {'train': self._generate_examples()}

  def _generate_examples(self):
    paths = [pathlib.Path(path) for path in self._jsonl_paths]
    yield from enumerate({'messages': m} for m in read_jsonl(paths))


def build(
  jsonl_paths: Sequence[str | os.PathLike[str]],
  directory: str | os.PathLike[str],
) -> None:
  """Make the data set in a folder; nothing is done where it is finished.

  Args:
    jsonl_paths: the files, in the order of the data set.
    directory: the data set's own folder. After a kill, build again.

  Raises:
    ValueError: if a line does not hold messages, or the folder holds the data
      set of other files.
  """
  directory = pathlib.Path(directory)
  paths = [pathlib.Path(path) for path in jsonl_paths]
  for path in paths:
    if not path.is_file():
      raise ValueError(f'{path} is missing; give a JSONL file of conversations')
  sources = [[path.name, record.file_sha256(path)] for path in paths]
  known_path = directory / _SOURCES_FILE
  known = record.read_json(known_path) if known_path.exists() else sources
  if known != sources:
    raise ValueError(
      f'{directory} holds the conversations of {known}, not of {sources}; '
      f'delete the folder, or build into another'
    )
  directory.mkdir(parents=True, exist_ok=True)
  for unfinished in directory.glob(f'{Conversations.name}/incomplete.*'):
    shutil.rmtree(unfinished)  # what a killed build leaves behind
  record.write_json(known_path, sources)
  builder = Conversations(
    data_dir=os.fspath(directory),
    jsonl_paths=[os.fspath(path) for path in paths],
  )
  tfds.disable_progress_bar()
  builder.download_and_prepare()


def read(directory: str | os.PathLike[str]) -> list[list[dict[str, str]]]:
  """All conversations of a data set that `build` made, in their order.

  Raises:
    ValueError: if the folder holds none.
  """
  builder = Conversations(data_dir=os.fspath(directory))
  if not builder.is_prepared():
    raise ValueError(
      f'{directory} holds no finished data set of conversations; build it'
    )
  # pyright loses the signature behind a decorator.
  examples = builder.as_data_source('train')  # pyright: ignore
  return [
    [
      {'role': role.decode(), 'content': content.decode()}
      for role, content in zip(
        example['messages']['role'], example['messages']['content'], strict=True
      )
    ]
    for example in examples
  ]


def read_jsonl(
  paths: Sequence[pathlib.Path],
) -> Iterator[list[dict[str, str]]]:
  """The conversations of JSONL files.

  Raises:
    ValueError: with the file and line that does not hold messages.
  """
  for path in paths:
    with open(path, encoding='utf-8') as file:
      for number, line in enumerate(file, start=1):
        try:
          messages = _parse(line)
        except ValueError as error:
          raise ValueError(f'line {number} of {path}: {error}') from error
        yield messages


def _parse(line: str) -> list[dict[str, str]]:
  try:
    value = json.loads(line)
  except json.JSONDecodeError as error:
    raise ValueError(f'{line[:40]!r} is not JSON ({error})') from error
  if not isinstance(value, dict) or set(value) != {'messages'}:
    keys = sorted(value) if isinstance(value, dict) else type(value).__name__
    raise ValueError(
      f'a line is an object with "messages" and nothing else, not {keys}'
    )
  messages = value['messages']
  if not isinstance(messages, list) or not messages:
    raise ValueError('"messages" is not a list of at least one message')
  for index, message in enumerate(messages):
    if (
      not isinstance(message, dict)
      or set(message) != {'role', 'content'}
      or not all(isinstance(text, str) for text in message.values())
    ):
      raise ValueError(
        f'message {index} is {message!r}; it must be an object of two strings, '
        f'"role" and "content"'
      )
  return messages
