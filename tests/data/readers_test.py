"""Documents of every kind in, and a split that never changes."""

import gzip
import io
import json
import pathlib

import pyarrow
import pyarrow.parquet
import pytest
import upath
from backports import zstd

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
  a, b = tmp_path / 'a.parquet', tmp_path / 'b.parquet'
  assert readers.find(str(tmp_path)) == [a, b]
  for pattern in ('*.parquet', '?.parquet', '[ab].parquet', '[!c].*'):
    for root in (str(tmp_path), f'memory://{tmp_path.name}'):
      if '://' in root:
        for path in (a, b):
          upath.UPath(root, path.name).write_bytes(path.read_bytes())
      found = readers.find(f'{root}/{pattern}')
      assert [path.name for path in found] == ['a.parquet', 'b.parquet']
  assert readers.find(str(b)) == [b]
  assert readers.find(b.as_uri()) == readers.find(f'file://{b}')
  assert [d.url for d in readers.read_file(readers.find(b.as_uri())[0])]


def test_text_of_another_column_and_no_url(tmp_path):
  path = tmp_path / 'a.parquet'
  pyarrow.parquet.write_table(pyarrow.table({'story': ['one', 'two']}), path)
  pages = list(readers.read_file(path, readers.Form('story')))
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
    ('text', [1, 2], "1: column 'text' holds 1, which is int and not text"),
    ('text', [None, 0.5], "2: column 'text' holds 0.5, which is float"),
    ('text', [['a']], r"1: column 'text' holds \['a'\], which is list"),
    ('text', [{'a': 1}], 'which is dict'),
    ('text', [b'\xff'], "column 'text' holds bytes that are not UTF-8"),
    ('url', [7], "column 'url' holds 7, which is int"),
    ('url', [b'\xed\xa0\x80'], "column 'url' holds bytes that are not UTF-8"),
  ],
)
def test_other_values_are_named(tmp_path, column, values, error):
  columns = {'text': ['a'] * len(values), 'url': ['u'] * len(values)}
  table = pyarrow.table({**columns, column: values})
  pyarrow.parquet.write_table(table, tmp_path / 'a.parquet')
  with pytest.raises(ValueError, match=rf'a\.parquet, row .*{error}'):
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
  with pytest.raises(ValueError, match='no file that is read, only nothing'):
    readers.find(str(tmp_path))
  with pytest.raises(FileNotFoundError, match='nowhere: no file matches'):
    readers.find(str(tmp_path / 'nowhere'))
  path = tmp_path / 'a.parquet'
  write(path, URLS[:10], column='content')
  with pytest.raises(ValueError, match="no column 'text', only"):
    list(readers.read(str(tmp_path), 'train'))
  write(path, URLS)
  path.write_bytes(path.read_bytes()[:-20])
  with pytest.raises(ValueError, match='not a whole Parquet file'):
    list(readers.read(str(tmp_path), 'train'))


def packed(path, data):
  """Write bytes, packed as the name says."""
  pack = {'.gz': gzip.compress, '.zst': zstd.compress}.get(path.suffix, bytes)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(pack(data))


FORM = readers.Form()


def texts(corpus, form=FORM):
  return [
    document.text
    for part in readers.parts(str(corpus), form)
    for _, document in readers.read_part(part, form)
  ]


def test_a_folder_of_every_kind(tmp_path, caplog):
  """By path, with folders below; what is left out is counted by kind."""
  rows = b'{"text": "json 1", "id": 7}\n\n{"text": null}\n{"text": "json 2"}'
  given = {
    'a.txt': 'one\n\ntwo 韬\n'.encode(),
    'b.MD': b'\xef\xbb\xbf# Title\r\n',
    'c.jsonl': rows,
    'c.jsonl.gz': rows,
    'c.ndjson.zst': rows[:28],
    'deep/er/d.txt.gz': b'deep',
    'e.txt': b' \n',
    **dict.fromkeys(('notes.pdf', 'x.json', 'README', 'm.pdf'), b'{}'),
    **dict.fromkeys(('.git/x.txt', '.hidden.txt'), b'not seen'),
  }
  for name, data in given.items():
    packed(tmp_path / name, data)
  write(tmp_path / 'f.parquet', ['u'])
  json_texts = ['json 1', 'json 2']
  assert texts(tmp_path) == [
    'one\n\ntwo 韬\n', '# Title\r\n', *json_texts, *json_texts, 'json 1',
    'deep', 'text of u',
  ]  # fmt: skip
  assert (
    'others are left out: 2 .pdf, 1 without extension, 1 .json' in caplog.text
  )
  assert '1 rows of' in caplog.text
  assert 'e.txt have no text' in caplog.text


