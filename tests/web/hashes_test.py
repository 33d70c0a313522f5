"""Hashes of strings, and tables of them on disk, whole and damaged."""

import numpy as np
import pytest

from llm_jax.web.dedup import hashes


def test_strings_have_hashes_of_their_own():
  strings = [str(i) for i in range(20_000)] + ['', 'é', '\ud800']
  values = hashes.of_strings(strings)
  assert len(set(values.tolist())) == len(strings)
  # XXH64 of nothing with seed 0, as its specification gives it.
  assert int(values[-3]) == 0xEF46DB3751D8E999


def test_a_table_finds_what_was_written(tmp_path):
  generator = np.random.default_rng(0)
  keys = generator.integers(0, 2**64, 5000, 'u8')
  keys[:2] = 0, 2**64 - 1
  codes = generator.integers(0, 1 << 16, 5000, 'u2')
  path = tmp_path / 'table'
  parts = [(keys[i : i + 1], code) for i, code in enumerate(codes.tolist())]
  # The second of equal hashes does not count.
  hashes.write(path, {'of': 'these'}, [*parts, (keys, 0)])
  table = hashes.read(path)
  assert table.metadata == {'of': 'these'}
  assert np.array_equal(table.find(keys), codes)
  assert len(table.find(keys[2:] + np.uint64(1))) == 0
  assert table.find(np.array([], 'u8')).tolist() == []
  assert not table.hashes.flags.owndata  # mapped, not read
  assert [p.name for p in tmp_path.iterdir()] == ['table']


def test_small_tables_find_nothing_else(tmp_path):
  one = np.array([5], 'u8')
  hashes.write(tmp_path / 'one', {}, [(one, 5)])
  table = hashes.read(tmp_path / 'one')
  assert table.find(np.array([4, 5, 6, 5], 'u8')).tolist() == [5, 5]
  hashes.write(tmp_path / 'none', {}, [])
  table = hashes.read(tmp_path / 'none')
  assert table.find(np.arange(3)).tolist() == []


@pytest.mark.parametrize('size', [1, 30, 800])
def test_a_part_of_a_table_is_refused(tmp_path, size):
  path = tmp_path / 'table'
  hashes.write(path, {}, [(np.arange(99, dtype='u8'), 0)])
  path.write_bytes(path.read_bytes()[:size])
  with pytest.raises(ValueError, match='table'):
    hashes.read(path)
