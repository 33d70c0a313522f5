"""From WARC files to documents: the whole chain as functions of one shard.

  filter_shard   WARC file -> filtered documents, their keys and counts
  candidates     keys of all shards -> pairs of documents
  verify         pairs whose later document is in a shard -> pairs of copies
  write_shard    filtered documents and which of them go -> Parquet file

Each writes its files under a temporary name and renames them, the one that
says `finished` last, and does nothing where that is there already with the same
key: of the input, the code and the configuration. So a rerun does what is
missing, and the result depends on no number of workers, runner or kill. Only
keys and integers leave a shard, and no step holds a corpus in memory. `clean`
runs them in processes of this machine, `beam_runner.clean` on Apache Beam.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import itertools
import json
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from absl import logging

from llm_jax import dataclass_json, files, pool
from llm_jax.web import chain, documents, funnel
from llm_jax.web.dedup import deduplication
from llm_jax.web.filter import addresses, evaluation_sets, language_id

_INTERMEDIATE = 'filtered'
# Keys of one column that are sorted at a time: 16 bytes each, a few copies.
_MAX_SORTED = 4 << 20
# Row groups that a copy is verified from; small, as rows are read at random.
_VERIFIED_ROWS = 100
_VERSIONED = 'fastwarc resiliparse trafilatura lxml pyarrow numpy'


@dataclasses.dataclass(frozen=True)
class Part:
  """Documents with their keys, of this run or of an earlier one.

  Attributes:
    documents: Parquet file.
    keys: array of keys, one row for each key, one column a document.
  """

  documents: files.Path
  keys: files.Path


@dataclasses.dataclass(frozen=True)
class Shard:
  """One WARC file on its way.

  Attributes:
    output: folder of the results.
    number: position among the WARC files.
    warc: the WARC file.
    fingerprint: tells its content.
  """

  output: files.Path
  number: int
  warc: files.Path
  fingerprint: str

  def intermediate(self, suffix: str) -> files.Path:
    """A file that only an unfinished run needs."""
    return self.output / _INTERMEDIATE / f'{self.number:05d}{suffix}'

  @property
  def filtered(self) -> Part:
    """Documents that passed every rule."""
    return Part(self.intermediate('.parquet'), self.intermediate('.npy'))

  @property
  def written(self) -> Part:
    """The result."""
    return _written(self.output, f'documents-{self.number:05d}.parquet')


def _written(folder: files.Path, name: str) -> Part:
  number = name.removeprefix('documents-').removesuffix('.parquet')
  return Part(folder / name, folder / f'keys-{number}.npy')


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a run is to do.

  Attributes:
    cfg: the chain.
    lists: files that every worker reads.
    shards: the WARC files in their order.
    earlier: parts of earlier runs, in their order, before all shards.
    output: folder of the results.
    key: of code, configuration, lists and earlier runs.
  """

  cfg: chain.Clean
  lists: chain.Lists
  shards: tuple[Shard, ...]
  earlier: tuple[Part, ...]
  output: files.Path
  key: str

  @functools.cached_property
  def parts(self) -> tuple[Part, ...]:
    """What is compared, in the order that decides which copy survives."""
    return (*self.earlier, *(shard.filtered for shard in self.shards))

  @property
  def first_id(self) -> int:
    """The first document of this run, behind those of earlier ones."""
    return deduplication.document_id(len(self.earlier), 0)


def plan(
  cfg: chain.Clean,
  warcs: Mapping[files.Path, str],
  output: files.Path,
  blocklists: Sequence[pathlib.Path] = (),
  sets: Sequence[pathlib.Path] = (),
  earlier: Sequence[files.Path] = (),
) -> Plan:
  """Prepares a run, or the rest of one that was killed.

  Args:
    cfg: the chain.
    warcs: WARC or WET files and their fingerprints, in the order that
      decides which copy survives.
    output: gets `documents-*.parquet` and `keys-*.npy`, one of each for each
      WARC file, `funnel.json` and `manifest.json`.
    blocklists: folders of URL lists.
    sets: evaluation sets, JSONL files.
    earlier: outputs of finished runs; what they hold is not kept again.

  Raises:
    ValueError: an earlier run is unfinished or has other keys.
  """
  folder = output / _INTERMEDIATE
  folder.mkdir(parents=True, exist_ok=True)
  for stale in (output, folder):
    files.remove_leftovers(stale)
  lists = chain.Lists(folder / 'blocklist.bin', folder / 'evaluation.bin')
  counts = addresses.build(cfg.url_filter, blocklists, lists.blocklist)
  logging.info('%s: %s', lists.blocklist.name, counts)
  counts = evaluation_sets.build(cfg.decontamination, sets, lists.evaluation)
  logging.info('%s: %s', lists.evaluation.name, counts)
  parts = tuple(itertools.chain(*(_written_parts(cfg, e) for e in earlier)))
  key = _digest(
    [
      code_version(),
      language_id.identifier(),
      dataclass_json.to_dict(cfg),
      [files.fingerprint(files.local_copy(p)) for p in vars(lists).values()],
      [files.show(part.documents) for part in parts],
    ]
  )
  shards = tuple(
    Shard(output, i, path, fingerprint=fingerprint)
    for i, (path, fingerprint) in enumerate(warcs.items())
  )
  return Plan(
    cfg=cfg, lists=lists, shards=shards, earlier=parts, output=output, key=key
  )


