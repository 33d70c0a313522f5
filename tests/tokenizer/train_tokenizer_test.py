"""The recipe: documents and task text to a saved vocabulary and its report."""

import argparse
import inspect
import json

import pyarrow
import pyarrow.parquet
import pytest

from experiments import train_tokenizer
from llm_jax.data import readers
from llm_jax.tokenizer import encoding

CONFIG = train_tokenizer.Config(vocab_size=600, addition_documents=200)


@pytest.fixture
def documents(tmp_path):
  source = inspect.getsource(argparse)
  texts = [source[i : i + 500] for i in range(0, len(source), 500)]
  urls = [f'http://localhost/{i}' for i in range(len(texts))]
  folder = tmp_path / 'documents'
  folder.mkdir()
  pyarrow.parquet.write_table(
    pyarrow.table({'text': texts, 'url': urls}), folder / 'a.parquet'
  )
  return str(folder)


def test_report_and_files(documents, tmp_path):
  workdir = tmp_path / 'tokenizer'
  train_tokenizer.run(CONFIG, str(workdir), [documents])
  tokenizer = encoding.Tokenizer.load(workdir)
  assert tokenizer.vocab_size == 600
  held_out = [p.text for p in readers.read(documents, 'valid')]
  n_bytes = sum(len(text.encode()) for text in held_out)
  n_tokens = sum(len(tokenizer.encode(text)) for text in held_out)
  report = json.loads((workdir / 'report.json').read_text())
  assert report['held_out_documents'] == len(held_out) > 0
  assert report['held_out_bytes'] == n_bytes
  assert report['bytes_per_token'] == {'own': round(n_bytes / n_tokens, 4)}
  assert report['fingerprint'] == tokenizer.fingerprint
  done = json.loads((workdir / 'done.json').read_text())
  assert done['stage'] == 'train_tokenizer'


def test_same_vocabulary_again_and_held_out_text_unread(documents, tmp_path):
  """The same merges as from the training documents alone, read by hand."""
  train_tokenizer.run(CONFIG, str(tmp_path / 'one'), [documents])
  texts = [p.text for p in readers.read(documents, 'train')]
  by_hand = encoding.Tokenizer.train(
    [*texts, *train_tokenizer.task_texts(CONFIG)], 600
  )
  one = encoding.Tokenizer.load(tmp_path / 'one')
  assert one.fingerprint == by_hand.fingerprint


def test_task_text_is_learnt(documents, tmp_path):
  train_tokenizer.run(CONFIG, str(tmp_path / 'one'), [documents])
  one = encoding.Tokenizer.load(tmp_path / 'one')
  pieces = [one.token_bytes(i) for i in one.encode('<think>\n810:09\n')]
  assert pieces[:2] == [b'<think', b'>\n']
  # '=' ends the prompts and '<think' begins answers: apart, never one token.
  assert one.encode('=<think')[0] == ord('=')


def test_finished_work_is_not_redone(documents, tmp_path, capsys):
  workdir = str(tmp_path / 'one')
  train_tokenizer.run(CONFIG, workdir, [documents])
  train_tokenizer.run(CONFIG, workdir, [documents])
  assert 'is finished' in capsys.readouterr().out


def test_wrong_ranks_file(documents, tmp_path):
  path = tmp_path / 'cl100k_base.tiktoken'
  path.write_bytes(b'IQ== 0\n')
  with pytest.raises(ValueError, match='ranks of cl100k have 223921b7'):
    train_tokenizer.run(
      CONFIG, str(tmp_path / 'one'), [documents], cl100k_ranks=str(path)
    )
