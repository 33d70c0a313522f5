"""Conversations packed into rows of one length, and batches of such rows.

Which conversations share a row is planned once, before training, by best
fit; no conversation is cut or dropped. The plan stays the same in every
epoch, only the order of the rows changes.
"""

import bisect
from collections.abc import Callable, Sequence

import numpy as np

from llm_jax.data import order

Batch = dict[str, np.ndarray]
Rendered = tuple[Sequence[int], Sequence[int]]  # token ids, loss mask


def plan_rows(lengths: Sequence[int], capacity: int) -> list[list[int]]:
  """Choose which items share a row: best fit, the longest first.

  >>> plan_rows([2, 5, 3, 3], capacity=6)
  [[1], [2, 3], [0]]

  Args:
    lengths: of the items, none above the capacity.
    capacity: of a row.

  Returns:
    Item indices of each row. The same arguments give the same rows.
  """
  rows: list[list[int]] = []
  room: list[tuple[int, int]] = []  # (free positions, row), sorted
  for item in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
    length = lengths[item]
    tightest = bisect.bisect_left(room, (length, -1))
    if tightest == len(room):
      rows.append([item])
      bisect.insort(room, (capacity - length, len(rows) - 1))
    else:
      free, row = room.pop(tightest)
      rows[row].append(item)
      bisect.insort(room, (free - length, row))
  return rows


def make_batch_fn(
  rendered: Sequence[Rendered],
  sequence_length: int,
  batch_size: int,
  seed: int,
  pad_id: int,
) -> tuple[Callable[[int], Batch], int]:
  """The function from a step to its batch of packed conversations.

  Each conversation is a segment of its own: all but its last token are
  inputs, all but its first are targets.

  Args:
    rendered: the token ids and the loss mask of each conversation, of equal
      length; the mask is 1 on tokens to be learnt.
    sequence_length: inputs in a row.
    batch_size: rows of the whole batch.
    seed: of the order, from 0 to 2^32 - 1.
    pad_id: any token id, for the positions that hold no conversation.

  Returns:
    batch(step) -> as in mixture.py `inputs_BT`, `targets_BT`, `segment_ids_BT`
    (from 1; 0 is padding), `positions_BT` (from 0 in each conversation), all
    int32, and `loss_mask_BT`, float32. Every row comes once an epoch; an epoch
    of R rows is R / batch_size steps, see `plan_rows`. And R.

  Raises:
    ValueError: if a conversation does not fit into a row, or there is none.
  """
  lengths = [len(token_ids) - 1 for token_ids, _ in rendered]
  for index, length in enumerate(lengths):
    if not 0 < length <= sequence_length:
      raise ValueError(
        f'conversation {index} has {length + 1} tokens, but a row takes 2 to '
        f'{sequence_length + 1}; raise Config.sequence_length, or leave it out'
      )
  if not rendered:
    raise ValueError('there is no conversation to train on; give at least one')
  rows = plan_rows(lengths, sequence_length)

  def batch(step: int) -> Batch:
    start = step * batch_size
    chosen = order.row_indices(
      'conversations', len(rows), seed, start=start, count=batch_size
    )
    return arrays(
      [[rendered[item] for item in rows[row]] for row in chosen],
      sequence_length,
      pad_id,
    )

  return batch, len(rows)


def arrays(
  rows: Sequence[Sequence[Rendered]], sequence_length: int, pad_id: int
) -> Batch:
  """Rows of conversations as the arrays that `make_batch_fn` describes."""
  shape = (len(rows), sequence_length)
  batch = {
    'inputs_BT': np.full(shape, pad_id, np.int32),
    'targets_BT': np.full(shape, pad_id, np.int32),
    'loss_mask_BT': np.zeros(shape, np.float32),
    'segment_ids_BT': np.zeros(shape, np.int32),
    'positions_BT': np.zeros(shape, np.int32),
  }
  for row, conversations in enumerate(rows):
    start = 0
    for segment, (token_ids, loss_mask) in enumerate(conversations, start=1):
      here = row, slice(start, start + len(token_ids) - 1)
      batch['inputs_BT'][here] = token_ids[:-1]
      batch['targets_BT'][here] = token_ids[1:]
      batch['loss_mask_BT'][here] = loss_mask[1:]
      batch['segment_ids_BT'][here] = segment
      batch['positions_BT'][here] = np.arange(len(token_ids) - 1)
      start += len(token_ids) - 1
  return batch