def manifest_of(earlier: files.Path) -> files.Path:
  """The manifest of an earlier run.

  Raises:
    ValueError: the run is unfinished, or the folder is none of a run.
  """
  manifest = earlier / 'manifest.json'
  if not manifest.exists():
    raise ValueError(
      f'--earlier {files.show(earlier)} holds no manifest.json, so that run '
      'of clean is not finished; give its command again, or leave it out'
    )
  return manifest


def _written_parts(cfg: chain.Clean, earlier: files.Path) -> list[Part]:
  found, asked = files.read_json(manifest_of(earlier)), _key_config(cfg)
  if found.get('keys') != asked:
    raise ValueError(
      f'earlier run {files.show(earlier)} has keys of {found.get("keys")}, but '
      f'this run of {asked}; configure MinHash as it was'
    )
  parts = [_written(earlier, shard['file']) for shard in found['shards']]
  for path in itertools.chain(*((p.documents, p.keys) for p in parts)):
    if not path.exists():
      raise ValueError(
        f'earlier run {files.show(earlier)} lacks {path.name}, which its '
        'manifest.json names; restore the file, or leave the run out'
      )
  return parts


def _key_config(cfg: chain.Clean) -> dict:
  """What must be equal for keys to be comparable."""
  found = dataclass_json.to_dict(cfg.minhash)
  del found['min_similarity']
  return found


@functools.cache
def code_version() -> str:
  """A hash of the code of this room and of the libraries that decide."""
  folder = pathlib.Path(__file__).parent
  sources = sorted([*folder.rglob('*.py'), *folder.rglob('*.toml')])
  versions = [importlib.metadata.version(name) for name in _VERSIONED.split()]
  return _digest([*(path.read_text() for path in sources), versions])


def _digest(values: Sequence) -> str:
  return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def clean(todo: Plan, n_workers: int, on_shard: Callable[[], object]) -> dict:
  """Runs the chain in processes of this machine.

  Args:
    todo: as `plan` made it.
    n_workers: processes.
    on_shard: called after each task.

  Returns:
    As `summarize`.

  Raises:
    FileNotFoundError: a WARC file is missing.
    OSError: the disk is full, or a worker was killed; call again.
  """
  sizes = [shard.warc.stat().st_size for shard in todo.shards]
  logging.info('%d WARC files, %.1f MB', len(sizes), sum(sizes) / 1e6)
  numbers = [(shard.number,) for shard in todo.shards]
  modules = [__name__]
  if todo.cfg.extraction.extractor != 'resiliparse':
    modules.append('trafilatura')  # which is loaded late
  with pool.Pool(todo, min(n_workers, len(numbers)), modules) as workers:
    workers.run(filter_shard, numbers, on_shard, total_bytes=sum(sizes))
    pairs = candidates(todo)
    shards, _ = deduplication.file_and_row(pairs[0] - todo.first_id)
    starts = np.searchsorted(shards, range(len(numbers)))
    parts = np.split(pairs, starts[1:], axis=1)
    verified = workers.run(verify, [(part,) for part in parts], on_shard)
    workers.run(write_shard, copies(todo, verified), on_shard)
  return summarize(todo)


def _is_done(path: files.Path, key: str) -> bool:
  return path.exists() and files.read_json(path)['key'] == key


def filter_shard(todo: Plan, number: int):
  """Reads a WARC file and keeps the documents that pass every rule."""
  shard = todo.shards[number]
  counts = shard.intermediate('.filtered.json')
  key = _digest([todo.key, shard.fingerprint])
  if _is_done(counts, key):
    pool.report(0, shard.warc.stat().st_size)
    return
  steps = chain.Chain(todo.cfg, todo.lists)
  minhash = todo.cfg.minhash
  keys = [np.zeros((deduplication.n_keys(minhash), 0), 'u8')]
  with documents.writing(shard.filtered.documents, _VERIFIED_ROWS) as write:
    for document in steps.run(shard.warc):
      write(document)
      keys.append(deduplication.keys(minhash, document.text)[:, None])
  files.write_array(shard.filtered.keys, np.concatenate(keys, axis=1))
  files.write_json(counts, {'key': key, 'steps': steps.to_json()})


