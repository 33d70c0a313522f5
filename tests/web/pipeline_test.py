"""The chain from WARC to Parquet: counts, kills, full disks."""

import datetime
import itertools
import json
import pathlib
import random
import re
import shutil
import subprocess
import sys
import time

import pytest
from pyarrow import parquet

from experiments import clean
from llm_jax import config
from llm_jax.web import documents, fetch, funnel, warc_write
from tests.web import file_limit

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATE = datetime.datetime(2026, 3, 4, 5, 6, 7, tzinfo=datetime.UTC)
_POOLS = {
  'noun': 'bridge river village garden letter lantern harbour winter teacher '
  'orchard mountain tower captain window machine forest island market kitchen',
  'verb': 'carries follows reaches describes protects replaces measures '
  'surprises crosses remembers repairs watches supports surrounds divides',
  'word': 'old quiet narrow bright wooden distant empty gentle heavy famous '
  'simple yellow broken modern hidden honest',
  'link': 'near behind above without after beyond inside against',
}
POOLS = {kind: words.split() for kind, words in _POOLS.items()}
FORM = (
  'The {word} {noun} {verb} that {word} {noun} {link} the {noun} and {verb} '
  'a {word} {noun}.'
)


def prose(seed: int, n_sentences: int = 24) -> list[str]:
  generator = random.Random(seed)
  return [
    re.sub(r'{(\w+)}', lambda m: generator.choice(POOLS[m.group(1)]), FORM)
    for _ in range(n_sentences)
  ]


def html(sentences: list[str]) -> bytes:
  chunks = [' '.join(sentences[i : i + 3]) for i in range(0, len(sentences), 3)]
  return ''.join(f'<p>{chunk}</p>' for chunk in chunks).encode()


GERMAN = [
  'Der Fluss entspringt in den Bergen nördlich der alten Stadt und fließt '
  f'an Haus Nummer {i} vorbei.'
  for i in range(20)
]


def corpus(folder: pathlib.Path) -> list[pathlib.Path]:
  """Three WARC files with one page of each fate, and one damaged record."""
  html_type, pdf = 'text/html', 'application/pdf'
  near = [*prose(1)[:-1], 'The end was never written down.']
  mail = [*prose(2), 'Write to miller@mill.example.net or ask at 8.8.8.8.']
  pages = [
    [
      ('one', 200, html_type, html(prose(1))),
      ('mail', 200, html_type, html(mail)),
      ('german', 200, html_type, html(GERMAN)),
      ('missing', 404, html_type, b'<p>none</p>'),
      ('pdf', 200, pdf, b'%PDF'),
      ('empty', 200, html_type, b'<p></p>'),
    ],
    [
      ('copy', 200, html_type, html(prose(1))),
      ('near', 200, html_type, html(near)),
      ('short', 200, html_type, html(prose(3, 2))),
      ('again', 200, html_type, html(prose(4, 3) * 9)),
    ],
    [(f'fill{i}', 200, html_type, html(prose(100 + i))) for i in range(30)],
  ]
  paths = []
  for number, shard in enumerate(pages):
    data = warc_write.encode_info(DATE, {'software': 'test'})
    for name, status, kind, body in shard:
      headers = (('Content-Type', kind),)
      answer = fetch.Response(status, '', headers, body, False, '::1', DATE)
      data += warc_write.encode_response(f'http://h/{name}', answer)
    if number == 1:
      data = data[:-30]  # a torn tail: 'again' is lost
    paths.append(folder / f'crawl-{number:05d}.warc.gz')
    paths[-1].write_bytes(data)
  return paths


@pytest.fixture(scope='module')
def warcs(tmp_path_factory):
  folder = tmp_path_factory.mktemp('warcs')
  corpus(folder)
  return folder


BINDINGS = ["Extraction.extractor = 'resiliparse'", 'Clean.n_workers = 2']


def command(warcs, workdir) -> list[str]:
  return [
    *(sys.executable, '-m', 'experiments.clean', '--workdir', str(workdir)),
    *('--warc', f'{warcs}/*.warc.gz'),
    *itertools.chain(*(('--gin_bindings', b) for b in BINDINGS)),
  ]


@pytest.fixture(scope='module')
def finished(warcs, tmp_path_factory):
  """A run that nothing disturbed."""
  workdir = tmp_path_factory.mktemp('clean')
  subprocess.run(command(warcs, workdir), cwd=ROOT, check=True)
  return workdir


def results(workdir: pathlib.Path) -> dict[str, bytes]:
  names = [*workdir.glob('documents-*.parquet'), workdir / 'funnel.json']
  names.append(workdir / 'manifest.json')
  return {path.name: path.read_bytes() for path in names}


def test_every_record_is_kept_or_removed_for_its_reason(finished):
  steps = json.loads((finished / 'funnel.json').read_text())['steps']
  removed = {
    step['name']: {r: c['documents'] for r, c in step['removed'].items()}
    for step in steps
  }
  assert removed == {
    'records': {
      'type_warcinfo': 3,
      'http_404': 1,
      'not_html': 1,
      'short_record': 1,
    },
    'extraction': {'no_text': 1},
    'language': {'language_de': 1},
    'gopher_repetition': {},
    'gopher_quality': {'too_few_words': 1},
    'c4': {},
    'fineweb': {},
    'duplicates': {'exact_copy': 1, 'near_copy': 1},
    'pii': {},
  }
  for before, after in itertools.pairwise(steps):
    assert before['documents_kept'] == after['documents_in']
    assert before['bytes_kept'] == after['bytes_in']
  assert steps[-1]['replaced'] == {'email': 1, 'ip_address': 1}
  sample = steps[2]['removed']['language_de']['samples'][0]
  assert sample['url'] == 'http://h/german'
  assert sample['text'].startswith('Der Fluss entspringt')


