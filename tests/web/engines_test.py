"""The same bytes from any runner, place, cut of the work and earlier runs."""

import dataclasses
import functools
import gzip
import http.server
import importlib.util
import json
import os
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from concurrent import futures

import numpy as np
import pytest
from pyarrow import parquet

from llm_jax import files, locks
from llm_jax.web import beam_runner, documents, pipeline
from llm_jax.web.crawl import warc_write
from llm_jax.web.dedup import deduplication
from tests.web import corpus
from tools import make_golden_copies

CFG, run = corpus.CFG, corpus.run


def texts(folder: pathlib.Path) -> list[str]:
  return [
    row['url'].rpartition('/')[2]
    for path in sorted(folder.glob('documents-*.parquet'))
    for row in parquet.read_table(path).to_pylist()
  ]


@pytest.mark.parametrize(
  'mode',
  ['multi_processing', pytest.param('in_memory', marks=pytest.mark.nightly)],
)
def test_beam_writes_the_same_bytes(warcs, finished, tmp_path, mode):
  pytest.importorskip('apache_beam')
  options = [f'--direct_running_mode={mode}', '--direct_num_workers=2']
  more = ['--runner', 'beam', *(f'--beam_option={o}' for o in options)]
  run(*corpus.command(warcs, tmp_path, *more))
  assert corpus.results(tmp_path) == corpus.results(finished)


def test_mistakes_get_one_message(warcs, finished, tmp_path):
  """Each names the value and the remedy."""
  (tmp_path / 'begun').mkdir()
  shutil.copytree(finished, tmp_path / 'part')
  (tmp_path / 'part' / 'keys-00001.npy').unlink()
  for name, data in {
    'empty': b'',
    'other': b'%PDF-1.7 and so on',
    'broken': gzip.compress(b'WARC/1.0\r\nno header'),
    'missing': corpus.record('missing', b'<p>no</p>', 404),
    'silent': corpus.record('silent', b'<p></p>'),
    'short': corpus.record('short', b'<p>Of a few words.</p>'),
  }.items():
    (tmp_path / name).mkdir()
    (tmp_path / name / f'{name}.warc.gz').write_bytes(data)
  mistakes = [
    (warcs, {'runner': 'spark'}, '--runner spark: give pool or beam'),
    (warcs, {'earlier': [f'{tmp_path}/no']}, '--earlier .*/no: no file match'),
    (warcs, {'earlier': [f'{tmp_path}/begun']}, 'begun holds no manifest.json'),
    (warcs, {'earlier': [f'{tmp_path}/part']}, 'part lacks keys-00001.npy'),
    (warcs, {'blocklist': [f'{tmp_path}/no']}, '--blocklist .*no file matches'),
    (tmp_path / 'no', {}, '--warc .*/no/.*: no file matches'),
    (tmp_path / 'empty', {}, 'no document is left: 1 files hold 0 pages'),
    (tmp_path / 'other', {}, "{'records': {'damaged_file': 1}}; give WARC"),
    (tmp_path / 'broken', {}, "{'records': {'damaged_file': 1}}; give WARC"),
    (tmp_path / 'missing', {}, "{'records': {'http_404': 1}}; give WARC"),
    (tmp_path / 'silent', {}, "{'extraction': {'no_text': 1}}; give WARC"),
    (tmp_path / 'short', {}, "{'gopher_repetition': {'top_2_gram': 1}}; give"),
  ]
  for i, (folder, more, message) in enumerate(mistakes):
    out, warc = tmp_path / f'out{i}', f'{folder}/*.warc.gz'
    with pytest.raises((ValueError, OSError), match=message):
      corpus.clean(warc, out, n_workers=1, **more)
    assert not (out / 'done.json').exists()


def test_a_second_process_in_a_folder_is_told_of_the_first(warcs, tmp_path):
  for more in ([], ['--output', f'{tmp_path}/out']):
    first = tmp_path / f'first{len(more)}'
    output = tmp_path / 'out' if more else first
    output.mkdir()
    locks.lock(output)
    second = tmp_path / 'second' if more else first
    printed = run(*corpus.command(warcs, second, *more), code=1)
    assert f'is in use by process {os.getpid()}' in printed
    assert 'Traceback' not in printed
    locks.unlock(output)


