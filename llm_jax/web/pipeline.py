"""From WARC files to documents: the whole chain as functions of one shard.

  filter_shard   WARC file -> filtered documents and their keys
  resolve        keys of all shards -> which documents are copies
  write_shard    filtered documents and verdicts -> Parquet file

Each writes its files under a temporary name and renames them, the file that
says `finished` last. So a rerun does what is missing, and the result does not
depend on the number of workers or on kills in between. Only keys of documents
leave a shard. It does NOT spread over machines; any engine that runs these
functions gives the same bytes.
"""

import dataclasses
import functools
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from absl import logging

from llm_jax import record
from llm_jax.web import (
  deduplication,
  disk,
  documents,
  funnel,
  html_text,
  language_id,
  personal_data,
  pool,
  quality,
  repetition,
  warc,
)
from llm_jax.web import words as words_of

_INTERMEDIATE = 'filtered'
_HTML_TYPES = ('text/html', 'application/xhtml+xml', '')


@dataclasses.dataclass(frozen=True)
class Clean:
  """The chain from WARC to documents; every default is FineWeb's.

  Attributes:
    dump: name of the crawl, for the column `dump`.
    n_workers: processes; 0 for one a CPU core.
    extraction: page -> text.
    language: languages that are kept.
    gopher_repetition: rules on repetition.
    gopher_quality: rules on words and lines.
    c4: rules on lines and pages.
    fineweb: rules on lines.
    minhash: near copies.
    pii: placeholders.
  """

  dump: str = 'crawl'
  n_workers: int = 0
  extraction: html_text.Extraction = html_text.Extraction()
  language: language_id.Language = language_id.Language()
  gopher_repetition: repetition.GopherRepetition = repetition.GopherRepetition()
  gopher_quality: quality.GopherQuality = quality.GopherQuality()
  c4: quality.C4 = quality.C4()
  fineweb: quality.FineWeb = quality.FineWeb()
  minhash: deduplication.MinHash = deduplication.MinHash()
  pii: personal_data.Pii = personal_data.Pii()


def clean(
  cfg: Clean,
  warc_paths: Sequence[pathlib.Path],
  folder: pathlib.Path,
  on_shard: Callable[[], object] = lambda: None,
) -> dict:
  """Runs the chain; goes on where an earlier call was killed.

  Args:
    cfg: the chain.
    warc_paths: the WARC files in the order that decides which copy survives.
    folder: gets `documents-*.parquet`, one for each WARC file, `funnel.json`
      and `manifest.json`.
    on_shard: called after each shard of each step.

  Returns:
    documents, bytes of their text, estimated tokens, WARC records read.

  Raises:
    FileNotFoundError: a WARC file is missing.
    OSError: the disk is full, or a worker was killed; call again.
  """
  for path in warc_paths:
    if not path.is_file():
      raise FileNotFoundError(f'WARC file {path} does not exist; see --warc')
  work = folder / _INTERMEDIATE
  work.mkdir(exist_ok=True)
  for stale in (folder, work):
    disk.remove_leftovers(stale)
  shards = [Shard(folder, i, path) for i, path in enumerate(warc_paths)]
  n_workers = cfg.n_workers or os.cpu_count() or 1

  todo = [(cfg, s) for s in shards if not s.filtered_counts.exists()]
  logging.info('filtering %d of %d WARC files', len(todo), len(shards))
  pool.run(filter_shard, todo, n_workers, on_shard)
  verdicts = folder / _INTERMEDIATE / 'verdicts.json'
  if not verdicts.exists():
    record.write_json(verdicts, resolve(cfg.minhash, shards))
    on_shard()
  removed = record.read_json(verdicts)
  todo = [
    (cfg, shard, removed[shard.number])
    for shard in shards
    if not shard.written_counts.exists()
  ]
  pool.run(write_shard, todo, n_workers, on_shard)
  return _summarize(folder, shards)


def remove_intermediate(folder: pathlib.Path):
  """Removes what only an unfinished run needs."""
  shutil.rmtree(folder / _INTERMEDIATE, ignore_errors=True)


