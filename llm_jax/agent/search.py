"""The tool `search`: documents by BM25, and what in them answers a query.

BM25 with Lucene's inverse document frequency (Robertson and Zaragoza 2009,
section 3; bm25s). Of each document found a window is shown, where most of what
the query names stands together.
"""

import collections
import dataclasses
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llm_jax import files
from llm_jax.agent import tools
from llm_jax.data import readers

INDEX = 'index.json'  # in the folder of an index; written last
_WORD = re.compile(r'\w+')
_FORM = readers.Form()
SIGNATURE = tools.Signature(
  'search',
  'Searches documents for words.',
  {
    'type': 'object',
    'properties': {'query': {'type': 'string'}},
    'required': ['query'],
    'additionalProperties': False,
  },
)


@dataclasses.dataclass(frozen=True)
class Index:
  """Documents that can be searched."""

  bm25: Any  # of bm25s
  texts: Sequence[Mapping[str, str]]

  def find(self, query: str, n: int, max_chars: int) -> list[str]:
    """The best windows of the best documents.

    Args:
      query: words; those that no document has are passed over.
      n: documents, at most.
      max_chars: of a window.

    Returns:
      Windows, the best first; fewer than n where fewer documents have a word
      of the query.
    """
    columns, ends = self.bm25.vocab_dict, self.bm25.scores['indptr']
    words = [w for w in dict.fromkeys(_words(query)) if w in columns]
    if not words:
      return []
    n_texts = len(self.texts)
    found, scores = self.bm25.retrieve(
      [words], k=min(n, n_texts), show_progress=False, n_threads=0
    )
    n_with = {w: int(ends[columns[w] + 1] - ends[columns[w]]) for w in words}
    weights = {w: math.log1p(n_texts / (1 + n)) for w, n in n_with.items()}
    return [
      window(self.texts[int(i)]['text'], weights, max_chars)
      for i, score in zip(found[0], scores[0], strict=True)
      if score > 0
    ]


