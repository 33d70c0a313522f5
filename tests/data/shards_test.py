"""Shards hold every token once, and damage does not pass."""

import json

import numpy as np
import pytest

from llm_jax.data import shards

END = 0  # the separator
FINGERPRINT = 'f' * 64


def make_documents(n, seed=1, low=1, high=40, vocab_size=300):
  random = np.random.RandomState(seed)
  return [
    random.randint(1, vocab_size, random.randint(low, high)).tolist()
    for _ in range(n)
  ]


def write_shard(path, documents, layout):
  writer = shards.ShardWriter(path, layout)
  for ids in documents:
    writer.add(ids, 2 * len(ids))
  return writer.close()


def write(folder, sources, length=16, vocab_size=300):
  """sources: {source: {split: [documents of shard 0, of shard 1, ...]}}."""
  layout = shards.Layout(length, END, vocab_size)
  entries = {}
  for source, splits in sources.items():
    (folder / source).mkdir(parents=True, exist_ok=True)
    entries[source] = {
      split: [
        write_shard(
          folder / source / f'{split}-{i:05d}.array_record', documents, layout
        )
        for i, documents in enumerate(parts)
      ]
      for split, parts in splits.items()
    }
  return shards.write_manifest(
    folder, shards=entries, tokenizer_fingerprint=FINGERPRINT, layout=layout
  )


def stream_of(documents):
  return [END] + [token for ids in documents for token in [*ids, END]]


def targets_of(source, index):
  return source.rows([index])[0, 1:][: source.n_targets([index])[0]].tolist()


@pytest.mark.parametrize('length', [1, 7, 16, 1000])
@pytest.mark.parametrize('vocab_size', [300, 100277])
def test_rows_are_the_stream(tmp_path, length, vocab_size):
  """Every token but the first is a target once; rows overlap by one token."""
  parts = [make_documents(9, 1, vocab_size=vocab_size), make_documents(4, 2)]
  manifest = write(tmp_path, {'web': {'train': parts}}, length, vocab_size)
  source = shards.TokenSource(tmp_path, 'web', 'train', FINGERPRINT)
  targets, index = [], 0
  for documents in parts:
    stream = stream_of(documents)
    for start in range(0, len(stream) - 1, length):
      row = source.rows([index])[0].tolist()
      real = stream[start : start + length + 1]
      assert row == real + [END] * (length + 1 - len(real))
      targets += targets_of(source, index)
      index += 1
  assert len(source) == index
  assert targets == [t for part in parts for t in stream_of(part)[1:]]
  assert source.tokens == len(targets)
  counts = manifest['sources']['web']['train']
  assert (counts['documents'], counts['bytes']) == (13, 2 * (len(targets) - 13))
  assert source.rows([0]).dtype == np.int32


def test_rows_in_any_order(tmp_path):
  write(tmp_path, {'web': {'train': [make_documents(9), make_documents(5, 2)]}})
  source = shards.TokenSource(tmp_path, 'web', 'train', FINGERPRINT)
  everything = source.rows(range(len(source)))
  order = [*reversed(range(len(source))), 3, 3]
  np.testing.assert_array_equal(source.rows(order), everything[order])


def test_shard_without_documents(tmp_path):
  manifest = write(tmp_path, {'web': {'train': [[], make_documents(3)]}})
  files = [s['file'] for s in manifest['sources']['web']['train']['shards']]
  assert files == ['train-00001.array_record']
  assert not (tmp_path / 'web/train-00000.array_record').exists()


def test_unfinished_shard_has_no_name(tmp_path):
  path = tmp_path / 'train-00000.array_record'

  def documents():
    yield [1, 2, 3]
    raise OSError('disk full')

  with pytest.raises(OSError, match='disk full'):
    write_shard(path, documents(), shards.Layout(2, END, 300))
  assert not path.exists()


def test_same_input_same_bytes(tmp_path):
  manifests = [
    write(tmp_path / name, {'web': {'train': [make_documents(50)]}})
    for name in 'ab'
  ]
  assert manifests[0] == manifests[1]


@pytest.mark.parametrize('token', [END, -1, 300])
def test_wrong_tokens(tmp_path, token):
  with pytest.raises(ValueError, match=f'document 1 .* token {token}, the'):
    write(tmp_path, {'web': {'train': [[[1, 2], [3, token]]]}})


class TestOpening:
  @pytest.fixture
  def folder(self, tmp_path):
    write(tmp_path, {'web': {'train': [make_documents(9)], 'valid': [[]]}})
    return tmp_path

  def open(self, folder, split='train', fingerprint=FINGERPRINT):
    return shards.TokenSource(folder, 'web', split, fingerprint)

  def test_other_tokenizer(self, folder):
    with pytest.raises(ValueError, match=FINGERPRINT) as error:
      self.open(folder, fingerprint='e' * 64)
    assert 'e' * 64 in str(error.value)
    assert 'tokenize again' in str(error.value)

  def test_flipped_bit(self, folder):
    path = folder / 'web/train-00000.array_record'
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    expected = json.loads((folder / 'manifest.json').read_text())
    sha256 = expected['sources']['web']['train']['shards'][0]['sha256']
    with pytest.raises(ValueError, match=f'damaged.*{sha256}; restore'):
      self.open(folder)

  def test_missing_or_cut(self, folder):
    for split in ('test', 'valid'):
      with pytest.raises(ValueError, match=f'no tokens of web/{split}; it has'):
        self.open(folder, split)
    path = folder / 'web/train-00000.array_record'
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match='is damaged or missing'):
      self.open(folder)
    path.unlink()
    with pytest.raises(ValueError, match='missing: its sha256 is that of no'):
      self.open(folder)
    (folder / 'manifest.json').unlink()
    with pytest.raises(ValueError, match=r'run experiments\.tokenize'):
      self.open(folder)