def test_blank_lines_separate_documents(tmp_path):
  text = b'\n\na\nb\r\n\r\n \t\nc\n\n\nd'
  packed(tmp_path / 'x.txt', text)
  packed(tmp_path / 'x.txt.zst', text)
  packed(tmp_path / 'y.md', b'# e\n\nf')
  form = readers.Form(blank_lines=True)
  paths = readers.find(str(tmp_path))
  found = [[d.text for d in readers.read_file(p, form)] for p in paths]
  assert found == [['a\nb', 'c', 'd'], ['a\nb', 'c', 'd'], ['# e\n\nf']]


def test_text_files_share_parts(tmp_path, monkeypatch):
  """In their order, by count and by bytes; files of rows stand alone."""
  monkeypatch.setattr(readers, '_FILES_A_PART', 3)
  monkeypatch.setattr(readers, '_BYTES_A_PART', 100)
  sizes = {'a': 10, 'b': 10, 'c': 10, 'd': 10, 'e': 95, 'f': 5, 'g': 200}
  for name, size in sizes.items():
    packed(tmp_path / f'{name}.txt', b'x' * size)
  packed(tmp_path / 'e2.jsonl', b'{"text": "y"}\n')
  found = [
    ' '.join(path.stem for path in part.paths)
    for part in readers.parts(str(tmp_path))
  ]
  assert found == ['a b c', 'd', 'e', 'e2', 'f', 'g']


@pytest.mark.parametrize('name', ['one.txt', 'one.jsonl'])
def test_of_few_documents_the_end_is_held_out(tmp_path, name):
  lines = ''.join(f'line {i}\n' for i in range(1000))
  data = lines if name == 'one.txt' else json.dumps({'text': lines})
  packed(tmp_path / name, data.encode())
  split = {s: list(readers.read(str(tmp_path), s)) for s in readers.SPLITS}
  (head,), (tail,) = split['train'], split['valid']
  assert head.text + tail.text == lines
  assert head.text.endswith('\n')
  assert len(tail.text) == pytest.approx(len(lines) / 20, abs=20)


@pytest.mark.parametrize(
  ('name', 'data', 'message'),
  [
    ('a.txt', b'ok\nab\xffc', r'a\.txt, line 2, byte 3 is 0xff.*WINDOWS-1252'),
    ('a.md', 'ab'.encode('utf-16'), r'line 1, byte 1 is 0xff.*UTF-16 -t'),
    ('a.txt.gz', b'\n\n\xe4', r'line 3, byte 1 is 0xe4'),
    ('a.jsonl', b'\n{"text": "\xe4"}', 'line 2 .*byte 11 is 0xe4'),
    ('a.jsonl', b'\n{"text": 5}', "line 2 .*'text' holds 5, .* int"),
    ('a.jsonl', b'{"story": ""}', "only .'story'.; .*Config.text_column"),
    ('a.jsonl', b'[1]', 'line 1 of .*a line is an object, not list'),
    ('a.txt', b' \n', '--documents .* holds no text'),
    ('a.pdf', b'x', r'documents .* only 1 \.pdf; what is read is \.txt,'),
    ('a.json', b'[]', r'only 1 \.json; .*pattern such as'),
  ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, data, message):
  packed(tmp_path / name, data)
  with pytest.raises(ValueError, match=message):
    list(readers.read(str(tmp_path), 'train'))
  assert readers.split_of(readers.Document('', 'a')) == 'train'


@pytest.mark.parametrize('name', ['a.jsonl.zst', 'a.txt.gz'])
def test_half_a_packed_file_is_refused(tmp_path, name):
  path = tmp_path / name
  packed(path, b'{"text": "some text"}\n' * 99)
  path.write_bytes(path.read_bytes()[:-6])
  with pytest.raises(ValueError, match='is not a whole (gzip|zstd) file'):
    list(readers.read(str(tmp_path), 'train'))


@pytest.mark.parametrize(
  ('url', 'error', 'message'),
  [
    ('s3://bucket/*.jsonl', ValueError, r"s3fs.*pip install '\.\[cloud\]'"),
    ('gs://bucket/a.parquet', ValueError, r"gcsfs.*pip install '\.\[cloud\]'"),
    ('nothing://a/b.txt', ValueError, 'nothing://a/b.txt'),
    ('http://127.0.0.1:9/a.jsonl', OSError, 'http://127.0.0.1:9/a.jsonl'),
  ],
)
def test_urls_that_cannot_be_read_are_named(url, error, message):
  with pytest.raises(error, match=message):
    list(readers.read(url, 'train'))


def test_a_file_system_that_raises_what_it_likes_is_named(monkeypatch):
  """As huggingface_hub without a network does."""

  def fail(self):
    raise RuntimeError('Name or service not known')

  monkeypatch.setattr(upath.UPath, 'exists', fail)
  with pytest.raises(
    OSError, match='memory://a.txt could not be reached .*Name'
  ):
    readers.find('memory://a.txt')