def window(text: str, weights: Mapping[str, float], max_chars: int) -> str:
  """The part of a text in which most of some words stand together.

  Args:
    text: of a document.
    weights: of the words, in small letters; each counts once.
    max_chars: of the part; cut between words where that is possible.

  Returns:
    The part, on one line, with dots where something was left out.
  """
  text = ' '.join(text.split())
  if len(text) <= max_chars:
    return text
  hits = [m for m in _WORD.finditer(text) if m[0].casefold() in weights]
  inside: collections.Counter[str] = collections.Counter()
  best, start, end, first = 0.0, 0, 0, 0
  for last, hit in enumerate(hits):
    inside[hit[0].casefold()] += 1
    while first < last and hit.end() - hits[first].start() > max_chars:
      inside[hits[first][0].casefold()] -= 1
      first += 1
    value = sum(weights[word] for word, n in inside.items() if n)
    if value > best:
      best, start, end = value, hits[first].start(), hit.end()
  # Some of what leads to them is shown too, from a whole word on.
  lead = max(0, min(max_chars // 4, max_chars - (end - start)))
  begin = max(0, min(start - lead, len(text) - max_chars))
  if begin:
    begin = text.find(' ', begin - 1, start) + 1 or start
  part = text[begin : begin + max_chars]
  is_last = begin + max_chars >= len(text)
  if not is_last:
    part = part[: max(part.rfind(' '), end - begin)]
  return '...' * (begin > 0) + part + '...' * (not is_last)


def build(documents: str, form: readers.Form = _FORM) -> Index:
  """Index a corpus in memory.

  Args:
    documents: a corpus, see data/readers.py.
    form: how its files are read.

  Raises:
    ValueError: if it holds no text, or no word.
  """
  texts = [
    {'text': document.text, 'url': document.url}
    for path in readers.find(documents)
    for document in readers.read_file(path, form)
  ]
  if not texts:
    raise ValueError(readers.nothing(documents))
  vocabulary: dict[str, int] = {}
  rows = [
    [vocabulary.setdefault(word, len(vocabulary)) for word in _words(t['text'])]
    for t in texts
  ]
  if not vocabulary:
    raise ValueError(f'no document of {documents} has a word; give others')
  import bm25s  # computes with JAX, before which processes have to join

  bm25 = bm25s.BM25(method='lucene')
  tokens = bm25s.tokenization.Tokenized(ids=rows, vocab=vocabulary)
  bm25.index(tokens, show_progress=False)
  return Index(bm25, texts)


def save(
  documents: str, directory: files.Name, form: readers.Form = _FORM
) -> dict[str, Any]:
  """Index a corpus on disk.

  Args:
    documents: a corpus, see data/readers.py.
    directory: of the index; an older one in it is replaced.
    form: how its files are read.

  Returns:
    What index.json says: documents, fingerprint, n, n_words.
  """
  fingerprint = readers.fingerprint(documents)
  index = build(documents, form)
  folder = os.fspath(directory)
  os.makedirs(folder, exist_ok=True)
  path = os.path.join(folder, INDEX)
  if os.path.exists(path):
    os.remove(path)  # no index while its files are replaced
  index.bm25.save(folder, corpus=index.texts, show_progress=False)
  about = {
    'documents': documents,
    'fingerprint': fingerprint,
    'n': len(index.texts),
    'n_words': len(index.bm25.vocab_dict),
  }
  files.write_json(path, about)
  return about


def load(directory: str, documents: str | None = None) -> Index:
  """Open an index on disk; its texts stay there.

  Args:
    directory: that `save` wrote.
    documents: the corpus that it has to be of; None: any.

  Raises:
    ValueError: if there is none, it is damaged, or of other documents.
  """
  path = os.path.join(directory, INDEX)
  if not os.path.exists(path):
    raise ValueError(
      f'{directory} holds no index; make one with python -m experiments.index'
    )
  about = files.read_json(path)
  if documents and readers.fingerprint(documents) != about['fingerprint']:
    raise ValueError(
      f'the index in {directory} is of other documents than {documents} (it '
      f'was made of {about["documents"]}); make it again with python -m '
      'experiments.index'
    )
  import bm25s

  try:
    bm25 = bm25s.BM25.load(
      directory, load_corpus=True, mmap=True, show_progress=False
    )
    texts: Any = bm25.corpus
    if texts is None or len(texts) != about['n']:
      raise ValueError(f'it has not the {about["n"]} texts of {INDEX}')
    texts[about['n'] - 1]
  except (OSError, EOFError, ValueError, KeyError) as error:
    raise ValueError(
      f'the index in {directory} is damaged ({error}); make it again with '
      'python -m experiments.index'
    ) from error
  bm25.corpus = None  # so that `retrieve` gives numbers
  return Index(bm25, texts)


def fingerprint(source: str) -> str:
  """Of the documents of a corpus, or of the index in a folder."""
  path = os.path.join(source, INDEX)
  if os.path.exists(path):
    return files.read_json(path)['fingerprint']
  return readers.fingerprint(source)


def opened(source: str) -> Index:
  """The index in a folder, or one that is made now of documents."""
  if os.path.exists(os.path.join(source, INDEX)):
    return load(source)
  return build(source)


def make(index: Index, n_snippets: int = 3, max_chars: int = 300) -> tools.Tool:
  """The tool.

  Args:
    index: what is searched.
    n_snippets: shown, at most.
    max_chars: of each.
  """

  def run(
    arguments: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]
  ) -> str:
    del earlier
    found = index.find(arguments['query'], n_snippets, max_chars)
    if not found:
      return 'Nothing was found.'
    if n_snippets == 1:
      return found[0]
    return '\n'.join(f'{i}. {text}' for i, text in enumerate(found, start=1))

  return tools.Tool(SIGNATURE, run)


def _words(text: str) -> Iterator[str]:
  return (match[0] for match in _WORD.finditer(text.casefold()))