def test_number_of_workers_does_not_matter(warcs, finished, tmp_path):
  corpus.clean(warcs, tmp_path, n_workers=1)
  assert corpus.results(tmp_path) == corpus.results(finished)


def test_list_of_paths_at_a_web_server(warcs, finished, tmp_path):
  """As Common Crawl gives out its files."""
  names = sorted(path.name for path in warcs.glob('*.warc.gz'))
  paths = tmp_path / 'warc.paths.gz'
  paths.write_bytes(gzip.compress('\n'.join([*names, '']).encode()))
  handler = functools.partial(
    http.server.SimpleHTTPRequestHandler, directory=str(warcs)
  )
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    site = f'http://127.0.0.1:{server.server_address[1]}/'
    corpus.clean(paths, tmp_path / 'out', warc_root=site)
    server.shutdown()
  table = parquet.read_table(tmp_path / 'out' / 'documents-00000.parquet')
  # The same documents; where they come from is now a URL.
  assert texts(tmp_path / 'out') == texts(finished)
  assert table['file_path'][0].as_py() == f'{site}{names[0]}'
  record = json.loads((tmp_path / 'out' / 'run.json').read_text())
  assert f'00000 {site}{names[0]}' in record['inputs']


_FTP_SERVER = """
import sys, warnings
warnings.simplefilter('ignore')
from pyftpdlib import authorizers, handlers, servers
authorizer = authorizers.DummyAuthorizer()
authorizer.add_user('user', 'word', sys.argv[1], perm='elradfmwMT')
handlers.FTPHandler.authorizer = authorizer
server = servers.FTPServer(('127.0.0.1', 0), handlers.FTPHandler)
print(server.address[1], flush=True)
server.serve_forever()
"""


@pytest.fixture
def ftp_site(tmp_path):
  (tmp_path / 'ftp').mkdir()
  server = subprocess.Popen(
    [sys.executable, '-c', _FTP_SERVER, str(tmp_path / 'ftp')],
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
  )
  assert server.stdout
  yield (
    tmp_path / 'ftp',
    f'ftp://user:word@127.0.0.1:{server.stdout.readline()}',
  )
  server.kill()
  server.wait()
  server.stdout.close()


def test_output_at_a_url(warcs, finished, tmp_path, ftp_site):
  """Every file is written to and read back from a real server."""
  folder, url = ftp_site
  url = f'{url.strip()}/run'
  corpus.clean(warcs, tmp_path / 'a', output=url)
  assert corpus.results(folder / 'run') == corpus.results(finished)
  assert not (folder / 'run' / 'filtered').exists()
  # And as an earlier run of another one.
  corpus.clean(warcs, tmp_path / 'b', earlier=[url])
  assert texts(tmp_path / 'b') == []


# The server, what its clients need in the environment, and packages.
BUCKETS = {
  's3': (
    'moto.server -H 127.0.0.1 -p {port}',
    'AWS_ENDPOINT_URL=http://127.0.0.1:{port} AWS_ACCESS_KEY_ID=a '
    'AWS_SECRET_ACCESS_KEY=b AWS_DEFAULT_REGION=us-east-1',
    ('moto', 's3fs'),
  ),
  'gs': (
    'gcp_storage_emulator start --in-memory --host 127.0.0.1 --port {port}',
    'STORAGE_EMULATOR_HOST=http://127.0.0.1:{port} FSSPEC_GS_TOKEN=anon '
    # Else it asks over gRPC.
    'FSSPEC_GS_PROJECT=test GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT=false',
    ('gcp_storage_emulator', 'gcsfs'),
  ),
}


