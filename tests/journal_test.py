"""Lines that grow, cut anywhere."""

import json

import pytest

from llm_jax import journal


def test_cut_anywhere_it_goes_on_with_whole_lines(tmp_path):
  path = tmp_path / 'lines.jsonl'
  assert journal.read(path, dict) == []
  rows = [{'text': 'é\n"'}, {'n': 2}]
  for row in rows:
    journal.append(path, row)
  data = path.read_bytes()
  first = data.index(b'\n') + 1
  for size in range(len(data) + 1):
    path.write_bytes(data[:size])
    whole = rows[: (size >= first) + (size == len(data))]
    if size % 2:
      assert journal.read(path, dict) == whole
    journal.append(path, {'new': size})
    assert journal.read(path, dict) == [*whole, {'new': size}]


def test_another_line_that_is_damaged_is_named(tmp_path):
  path = tmp_path / 'lines.jsonl'
  path.write_text('{"n": 1}\n{"n"\n{"n": 3}\n')
  with pytest.raises(ValueError, match='line 2 of .*lines.jsonl'):
    journal.read(path, dict)
  path.write_text(json.dumps({'m': 1}) + '\n')
  with pytest.raises(ValueError, match=r"line 1 .*another form: KeyError\('n'"):
    journal.read(path, lambda row: row['n'])
