"""Parquet in, and a split that never changes."""

import io
import pathlib

import pyarrow
import pyarrow.parquet
import pytest

from llm_jax.data import readers


def write(path, urls, column='text'):
  table = pyarrow.table({column: [f'text of {u}' for u in urls], 'url': urls})
  pyarrow.parquet.write_table(table, path)


URLS = [f'http://localhost/{i}.html' for i in range(400)]


def test_splits_share_out_every_document(tmp_path):
  write(tmp_path / 'b.parquet', URLS[:150])
  write(tmp_path / 'a.parquet', URLS[150:])
  parts = {s: list(readers.read(str(tmp_path), s)) for s in readers.SPLITS}
  assert sorted(d.url for part in parts.values() for d in part) == sorted(URLS)
  assert 10 <= len(parts['valid']) <= 30
  train = {d.url for d in parts['train']}
  expected = [url for url in URLS[150:] + URLS[:150] if url in train]
  assert [d.url for d in parts['train']] == expected
  assert parts['train'][0].text == f'text of {parts["train"][0].url}'


def test_split_is_fixed_for_ever():
  """By the URL, or by the text where there is none.

  crc32 of these is known: 'a' 0xE8B7BE43 % 20 = 19, 'ba' 0x2CA74A14 % 20 = 0.
  """
  page = readers.Document
  assert readers.split_of(page('ba', 'a')) == 'train'
  assert readers.split_of(page('a', '')) == 'train'
  assert readers.split_of(page('a', 'ba')) == 'valid'
  assert readers.split_of(page('ba', '')) == 'valid'


def test_fingerprint_follows_content(tmp_path):
  write(tmp_path / 'a.parquet', URLS[:10])
  before = readers.fingerprint(str(tmp_path))
  assert readers.fingerprint(str(tmp_path)) == before
  write(tmp_path / 'a.parquet', URLS[:11])
  assert readers.fingerprint(str(tmp_path)) != before


def test_a_corpus_is_a_folder_a_file_or_a_pattern(tmp_path):
  for name in 'ba':
    write(tmp_path / f'{name}.parquet', [name])
  (tmp_path / 'notes.txt').write_text('no document')
  a, b = tmp_path / 'a.parquet', tmp_path / 'b.parquet'
  assert readers.find(str(tmp_path)) == [a, b]
  assert readers.find(f'{tmp_path}/*.parquet') == [a, b]
  assert readers.find(str(b)) == [b]
  assert readers.find(b.as_uri()) == readers.find(f'file://{b}')
  assert [d.url for d in readers.read_file(readers.find(b.as_uri())[0])]


def test_text_of_another_column_and_no_url(tmp_path):
  path = tmp_path / 'a.parquet'
  pyarrow.parquet.write_table(pyarrow.table({'story': ['one', 'two']}), path)
  pages = list(readers.read_file(path, 'story'))
  assert pages == [('one', ''), ('two', '')]


@pytest.mark.parametrize(
  'type_',
  [
    pyarrow.string(),
    pyarrow.large_string(),
    pyarrow.binary(),
    pyarrow.large_binary(),
    pyarrow.dictionary(pyarrow.int32(), pyarrow.string()),
  ],
)
def test_rows_without_text_or_url(tmp_path, type_, caplog):
  """A row without text is counted; one without URL is a document."""
  text = pyarrow.array(['韬', None, '', None], pyarrow.string()).cast(type_)
  table = pyarrow.table({'text': text, 'url': [None, 'u', 'v', 'w']})
  pyarrow.parquet.write_table(table, tmp_path / 'a.parquet')
  pages = list(readers.read_file(tmp_path / 'a.parquet'))
  assert pages == [('韬', ''), ('', 'v')]
  assert '2 rows of' in caplog.text
  assert 'have no text and are left out' in caplog.text


@pytest.mark.parametrize(
  ('column', 'values', 'error'),
  [
    ('text', [1, 2], "holds 1 in column 'text', which is int and not text"),
    ('text', [None, 0.5], "holds 0.5 in column 'text', which is float"),
    ('text', [['a']], r"holds \['a'\] in column 'text', which is list"),
    ('text', [{'a': 1}], "column 'text', which is dict"),
    ('text', [b'\xff'], "bytes that are not UTF-8 in column 'text'"),
    ('url', [7], "holds 7 in column 'url', which is int"),
    ('url', [b'\xed\xa0\x80'], "bytes that are not UTF-8 in column 'url'"),
  ],
)
def test_other_values_are_named(tmp_path, column, values, error):
  columns = {'text': ['a'] * len(values), 'url': ['u'] * len(values)}
  table = pyarrow.table({**columns, column: values})
  pyarrow.parquet.write_table(table, tmp_path / 'a.parquet')
  with pytest.raises(ValueError, match=rf'a\.parquet .*{error}'):
    list(readers.read_file(tmp_path / 'a.parquet'))


def test_text_that_is_not_utf8_names_the_file(tmp_path):
  """Arrow checks no column that says it is text."""
  bad = pyarrow.array([b'ok', b'\xff']).view(pyarrow.string())
  table = pyarrow.table({'text': bad})
  pyarrow.parquet.write_table(table, tmp_path / 'a.parquet')
  with pytest.raises(ValueError, match=r'a\.parquet is not a whole .*0xff'):
    list(readers.read_file(tmp_path / 'a.parquet'))


class Counted(type(pathlib.Path())):
  """A path that counts what is read of its file."""

  n_read = 0

  def open(self, mode):
    path = self

    class File(io.FileIO):
      def read(self, size=-1):
        data = super().read(size)
        path.n_read += len(data)
        return data

    return File(path, mode)


@pytest.mark.parametrize('group', [20_000, 1000])
def test_documents_are_read_in_pieces(tmp_path, group):
  """Of 40 MB in one row group or in twenty, a few documents are in memory."""
  path = Counted(tmp_path / 'a.parquet')
  texts = [f'{i:05d} ' * 340 for i in range(20_000)]
  table = pyarrow.table({'text': texts, 'url': [t[:5] for t in texts]})
  pyarrow.parquet.write_table(table, str(path), group, compression='none')
  size = path.stat().st_size
  del table
  before, most, n_read = pyarrow.total_allocated_bytes(), 0, []
  for text, page in zip(texts, readers.read_file(path), strict=True):
    assert page.text == text
    most = max(most, pyarrow.total_allocated_bytes() - before)
    n_read.append(path.n_read)
  assert most < size / 4
  assert n_read[0] < size / 4
  assert size * 0.9 < n_read[-1] < size * 1.1


def test_refused(tmp_path):
  with pytest.raises(ValueError, match=r'no \.parquet file'):
    readers.find(str(tmp_path))
  with pytest.raises(FileNotFoundError, match='nowhere is no folder; give a'):
    readers.find(str(tmp_path / 'nowhere'))
  path = tmp_path / 'a.parquet'
  write(path, URLS[:10], column='content')
  with pytest.raises(ValueError, match="no column 'text', only"):
    list(readers.read(str(tmp_path), 'train'))
  write(path, URLS)
  path.write_bytes(path.read_bytes()[:-20])
  with pytest.raises(ValueError, match='not a whole Parquet file'):
    list(readers.read(str(tmp_path), 'train'))
  with pytest.raises(ValueError, match="no split 'test'"):
    list(readers.read(str(tmp_path), 'test'))