@pytest.mark.parametrize('scheme', BUCKETS)
def test_input_and_output_in_a_bucket(warcs, finished, tmp_path, scheme):
  command, variables, needed = BUCKETS[scheme]
  if not all(map(importlib.util.find_spec, needed)):
    pytest.skip(f'needs {needed}, of the extra parity')
  with socket.create_server(('127.0.0.1', 0)) as free:
    port = free.getsockname()[1]
  pairs = variables.format(port=port).split()
  env = dict(pair.split('=', maxsplit=1) for pair in pairs)
  command = [sys.executable, '-m', *command.format(port=port).split()]
  server = subprocess.Popen(command)

  def call(code: str):
    code = f'import fsspec; fs = fsspec.filesystem("{scheme}"); {code}'
    run(sys.executable, '-c', code, env=env)

  try:
    probe = socket.socket()
    while probe.connect_ex(('127.0.0.1', port)):
      assert server.poll() is None
      time.sleep(0.1)
    probe.close()
    call('fs.mkdir("bucket")')
    call(f'fs.put("{warcs}/", "bucket/in/", recursive=True)')
    url = f'{scheme}://bucket'
    command = corpus.command(warcs, tmp_path / 'a', '--output', f'{url}/run')
    run(*command, env=env)
    call(f'fs.get("bucket/run/", "{tmp_path}/copy/", recursive=True)')
    assert corpus.results(tmp_path / 'copy') == corpus.results(finished)
    run(*corpus.command(f'{url}/in/*.warc.gz', tmp_path / 'b'), env=env)
    assert texts(tmp_path / 'b') == texts(finished)
  finally:
    server.kill()
    server.wait()


def test_earlier_runs_are_an_index_that_grows(finished, tmp_path):
  """A second crawl keeps what is new; a third knows both."""
  pages = [('one', corpus.prose(1)), ('new', corpus.prose(500))]
  near = [*corpus.prose(101)[:-1], 'The last sentence is another one.']
  second = _warc(tmp_path, 'b', [*pages, ('near', near)])
  earlier = [str(finished)]
  corpus.clean(second, tmp_path / 'b', earlier=earlier)
  assert texts(tmp_path / 'b') == ['new']
  steps = json.loads((tmp_path / 'b' / 'funnel.json').read_text())['steps']
  removed = steps[-1]['removed']
  assert {name: r['documents'] for name, r in removed.items()} == {
    'exact_copy': 1,
    'near_copy': 1,
  }
  third = _warc(tmp_path, 'c', [*pages, ('newer', corpus.prose(600))])
  earlier.append(str(tmp_path / 'b'))
  corpus.clean(third, tmp_path / 'c', earlier=earlier)
  assert texts(tmp_path / 'c') == ['newer']
  other = dataclasses.replace(CFG, minhash=deduplication.MinHash(seed=2))
  with pytest.raises(ValueError, match='configure MinHash as it was'):
    corpus.clean(third, tmp_path / 'd', other, earlier=earlier)


def _warc(folder: pathlib.Path, name: str, pages) -> pathlib.Path:
  path = folder / f'{name}.warc.gz'
  path.write_bytes(b''.join(corpus.record(n, corpus.html(p)) for n, p in pages))
  return path


def test_lists_and_evaluation_sets_remove(warcs, tmp_path):
  (tmp_path / 'lists' / 'malware').mkdir(parents=True)
  (tmp_path / 'lists' / 'malware' / 'urls').write_text('h/fill3\n')
  secret = ' '.join(corpus.prose(102)[4:6])
  questions = tmp_path / 'quiz.jsonl'
  questions.write_text(json.dumps({'question': secret}) + '\n')
  lists, sets = [str(tmp_path / 'lists')], [str(questions)]
  more = {'blocklist': lists, 'evaluation_set': sets}
  corpus.clean(warcs, tmp_path / 'out', **more)
  steps = json.loads((tmp_path / 'out' / 'funnel.json').read_text())['steps']
  removed = {step['name']: step['removed'] for step in steps}
  assert list(removed['url']) == ['url_malware']
  assert list(removed['evaluation']) == ['evaluation_quiz']
  (sample,) = removed['evaluation']['evaluation_quiz']['samples']
  assert sample['url'] == 'http://h/fill2'
  # Another list in the same folder is another run.
  (tmp_path / 'lists' / 'malware' / 'urls').write_text('h/fill4\n')
  with pytest.raises(ValueError, match='inputs blocklist lists'):
    corpus.clean(warcs, tmp_path / 'out', **more)


def test_text_records_pass_without_extraction(tmp_path):
  """WET files: the text is there already, lines and all."""
  text = '\n'.join(corpus.prose(9))
  path = tmp_path / 'a.warc.wet.gz'
  headers = {'WARC-Target-URI': 'http://h/text'}
  path.write_bytes(
    warc_write._encode('conversion', corpus.DATE, headers, text.encode())
  )
  shard = _plan(tmp_path, [path]).shards[0]
  assert texts(tmp_path) == []
  rows = parquet.read_table(shard.filtered.documents).to_pylist()
  assert [row['text'] for row in rows] == [text]


