"""Conversations as a TFDS data set, built from files and read at random.

A line of JSONL is {"messages": [{"role": ..., "content": ...}, ...]}, OpenAI's
form; an example of another TFDS data set has the same fields.
Needs neither TensorFlow nor the network, and keeps the order of the lines.
Checks the form of the messages, not who speaks after whom: rendering does that
(see llm_jax.chat). Does not pack (see packing.py).
"""

import os
import pathlib
import random
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds

from llm_jax import files
from llm_jax.data import tfds_folder

_SOURCES_FILE = 'sources.json'

Conversation = list[dict[str, str]]


class Conversations(tfds.core.GeneratorBasedBuilder):
  """The data set; use `build` and `read`."""

  VERSION = tfds.core.Version('1.0.0')
  # Where TFDS would look for checksums of downloads. There are none, and the
  # search needs importlib_resources, which TFDS does not install.
  code_path = None

  def __init__(self, *, paths: Sequence[str] = (), **kwargs: Any):
    self._paths = [os.fspath(path) for path in paths]
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
    paths = [pathlib.Path(path) for path in self._paths]
    yield from enumerate({'messages': m} for m in read_files(paths))


def join_turns(
  conversations: Sequence[Conversation], max_turns: int, draw: random.Random
) -> list[Conversation]:
  """Make neighbours the turns of one conversation, 1 to max_turns of them."""
  joined = []
  while conversations:
    n_turns = draw.randint(1, max_turns)
    joined.append([m for turn in conversations[:n_turns] for m in turn])
    conversations = conversations[n_turns:]
  return joined


def write(conversations: Iterable[Conversation], path: files.Name) -> None:
  """Write conversations as JSONL; after a crash the whole file or none."""
  files.write_jsonl(path, ({'messages': m} for m in conversations))


def build(sources: Sequence[files.Name], directory: files.Name) -> None:
  """Make the data set in a folder; nothing is done where it is finished.

  Args:
    sources: JSONL files and folders of TFDS data sets, whose split `train` is
      read, in the order of the data set.
    directory: the data set's own folder. After a kill, build again.

  Raises:
    ValueError: if a source does not hold messages, or the folder holds the
      data set of other sources.
  """
  directory = pathlib.Path(directory)
  paths = [pathlib.Path(path) for path in sources]
  names = [[path.name, fingerprint(path)] for path in paths]
  known_path = directory / _SOURCES_FILE
  known = files.read_json(known_path) if known_path.exists() else names
  if known != names:
    raise ValueError(
      f'{directory} holds the conversations of {known}, not of {names}; '
      f'delete the folder, or build into another'
    )
  directory.mkdir(parents=True, exist_ok=True)
  for unfinished in directory.glob(f'{Conversations.name}/incomplete.*'):
    shutil.rmtree(unfinished)  # what a killed build leaves behind
  files.write_json(known_path, names)
  builder = Conversations(
    data_dir=os.fspath(directory), paths=[os.fspath(path) for path in paths]
  )
  tfds.disable_progress_bar()
  builder.download_and_prepare()


def read(directory: files.Name) -> list[Conversation]:
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
  return [_messages(example) for example in examples]


def fingerprint(path: files.Name) -> str:
  """What tells the content of a source of conversations.

  Raises:
    ValueError: if it is not there.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    return files.folder_fingerprint(path)
  if path.is_file():
    return files.sha256(path)
  raise ValueError(
    f'{path} is missing; give a JSONL file of conversations, or the folder of '
    f'a TFDS data set'
  )


def read_files(paths: Sequence[pathlib.Path]) -> Iterator[Conversation]:
  """The conversations of JSONL files and of folders of TFDS data sets.

  Raises:
    ValueError: with the file and line that does not hold messages.
  """
  for path in paths:
    if path.is_dir():
      yield from _read_tfds(path)
    else:
      yield from files.read_jsonl(path, _read_row)


def _read_tfds(folder: pathlib.Path) -> Iterator[Conversation]:
  for shard in tfds_folder.shards(folder):
    for number, example in enumerate(tfds_folder.read(shard)):
      try:
        yield _messages(example)
      except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(
          f'example {number} of {shard} is no conversation: {example}; it '
          f'needs messages, a sequence of the texts role and content'
        ) from error


def _messages(example: Mapping[str, Any]) -> Conversation:
  messages = example['messages']
  return [
    {'role': role.decode(), 'content': content.decode()}
    for role, content in zip(messages['role'], messages['content'], strict=True)
  ]


def _read_row(row: Mapping[str, Any]) -> Conversation:
  if set(row) != {'messages'}:
    raise ValueError(
      f'a line is an object with "messages" and nothing else, not {sorted(row)}'
    )
  messages = row['messages']
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
