"""The chain from WARC to Parquet: counts, kills, full disks."""

import itertools
import json
import subprocess
import time

import pytest
from pyarrow import parquet

from experiments import clean
from llm_jax import config
from llm_jax.web import documents, funnel
from tests.web import corpus, file_limit


def test_every_record_is_kept_or_removed_for_its_reason(finished):
  steps = json.loads((finished / 'funnel.json').read_text())['steps']
  removed = {
    step['name']: {r: c['documents'] for r, c in step['removed'].items()}
    for step in steps
  }
  assert removed == {
    'records': {'http_404': 1, 'not_html': 1, 'short_record': 1},
    'url': {},
    'extraction': {'no_text': 1},
    'language': {'language_de': 1},
    'gopher_repetition': {},
    'gopher_quality': {'too_few_words': 1},
    'c4': {},
    'fineweb': {},
    'bad_words': {},
    'evaluation': {},
    'pii': {},
    'duplicates': {'near_copy': 2, 'exact_copy': 1},
  }
  assert steps[0]['others'] == {'warcinfo': 3}
  for before, after in itertools.pairwise(steps):
    assert before['documents_kept'] == after['documents_in']
    assert before['bytes_kept'] == after['bytes_in']
  assert steps[-2]['replaced'] == {'email': 1, 'ip_address': 1}
  sample = steps[3]['removed']['language_de']['samples'][0]
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
  before = corpus.results(finished)
  times = [p.stat().st_mtime_ns for p in sorted(finished.glob('documents*'))]
  corpus.run(*corpus.command(warcs, finished))
  assert corpus.results(finished) == before
  after = [p.stat().st_mtime_ns for p in sorted(finished.glob('documents*'))]
  assert times == after


STAGES = (
  'filtered/*.filtered.json',  # one shard is done
  'filtered/*.written.json',
  'documents-*.parquet',
  'filtered/.*.tmp',  # a shard is being written
  'funnel.json',
)


@pytest.mark.parametrize(
  'n_stages', [3, pytest.param(5, marks=pytest.mark.nightly)]
)
def test_killed_at_any_stage_the_result_is_the_same(
  warcs, finished, tmp_path, n_stages
):
  """SIGKILL as soon as the files of one more stage appear."""
  for pattern in STAGES[:n_stages]:
    process = subprocess.Popen(corpus.command(warcs, tmp_path), cwd=corpus.ROOT)
    until = time.monotonic() + 60
    while process.poll() is None and not any(tmp_path.glob(pattern)):
      assert time.monotonic() < until
      time.sleep(0.0005)
    process.kill()
    process.wait()
  corpus.run(*corpus.command(warcs, tmp_path))
  assert corpus.results(tmp_path) == corpus.results(finished)
  assert not list(tmp_path.rglob('*.tmp'))


def test_full_disk_is_named_and_loses_nothing(warcs, finished, tmp_path):
  limited = file_limit.limited(corpus.command(warcs, tmp_path), 6_500)
  printed = corpus.run(*limited, code=1)
  assert 'make room and give the same command again' in printed
  assert not list(tmp_path.glob('documents-*'))
  assert not list(tmp_path.rglob('*.tmp'))
  corpus.run(*corpus.command(warcs, tmp_path))
  assert corpus.results(tmp_path) == corpus.results(finished)


def test_lost_documents_are_noticed():
  step = funnel.Step('s')
  step.take('', (1, 1), 'http://h/')
  counts = step.to_json()
  assert funnel.merge([[counts], [counts]])[0]['documents_in'] == 2
  with pytest.raises(ValueError, match='step s: 2 documents in, but 1 kept'):
    funnel.merge([[{**counts, 'documents_in': 2}]])


def test_wrong_parquet_is_named(tmp_path):
  path = tmp_path / 'a.parquet'
  path.write_bytes(b'not a table')
  with pytest.raises(ValueError, match=r'a\.parquet is not a whole Parquet'):
    list(documents.read(path))


def test_recipe_configuration_loads():
  cfg = config.load(clean.Config, ['gin_configs/clean_pydoc.gin'], [])
  assert cfg.clean.extraction.extractor == 'resiliparse'
