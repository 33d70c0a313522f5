"""Parquet in, and a split that never changes."""

import pyarrow
import pyarrow.parquet
import pytest

from llm_jax.data import documents


def write(path, urls, column='text'):
  table = pyarrow.table({column: [f'text of {u}' for u in urls], 'url': urls})
  pyarrow.parquet.write_table(table, path)


URLS = [f'http://localhost/{i}.html' for i in range(400)]


def test_splits_share_out_every_document(tmp_path):
  write(tmp_path / 'b.parquet', URLS[:150])
  write(tmp_path / 'a.parquet', URLS[150:])
  parts = {s: list(documents.read(tmp_path, s)) for s in documents.SPLITS}
  assert sorted(d.url for part in parts.values() for d in part) == sorted(URLS)
  assert 10 <= len(parts['valid']) <= 30
  train = {d.url for d in parts['train']}
  expected = [url for url in URLS[150:] + URLS[:150] if url in train]
  assert [d.url for d in parts['train']] == expected
  assert parts['train'][0].text == f'text of {parts["train"][0].url}'


def test_split_is_fixed_for_ever():
  """crc32 of these is known: 'a' 0xE8B7BE43 % 20 = 19, '' 0 % 20 = 0."""
  assert documents.split_of('a') == 'train'
  assert documents.split_of('') == 'valid'


def test_fingerprint_follows_content(tmp_path):
  write(tmp_path / 'a.parquet', URLS[:10])
  before = documents.fingerprint(tmp_path)
  assert documents.fingerprint(tmp_path) == before
  write(tmp_path / 'a.parquet', URLS[:11])
  assert documents.fingerprint(tmp_path) != before


def test_refused(tmp_path):
  with pytest.raises(ValueError, match=r'no \.parquet file'):
    documents.files(tmp_path)
  path = tmp_path / 'a.parquet'
  write(path, URLS[:10], column='content')
  with pytest.raises(ValueError, match="no column 'text', only"):
    list(documents.read(tmp_path, 'train'))
  write(path, [None])
  with pytest.raises(ValueError, match='without text or url'):
    list(documents.read(tmp_path, 'train'))
  write(path, URLS)
  path.write_bytes(path.read_bytes()[:-20])
  with pytest.raises(ValueError, match='not a whole Parquet file'):
    list(documents.read(tmp_path, 'train'))
  with pytest.raises(ValueError, match="no split 'test'"):
    list(documents.read(tmp_path, 'test'))
