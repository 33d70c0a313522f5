"""The steps that decide on one document by itself, from record to clean text.

Each step is a pure function of the document and its own configuration; here
they stand in their order, and every document is counted as kept or as removed
by one reason. Copies of other documents are the pipeline's business. It does
NOT write files.
"""

import dataclasses
import functools
import itertools
import os
import threading
from collections.abc import Iterator

from llm_jax import files, pool
from llm_jax.web import documents, funnel
from llm_jax.web.dedup import deduplication, hashes
from llm_jax.web.extract import html_text, warc
from llm_jax.web.filter import (
  addresses,
  evaluation_sets,
  language_id,
  measures,
  personal_data,
  quality,
  repetition,
)

# They describe a crawl or a page that another record holds, or were no page.
_NO_DOCUMENTS = ('type_warcinfo', 'type_request', 'type_metadata', 'not_http')
_STEPS = """records url extraction language gopher_repetition gopher_quality c4
fineweb bad_words evaluation pii"""


@dataclasses.dataclass(frozen=True)
class Clean:
  """The chain from WARC to documents; every default is FineWeb's.

  Attributes:
    dump: name of the crawl, for the column `dump`.
    url_filter: addresses.
    extraction: page -> text.
    language: languages that are kept.
    gopher_repetition: rules on repetition.
    gopher_quality: rules on words and lines.
    c4: rules on lines and pages.
    fineweb: rules on lines.
    bad_words: C4's list of words, which FineWeb did not use; empty by default.
    decontamination: pieces of evaluation sets.
    pii: placeholders; before deduplication, so that what is compared with a
      later crawl is what was written.
    minhash: copies.
  """

  dump: str = 'crawl'
  url_filter: addresses.UrlFilter = addresses.UrlFilter()
  extraction: html_text.Extraction = html_text.Extraction()
  language: language_id.Language = language_id.Language()
  gopher_repetition: repetition.GopherRepetition = repetition.GopherRepetition()
  gopher_quality: quality.GopherQuality = quality.GopherQuality()
  c4: quality.C4 = quality.C4()
  fineweb: quality.FineWeb = quality.FineWeb()
  bad_words: quality.BadWords = quality.BadWords()
  decontamination: evaluation_sets.Decontamination = (
    evaluation_sets.Decontamination()
  )
  pii: personal_data.Pii = personal_data.Pii()
  minhash: deduplication.MinHash = deduplication.MinHash()


@dataclasses.dataclass(frozen=True)
class Lists:
  """Files that every worker reads.

  Attributes:
    blocklist: as `addresses.build` writes it.
    evaluation: as `evaluation_sets.build` writes it.
  """

  blocklist: files.Path
  evaluation: files.Path


def _judge_language(
  cfg: language_id.Language, text: str
) -> tuple[tuple[str, float], bool]:
  """The language of a text, and whether it is kept."""
  language = language_id.identify(text)
  return language, not language_id.reject(cfg, *language)


@functools.cache
def _extractor(cfg: Clean, thread: int) -> html_text.Extractor:
  """One child for all files of a thread: it takes a second to start.

  Beam runs several threads in a process, and a child serves one at a time.
  """
  del thread
  judge = functools.partial(_judge_language, cfg.language)
  return html_text.Extractor(cfg.extraction, judge)


class Chain:
  """The steps of one file, with their counts."""

  def __init__(self, cfg: Clean, lists: Lists):
    self._cfg = cfg
    self._blocklist = hashes.read(files.local_copy(lists.blocklist))
    self._evaluation = hashes.read(files.local_copy(lists.evaluation))
    self._steps = {
      name: funnel.Step(name, gives_text=name not in ('records', 'url'))
      for name in _STEPS.split()
    }

  def to_json(self) -> list[dict]:
    """The counts of each step, for `funnel.merge`."""
    return [step.to_json() for step in self._steps.values()]

  def run(self, path: files.Path) -> Iterator[documents.Document]:
    """The documents of a WARC or WET file that pass, in the file's order."""
    self._file_path = files.name(path)
    extractor = _extractor(self._cfg, threading.get_ident())
    position = 0
    with path.open('rb') as file:
      for page in warc.read(file, self._cfg.extraction.max_html_bytes):
        before, position = position, file.tell()
        pool.report(documents=1, n_bytes=position - before)
        if self._is_page(page):
          text, reason, language = extractor.extract(page)
          sizes = len(page.body), len(text.encode())
          if self._steps['extraction'].take(reason, sizes, page.url):
            yield from self._filter(page, text, *language)
      pool.report(documents=0, n_bytes=file.seek(0, os.SEEK_END) - position)

  def _is_page(self, page: warc.Record) -> bool:
    """Whether a record holds a page, at an address that is not blocked."""
    step = self._steps['records']
    if page.problem in _NO_DOCUMENTS:
      step.add({'others': {page.problem.removeprefix('type_'): 1}})
      return False
    reason, is_text = page.problem, page.kind == 'conversion'
    if not reason and page.status != 200:
      reason = f'http_{page.status}'
    if not reason and not is_text and page.content_type not in warc.PAGE_TYPES:
      reason = 'not_html'
    n_bytes = len(page.body)
    if not step.take(reason, (page.n_bytes, n_bytes), page.url):
      return False
    reason = addresses.reject(self._cfg.url_filter, self._blocklist, page.url)
    return self._steps['url'].take(reason, (n_bytes, n_bytes), page.url)

  def _filter(
    self, page: warc.Record, text: str, language: str, score: float
  ) -> Iterator[documents.Document]:
    """The text as the rules leave it; nothing where it breaks one."""
    reason = language_id.reject(self._cfg.language, language, score)
    rules = itertools.chain([('language', reason, text)], self._judge(text))
    for name, reason, result in rules:
      sizes = len(text.encode()), len(result.encode())
      if not self._steps[name].take(reason, sizes, page.url, text=text):
        return
      text = result
    yield documents.Document(
      text=text,
      id=page.record_id,
      dump=self._cfg.dump,
      url=page.url,
      date=page.date,
      file_path=self._file_path,
      language=language,
      language_score=score,
    )

  def _judge(self, text: str) -> Iterator[tuple[str, str, str]]:
    """Each rule in turn: name, reason to remove, and the text behind it."""
    cfg, words = self._cfg, measures.of_text(text)
    reason = repetition.reject(cfg.gopher_repetition, text, words)
    yield 'gopher_repetition', reason, text
    reason = quality.reject_gopher(cfg.gopher_quality, text, words)
    yield 'gopher_quality', reason, text
    shorter, reason = quality.clean_c4(cfg.c4, text)
    yield 'c4', reason, shorter
    known_words = words if shorter == text else None
    reason = quality.reject_fineweb(cfg.fineweb, shorter, known_words)
    yield 'fineweb', reason, shorter
    yield 'bad_words', quality.reject_bad_words(cfg.bad_words, shorter), shorter
    reason = evaluation_sets.reject(
      cfg.decontamination, self._evaluation, shorter
    )
    yield 'evaluation', reason, shorter
    masked, counts = personal_data.replace(cfg.pii, shorter)
    self._steps['pii'].add({'replaced': counts})
    yield 'pii', '', masked
