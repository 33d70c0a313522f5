"""The TFDS data set gives back the lines, in order, the same every time."""

import json
import pathlib
import random
import subprocess
import sys

import pytest

from llm_jax.data import conversations


def write_lines(path, lines):
  path.write_text('\n'.join(lines) + '\n', encoding='utf-8')


def make_conversation(i):
  messages = [
    {'role': 'user', 'content': f'{i} 韬 "\n<|im_end|>'},
    {'role': 'assistant', 'content': '' if i % 2 else 'yes'},
  ]
  return messages * (1 + i % 3)


def make_jsonl(path, n=40, start=0):
  talks = [make_conversation(i) for i in range(start, start + n)]
  write_lines(path, [json.dumps({'messages': talk}) for talk in talks])
  return talks


def test_lines_come_back_in_order(tmp_path):
  first = make_jsonl(tmp_path / 'a.jsonl')
  second = make_jsonl(tmp_path / 'b.jsonl', start=100)
  paths = [tmp_path / 'b.jsonl', tmp_path / 'a.jsonl']
  for name in ('one', 'two'):
    conversations.build(paths, tmp_path / name)
    assert conversations.read(tmp_path / name) == second + first
  contents = [
    {
      path.relative_to(tmp_path / name): path.read_bytes()
      for path in (tmp_path / name).rglob('*')
      if path.is_file()
    }
    for name in ('one', 'two')
  ]
  assert contents[0] == contents[1]


def test_built_once(tmp_path):
  make_jsonl(tmp_path / 'a.jsonl')
  folder = tmp_path / 'set'
  conversations.build([tmp_path / 'a.jsonl'], folder)
  times = {path: path.stat().st_mtime_ns for path in folder.rglob('*.array*')}
  conversations.build([tmp_path / 'a.jsonl'], folder)
  assert times == {path: path.stat().st_mtime_ns for path in times}
  make_jsonl(tmp_path / 'a.jsonl', n=41)
  with pytest.raises(ValueError, match='holds the conversations of .* not of'):
    conversations.build([tmp_path / 'a.jsonl'], folder)


def test_continues_after_a_kill(tmp_path):
  talks = make_jsonl(tmp_path / 'a.jsonl')
  stale = tmp_path / 'set/conversations/incomplete.ABC_1.0.0'
  stale.mkdir(parents=True)
  (stale / 'half').write_bytes(b'x')
  with pytest.raises(ValueError, match='no finished data set'):
    conversations.read(tmp_path / 'set')
  conversations.build([tmp_path / 'a.jsonl'], tmp_path / 'set')
  assert not stale.exists()
  assert conversations.read(tmp_path / 'set') == talks


@pytest.mark.parametrize(
  ('line', 'error'),
  [
    ('{"messages": [', 'not JSON'),
    ('[]', 'a line is an object, not list'),
    ('{"x": []}', r'an object with "messages" and nothing else, not ..x'),
    ('{"messages": [], "weight": 1}', r"not \['messages', 'weight'\]"),
    ('{"messages": []}', 'not a list of at least one message'),
    ('{"messages": ["hi"]}', "message 0 is 'hi'; it must be an object"),
    ('{"messages": [3]}', 'message 0 is 3; it must be an object'),
    ('{"messages": [{"role": "user"}]}', 'must be an object of two strings'),
    ('{"messages": [{"role": "user", "content": 1}]}', 'of two strings'),
    ('{"messages": [{"role": "u", "content": "", "x": ""}]}', 'two strings'),
    ('\\', 'not JSON'),
    ('{"messages": [{"role": "user", "content": "\\ud800"}]}', 'surrogate'),
  ],
)
def test_wrong_line(tmp_path, line, error):
  good = json.dumps({'messages': make_conversation(1)})
  write_lines(tmp_path / 'a.jsonl', [good, line, good])
  with pytest.raises(ValueError, match=f'line 2 of .*jsonl: .*{error}'):
    conversations.build([tmp_path / 'a.jsonl'], tmp_path / 'set')
  with pytest.raises(ValueError, match='no finished data set'):
    conversations.read(tmp_path / 'set')


def test_missing_file(tmp_path):
  with pytest.raises(ValueError, match='is missing'):
    conversations.build([tmp_path / 'a.jsonl'], tmp_path / 'set')


def test_light_modules_load_neither_tfds_nor_jax():
  """Those that workers import: TFDS alone takes a second, JAX breaks forks."""
  script = (
    'import sys\n'
    'from llm_jax.chat import template\n'
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


def test_neighbours_become_turns_and_are_written(tmp_path):
  talks = [make_conversation(3 * i) for i in range(60)]  # one turn each
  joined = conversations.join_turns(talks, 3, random.Random(0))
  messages = [m for talk in joined for m in talk]
  assert messages == [m for talk in talks for m in talk]
  assert {len(talk) // 2 for talk in joined} == {1, 2, 3}
  assert conversations.join_turns(talks, 1, random.Random(0)) == talks
  conversations.write(joined, tmp_path / 'a.jsonl')
  assert list(conversations.read_files([tmp_path / 'a.jsonl'])) == joined
  assert list(tmp_path.iterdir()) == [tmp_path / 'a.jsonl']
