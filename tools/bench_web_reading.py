"""Extraction and language identification, beside the libraries themselves.

Quality and speed on labelled pages and texts; the libraries alone run on the
same pages, in turns with ours, so that a busy machine slows both. It does NOT
measure the chain: bench_web.py does, and calls these functions.

Source: segments as in trafilatura's evaluation; word F1 as in Murrough-Foley's
WCXB, arXiv:2605.21097.
"""

import collections
import gzip
import json
import pathlib
import re
import statistics
import time
from collections.abc import Callable, Sequence

import lxml.html
import trafilatura
from resiliparse.extract import html2text

from llm_jax.web.extract import charset, html_text, warc
from llm_jax.web.filter import language_id

_MAX_BYTES = 8 << 20
_WORD = re.compile(r'\w+')
_BLOCK_TAG = re.compile(
  r'(?=</?(?:p|div|li|h\d|br|tr|t[dh]|pre|blockquote|section|article|'
  r'fig\w+|[uod]l|d[dt])\b)'
)
_ROUNDS = 3
_PAGE_SENTENCES = 10


def extraction(data: pathlib.Path) -> dict:
  """Documents a CPU second and F1 of each extractor, ours and bare.

  Args:
    data: the folder of the data sets.

  Returns:
    For each extractor `docs_per_s` (median over rounds that take turns),
    `precision`, `recall` and `f1` of segments on real pages, and `word_f1` by
    set of pages with full gold text.
  """
  segments, gold = _gold(data / 'web-pages')
  pages = [page for page, _ in segments]
  pages += [page for rows in gold.values() for page, _ in rows]
  extractors = _extractors()
  texts = {name: [] for name in extractors}
  speeds = collections.defaultdict(list)
  for i in range(_ROUNDS):
    seconds = collections.Counter()
    for page in pages:
      for name, extract in extractors.items():
        start = time.process_time()
        text = extract(page) or ''
        seconds[name] += time.process_time() - start
        if not i:
          texts[name].append(text)
    for name, total in seconds.items():
      speeds[name].append(len(pages) / total)
  return {
    name: {
      'docs_per_s': round(statistics.median(speeds[name]), 1),
      **_score(texts[name], segments, gold),
    }
    for name in extractors
  } | {'pages': len(pages)}


def _extractors() -> dict[str, Callable[[str], str | None]]:
  """What is compared, each a function of a page."""

  def ours(**settings):
    cfg = html_text.Extraction(**settings)
    return lambda page: html_text.extract(cfg, page)

  def bare(**settings):
    return lambda page: trafilatura.extract(
      page, include_comments=False, **settings
    )

  return {
    'trafilatura': bare(),
    'trafilatura fast': bare(fast=True),
    'trafilatura precision': bare(favor_precision=True),
    'resiliparse': lambda page: html2text.extract_plain_text(
      page, main_content=True
    ),
    'ours trafilatura': ours(),
    'ours trafilatura precision': ours(favor='precision'),
    'ours resiliparse': ours(extractor='resiliparse'),
    'ours resiliparse, lines kept': ours(
      extractor='resiliparse', drop_repeated_lines=False
    ),
  }


def _gold(folder: pathlib.Path) -> tuple[list, dict[str, list]]:
  """Pages with segments, and pages with full texts by set."""
  labels = {
    row['url'].strip(): row
    for row in _rows(folder / 'real-pages-gold.jsonl.gz')
  }
  with open(folder / 'real-pages.warc.gz', 'rb') as file:
    segments = [
      (charset.decode(record.body, record.charset), labels[record.url])
      for record in warc.read(file, _MAX_BYTES)
      if not record.problem
    ]
  news = _rows(folder / 'newspaper-pages.jsonl.gz')
  articles = _rows(folder / 'readability-pages.jsonl.gz')
  return segments, {
    'newspaper': [(row['html'], row['text']) for row in news],
    'readability': [
      (row['html'], _text_of(row['expected_html'])) for row in articles
    ],
  }


def _rows(path: pathlib.Path) -> list[dict]:
  with gzip.open(path, 'rt', encoding='utf-8') as file:
    return [json.loads(line) for line in file]


def _text_of(source: str) -> str:
  return lxml.html.fromstring(_BLOCK_TAG.sub(' ', source)).text_content()


