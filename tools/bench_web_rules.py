"""Holds our words and rules to datatrove's, live, and times both.

The part of tools.bench_web on rules (`--section rules`). Both sides judge the
same texts one by one on one core, and their seconds are CPU seconds of the
process; each rule gets words that are there already, except datatrove's C4,
which cuts sentences with spaCy. It does NOT time extraction or the chain.
"""

import json
import pathlib
import subprocess
import tempfile
import time
from collections.abc import Callable

from llm_jax.web.filter import measures, quality, repetition
from llm_jax.web.filter import words as words_of
from tools import make_golden

_RULES: dict[str, Callable[[str, measures.Words], tuple[str, str]]] = {
  'gopher_repetition': lambda text, words: (
    repetition.reject(repetition.GopherRepetition(), text, words),
    '',
  ),
  'gopher_quality': lambda text, words: (
    quality.reject_gopher(quality.GopherQuality(), text, words),
    '',
  ),
  'c4': lambda text, words: _cleaned(text),
  'fineweb': lambda text, words: (
    quality.reject_fineweb(quality.FineWeb(), text, words),
    '',
  ),
}


def verdicts(data: pathlib.Path, peer_python: str) -> dict:
  """Agreement and speed on the texts of `make_golden.shared_texts`.

  Args:
    data: the folder of data sets.
    peer_python: an interpreter with datatrove and spaCy; '' leaves it out.

  Returns:
    documents, and for 'words' and each rule: `equal` (fraction with the same
    words, or the same verdict, reason and text), `docs_s` and `peer_docs_s`;
    for words `docs_s` of texts that were not seen before and `warm_docs_s` of
    the same texts again.
  """
  texts = list(make_golden.shared_texts(data))
  peer = _judge_as_peer(texts, peer_python) if peer_python else {}
  measures.of_text('Tables are compiled at the first word.')
  arguments = [(text,) for text in texts]
  cold_s, words = _timed(measures.of_text, arguments)
  warm_s, _ = _timed(measures.of_text, arguments)
  n_texts = len(texts)
  ours = [make_golden.text_hash(' '.join(words_of.split(t))) for t in texts]
  result: dict = {'documents': n_texts}
  result['words'] = _compared(ours, peer, 'words', seconds=cold_s)
  result['words']['warm_docs_s'] = round(n_texts / warm_s, 1)
  pairs = list(zip(texts, words, strict=True))
  for rule, judge in _RULES.items():
    seconds, judged = _timed(judge, pairs)
    ours = [
      [reason, make_golden.text_hash(changed) if changed else '']
      for reason, changed in judged
    ]
    result[rule] = _compared(ours, peer, rule, seconds=seconds)
  return result


def _judge_as_peer(texts: list[str], peer_python: str) -> dict:
  """Verdicts and seconds of datatrove, from a process of its own."""
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'texts.jsonl'
    path.write_text('\n'.join(map(json.dumps, texts)))
    out = path.with_name('verdicts.json')
    command = ['-m', 'tools.make_golden', '--texts', str(path), '--out']
    root = pathlib.Path(__file__).parent.parent
    subprocess.run([peer_python, *command, str(out)], check=True, cwd=root)
    return json.loads(out.read_text())


def _cleaned(text: str) -> tuple[str, str]:
  cleaned, reason = quality.clean_c4(quality.C4(), text)
  return reason, '' if reason or cleaned == text else cleaned


def _timed(function: Callable, arguments: list[tuple]) -> tuple[float, list]:
  start = time.process_time()
  results = [function(*a) for a in arguments]
  return time.process_time() - start, results


def _compared(ours: list, peer: dict, rule: str, seconds: float) -> dict:
  result = {'docs_s': round(len(ours) / seconds, 1)}
  if peer:
    theirs = peer['verdicts'][rule]
    n_equal = sum(a == b for a, b in zip(ours, theirs, strict=True))
    result['equal'] = n_equal / len(ours)
    result['peer_docs_s'] = round(len(ours) / peer['seconds'][rule], 1)
  return result
