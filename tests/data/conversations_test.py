"""Rows of every kind of file, and the data set gives them back in order."""

import gzip
import json
import pathlib
import random
import subprocess
import sys

import pyarrow
import pyarrow.parquet
import pytest
from backports import zstd

from llm_jax.data import conversations

Item = conversations.Item


def make_item(i):
  messages = [
    {'role': 'user', 'content': f'{i} 韬 "\n<|im_end|>'},
    {'role': 'assistant', 'content': '' if i % 2 else 'yes'},
  ]
  if i % 3 == 0:
    messages[1] |= {'tool_calls': [{'function': {'name': 'f'}}], 'weight': 0}
  return Item(f'source {i % 2}', f'line {i} of x', messages * (1 + i % 3))


ITEMS = [make_item(i) for i in range(40)]


def test_items_come_back_in_order_and_are_made_once(tmp_path):
  for name in ('one', 'two'):
    for _ in range(2):
      rest = iter(ITEMS)  # empty if it were asked again
      conversations.build(lambda rest=rest: rest, tmp_path / name)
    assert conversations.read(tmp_path / name) == ITEMS
  contents = [
    {
      path.relative_to(tmp_path / name): path.read_bytes()
      for path in (tmp_path / name).rglob('*')
      if path.is_file()
    }
    for name in ('one', 'two')
  ]
  assert contents[0] == contents[1]


def test_continues_after_a_kill(tmp_path):
  stale = tmp_path / 'set/conversations/incomplete.ABC_2.0.0'
  stale.mkdir(parents=True)
  (stale / 'half').write_bytes(b'x')
  with pytest.raises(ValueError, match='no finished data set'):
    conversations.read(tmp_path / 'set')
  conversations.build(lambda: ITEMS, tmp_path / 'set')
  assert not stale.exists()
  assert conversations.read(tmp_path / 'set') == ITEMS


def test_rows_of_every_kind(tmp_path):
  objects = [{'a': 'ä'}, {'a': 'b', 'c': [1]}]
  lines = b'\xef\xbb\xbf{"a": "\xc3\xa4"}\n\n{"a": "b", "c": [1]}\n7\n{"a\n'
  numbered = [(1, objects[0]), (3, objects[1])]
  wrong = [(4, 'not a JSON object'), (5, 'not a JSON object')]
  array = json.dumps([*objects, 7], indent=1).encode()
  for name, data, expected in (
    ('a.jsonl', lines, numbered + wrong),
    ('a.jsonl.gz', gzip.compress(lines), numbered + wrong),
    ('a.jsonl.zst', zstd.compress(lines), numbered + wrong),
    ('a.json', array, [(1, objects[0]), (2, objects[1]), (3, wrong[0][1])]),
  ):
    (tmp_path / name).write_bytes(data)
    assert list(conversations.rows(tmp_path / name)) == expected
  path = tmp_path / 'a.parquet'
  messages = [[{'role': 'user', 'content': 'q'}]]
  pyarrow.parquet.write_table(pyarrow.table({'messages': messages}), path)
  assert list(conversations.rows(path)) == [(1, {'messages': messages[0]})]
  names = [path.name for path in conversations.find(str(tmp_path))]
  assert names == ['a.jsonl', 'a.jsonl.gz', 'a.jsonl.zst', 'a.parquet']


@pytest.mark.parametrize(
  ('data', 'message'),
  [
    (b'{"a": 1}\n{"a": "\xe4"}\n', r'a\.jsonl, line 2, byte 8 is 0xe4'),
    (b'[{"a": 1},', 'begins as a JSON array, but is none'),
    (b'[{"a": "\n\xff"}]', r'a\.jsonl.*0xff'),
  ],
)
def test_damaged_files_are_named(tmp_path, data, message):
  (tmp_path / 'a.jsonl').write_bytes(data)
  with pytest.raises(ValueError, match=message):
    list(conversations.rows(tmp_path / 'a.jsonl'))


def test_light_modules_load_neither_tfds_nor_jax():
  """Those that workers import: TFDS alone takes a second, JAX breaks forks."""
  script = (
    'import sys\n'
    'from llm_jax.chat import forms, template\n'
    'from llm_jax.data import readers, mixture, packing, shards\n'
    'from llm_jax.tokenizer import encoding, stream\n'
    "heavy = {'tensorflow', 'tensorflow_datasets', 'jax'} & set(sys.modules)\n"
    'sys.exit(str(heavy) if heavy else 0)\n'
  )
  root = pathlib.Path(__file__).parents[2]
  done = subprocess.run(
    [sys.executable, '-c', script], cwd=root, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr


def test_neighbours_become_turns():
  talks = [make_item(6 * i) for i in range(60)]  # one turn each
  talks = [talk._replace(source='ab'[i % 2]) for i, talk in enumerate(talks)]
  joined = conversations.join_turns(talks, 3, random.Random(0))
  messages = [m for talk in joined for m in talk.messages]
  assert messages == [m for talk in talks for m in talk.messages]
  assert {len(talk.messages) // 2 for talk in joined} == {1, 2, 3}
  assert {talk.source for talk in joined} == {'a', 'b', 'a+b'}
  alone = conversations.join_turns(talks, 1, random.Random(0))
  assert [talk.messages for talk in alone] == [talk.messages for talk in talks]