@dataclasses.dataclass(frozen=True)
class Shard:
  """One WARC file on its way.

  Attributes:
    folder: the stage's folder.
    number: position among the WARC files.
    warc_path: the WARC file.
  """

  folder: pathlib.Path
  number: int
  warc_path: pathlib.Path

  def _intermediate(self, suffix: str) -> pathlib.Path:
    return self.folder / _INTERMEDIATE / f'{self.number:05d}{suffix}'

  @property
  def filtered(self) -> pathlib.Path:
    """Documents that passed every rule."""
    return self._intermediate('.parquet')

  @property
  def keys(self) -> pathlib.Path:
    """Text key and band keys of each of them."""
    return self._intermediate('.npz')

  @property
  def filtered_counts(self) -> pathlib.Path:
    """Exists once the two above are complete."""
    return self._intermediate('.filtered.json')

  @property
  def written(self) -> pathlib.Path:
    """The result."""
    return self.folder / f'documents-{self.number:05d}.parquet'

  @property
  def written_counts(self) -> pathlib.Path:
    """Exists once `written` is complete."""
    return self._intermediate('.written.json')


def filter_shard(cfg: Clean, shard: Shard):
  """Reads a WARC file and keeps the documents that pass every rule."""
  steps = _Steps(cfg)
  kept = list(steps.run(shard.warc_path))
  documents.write(shard.filtered, kept)
  keys = [deduplication.text_key(document.text) for document in kept]
  bands = [
    deduplication.signature(
      cfg.minhash, deduplication.shingles(cfg.minhash, document.text)
    )
    for document in kept
  ]
  with disk.replacing(shard.keys) as file:
    np.savez(
      file,
      keys=np.array(keys, 'S16'),
      bands=np.array(bands, 'u8').reshape(len(kept), cfg.minhash.n_bands),
    )
  with disk.explain_full(shard.folder):
    record.write_json(shard.filtered_counts, steps.to_json())


def resolve(
  cfg: deduplication.MinHash, shards: Sequence[Shard]
) -> list[list[str]]:
  """Which documents are copies of an earlier one, over all shards.

  Args:
    cfg: what a near copy is.
    shards: filtered shards, in order.

  Returns:
    For each shard and each of its documents the reason to remove it, or ''.
  """
  keys, bands, sizes = [], [], []
  for shard in shards:
    with np.load(shard.keys) as arrays:
      keys += [key.ljust(16, b'\0') for key in arrays['keys'].tolist()]
      bands.append(arrays['bands'])
      sizes.append(len(arrays['bands']))
  starts = np.concatenate([[0], np.cumsum(sizes)]).astype(int)

  @functools.lru_cache(maxsize=4)
  def texts(number: int) -> list[str]:
    return [d.text for d in documents.read(shards[number].filtered)]

  @functools.lru_cache(maxsize=1024)
  def shingles_of(i: int) -> np.ndarray:
    number = int(np.searchsorted(starts, i, side='right')) - 1
    text = texts(number)[i - starts[number]]
    return deduplication.shingles(cfg, text)

  flat = deduplication.resolve(cfg, keys, np.concatenate(bands), shingles_of)
  return [flat[a:b] for a, b in zip(starts[:-1], starts[1:], strict=True)]


def write_shard(cfg: Clean, shard: Shard, verdicts: Sequence[str]):
  """Writes the documents that are no copies, with placeholders."""
  copies, replaced = funnel.Step('duplicates'), funnel.Step('pii')
  kept = []
  rows = documents.read(shard.filtered)
  for document, verdict in zip(rows, verdicts, strict=True):
    n_bytes = len(document.text.encode())
    if verdict:
      copies.remove(verdict, n_bytes, document.url, document.text)
      continue
    copies.keep(n_bytes, n_bytes)
    text, counts = personal_data.replace(cfg.pii, document.text)
    replaced.keep(n_bytes, len(text.encode()))
    replaced.replace(counts)
    kept.append(dataclasses.replace(document, text=text))
  documents.write(shard.written, kept)
  with disk.explain_full(shard.folder):
    record.write_json(
      shard.written_counts, [copies.to_json(), replaced.to_json()]
    )