def _plan(folder: pathlib.Path, paths) -> pipeline.Plan:
  """A run in this process up to its candidates."""
  warcs = {path: files.fingerprint(path) for path in paths}
  todo = pipeline.plan(CFG, warcs, folder)
  for number in range(len(todo.shards)):
    pipeline.filter_shard(todo, number)
  return todo


def test_keys_in_parts_of_their_range_give_the_same_pairs(
  warcs, tmp_path, monkeypatch
):
  """What bounds the memory changes nothing."""
  todo = _plan(tmp_path, sorted(warcs.glob('*.warc.gz'))[2:])
  # Each pair of neighbours shares one value, at a border of a part.
  limits = [0, *((i << 64) // 3 - d for i in (1, 2) for d in (0, 1)), 2**64 - 1]
  keys = np.random.default_rng(0).integers(1 << 60, 1 << 61, (15, 12), 'u8')
  for i, value in enumerate(limits):
    keys[i % 15, 2 * i : 2 * i + 2] = value
  files.write_array(todo.shards[0].filtered.keys, keys)
  for n_sorted in (12, 4):
    monkeypatch.setattr(pipeline, '_MAX_SORTED', n_sorted)
    assert pipeline.candidates(todo).T.tolist() == [
      *([1, 0, 0], [3, 2, 0], [5, 4, 1], [7, 6, 2], [9, 8, 3], [11, 10, 4])
    ]


def test_engines_agree_on_survivors(tmp_path):
  """Groups that join late and in parts, the first file being an index.

  Texts of the index resemble each other too, and a new one may join them.
  """
  golden = make_golden_copies.files()
  todo = pipeline.plan(CFG, {tmp_path / f'{i}': 'x' for i in (1, 2)}, tmp_path)
  index = pipeline.Shard(tmp_path, 0, tmp_path, '').written
  todo = dataclasses.replace(todo, earlier=(index,))
  for part, texts in zip(todo.parts, golden, strict=True):
    with documents.writing(part.documents) as write:
      for text in texts:
        write(documents.Document(text, *([''] * 6), 0.0))
    keys = [deduplication.keys(CFG.minhash, text) for text in texts]
    files.write_array(part.keys, np.stack(keys, axis=1))

  verified = pipeline.verify(todo, pipeline.candidates(todo))
  ours = pipeline.copies(todo, [verified])
  elements = [0, 1, 2]
  for step in (beam_runner._keys, beam_runner._pairs):
    elements = [pair for e in elements for pair in step(e, todo)]
    grouped: dict = {}
    random.Random(0).shuffle(elements)  # a shuffle gives any order
    for key, value in elements:
      grouped.setdefault(key, []).append(value)
    elements = list(grouped.items())
  theirs = [beam_runner._verify(group, todo) for group in elements]
  assert ours == pipeline.copies(todo, theirs)
  assert min(len(rows) for _, rows in ours) > 200


def test_finished_shard_of_other_code_is_done_again(warcs, tmp_path):
  path = sorted(warcs.glob('*.warc.gz'))[0]
  todo = _plan(tmp_path, [path])
  counts = todo.shards[0].intermediate('.filtered.json')
  before = counts.read_bytes()
  pipeline.filter_shard(todo, 0)
  assert counts.read_bytes() == before
  counts.write_bytes(before.replace(b'"key": "', b'"key": "0'))
  pipeline.filter_shard(todo, 0)
  assert counts.read_bytes() == before


def test_threads_do_not_share_a_child(warcs, tmp_path):
  """Runners of Beam clean several shards in one process at the same time."""
  path = sorted(warcs.glob('*.warc.gz'))[2]
  alone = _plan(tmp_path / 'a', [path]).shards[0].filtered
  copy = tmp_path / 'copy.warc.gz'
  copy.write_bytes(path.read_bytes())
  todo = pipeline.plan(CFG, {path: 'x', copy: 'y'}, tmp_path / 'b')
  with futures.ThreadPoolExecutor(2) as threads:
    list(threads.map(functools.partial(pipeline.filter_shard, todo), [0, 1]))
  for shard in todo.shards:
    keys = files.read_array(shard.filtered.keys)
    np.testing.assert_array_equal(keys, files.read_array(alone.keys))
