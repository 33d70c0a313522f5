"""The recipe: from documents to shards, the same after kill -9."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time

import pyarrow
import pyarrow.parquet
import pytest

from experiments import tokenize
from llm_jax.data import documents as documents_lib
from llm_jax.data import shards
from llm_jax.tasks import addition
from llm_jax.tokenizer import tokenizer as tokenizer_lib

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
  tokenizer_lib.Tokenizer.from_merges([(116, 111)], 'qwen2').save(
    folder / 'tokenizer'
  )
  return {name: str(folder / name) for name in ('documents', 'tokenizer')}


def shard_bytes(folder):
  return {
    path.relative_to(folder): path.read_bytes()
    for path in pathlib.Path(folder).rglob('*')
    if path.suffix == '.array_record' or path.name == 'manifest.json'
  }


@pytest.fixture(scope='module')
def uninterrupted(inputs, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('uninterrupted') / 'tokens'
  tokenize.run(CONFIG, str(workdir), **inputs)
  return workdir


def read_texts(folder, source, split, tokenizer):
  rows = shards.TokenSource(folder, source, split, tokenizer.fingerprint)
  ids = []
  for index in range(len(rows)):
    ids += rows.rows([index])[0, 1 : 1 + rows.n_targets([index])[0]].tolist()
  return tokenizer.decode(ids).split('<|endoftext|>')[:-1]


def test_text_comes_back(inputs, uninterrupted):
  tokenizer = tokenizer_lib.Tokenizer.load(inputs['tokenizer'])
  for split in documents_lib.SPLITS:
    pages = documents_lib.read(inputs['documents'], split)
    texts = read_texts(uninterrupted, 'documents', split, tokenizer)
    assert texts == [page.text for page in pages]
  sums = addition.text_documents(3, 'train', 300, 0, 0.4)
  texts = read_texts(uninterrupted, 'addition', 'train', tokenizer)
  assert texts == [prompt + answer for prompt, answer in sums]
  assert not any(addition.is_held_out(t[: t.index('=') + 1]) for t in texts)


def test_killed_and_continued(inputs, uninterrupted, tmp_path):
  """SIGKILL while shards appear; what is there is kept, the rest is made."""
  workdir = tmp_path / 'tokens'
  gin = [
    '--gin_bindings=Config.sequence_length = 32',
    '--gin_bindings=Addition.documents = 300',
  ]
  paths = [f'--{name}={path}' for name, path in inputs.items()]
  command = [sys.executable, '-m', 'experiments.tokenize', *gin, *paths]
  command.append(f'--workdir={workdir}')
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
  kept = {
    path: path.stat().st_mtime_ns for path in workdir.rglob('*-00000.array*')
  }
  done = subprocess.run(command, cwd=root, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert shard_bytes(workdir) == shard_bytes(uninterrupted)
  assert kept == {path: path.stat().st_mtime_ns for path in kept}


def test_finished_work_is_not_redone(inputs, uninterrupted, capsys):
  tokenize.run(CONFIG, str(uninterrupted), **inputs)
  assert 'are finished' in capsys.readouterr().out


def test_other_inputs_are_refused(inputs, uninterrupted, tmp_path):
  other = dataclasses.replace(CONFIG, sequence_length=64)
  with pytest.raises(ValueError, match='sequence_length: 32 -> 64'):
    tokenize.run(other, str(uninterrupted), **inputs)
  tokenizer = tokenizer_lib.Tokenizer.from_merges([(65, 66)], 'qwen2')
  tokenizer.save(tmp_path)
  with pytest.raises(ValueError, match=tokenizer.fingerprint):
    tokenize.run(
      CONFIG,
      str(uninterrupted),
      documents=inputs['documents'],
      tokenizer=str(tmp_path),
    )
