"""Another builder's folder: its text, shard by shard, and its conversations."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from experiments import tokenize
from llm_jax.data import conversations, readers, tfds_folder
from tests.data import tokenize_test
from tests.evals import tiny_checkpoint

STORIES = [f'Story {i} of 韬.' for i in range(50)]


class Stories(tfds.core.GeneratorBasedBuilder):
  """Documents as somebody else would build them."""

  VERSION = tfds.core.Version('2.1.0')
  code_path = None

  def _info(self):
    return self.dataset_info_from_configs(
      features=tfds.features.FeaturesDict(
        {'story': tfds.features.Text(), 'n': tfds.features.Scalar(np.int64)}
      ),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    return {
      'train': self._generate_examples(STORIES),
      'test': self._generate_examples(['no'] * 3),
    }

  def _generate_examples(self, stories):
    for i, story in enumerate(stories):
      yield i, {'story': story, 'n': i}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  builder = Stories(
    data_dir=str(tmp_path_factory.mktemp('tfds')), file_format='array_record'
  )
  tfds.disable_progress_bar()
  config = tfds.download.DownloadConfig(num_shards=3)
  builder.download_and_prepare(download_config=config)
  return str(builder.data_dir)


def test_shard_by_shard(folder):
  files = readers.find(folder)
  parts = [
    list(readers.read_file(path, readers.Form('story'))) for path in files
  ]
  assert len(parts) == 3
  assert all(parts)
  pages = [(story, '') for story in STORIES]
  assert [page for part in parts for page in part] == pages


def test_tokenized(folder, tmp_path):
  vocabulary = tiny_checkpoint.tokenizer()
  vocabulary.save(tmp_path / 'tokenizer')
  cfg = tokenize.Config(text_column='story')
  given = [f'stories={folder}'], str(tmp_path / 'tokenizer')
  tokenize.run(cfg, str(tmp_path / 'tokens'), *given, n_workers=1)
  texts = [
    text
    for split in readers.SPLITS
    for text in tokenize_test.read_texts(
      tmp_path / 'tokens', 'stories', split, vocabulary
    )
  ]
  assert sorted(texts) == sorted(STORIES)


def test_refused(folder, tmp_path):
  first = readers.find(folder)[0]
  with pytest.raises(ValueError, match=r"no column 'text', only \['n', 'story"):
    list(readers.read_file(first))
  (tmp_path / tfds_folder.INFO_FILE).write_text('{}')
  with pytest.raises(ValueError, match="build it with file_format='array_rec"):
    readers.find(str(tmp_path))


def test_conversations_of_another_set(tmp_path):
  """Whoever built it: with roles and contents alone, or as we do."""
  talk = [{'role': 'user', 'content': 'Hi', 'weight': 0}]
  item = conversations.Item('x', 'y', talk)
  conversations.build(lambda: [item] * 2, tmp_path / 'one')
  (folder,) = (tmp_path / 'one').glob('conversations/*')
  (path,) = conversations.find(str(folder))
  rows = list(conversations.rows(path))
  assert [(n, row['messages']) for n, row in rows] == [(1, talk), (2, talk)]
  found = {'role': [b'user'], 'content': [b'Hi']}
  assert conversations._plain({'messages': found, 'n': np.int64(1)}) == {
    'messages': [{'role': 'user', 'content': 'Hi'}],
    'n': 1,
  }


def test_tensorflow_is_not_loaded(folder):
  code = (
    'import pathlib, sys; from llm_jax.data import readers as d; '
    'print(len([*d.read_file(d.find(sys.argv[1])[0], d.Form("story"))])); '
    'assert "tensorflow" not in sys.modules'
  )
  done = subprocess.run(
    [sys.executable, '-c', code, folder], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  assert int(done.stdout) > 0
