"""Conversations: rows of their files, and the data set that training reads.

The data set is TFDS's in ArrayRecord, which needs neither TensorFlow nor the
network, and keeps the order. Does not know the forms of rows (see
chat/forms.py), and does not pack (see packing.py).
"""

import contextlib
import io
import json
import os
import pathlib
import random
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow_datasets as tfds

from llm_jax import files, parquet
from llm_jax.data import readers, tfds_folder

Conversation = list[dict[str, Any]]
Row = tuple[int, dict[str, Any] | str]  # with its number; or why there is none


class Item(NamedTuple):
  """A conversation, its source's name, and where it was read: `line 3 of x`."""

  source: str
  place: str
  messages: Conversation


MakeFn = Callable[[], Iterable[Item]]


class Conversations(tfds.core.GeneratorBasedBuilder):
  """The data set; use `build` and `read`."""

  VERSION = tfds.core.Version('2.0.0')
  # Where TFDS would look for checksums of downloads. There are none, and the
  # search needs importlib_resources, which TFDS does not install.
  code_path = None

  def __init__(self, *, make: MakeFn | None = None, **kwargs: Any):
    self._make = make
    super().__init__(file_format='array_record', **kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    text = tfds.features.Text()
    messages = tfds.features.Sequence(
      dict.fromkeys(('role', 'content', 'more'), text)
    )
    features = {'messages': messages, 'source': text, 'place': text}
    return self.dataset_info_from_configs(
      description='Conversations in the message form of OpenAI.',
      features=tfds.features.FeaturesDict(features),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    return {'train': self._generate_examples()}

  def _generate_examples(self):
    assert self._make is not None
    for index, item in enumerate(self._make()):
      messages = []
      for message in map(dict, item.messages):
        said = {key: message.pop(key) for key in ('role', 'content')}
        messages.append({**said, 'more': json.dumps(message)})
      yield index, {**item._asdict(), 'messages': messages}


def join_turns(
  conversations: Sequence[Item], max_turns: int, draw: random.Random
) -> list[Item]:
  """Make neighbours the turns of one conversation, 1 to max_turns of them."""
  joined = []
  while conversations:
    n_turns = draw.randint(1, max_turns)
    turns, conversations = conversations[:n_turns], conversations[n_turns:]
    source = '+'.join(sorted({turn.source for turn in turns}))
    messages = [message for turn in turns for message in turn.messages]
    joined.append(Item(source, f'conversation {len(joined)}', messages))
  return joined


def build(make: MakeFn, directory: files.Name) -> None:
  """Make the data set in a folder; nothing is done where it is finished.

  Args:
    make: gives the conversations in their order; at least one.
    directory: the data set's own folder. After a kill, build again.

  Raises:
    ValueError: as `make` does.
  """
  directory = pathlib.Path(directory)
  for unfinished in directory.glob(f'{Conversations.name}/incomplete.*'):
    shutil.rmtree(unfinished)  # what a killed build leaves behind
  builder = Conversations(data_dir=os.fspath(directory), make=make)
  tfds.disable_progress_bar()
  with contextlib.redirect_stdout(io.StringIO()):  # it speaks of a download
    builder.download_and_prepare()


def read(directory: files.Name) -> list[Item]:
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
  return [Item(**_plain(example)) for example in examples]


def find(source: str) -> list[files.Path]:
  """The files of a source: JSON lines, Parquet, or a TFDS data set.

  Raises:
    FileNotFoundError, ValueError, OSError: see readers.find.
  """
  return readers.find(source, 'conversations', kinds=('jsonl', 'parquet'))


def rows(path: files.Path) -> Iterator[Row]:
  """The rows of a file, numbered from 1; of JSON by its lines.

  A JSON array is a file too: its objects are numbered.

  Raises:
    ValueError: if the file is damaged or not UTF-8.
    OSError: if the file system fails.
  """
  if '.array_record' in path.name:
    for number, example in enumerate(tfds_folder.read(path), start=1):
      yield number, _plain(example)
  elif path.suffix.lower() == '.parquet':
    with parquet.opened(path) as file:
      names = file.schema_arrow.names
      yield from enumerate(parquet.rows(file, names), start=1)
  else:
    with files.reaching(files.show(path)), files.opened(path) as lines:
      yield from _json_rows(path, lines)


def _json_rows(path: files.Path, lines: Iterable[bytes]) -> Iterator[Row]:
  for number, line in enumerate(lines, start=1):
    try:
      files.decode(line, first_line=number)
    except ValueError as error:
      raise ValueError(f'{files.show(path)}, {error}') from None
    if number == 1 and line.lstrip(b'\xef\xbb\xbf \t\r\n').startswith(b'['):
      yield from _array_rows(path, b''.join([line, *lines]))
      return
    if line.strip():
      try:
        yield number, files.json_object(line, is_first=number == 1)
      except ValueError:
        yield number, 'not a JSON object'


def _array_rows(path: files.Path, data: bytes) -> Iterator[Row]:
  try:
    values = json.loads(data.decode('utf-8-sig'))
  except (ValueError, RecursionError) as error:
    raise ValueError(
      f'{files.show(path)} begins as a JSON array, but is none ({error}); '
      'restore the file, or give one object a line'
    ) from None
  for number, value in enumerate(values, start=1):
    is_object = isinstance(value, dict)
    yield number, value if is_object else 'not a JSON object'


def _plain(value: Any) -> Any:
  """What TFDS gives, as JSON would hold it."""
  if isinstance(value, Mapping):
    if not {'role', 'content'} <= value.keys():
      return {key: _plain(v) for key, v in value.items()}
    # A sequence of messages.
    more = value.get('more', [b'{}'] * len(value['role']))
    parts = zip(value['role'], value['content'], more, strict=True)
    return [
      {'role': role.decode(), 'content': text.decode(), **json.loads(rest)}
      for role, text, rest in parts
    ]
  if isinstance(value, bytes):
    return value.decode()
  return value.tolist() if hasattr(value, 'tolist') else value
