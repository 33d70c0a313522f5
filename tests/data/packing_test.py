"""Packed conversations: nothing lost, nothing mixed up, any step alone."""

import collections

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from llm_jax.data import packing

PAD = 9


def make_conversations(n, seed=0, longest=17):
  random = np.random.RandomState(seed)
  lengths = random.randint(2, longest + 1, n)
  return [
    (random.randint(10, 99, k).tolist(), random.randint(0, 2, k).tolist())
    for k in lengths
  ]


@hypothesis.given(st.lists(st.integers(1, 10), min_size=1, max_size=60))
def test_plan_holds_every_item_once(lengths):
  rows = packing.plan_rows(lengths, 10)
  assert sorted(item for row in rows for item in row) == [*range(len(lengths))]
  sizes = [sum(lengths[item] for item in row) for row in rows]
  assert max(sizes) <= 10
  # No row could go into another, so all but one are more than half full.
  assert sum(size <= 5 for size in sizes) <= 1


def test_plan_by_hand():
  """7 opens a row, 6 a second, 4 fits best beside 6, 3 beside 7, 1 alone."""
  assert packing.plan_rows([3, 7, 1, 6, 4], 10) == [[1, 0], [3, 4], [2]]


def test_every_conversation_once_an_epoch():
  conversations = make_conversations(40)
  batch, _ = packing.make_batch_fn(conversations, 16, 1, seed=0, pad_id=PAD)
  n_rows = len(packing.plan_rows([len(c[0]) - 1 for c in conversations], 16))
  expected = collections.Counter(
    (tuple(ids[:-1]), tuple(ids[1:]), tuple(mask[1:]))
    for ids, mask in conversations
  )
  for epoch in range(2):
    seen = collections.Counter()
    for step in range(epoch * n_rows, (epoch + 1) * n_rows):
      row = {name: array[0] for name, array in batch(step).items()}
      for segment in range(1, row['segment_ids_BT'].max() + 1):
        here = row['segment_ids_BT'] == segment
        assert row['positions_BT'][here].tolist() == list(range(here.sum()))
        seen[
          tuple(row['inputs_BT'][here].tolist()),
          tuple(row['targets_BT'][here].tolist()),
          tuple(row['loss_mask_BT'][here].astype(int).tolist()),
        ] += 1
      padding = row['segment_ids_BT'] == 0
      assert (row['inputs_BT'][padding] == PAD).all()
      assert (row['loss_mask_BT'][padding] == 0).all()
    assert seen == expected


def test_a_step_needs_no_history():
  conversations = make_conversations(40)
  first, second = (
    packing.make_batch_fn(conversations, 16, 4, seed, PAD)[0] for seed in (0, 0)
  )
  history = [first(step) for step in range(12)]
  for step in (11, 3):
    for name, array in second(step).items():
      np.testing.assert_array_equal(array, history[step][name])
  other, _ = packing.make_batch_fn(conversations, 16, 4, 1, PAD)
  assert (other(0)['inputs_BT'] != history[0]['inputs_BT']).any()


def test_refused():
  conversations = [([1, 2, 3], [0, 1, 1]), (list(range(18)), [0] * 18)]
  with pytest.raises(ValueError, match='conversation 1 has 18 tokens.*2 to 17'):
    packing.make_batch_fn(conversations, 16, 1, 0, PAD)
  with pytest.raises(ValueError, match='conversation 0 has 1 tokens'):
    packing.make_batch_fn([([1], [1])], 16, 1, 0, PAD)
  with pytest.raises(ValueError, match='no conversation to train on'):
    packing.make_batch_fn([], 16, 1, 0, PAD)