class _Steps:
  """The steps of one shard up to deduplication, with their counts."""

  def __init__(self, cfg: Clean):
    self._cfg = cfg
    names = (
      'records',
      'extraction',
      'language',
      'gopher_repetition',
      'gopher_quality',
      'c4',
      'fineweb',
    )
    self._steps = {name: funnel.Step(name) for name in names}

  def to_json(self) -> list[dict]:
    return [step.to_json() for step in self._steps.values()]

  def run(self, path: pathlib.Path) -> Iterator[documents.Document]:
    """The documents of a WARC file that pass, in the order of the file."""
    max_bytes = self._cfg.extraction.max_html_bytes
    with html_text.Extractor(self._cfg.extraction) as extractor:
      for page in warc.read(path, max_bytes):
        document = self._read(page, path.name, extractor)
        if document:
          document = self._filter(document)
        if document:
          yield document

  def _read(
    self, page: warc.Record, file_path: str, extractor: html_text.Extractor
  ) -> documents.Document | None:
    """A record's text and language, unless they are a reason to remove it."""
    step = self._steps['records']
    reason = page.problem
    if not reason and page.status != 200:
      reason = f'http_{page.status}'
    if not reason and page.content_type not in _HTML_TYPES:
      reason = 'not_html'
    if reason:
      step.remove(reason, page.n_bytes, page.url)
      return None
    n_bytes = len(page.body)
    step.keep(page.n_bytes, n_bytes)
    step = self._steps['extraction']
    try:
      text = extractor.extract(page.body, page.charset)
    except html_text.ExtractionError as error:
      step.remove(error.reason, n_bytes, page.url)
      return None
    step.keep(n_bytes, len(text.encode()))
    code, score = language_id.identify(text)
    reason = language_id.reject(self._cfg.language, code, score)
    if not self._pass('language', reason, page.url, text):
      return None
    return documents.Document(
      text,
      page.record_id,
      self._cfg.dump,
      page.url,
      page.date,
      file_path,
      code,
      score,
    )

  def _filter(self, document: documents.Document) -> documents.Document | None:
    """The document as C4's rules leave it, or None at the first rule broken."""
    cfg, url, text = self._cfg, document.url, document.text
    words = words_of.split(text)
    reason = repetition.reject(cfg.gopher_repetition, text, words)
    if not self._pass('gopher_repetition', reason, url, text):
      return None
    reason = quality.reject_gopher(cfg.gopher_quality, text, words)
    if not self._pass('gopher_quality', reason, url, text):
      return None
    shorter, reason = quality.clean_c4(cfg.c4, text)
    if not self._pass('c4', reason, url, text, shorter):
      return None
    words = words if shorter == text else words_of.split(shorter)
    reason = quality.reject_fineweb(cfg.fineweb, shorter, words)
    if not self._pass('fineweb', reason, url, shorter):
      return None
    return dataclasses.replace(document, text=shorter)

  def _pass(
    self, name: str, reason: str, url: str, text: str, after: str | None = None
  ) -> bool:
    """Counts a document in a step; `after` is its text behind the step."""
    n_bytes = len(text.encode())
    if reason:
      self._steps[name].remove(reason, n_bytes, url, text)
      return False
    n_kept = n_bytes if after is None else len(after.encode())
    self._steps[name].keep(n_bytes, n_kept)
    return True


def _summarize(folder: pathlib.Path, shards: Sequence[Shard]) -> dict:
  """Writes funnel.json and manifest.json."""
  steps = funnel.merge(
    record.read_json(shard.filtered_counts)
    + record.read_json(shard.written_counts)
    for shard in shards
  )
  tokens = 0
  files = []
  for shard in shards:
    metadata = documents.count(shard.written)
    tokens += metadata['tokens']
    files.append(
      {
        'file': shard.written.name,
        'warc': shard.warc_path.name,
        'sha256': record.file_sha256(shard.written),
        **metadata,
      }
    )
  with disk.explain_full(folder):
    record.write_json(folder / 'funnel.json', {'steps': steps})
    record.write_json(folder / 'manifest.json', {'shards': files})
  return {
    'documents': steps[-1]['documents_kept'],
    'bytes': steps[-1]['bytes_kept'],
    'tokens': tokens,
    'records': steps[0]['documents_in'],
  }
