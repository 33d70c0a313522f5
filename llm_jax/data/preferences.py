"""Batches of ranked answers: all answers to one prompt in one row.

Each answer is a segment of its own, the prompt in front of it, at a place of
the row. How answers are compared is said in losses/preference.py.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from llm_jax.data import order, packing

Batch = dict[str, np.ndarray]


class Answer(NamedTuple):
  """A prompt and an answer to it, as tokens."""

  token_ids: Sequence[int]
  loss_mask: Sequence[int]  # 1 on the tokens of the answer
  rank: int  # among those to its prompt, from the best, 0, on
  ref_logp: float = 0.0  # of the answer's tokens under a reference, in nats

  @property
  def n_tokens(self) -> int:
    """Of the answer."""
    return sum(self.loss_mask)

  @property
  def parts(self) -> tuple[Sequence[int], Sequence[int]]:
    """Ids up to the answer's first token, and from there to its last one."""
    first = list(self.loss_mask).index(1)
    last = len(self.loss_mask) - list(self.loss_mask)[::-1].index(1)
    return self.token_ids[:first], self.token_ids[first:last]


Group = Sequence[Answer]  # the answers to one prompt


def with_mismatched(
  groups: Sequence[Group], rank: int, row_limit: int
) -> list[Group]:
  """Add to each prompt an answer to another one, for the KL of KTO.

  It is the best answer to the next prompt, or to the first one behind it with
  which the group still fits.

  Args:
    groups: two at least.
    rank: of such answers, which no other has.
    row_limit: tokens of a row.

  Raises:
    ValueError: if a group has no room for any.
  """
  found = []
  for index, group in enumerate(groups):
    prompt_ids, _ = group[0].parts
    n_used = sum(len(answer.token_ids) for answer in group) + len(prompt_ids)
    for other in [*groups[index + 1 :], *groups[:index]]:
      best = min(other, key=lambda answer: answer.rank)
      start = len(best.parts[0])
      ids, mask = best.token_ids[start:], best.loss_mask[start:]
      if n_used + len(ids) <= row_limit:
        ids = [*prompt_ids, *ids]
        mask = [*[0] * len(prompt_ids), *mask]
        found.append([*group, Answer(ids, mask, rank)])
        break
    else:
      raise ValueError(
        f'kto adds an answer to another prompt, and {n_used} tokens leave no '
        f'room for any in a row of {row_limit}; raise Config.sequence_length'
      )
  return found


def make_batch_fn(
  groups: Sequence[Group],
  sequence_length: int,
  batch_size: int,
  seed: int,
  pad_id: int,
) -> tuple[Callable[[int], Batch], int]:
  """The function from a step to its batch.

  Args:
    groups: none with more tokens than a row.
    sequence_length: tokens of a row.
    batch_size: rows of the whole batch.
    seed: of the order, from 0 to 2^32 - 1.
    pad_id: any token id, for positions that hold no answer.

  Returns:
    batch(step) -> inputs_BT, targets_BT, positions_BT, segment_ids_BT (a place
    is a segment less 1; 0 is padding) as in packing.py; loss_mask_BT, above 0
    where the target is of an answer, which adds up to 1 for a prompt; and of
    each place group_BA and rank_BA as in losses/preference.py, end_BA (where
    the last token of the answer is read) and ref_logp_BA. Every row comes once
    an epoch. And the number of rows.

  Raises:
    ValueError: if there is no group, or one does not fit into a row.
  """
  if not groups:
    raise ValueError('there is no ranking to train on; give at least one')
  lengths = [sum(len(a.token_ids) for a in group) for group in groups]
  if max(lengths) > sequence_length:
    raise ValueError(
      f'the answers to a prompt have {max(lengths)} tokens, but a row takes '
      f'{sequence_length}; raise Config.sequence_length'
    )
  rows = packing.plan_rows(lengths, sequence_length)
  n_places = max(sum(len(groups[i]) for i in row) for row in rows)

  def batch(step: int) -> Batch:
    chosen = order.row_indices(
      'preferences', len(rows), seed, start=step * batch_size, count=batch_size
    )
    return arrays(
      [[groups[i] for i in rows[row]] for row in chosen],
      sequence_length,
      n_places=n_places,
      pad_id=pad_id,
    )

  return batch, len(rows)


def arrays(
  rows: Sequence[Sequence[Group]],
  sequence_length: int,
  n_places: int,
  pad_id: int,
) -> Batch:
  """Rows of groups as the arrays that `make_batch_fn` describes."""
  names = ('group_BA', 'rank_BA', 'end_BA', 'ref_logp_BA')
  shape = len(rows), n_places
  places: Batch = {name: np.zeros(shape, np.int32) for name in names}
  places['ref_logp_BA'] = np.zeros(shape, np.float32)
  rendered = []
  for row, groups in enumerate(rows):
    rendered.append([])
    start = 0
    for number, group in enumerate(groups, start=1):
      n_learnt = sum(answer.n_tokens for answer in group)
      for answer in group:
        ids, here = answer.token_ids, (row, len(rendered[-1]))
        # With a target for the last token, where the answer's value is read.
        mask = [*np.array(answer.loss_mask) / n_learnt, 0.0]
        rendered[-1].append(([*ids, pad_id], mask))
        places['group_BA'][here] = number
        places['rank_BA'][here] = answer.rank
        places['end_BA'][here] = start + sum(map(len, answer.parts)) - 1
        places['ref_logp_BA'][here] = answer.ref_logp
        start += len(ids)
  return packing.arrays(rendered, sequence_length, pad_id) | places
