"""Token shards on disk: written once, checked, and read at random.

A shard is the stream `<|endoftext|> document <|endoftext|> document ...
<|endoftext|>`, cut every `sequence_length` tokens into ArrayRecord records
that overlap by one token, so that each token but the first is the target of
exactly one row. The last row is filled up with `<|endoftext|>`; how many
tokens of it are real is in the manifest.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from array_record.python import array_record_module  # pyright: ignore

from llm_jax import files

MANIFEST = 'manifest.json'
# One record a group, for random access. Compression saves a quarter of the
# size at best, and makes reading a row slower by two thirds.
_WRITER_OPTIONS = 'group_size:1,uncompressed'
_COUNTS = ('records', 'tokens', 'documents', 'bytes')


@dataclasses.dataclass(frozen=True)
class Layout:
  """How tokens lie in records.

  Attributes:
    sequence_length: targets in a row; a record holds one token more.
    end_of_text_id: the separator; no document may hold it.
    vocab_size: ids lie below it.
  """

  sequence_length: int
  end_of_text_id: int
  vocab_size: int

  @property
  def dtype(self) -> str:
    """The narrowest little-endian integer that holds every id.

    >>> Layout(256, 0, 65536).dtype, Layout(256, 0, 100277).dtype
    ('<u2', '<u4')
    """
    return '<u2' if self.vocab_size <= 1 << 16 else '<u4'


class ShardWriter:
  """Writes one shard; it appears under its name only when it is complete."""

  def __init__(self, path: files.Name, layout: Layout):
    """Open no file yet: a shard without documents is none.

    Args:
      path: of the shard, with a folder that exists.
      layout: of its records.
    """
    self._path = pathlib.Path(path)
    self._unfinished = files.unfinished(self._path)
    self._layout = layout
    self._pending = np.array([layout.end_of_text_id], layout.dtype)
    self._writer = None
    self._counts = dict.fromkeys(_COUNTS, 0)

  def add(self, ids: Sequence[int] | np.ndarray, n_bytes: int) -> None:
    """Append a document.

    Args:
      ids: its tokens.
      n_bytes: length of its text in UTF-8 bytes.

    Raises:
      ValueError: if it holds an id outside the vocabulary or the separator
        itself.
    """
    tokens = np.asarray(ids, np.int64)
    length, end = self._layout.sequence_length, self._layout.end_of_text_id
    vocab_size = self._layout.vocab_size
    wrong = (tokens < 0) | (tokens >= vocab_size) | (tokens == end)
    if wrong.any():
      raise ValueError(
        f'document {self._counts["documents"]} of the shard holds token '
        f'{tokens[wrong][0]}, the separator {end} or outside the vocabulary of '
        f'{vocab_size}; encode it with the tokenizer of the others'
      )
    if self._writer is None:
      self._writer = array_record_module.ArrayRecordWriter(
        str(self._unfinished), _WRITER_OPTIONS
      )
    pending = np.concatenate([self._pending, tokens, [end]])
    pending = pending.astype(self._pending.dtype)
    n_rows = (len(pending) - 1) // length
    for start in range(0, n_rows * length, length):
      self._writer.write(pending[start : start + length + 1].tobytes())
    self._pending = pending[n_rows * length :]
    self._counts['records'] += n_rows
    self._counts['tokens'] += len(tokens) + 1
    self._counts['documents'] += 1
    self._counts['bytes'] += n_bytes

  def close(self) -> dict[str, Any]:
    """Fill the last row up, and give the shard its name.

    Returns:
      The shard's entry in the manifest: `file`, `sha256`, `records`, `tokens`
      (targets that are not padding: every document's tokens and its ending
      separator), `documents`, and `bytes` (of the documents' text).
    """
    if self._writer is None:
      return {'file': self._path.name, 'sha256': '', **self._counts}
    if len(self._pending) > 1:
      missing = self._layout.sequence_length + 1 - len(self._pending)
      end = self._layout.end_of_text_id
      last = np.pad(self._pending, (0, missing), constant_values=end)
      self._writer.write(last.tobytes())
      self._counts['records'] += 1
    self._writer.close()
    sha256 = files.sha256(self._unfinished)
    files.put_in_place(self._unfinished, self._path)
    return {'file': self._path.name, 'sha256': sha256, **self._counts}


def write_manifest(
  directory: files.Name,
  shards: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]],
  tokenizer_fingerprint: str,
  layout: Layout,
) -> dict[str, Any]:
  """Describe finished shards in manifest.json, which makes them readable.

  Args:
    directory: holds a folder of shards for each source.
    shards: entries of `ShardWriter.close`, by source and split; empty ones
      (with no records) are left out.
    tokenizer_fingerprint: of the tokenizer that encoded them.
    layout: of the records of all shards.

  Returns:
    The manifest: what was given, and the sum of the counts of each split.
  """
  sources: dict[str, dict[str, Any]] = {}
  for source, splits in shards.items():
    sources[source] = {}
    for split, entries in splits.items():
      kept = [dict(entry) for entry in entries if entry['records']]
      totals = {name: sum(entry[name] for entry in kept) for name in _COUNTS}
      sources[source][split] = {'shards': kept, **totals}
  manifest = {
    'tokenizer_fingerprint': tokenizer_fingerprint,
    'vocab_size': layout.vocab_size,
    'end_of_text_id': layout.end_of_text_id,
    'dtype': layout.dtype,
    'sequence_length': layout.sequence_length,
    'sources': sources,
  }
  files.write_json(pathlib.Path(directory) / MANIFEST, manifest)
  return manifest


def read_manifest(directory: files.Name) -> dict[str, Any]:
  """The manifest of a folder of token shards.

  Raises:
    ValueError: if there is none, which is so until tokenizing has finished.
  """
  path = pathlib.Path(directory) / MANIFEST
  if not path.is_file():
    raise ValueError(
      f'{path} is missing; run experiments.tokenize with --workdir {directory}'
    )
  return files.read_json(path)


def names(directories: Sequence[files.Name], split: str) -> list[str]:
  """The sources that have rows of a split, in the order of the folders.

  Raises:
    ValueError: if there is none.
  """
  found = [
    source
    for directory in directories
    for source, splits in read_manifest(directory)['sources'].items()
    if splits.get(split, {}).get('records')
  ]
  if not found and split == 'train':
    raise ValueError(
      f'--tokens {", ".join(map(str, directories))} hold no rows to train on; '
      'tokenize other --documents'
    )
  return list(dict.fromkeys(found))


def find_source(directories: Sequence[files.Name], source: str) -> files.Name:
  """The one folder of token shards that has a source.

  Raises:
    ValueError: if none has it, or several.
  """
  known = {d: list(read_manifest(d)['sources']) for d in directories}
  found = [d for d, names in known.items() if source in names]
  if len(found) != 1:
    raise ValueError(
      f'{len(found)} of the folders of --tokens have a source {source!r}, not '
      f'one: {known}; name others in Config.sources or Config.valid_source, '
      'give other --tokens, or tokenize again with another name'
    )
  return found[0]


def fingerprint(directory: files.Name) -> str:
  """sha256 of a folder's manifest, which holds those of its shards."""
  return files.sha256(pathlib.Path(directory, MANIFEST))


class TokenSource:
  """Rows of one split of one source, by index.

  Attributes:
    name: `source/split`.
    sequence_length: targets in a row.
    end_of_text_id: the separator.
    tokens: targets in all rows, without padding.
    bytes: of the documents' text in UTF-8.
  """

  def __init__(
    self,
    directory: files.Name,
    source: str,
    split: str,
    tokenizer_fingerprint: str,
  ):
    """Open the shards after checking that they are what the manifest says.

    Reads every shard once for its sha256.

    Args:
      directory: of the manifest.
      source: its name in the manifest.
      split: 'train' or 'valid'.
      tokenizer_fingerprint: of the tokenizer that the model uses.

    Raises:
      ValueError: if the shards are of another tokenizer, missing or damaged,
        or the manifest has no such source and split.
    """
    manifest = read_manifest(directory)
    of_tokens = manifest['tokenizer_fingerprint']
    if of_tokens != tokenizer_fingerprint:
      raise ValueError(
        f'the tokens in {directory} are of tokenizer {of_tokens}, not of '
        f'{tokenizer_fingerprint}; tokenize again, or give that as --tokenizer'
      )
    known = {
      f'{name}/{split}': entry
      for name, splits in manifest['sources'].items()
      for split, entry in splits.items()
      if entry['records']
    }
    self.name = f'{source}/{split}'
    if self.name not in known:
      raise ValueError(
        f'{directory} holds no tokens of {self.name}; it has {[*known]}; set '
        'Config.sources and Config.valid_source, in evaluate '
        'Config.held_out_source'
      )
    entry = known[self.name]
    folder = pathlib.Path(directory) / source
    for shard in entry['shards']:
      path = folder / shard['file']
      actual = files.sha256(path) if path.is_file() else 'that of no file'
      if actual != shard['sha256']:
        raise ValueError(
          f'{path} is damaged or missing: its sha256 is {actual}, not '
          f'{shard["sha256"]}; restore it, or tokenize again into a new folder'
        )
    self.sequence_length: int = manifest['sequence_length']
    self.end_of_text_id: int = manifest['end_of_text_id']
    self.tokens: int = entry['tokens']
    self.bytes: int = entry['bytes']
    self._dtype = manifest['dtype']
    # The plain reader: ArrayRecordDataSource starts threads for every call,
    # and takes three times as long for the rows of a batch.
    self._readers = [
      array_record_module.ArrayRecordReader(str(folder / shard['file']))
      for shard in entry['shards']
    ]
    n_rows = np.array([shard['records'] for shard in entry['shards']])
    n_tokens = np.array([shard['tokens'] for shard in entry['shards']])
    self._ends = np.cumsum(n_rows)
    self._starts = self._ends - n_rows
    # Only the last row of a shard is padded.
    self._last_lengths = n_tokens - (n_rows - 1) * self.sequence_length

  def __len__(self) -> int:
    """The number of rows."""
    return int(self._ends[-1])

  def rows(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
    """Read rows: the inputs of each are its tokens but the last, the targets
    its tokens but the first.

    Args:
      indices: from 0 to len - 1.

    Returns:
      tokens_BT of sequence_length + 1 tokens a row, int32.
    """
    indices = np.asarray(indices)
    tokens_BT = np.empty((len(indices), self.sequence_length + 1), np.int32)
    shard_of_row = np.searchsorted(self._ends, indices, side='right')
    for shard in np.unique(shard_of_row):
      here = np.flatnonzero(shard_of_row == shard)
      inside = indices[here] - self._starts[shard]
      records = self._readers[shard].read(inside.tolist())
      flat = np.frombuffer(b''.join(records), self._dtype)
      tokens_BT[here] = flat.reshape(len(here), -1)
    return tokens_BT

  def n_targets(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
    """How many targets of each row are tokens of the stream, not padding."""
    indices = np.asarray(indices)
    shard = np.searchsorted(self._ends, indices, side='right')
    is_last = self._ends[shard] - 1 == indices
    return np.where(is_last, self._last_lengths[shard], self.sequence_length)
