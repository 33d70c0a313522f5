"""Batches: every token once an epoch, documents apart, any step alone."""

import collections

import numpy as np
import pytest

from llm_jax.data import mixture, order
from llm_jax.tokenizer import encoding, infilling
from tests.data import shards_test

LENGTH = 16
END = shards_test.END


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('tokens')
  web = [shards_test.make_documents(40, 1), shards_test.make_documents(7, 2)]
  sums = [shards_test.make_documents(25, 3)]
  splits = {'train': web, 'valid': sums}
  shards_test.write(folder, {'web': splits, 'sums': {'train': sums}}, LENGTH)
  return folder


def opened(folders, names=(), weights=()):
  return mixture.open_sources(
    folders, names, weights, '', 8, shards_test.FINGERPRINT
  )


@pytest.fixture(scope='module')
def sources(folder):
  return [source for source, _ in opened([folder])[0]]


def make(sources, seed=0, n_rows=(6, 2), **kwargs):
  pairs = list(zip(sources, n_rows, strict=True))
  return mixture.make_batch_fn(pairs, seed, **kwargs)


def row_keys(batch, rows):
  return [
    (batch['inputs_BT'][row].tobytes(), batch['targets_BT'][row].tobytes())
    for row in rows
  ]


def keys_of(source):
  rows = source.rows(range(len(source)))
  halves = {'inputs_BT': rows[:, :-1], 'targets_BT': rows[:, 1:]}
  return row_keys(halves, range(len(source)))


def assert_same(one, other):
  assert one.keys() == other.keys()
  for name in one:
    np.testing.assert_array_equal(one[name], other[name])
    assert one[name].dtype == other[name].dtype


def test_shares_of_a_batch():
  assert mixture.rows_of_each([0.7, 0.3], 8) == [6, 2]
  assert mixture.rows_of_each([1, 1, 1], 8) == [3, 3, 2]
  assert mixture.rows_of_each([70, 30], 10) == [7, 3]
  for weights in ([], [1, 0], [1, -1], [1, float('nan')], [float('inf')]):
    with pytest.raises(ValueError, match='positive numbers'):
      mixture.rows_of_each(weights, 8)


