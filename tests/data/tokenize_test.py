"""The recipe: from documents to shards, the same after kill -9."""

import dataclasses
import functools
import http.server
import io
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import pyarrow
import pyarrow.parquet
import pytest

from experiments import tokenize
from llm_jax.chat import formats
from llm_jax.data import readers, shards
from llm_jax.tasks import addition, splits
from llm_jax.tokenizer import encoding

CONFIG = tokenize.Config(
  sequence_length=32, addition=tokenize.Addition(documents=300)
)
N_FILES = 30


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
  """Folders of documents and of a tokenizer."""
  folder = tmp_path_factory.mktemp('inputs')
  (folder / 'documents').mkdir()
  for i in range(N_FILES):
    urls = [f'http://localhost/{i}/{k}' for k in range(80)]
    texts = [f'Page {u}: ' + 'to be or not to be, 韬. ' * 9 for u in urls]
    table = pyarrow.table({'text': texts, 'url': urls})
    path = folder / f'documents/documents-{i:05d}.parquet'
    pyarrow.parquet.write_table(table, path)
  vocabulary = encoding.Tokenizer.from_merges([(116, 111)], 'qwen2')
  vocabulary.save(folder / 'tokenizer')
  return {name: str(folder / name) for name in ('documents', 'tokenizer')}


def run(workdir, inputs, cfg=CONFIG, n_workers=1):
  documents = [inputs['documents']]
  tokenize.run(cfg, str(workdir), documents, inputs['tokenizer'], n_workers)


def shard_bytes(folder):
  return {
    path.relative_to(folder): path.read_bytes()
    for path in pathlib.Path(folder).rglob('*')
    if path.suffix == '.array_record' or path.name == 'manifest.json'
  }