def _score(texts: Sequence[str], segments, gold) -> dict:
  """Precision, recall and F1 of segments; word F1 of the rest."""
  counts = collections.Counter()
  for text, (_, label) in zip(texts, segments, strict=False):
    for name in ('with', 'without'):
      for segment in label[name]:
        counts[name, segment in text] += 1
  hits = counts['with', True]
  precision = hits / (hits + counts['without', True])
  recall = hits / (hits + counts['with', False])
  score = {
    'precision': round(precision, 4),
    'recall': round(recall, 4),
    'f1': round(2 * precision * recall / (precision + recall), 4),
  }
  start = len(segments)
  for name, rows in gold.items():
    values = [
      _word_f1(text, expected)
      for text, (_, expected) in zip(texts[start:], rows, strict=False)
    ]
    start += len(rows)
    score[f'word_f1_{name}'] = round(statistics.mean(values), 4)
  return score


def _word_f1(text: str, expected: str) -> float:
  found, wanted = (
    collections.Counter(_WORD.findall(t.lower())) for t in (text, expected)
  )
  n_both = (found & wanted).total()
  return 2 * n_both / max(found.total() + wanted.total(), 1)


def language(data: pathlib.Path) -> dict:
  """Precision and recall of English, and texts a CPU second.

  Args:
    data: the folder of the data sets.

  Returns:
    For single sentences, pages, and paragraphs and whole texts of the
    declaration of human rights: `precision`, `recall`, `english`, `texts`,
    `texts_per_s`. `precision_half` is the precision where half of the texts
    are English, as about half of the web is; of the sentences one in 75 is.
    And whether judging long texts by parts changes a verdict.
  """
  by_language = collections.defaultdict(list)
  for row in _rows(data / 'lang-id' / 'sentences-75langs.jsonl.gz'):
    by_language[row['lang']].append(row['text'])
  rights = _rows(data / 'lang-id' / 'udhr.jsonl.gz')
  sets = {
    'sentences': [(k, t) for k, texts in by_language.items() for t in texts],
    'pages': [
      (name, '\n'.join(texts[i : i + _PAGE_SENTENCES]))
      for name, texts in by_language.items()
      for i in range(0, len(texts), _PAGE_SENTENCES)
    ]
    + [('en', row['text']) for row in _rows(_prose(data))],
    'rights, paragraphs': [
      (row['bcp47'] or '', text) for row in rights for text in row['paragraphs']
    ],
    'rights, whole': [
      (row['bcp47'] or '', '\n'.join(row['paragraphs'])) for row in rights
    ],
  }
  found: dict = {
    name: _judge([(k, t) for k, t in rows if t]) for name, rows in sets.items()
  }
  found['identifier'] = language_id.identifier()
  cfg = language_id.Language()
  whole = language_id._classifier()[1]
  texts = [
    text for rows in sets.values() for _, text in rows if len(text) > 2000
  ]
  texts += [
    '\n'.join(texts[:k] + by_language['en'][: 50 - k])
    for name, texts in by_language.items()
    if name != 'en'
    for k in (10, 25, 40)
  ]
  found['long_texts'] = len(texts)
  found['long_texts_with_another_verdict'] = sum(
    language_id.reject(cfg, *language_id.identify(text))
    != language_id.reject(cfg, *whole(text))
    for text in texts
  )
  return found


def _prose(data: pathlib.Path) -> pathlib.Path:
  return data / 'gov-prose-en' / 'gov-prose.jsonl.gz'


def _judge(rows: list[tuple[str, str]]) -> dict:
  cfg = language_id.Language()
  kept, texts = collections.Counter(), collections.Counter()
  start = time.process_time()
  for name, text in rows:
    is_english = name == 'en' or name.startswith('en-')
    texts[is_english] += 1
    is_kept = not language_id.reject(cfg, *language_id.identify(text))
    kept[is_english] += is_kept
  seconds = time.process_time() - start
  recall = kept[True] / texts[True]
  false_rate = kept[False] / max(texts[False], 1)
  return {
    'precision': round(kept[True] / max(kept.total(), 1), 4),
    'precision_half': round(recall / max(recall + false_rate, 1e-9), 4),
    'recall': round(recall, 4),
    'english': texts[True],
    'texts': len(rows),
    'texts_per_s': round(len(rows) / seconds, 1),
  }