def test_every_row_once_an_epoch(sources):
  """Counted over three epochs of the source with six rows of each batch."""
  web = sources[0]
  batch = make(sources)
  n_steps = -(-3 * len(web) // 6)
  seen = [key for s in range(n_steps) for key in row_keys(batch(s), range(6))]
  every = keys_of(web)
  assert len(set(every)) == len(web)
  for epoch in range(3):
    part = seen[epoch * len(web) : (epoch + 1) * len(web)]
    assert collections.Counter(part) == collections.Counter(every)
  assert seen[: len(web)] != seen[len(web) : 2 * len(web)]


def test_every_token_is_a_target_once(sources):
  batch = make(sources[1:], n_rows=[1])
  n_real = sum(batch(s)['loss_mask_BT'].sum() for s in range(len(sources[1])))
  assert n_real == sources[1].tokens
  counts = collections.Counter()
  for step in range(len(sources[1])):
    one = batch(step)
    counts.update(one['targets_BT'][one['loss_mask_BT'] == 1].tolist())
  documents = shards_test.make_documents(25, 3)
  assert counts == collections.Counter(shards_test.stream_of(documents)[1:])


def test_a_step_needs_no_history(sources):
  forward = make(sources)
  history = [forward(step) for step in range(30)]
  for step in (29, 0, 17):
    assert_same(make(sources)(step), history[step])


def test_seeds_and_sources_differ(sources):
  first = make(sources, seed=0)(0)
  assert (make(sources, seed=1)(0)['inputs_BT'] != first['inputs_BT']).any()
  orders = [order.row_indices(name, 50, 0, 0, 50).tolist() for name in 'ab']
  assert orders[0] != orders[1]
  assert sorted(orders[0]) == sorted(orders[1]) == list(range(50))


def test_order_is_fixed_for_ever():
  """A resumed run continues only if these numbers never change."""
  rows = order.row_indices('web/train', 10, 3, 7, 9)
  assert rows.tolist() == [5, 0, 6, 5, 3, 4, 1, 2, 9]


def test_documents_are_apart(sources):
  batch = make(sources)(3)
  names = ('inputs_BT', 'segment_ids_BT', 'positions_BT')
  parts = [batch[name] for name in names]
  for inputs, segments, positions in zip(*parts, strict=True):
    segment, position = 1, -1
    for i, token in enumerate(inputs):
      new = token == END and i > 0
      segment, position = segment + new, 0 if new else position + 1
      assert (segments[i], positions[i]) == (segment, position)
  assert batch['segment_ids_BT'].dtype == np.int32
  assert batch['positions_BT'].dtype == np.int32
  assert batch['loss_mask_BT'].dtype == np.float32


def test_documents_together(sources):
  batch = make(sources, keep_documents=False)(3)
  assert (batch['segment_ids_BT'] == 1).all()
  assert (batch['positions_BT'] == np.arange(LENGTH)).all()


def test_opened_with_rows_by_weight_or_refused(folder, tmp_path):
  mixed, held_out = opened([folder], ['web', 'sums'], (0.7, 0.3))
  shares = [(source.name, n) for source, n in mixed]
  assert shares == [('web/train', 6), ('sums/train', 2)]
  assert held_out.name == 'web/valid'
  with pytest.raises(ValueError, match=r'0\.01 gives sums/train no row .* 8'):
    opened([folder], ['web', 'sums'], (0.99, 0.01))
  longer = {'long': {'train': [shards_test.make_documents(3)]}}
  shards_test.write(tmp_path, longer, LENGTH * 2)
  with pytest.raises(ValueError, match=r'\[\(32, 0\), \(16, 0\)\]; tokenize'):
    opened([folder, tmp_path])


def test_progress_is_what_the_batches_hold(sources):
  """Rows are told apart by what they hold; 13 steps of 6 and 2 rows."""
  batch = make(sources)
  held = collections.Counter()
  for step in range(13):
    held.update(row_keys(batch(step), range(8)))
  expected = {}
  for source in sources:
    n_rows = sum(held[key] for key in keys_of(source))
    name = source.name.removesuffix('/train')
    expected[f'epochs_{name}'] = n_rows / len(source)
    expected[f'tokens_{name}'] = n_rows * LENGTH
  pairs = list(zip(sources, (6, 2), strict=True))
  assert mixture.progress(pairs, 13) == expected
  assert sum(held.values()) == 8 * 13


def test_epochs_are_limited(sources):
  """Two rows a batch: with a limit of 1.5 the last step that fits fits."""
  pairs = list(zip(sources, (6, 2), strict=True))
  most = int(1.5 * len(sources[1])) // 2
  mixture.check_epochs(pairs, most, (0, 1.5))
  mixture.check_epochs(pairs, 10 * most, ())
  with pytest.raises(ValueError, match=f'n_steps = {most}, .* for 1 rows'):
    mixture.check_epochs(pairs, most + 1, (0, 1.5))
  with pytest.raises(ValueError, match='6 of 8 rows from web/train'):
    mixture.check_epochs(pairs, 1000, (2, 0))


def test_middles_to_fill_in(sources):
  """By visit alone; nothing is foreseen that is only read; losses counted.

  An id from 1 to 299 is a character here, and 0 the separator.
  """
  names = (
    '<|endoftext|>',
    '<|fim_prefix|>',
    '<|fim_middle|>',
    '<|fim_suffix|>',
  )
  ids = dict(zip(names, (0, 301, 302, 303), strict=True))
  letters = {chr(i).encode(): i for i in range(1, 300)}
  bytes_left = {bytes([i]) for i in range(256)}.difference(letters)
  letters |= {byte: 304 + i for i, byte in enumerate(sorted(bytes_left))}
  cutter = infilling.Infilling(
    encoding.Tokenizer(letters, 'qwen2', ids, 600), rate=1.0, seed=3
  )
  plain, cut = make(sources), make(sources, infill=cutter)
  n_epoch = len(sources[0])  # six epochs of the first
  history = [cut(step) for step in range(n_epoch)]
  for step in (n_epoch - 1, 0, 5):
    assert_same(make(sources, infill=cutter)(step), history[step])
  alone = make(sources[:1], n_rows=[1], infill=cutter)
  rows = {alone(step)['inputs_BT'].tobytes() for step in range(2 * n_epoch)}
  assert len(rows) > 1.5 * n_epoch  # another cut at the second visit
  assert 'n_lost_B1' not in plain(0)
  n_cut = 0
  for step, batch in enumerate(history[:20]):
    was, targets = plain(step), batch['targets_BT']
    is_read = np.isin(targets, (301, 302, 303))
    assert not batch['loss_mask_BT'][is_read].any()
    assert batch['n_lost_B1'].shape == (8, 1)
    for b in range(8):
      n_learnt = batch['loss_mask_BT'][b].sum() + is_read[b].sum()
      n_before = was['loss_mask_BT'][b].sum()
      if 302 not in batch['inputs_BT'][b]:
        continue
      n_cut += 1
      # Learnt or read: up to the last token that is not padding.
      assert n_learnt <= LENGTH
      assert n_learnt + batch['n_lost_B1'][b, 0] >= n_before
      starts = batch['segment_ids_BT'][b][batch['inputs_BT'][b] == END]
      assert len({*starts}) == len(starts)
  assert n_cut > 20