@pytest.fixture(scope='module')
def uninterrupted(inputs, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('uninterrupted') / 'tokens'
  run(workdir, inputs)
  return workdir


def read_texts(folder, source, split, tokenizer):
  rows = shards.TokenSource(folder, source, split, tokenizer.fingerprint)
  ids = []
  for index in range(len(rows)):
    ids += rows.rows([index])[0, 1 : 1 + rows.n_targets([index])[0]].tolist()
  return tokenizer.decode(ids).split('<|endoftext|>')[:-1]


def test_text_comes_back(inputs, uninterrupted):
  tokenizer = encoding.Tokenizer.load(inputs['tokenizer'])
  for split in readers.SPLITS:
    pages = readers.read(inputs['documents'], split)
    texts = read_texts(uninterrupted, 'documents', split, tokenizer)
    assert texts == [page.text for page in pages]
  sums = addition.text_documents(addition.Addition(), 'train', 300, 0, 0.4)
  texts = read_texts(uninterrupted, 'addition', 'train', tokenizer)
  assert texts == [formats.plain(prompt) + answer for prompt, answer in sums]
  for text in texts:
    pair = sorted(map(int, re.findall('[0-9]+', text.partition('\n')[0])))
    assert not splits.is_held_out('+'.join(map(str, pair)))


def test_killed_and_continued(inputs, uninterrupted, tmp_path):
  """SIGKILL while two processes make shards; what is there is kept."""
  workdir = tmp_path / 'tokens'
  gin = [
    '--gin_bindings=Config.sequence_length = 32',
    '--gin_bindings=Addition.documents = 300',
  ]
  paths = [f'--{name}={path}' for name, path in inputs.items()]
  command = [sys.executable, '-m', 'experiments.tokenize', *gin, *paths]
  command += [f'--workdir={workdir}', '--n_workers=2']
  root = pathlib.Path(__file__).parents[2]
  made = []
  # Later each time, so that it is cut off in different places.
  for n_shards in (1, N_FILES // 2, N_FILES + 5):
    process = subprocess.Popen(
      command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and len(shard_bytes(workdir)) < n_shards:
      time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    made.append(len(shard_bytes(workdir)))
    assert not (workdir / 'done.json').exists()
  assert 0 < made[0] < made[1] < made[2] < len(shard_bytes(uninterrupted))
  first = list(workdir.rglob('*-00000.array*'))
  kept = {path: path.stat().st_mtime_ns for path in first}
  done = subprocess.run(command, cwd=root, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert shard_bytes(workdir) == shard_bytes(uninterrupted)
  assert kept == {path: path.stat().st_mtime_ns for path in kept}
  assert not list(workdir.rglob('*.tmp'))


def test_finished_work_is_not_redone(inputs, uninterrupted, capsys):
  run(uninterrupted, inputs)
  assert 'are finished' in capsys.readouterr().out


def test_other_inputs_are_refused(inputs, uninterrupted, tmp_path):
  other = dataclasses.replace(CONFIG, sequence_length=64)
  with pytest.raises(ValueError, match='sequence_length: 32 -> 64'):
    run(uninterrupted, inputs, other)
  tokenizer = encoding.Tokenizer.from_merges([(65, 66)], 'qwen2')
  tokenizer.save(tmp_path)
  with pytest.raises(ValueError, match=tokenizer.fingerprint):
    run(uninterrupted, {**inputs, 'tokenizer': str(tmp_path)})


class Site(http.server.ThreadingHTTPServer):
  """Serves a folder in ranges of bytes, as object stores do."""

  daemon_threads = True

  def __init__(self, folder):
    handler = functools.partial(_Handler, directory=folder)
    super().__init__(('127.0.0.1', 0), handler)
    self.folder = folder
    self.broken = ''  # the file of which only the first half arrives
    self.ranges: list[tuple[str, int]] = []  # file and bytes of each answer
    threading.Thread(target=self.serve_forever, daemon=True).start()

  @property
  def url(self):
    return f'http://127.0.0.1:{self.server_address[1]}'


class _Handler(http.server.SimpleHTTPRequestHandler):
  server: Site

  def log_message(self, *_):
    pass

  def end_headers(self):
    self.send_header('Accept-Ranges', 'bytes')
    super().end_headers()

  def send_head(self):
    asked = self.headers.get('Range')
    if not asked:
      return super().send_head()
    path = pathlib.Path(self.translate_path(self.path))
    first, last = map(int, asked.removeprefix('bytes=').split('-'))
    whole = path.read_bytes()
    data = whole[first : last + 1]
    self.server.ranges.append((path.name, len(data)))
    self.send_response(206)
    where = f'bytes {first}-{first + len(data) - 1}/{len(whole)}'
    self.send_header('Content-Range', where)
    self.send_header('Content-Length', str(len(data)))
    self.end_headers()
    is_broken = path.name == self.server.broken
    return io.BytesIO(data[: len(data) // 2] if is_broken else data)


@pytest.fixture
def site(inputs):
  server = Site(pathlib.Path(inputs['documents']))
  yield server
  server.shutdown()
  server.server_close()


def test_documents_at_a_web_server(site, inputs, uninterrupted, tmp_path):
  """The same bytes, also when the connection broke in between."""
  site.broken = f'documents-{N_FILES // 2:05d}.parquet'
  inputs = {**inputs, 'documents': site.url}
  with pytest.raises(OSError, match='could not be read.*same command again'):
    run(tmp_path, inputs)
  assert len(list(tmp_path.rglob('*.array_record'))) == 2 * (N_FILES // 2)
  site.broken = ''
  site.ranges.clear()
  run(tmp_path, inputs)
  assert shard_bytes(tmp_path) == shard_bytes(uninterrupted)
  # Finished files are not fetched again, and none is fetched twice.
  n_fetched = {path.name: path.stat().st_size for path in site.folder.iterdir()}
  first = f'documents-{N_FILES // 2:05d}.parquet'
  for name, n_bytes in n_fetched.items():
    fetched = sum(n for file, n in site.ranges if file == name)
    assert fetched == 0 if name < first else fetched <= n_bytes


def test_several_corpora(inputs, uninterrupted, tmp_path):
  pages = sorted(pathlib.Path(inputs['documents']).iterdir())
  corpora = [f'few={pages[3]}', inputs['documents']]
  tokenize.run(CONFIG, str(tmp_path), corpora, inputs['tokenizer'], 1)
  tokenizer = encoding.Tokenizer.load(inputs['tokenizer'])
  expected = [
    page.text
    for page in readers.read_file(pages[3])
    if readers.split_of(page) == 'train'
  ]
  assert read_texts(tmp_path, 'few', 'train', tokenizer) == expected
  both, one = shard_bytes(tmp_path), shard_bytes(uninterrupted)
  manifest = pathlib.Path('manifest.json')
  assert {k: both[k] for k in one if k != manifest} == {
    k: one[k] for k in one if k != manifest
  }
  for taken in ('addition=x', 'tokenizer=x', 'few=x'):
    with pytest.raises(
      ValueError, match='is taken; write --documents another-name=x'
    ):
      tokenize.run(CONFIG, 'unused', [*corpora, taken], 'unused')
