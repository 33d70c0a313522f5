"""Batches of token rows, mixed from sources by weight.

batch(step) is a function of its arguments, so a run resumes from its step
number alone. Every host makes the whole batch.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from llm_jax import files
from llm_jax.data import order, shards
from llm_jax.tokenizer import infilling

Batch = dict[str, np.ndarray]
Sources = Sequence[tuple[shards.TokenSource, int]]  # with rows of each batch


def open_sources(
  folders: Sequence[files.Name],
  names: Sequence[str],
  weights: Sequence[float],
  valid_name: str,
  batch_size: int,
  tokenizer_fingerprint: str,
) -> tuple[Sources, shards.TokenSource]:
  """Open what a run trains on, and what it is evaluated on.

  Args:
    folders: of token shards.
    names: of sources; none: all that have rows to train on.
    weights: of each; none: by tokens, but a row of each batch at least.
    valid_name: of the source whose documents are held out; '': the first that
      has any.
    batch_size: rows of the whole batch.
    tokenizer_fingerprint: see shards.TokenSource.

  Returns:
    The sources, each with its rows of every batch, the nearest number to its
    weight; and the held-out split of one.

  Raises:
    ValueError: if there is none, one is not there or damaged, a weight gives a
      source no row, or they differ in their length of rows or their separator.
  """

  def source(name: str, split: str) -> shards.TokenSource:
    folder = shards.find_source(folders, name)
    return shards.TokenSource(
      folder, name, split=split, tokenizer_fingerprint=tokenizer_fingerprint
    )

  names = names or shards.names(folders, 'train')
  sources = [source(name, 'train') for name in names]
  weights = weights or by_tokens([s.tokens for s in sources], batch_size)
  known = shards.names(folders, 'valid')
  valid_name = valid_name or next((n for n in names if n in known), '')
  if not valid_name:
    raise ValueError(
      f'no source of {", ".join(map(str, folders))} holds documents out; '
      'tokenize more, or name one of other --tokens as Config.valid_source'
    )
  n_rows = rows_of_each(weights, batch_size)
  for one, weight, n in zip(sources, weights, n_rows, strict=True):
    if not n:
      raise ValueError(
        f'weight {weight} gives {one.name} no row in a batch of {batch_size}; '
        'raise it in Config.weights, or Config.batch_size, or leave the source '
        'out of Config.sources'
      )
    layouts = [(s.sequence_length, s.end_of_text_id) for s in (one, sources[0])]
    if layouts[0] != layouts[1]:
      raise ValueError(
        f'{one.name} and {sources[0].name} have rows of (tokens, separator) '
        f'{layouts}; tokenize both with one --tokenizer and '
        'Config.sequence_length'
      )
  return list(zip(sources, n_rows, strict=True)), source(valid_name, 'valid')


def check_lists(sources: Sequence[str], lists: Mapping[str, Sequence[float]]):
  """Refuse lists that have not a number for each of the named sources.

  Raises:
    ValueError: if so; an empty list is none.
  """
  for name, values in lists.items():
    if values and len(values) != len(sources):
      raise ValueError(
        f'{len(sources)} sources {sources} but {len(values)} {name} {values}; '
        f'name all in Config.sources, and give one for each in Config.{name}'
      )


def by_tokens(n_tokens: Sequence[int], batch_size: int) -> list[float]:
  """Weights of sources of so many tokens that get a row each at least."""
  return [max(n, sum(n_tokens) / batch_size) for n in n_tokens]


def make_batch_fn(
  sources: Sources,
  seed: int,
  keep_documents: bool = True,
  infill: infilling.Infilling | None = None,
) -> Callable[[int], Batch]:
  """The function from a step to its batch.

  Every batch has the same number of rows of each source. Within a source each
  row, and so each token as a target, comes once an epoch; the sources start
  their next epochs each in its own time.

  Args:
    sources: of one tokenizer and length, with their rows of each batch.
    seed: of the order, from 0 to 2^32 - 1.
    keep_documents: give each document of a row its own segment, positions
      from 0, so that no token sees another document. If False, a row is one
      segment.
    infill: cuts documents for their middles to be filled in; None: none.

  Returns:
    batch(step) -> `inputs_BT`, `targets_BT`, `segment_ids_BT` (from 1),
    `positions_BT`, all int32, and `loss_mask_BT`, float32, 0 where a target
    is padding. With infill also `n_lost_B1`, tokens that fell off each row, and
    no control token of it is a target: what is read is not to be foreseen.
  """

  def batch(step: int) -> Batch:
    tokens, lengths, n_lost = [], [], []
    for source, n in sources:
      indices = order.row_indices(
        source.name, len(source), seed, start=step * n, count=n
      )
      tokens.append(source.rows(indices))
      lengths.append(source.n_targets(indices))
      if infill:
        key = zlib.crc32(source.name.encode())
        n_lost += infill.rows(tokens[-1], lengths[-1], key, start=step * n)
    made = arrays(
      tokens_BT=np.concatenate(tokens),
      lengths=np.concatenate(lengths),
      end_of_text_id=sources[0][0].end_of_text_id,
      keep_documents=keep_documents,
    )
    if infill:
      read = np.isin(made['targets_BT'], infilling.controls(infill.tokenizer))
      made['loss_mask_BT'] *= ~read
      made['n_lost_B1'] = np.array(n_lost, np.int32)[:, None]
    return made

  return batch


def rows_of_each(weights: Sequence[float], batch_size: int) -> list[int]:
  """Share out the rows of a batch by the method of the largest remainder.

  >>> rows_of_each([0.7, 0.3], 32)
  [22, 10]

  Args:
    weights: positive; they need not add up to one.
    batch_size: rows to share out.

  Returns:
    Rows of each source; they add up to batch_size.

  Raises:
    ValueError: if a weight is not a positive finite number.
  """
  if not weights or not all(0 < weight < np.inf for weight in weights):
    raise ValueError(
      f'Config.weights are positive numbers, not {list(weights)}; leave a '
      f'source that shall not be read out of Config.sources'
    )
  shares = np.array(weights, np.float64) * batch_size / sum(weights)
  n_rows = np.floor(shares).astype(int)
  by_remainder = np.argsort(n_rows - shares, kind='stable')
  n_rows[by_remainder[: batch_size - n_rows.sum()]] += 1
  return n_rows.tolist()


def progress(sources: Sources, n_steps: int) -> dict[str, float]:
  """How much of each source the first so many batches hold.

  Returns:
    For each source `epochs_NAME` and `tokens_NAME`; tokens are positions of
    rows, so they add up to those of the batches, padding included.
  """
  counts: dict[str, float] = {}
  for source, n in sources:
    name = source.name.partition('/')[0]
    counts[f'epochs_{name}'] = n_steps * n / len(source)
    counts[f'tokens_{name}'] = n_steps * n * source.sequence_length
  return counts


def table(sources: Sources, n_steps: int) -> list[dict[str, Any]]:
  """What a run reads of each source, for `record.mixture`."""
  batch_size = sum(n for _, n in sources)
  return [
    {
      'source': source.name.partition('/')[0],
      'rows': len(source),
      'tokens': source.tokens,
      'share': n / batch_size,
      'epochs': n_steps * n / len(source),
    }
    for source, n in sources
  ]


def check_epochs(sources: Sources, n_steps: int, limits: Sequence[float]):
  """Refuse a run that would read a source more often than it may.

  At the start rather than when the source runs out, so that the mixture is
  the same in every batch.

  Args:
    sources: with their rows of each batch.
    n_steps: of the whole run.
    limits: epochs of each source, 0: no limit; or empty.

  Raises:
    ValueError: with what would fit.
  """
  batch_size = sum(n for _, n in sources)
  limits = limits or [0] * len(sources)
  for (source, n), limit in zip(sources, limits, strict=True):
    most = limit * len(source)
    if limit and n_steps * n > most:
      raise ValueError(
        f'{n_steps} steps with {n} of {batch_size} rows from {source.name} '
        f'read its {len(source)} rows {n_steps * n / len(source):.2f} times, '
        f'but its Config.max_epochs is {limit}; raise that, or use at most '
        f'LoopConfig.n_steps = {int(most / n)}, or Config.weights for '
        f'{int(most / n_steps)} rows'
      )


def arrays(
  tokens_BT: np.ndarray,
  lengths: np.ndarray,
  end_of_text_id: int,
  keep_documents: bool,
) -> Batch:
  """The arrays of a batch of rows.

  >>> row = arrays(np.array([[5, 0, 7, 8]]), np.array([3]), 0, True)
  >>> row['segment_ids_BT'].tolist(), row['positions_BT'].tolist()
  ([[1, 2, 2]], [[0, 0, 1]])

  Args:
    tokens_BT: inputs and the last target of each row.
    lengths: how many targets of each row are text; the others are padding.
    end_of_text_id: starts a document. One that a row continues counts from 0
      there, as it cannot see what came before.
    keep_documents: tokens see their own document only; else the whole row.

  Returns:
    The batch, as `make_batch_fn` gives it.
  """
  inputs_BT, targets_BT = tokens_BT[:, :-1], tokens_BT[:, 1:]
  index_BT = np.broadcast_to(np.arange(inputs_BT.shape[1]), inputs_BT.shape)
  starts_BT = (inputs_BT == end_of_text_id) & keep_documents
  starts_BT[:, 0] = True
  start_index_BT = np.maximum.accumulate(index_BT * starts_BT, axis=1)
  return {
    'inputs_BT': inputs_BT,
    'targets_BT': targets_BT,
    'loss_mask_BT': (index_BT < lengths[:, None]).astype(np.float32),
    'segment_ids_BT': np.cumsum(starts_BT, axis=1).astype(np.int32),
    'positions_BT': (index_BT - start_index_BT).astype(np.int32),
  }