def test_documents_have_finewebs_columns(finished):
  table = parquet.read_table(finished / 'documents-00000.parquet')
  assert table.schema.names == documents.SCHEMA.names
  assert table['url'].to_pylist() == ['http://h/one', 'http://h/mail']
  row = table.to_pylist()[1]
  assert row['text'].endswith('Write to email@example.com or ask at 192.0.2.1.')
  assert row['date'] == '2026-03-04T05:06:07Z'
  assert row['file_path'] == 'crawl-00000.warc.gz'
  assert row['dump'] == 'crawl'
  assert row['id'].startswith('<urn:uuid:')
  assert row['language'] == 'en'
  assert row['token_count'] == round(len(row['text']) / 4)
  assert parquet.read_table(finished / 'documents-00001.parquet').num_rows == 0
  assert not (finished / 'filtered').exists()


def test_finished_run_is_not_repeated(warcs, finished):
  before = results(finished)
  times = [p.stat().st_mtime_ns for p in sorted(finished.glob('documents*'))]
  subprocess.run(command(warcs, finished), cwd=ROOT, check=True)
  assert results(finished) == before
  after = [p.stat().st_mtime_ns for p in sorted(finished.glob('documents*'))]
  assert times == after


def test_killed_at_any_stage_the_result_is_the_same(warcs, finished, tmp_path):
  """SIGKILL as soon as the files of one more stage appear."""
  stages = [
    'filtered/.*.tmp',  # a shard is being written
    'filtered/*.filtered.json',  # one shard is done
    'filtered/verdicts.json',
    'documents-*.parquet',
    'funnel.json',
  ]
  for pattern in stages:
    process = subprocess.Popen(command(warcs, tmp_path), cwd=ROOT)
    until = time.monotonic() + 60
    while process.poll() is None and not any(tmp_path.glob(pattern)):
      assert time.monotonic() < until
      time.sleep(0.0005)
    process.kill()
    process.wait()
  subprocess.run(command(warcs, tmp_path), cwd=ROOT, check=True)
  assert results(tmp_path) == results(finished)
  assert not list(tmp_path.rglob('*.tmp'))


@pytest.mark.skipif(not shutil.which('ps'), reason='there is no ps here')
def test_no_worker_outlives_a_kill(warcs, tmp_path):
  process = subprocess.Popen(command(warcs, tmp_path), cwd=ROOT)
  while not any(tmp_path.glob('filtered')) and process.poll() is None:
    time.sleep(0.001)
  children: set[int] = set()
  while len(children) < 2 and process.poll() is None:
    children |= _descendants(process.pid)
  process.kill()
  process.wait()
  until = time.monotonic() + 20
  while any(_is_running(pid) for pid in children):
    assert time.monotonic() < until
    time.sleep(0.05)


def _descendants(pid: int) -> set[int]:
  listed = subprocess.run(
    ['ps', '-A', '-o', 'pid=,ppid='], capture_output=True, text=True
  )
  pairs = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
  found, size = {pid}, 0
  while size != len(found):
    size = len(found)
    found |= {child for child, parent in pairs if parent in found}
  return found - {pid}


def _is_running(pid: int) -> bool:
  shown = subprocess.run(
    ['ps', '-o', 'stat=', '-p', str(pid)], capture_output=True, text=True
  )
  return bool(shown.stdout.strip()) and 'Z' not in shown.stdout


def test_full_disk_is_named_and_loses_nothing(warcs, finished, tmp_path):
  done = subprocess.run(
    file_limit.limited(command(warcs, tmp_path), 6_500),
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 1
  assert 'make room and give the same command again' in done.stderr
  assert not list(tmp_path.glob('documents-*'))
  assert not list(tmp_path.rglob('*.tmp'))
  subprocess.run(command(warcs, tmp_path), cwd=ROOT, check=True)
  assert results(tmp_path) == results(finished)


def test_missing_warc_is_named(tmp_path):
  done = subprocess.run(
    [*command(tmp_path / 'no', tmp_path / 'out')],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 1
  assert f'--warc {tmp_path}/no/*.warc.gz: no file matches' in done.stderr


def test_lost_documents_are_noticed():
  step = funnel.Step('s')
  step.keep(1, 1)
  counts = step.to_json()
  assert funnel.merge([[counts], [counts]])[0]['documents_in'] == 2
  with pytest.raises(ValueError, match='step s: 2 documents in, but 1 kept'):
    funnel.merge([[{**counts, 'documents_in': 2}]])


def test_wrong_parquet_is_named(tmp_path):
  path = tmp_path / 'a.parquet'
  path.write_bytes(b'not a table')
  with pytest.raises(ValueError, match=r'a\.parquet is not a Parquet file'):
    list(documents.read(path))


def test_recipe_configurations_load():
  for name in ('clean_pydoc',):
    cfg = config.load(clean.Config, [f'gin_configs/{name}.gin'], [])
    assert cfg.clean.extraction.extractor == 'resiliparse'