def candidates(todo: Plan) -> np.ndarray:
  """Pairs of documents that share a key, and whose later one is of this run.

  Found in parts of the keys' range, so that each fits memory.
  """
  n_documents = sum(files.read_array(p.keys).shape[1] for p in todo.parts)
  n = max(1, math.ceil(n_documents / _MAX_SORTED))
  found = []
  for low, end in itertools.pairwise((i << 64) // n for i in range(n + 1)):
    for row in range(deduplication.n_keys(todo.cfg.minhash)):
      values, ids = [], []
      for i, part in enumerate(todo.parts):
        keys = np.asarray(files.read_array(part.keys)[row])
        inside = np.flatnonzero((keys >= low) & (keys <= end - 1))
        values.append(keys[inside])
        base = np.uint64(deduplication.document_id(i, 0))
        ids.append(inside.astype('u8') + base)
      key_values, documents_ = np.concatenate(values), np.concatenate(ids)
      pairs = deduplication.pairs(key_values, documents_, row)
      found.append(pairs[:, pairs[0] >= todo.first_id])
  return deduplication.unique_pairs(np.concatenate(found, axis=1))


def verify(todo: Plan, pairs: np.ndarray) -> np.ndarray:
  """The pairs that are copies; see `deduplication.verify`."""

  def texts_of(ids: Sequence[int]) -> Mapping[int, str]:
    texts = {}
    places = map(deduplication.file_and_row, ids)
    for number, group in itertools.groupby(places, lambda place: place[0]):
      rows = [row for _, row in group]
      found = documents.read_texts(todo.parts[number].documents, rows)
      for row, text in zip(rows, found, strict=True):
        texts[deduplication.document_id(number, row)] = text
    return texts

  return deduplication.verify(todo.cfg.minhash, pairs, texts_of)


def copies(
  todo: Plan, verified: Sequence[np.ndarray]
) -> list[tuple[int, list[tuple[int, str]]]]:
  """For each shard the rows that go, and why: `exact_copy` or `near_copy`."""
  joined = np.concatenate([np.zeros((4, 0), 'u8'), *verified], axis=1)
  ids, is_exact = deduplication.copies(joined, todo.first_id)
  gone: list[list[tuple[int, str]]] = [[] for _ in todo.shards]
  for i, exact in zip(ids.tolist(), is_exact.tolist(), strict=True):
    number, row = deduplication.file_and_row(i)
    reason = 'exact_copy' if exact else 'near_copy'
    gone[number - len(todo.earlier)].append((row, reason))
  return [*enumerate(gone)]


def write_shard(todo: Plan, number: int, gone: Sequence[tuple[int, str]]):
  """Writes the documents that are no copies, and their keys.

  Args:
    todo: the run.
    number: of the shard.
    gone: rows of the copies, and why each goes.
  """
  shard = todo.shards[number]
  counts = shard.intermediate('.written.json')
  reasons = dict(gone)
  key = _digest([todo.key, shard.fingerprint, sorted(gone)])
  if _is_done(counts, key):
    return
  step, kept, n_tokens = funnel.Step('duplicates'), [], 0
  with documents.writing(shard.written.documents) as write:
    for row, document in enumerate(documents.read(shard.filtered.documents)):
      text, reason = document.text, reasons.get(row, '')
      n_bytes = len(text.encode())
      if step.take(reason, (n_bytes, n_bytes), document.url, text=text):
        write(document)
        kept.append(row)
        n_tokens += document.token_count
  keys = files.read_array(shard.filtered.keys)
  files.write_array(shard.written.keys, keys[:, kept])
  path = shard.written.documents
  file = {
    'file': path.name,
    'warc': files.name(shard.warc),
    'sha256': files.sha256(path),
    'documents': len(kept),
    'tokens': n_tokens,
  }
  files.write_json(
    counts, {'key': key, 'steps': [step.to_json()], 'file': file}
  )


def summarize(todo: Plan) -> dict:
  """Writes funnel.json and manifest.json.

  Returns:
    documents, bytes of their text, estimated tokens, records read.

  Raises:
    ValueError: no document is left.
  """
  shards = []

  def steps_of(shard: Shard) -> list[dict]:
    filtered, written = (
      files.read_json(shard.intermediate(f'.{name}.json'))
      for name in ('filtered', 'written')
    )
    shards.append({**written['file'], 'key': filtered['key']})
    return [*filtered['steps'], *written['steps']]

  steps = funnel.merge(map(steps_of, todo.shards))
  files.write_json(todo.output / 'funnel.json', {'steps': steps})
  manifest = {
    'code': code_version(),
    'language_model': language_id.identifier(),
    'keys': _key_config(todo.cfg),
    'shards': shards,
  }
  files.write_json(todo.output / 'manifest.json', manifest)
  _refuse_nothing(todo, steps)
  return {
    'documents': steps[-1]['documents_kept'],
    'bytes': steps[-1]['bytes_kept'],
    'tokens': sum(shard['tokens'] for shard in shards),
    'records': steps[0]['documents_in'],
  }


def _refuse_nothing(todo: Plan, steps: Sequence[dict]):
  """An empty corpus is no result."""
  is_known = todo.earlier and steps[-1]['documents_in']  # nothing is new
  if not steps[-1]['documents_kept'] and not is_known:
    gone = {
      step['name']: {why: r['documents'] for why, r in step['removed'].items()}
      for step in steps
      if step['removed']
    }
    raise ValueError(
      f'no document is left: {len(todo.shards)} files hold '
      f'{steps[0]["documents_in"]} pages and others {steps[0]["others"]}, of '
      f'which each step removed {gone}; give WARC, WET or ARC files of pages, '
      'or loosen rules with another --workdir'
    )


def remove_intermediate(output: files.Path):
  """Removes what only an unfinished run needs."""
  files.remove_folder(output / _INTERMEDIATE)
