"""Batches of token rows, mixed from sources by weight.

batch(step) is a function of its arguments, so a run resumes from its step
number alone. Every host makes the whole batch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from llm_jax import files
from llm_jax.data import order, shards

Batch = dict[str, np.ndarray]
Sources = Sequence[tuple[shards.TokenSource, float]]  # with their weights


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
    The sources with their weights, and the held-out split of one.

  Raises:
    ValueError: if there is none, or one is not there or damaged.
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
      f'no source of {", ".join(map(str, folders))} holds documents out from '
      'training; tokenize more documents, or give --tokens of others too and '
      'name their source as Config.valid_source'
    )
  return list(zip(sources, weights, strict=True)), source(valid_name, 'valid')


def check_lists(
  sources: Sequence[str], lists: Mapping[str, Sequence[float]]
) -> None:
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
  batch_size: int,
  seed: int,
  end_of_text_id: int,
  keep_documents: bool = True,
) -> Callable[[int], Batch]:
  """The function from a step to its batch.

  Every batch has the same number of rows of each source, the nearest to its
  weight. Within a source each row, and so each token as a target, comes once
  an epoch; the sources start their next epochs each in its own time.

  Args:
    sources: with their weights, which need not add up to one.
    batch_size: rows of the whole batch.
    seed: of the order, from 0 to 2^32 - 1.
    end_of_text_id: the separator that starts every document.
    keep_documents: give each document of a row its own segment, positions
      from 0, so that no token sees another document. If False, a row is one
      segment.

  Returns:
    batch(step) -> `inputs_BT`, `targets_BT`, `segment_ids_BT` (from 1),
    `positions_BT`, all int32, and `loss_mask_BT`, float32, 0 where a target
    is padding.

  Raises:
    ValueError: if a weight gives a source no row, the sources differ in
      their length of rows, or one uses another separator.
  """
  _check_sources([source for source, _ in sources], end_of_text_id)
  n_rows = rows_of_each([weight for _, weight in sources], batch_size)
  for (source, weight), n in zip(sources, n_rows, strict=True):
    if not n:
      raise ValueError(
        f'weight {weight} gives {source.name} no row in a batch of '
        f'{batch_size}; raise it in Config.weights, or Config.batch_size, or '
        f'leave the source out of Config.sources'
      )

  def batch(step: int) -> Batch:
    tokens, lengths = [], []
    for (source, _), n in zip(sources, n_rows, strict=True):
      indices = order.row_indices(
        source.name, len(source), seed, start=step * n, count=n
      )
      tokens.append(source.rows(indices))
      lengths.append(source.n_targets(indices))
    return arrays(
      tokens_BT=np.concatenate(tokens),
      lengths=np.concatenate(lengths),
      end_of_text_id=end_of_text_id,
      keep_documents=keep_documents,
    )

  return batch


def empty_batch(batch_size: int, length: int) -> Batch:
  """A batch of padding, with the arrays that `make_batch_fn` gives."""
  tokens_BT = np.zeros((batch_size, length + 1), np.int32)
  return arrays(
    tokens_BT,
    lengths=np.zeros(batch_size, int),
    end_of_text_id=0,
    keep_documents=True,
  )


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


def progress(
  sources: Sources, batch_size: int, n_steps: int
) -> dict[str, float]:
  """How much of each source the first so many batches hold.

  Returns:
    For each source `epochs_NAME` and `tokens_NAME`; tokens are positions of
    rows, so they add up to those of the batches, padding included.
  """
  n_rows = rows_of_each([weight for _, weight in sources], batch_size)
  counts: dict[str, float] = {}
  for (source, _), n in zip(sources, n_rows, strict=True):
    name = source.name.partition('/')[0]
    counts[f'epochs_{name}'] = n_steps * n / len(source)
    counts[f'tokens_{name}'] = n_steps * n * source.sequence_length
  return counts


def table(
  sources: Sources, batch_size: int, n_steps: int
) -> list[dict[str, Any]]:
  """What a run reads of each source, for `record.mixture`."""
  n_rows = rows_of_each([weight for _, weight in sources], batch_size)
  return [
    {
      'source': source.name.partition('/')[0],
      'rows': len(source),
      'tokens': source.tokens,
      'share': n / batch_size,
      'epochs': n_steps * n / len(source),
    }
    for (source, _), n in zip(sources, n_rows, strict=True)
  ]


def check_epochs(
  sources: Sources, batch_size: int, n_steps: int, limits: Sequence[float]
) -> None:
  """Refuse a run that would read a source more often than it may.

  At the start rather than when the source runs out, so that the mixture is
  the same in every batch.

  Args:
    sources: with their weights.
    batch_size: rows of the whole batch.
    n_steps: of the whole run.
    limits: epochs of each source, 0: no limit; or empty.

  Raises:
    ValueError: with what would fit.
  """
  n_rows = rows_of_each([weight for _, weight in sources], batch_size)
  limits = limits or [0] * len(sources)
  for (source, _), limit, n in zip(sources, limits, n_rows, strict=True):
    most = limit * len(source)
    if limit and n_steps * n > most:
      raise ValueError(
        f'{n_steps} steps with {n} of {batch_size} rows from {source.name} '
        f'read its {len(source)} rows {n_steps * n / len(source):.2f} times, '
        f'but Config.max_epochs is {limit} for it; raise that, or use at most '
        f'LoopConfig.n_steps = {int(most / n)}, or a weight in Config.weights '
        f'for at most {int(most / n_steps)} rows'
      )


def document_segments(
  inputs_BT: np.ndarray, end_of_text_id: int
) -> tuple[np.ndarray, np.ndarray]:
  """Number the documents of each row, and the tokens of each document.

  >>> segments, positions = document_segments(np.array([[5, 6, 0, 7, 8]]), 0)
  >>> segments.tolist(), positions.tolist()
  ([[1, 1, 2, 2, 2]], [[0, 1, 0, 1, 2]])

  Args:
    inputs_BT: token ids; a separator starts a document.
    end_of_text_id: the separator.

  Returns:
    segment_ids_BT, from 1 on in each row, and positions_BT, both int32. A
    document that a row continues counts from 0 there, as it cannot see what
    came before.
  """
  starts_BT = inputs_BT == end_of_text_id
  starts_BT[:, 0] = True
  index_BT = np.broadcast_to(np.arange(inputs_BT.shape[1]), inputs_BT.shape)
  start_index_BT = np.maximum.accumulate(index_BT * starts_BT, axis=1)
  segment_ids_BT = np.cumsum(starts_BT, axis=1)
  positions_BT = index_BT - start_index_BT
  return segment_ids_BT.astype(np.int32), positions_BT.astype(np.int32)


def arrays(
  tokens_BT: np.ndarray,
  lengths: np.ndarray,
  end_of_text_id: int,
  keep_documents: bool,
) -> Batch:
  """The arrays of a batch of rows.

  Args:
    tokens_BT: inputs and the last target of each row.
    lengths: how many targets of each row are text; the others are padding.
    end_of_text_id: ends a document.
    keep_documents: tokens see their own document only; else the whole row.

  Returns:
    The batch, as `make_batch_fn` gives it.
  """
  inputs_BT, targets_BT = tokens_BT[:, :-1], tokens_BT[:, 1:]
  index_BT = np.broadcast_to(np.arange(inputs_BT.shape[1]), inputs_BT.shape)
  if keep_documents:
    segment_ids_BT, positions_BT = document_segments(inputs_BT, end_of_text_id)
  else:
    segment_ids_BT = np.ones_like(inputs_BT)
    positions_BT = index_BT.astype(np.int32)
  return {
    'inputs_BT': inputs_BT,
    'targets_BT': targets_BT,
    'loss_mask_BT': (index_BT < lengths[:, None]).astype(np.float32),
    'segment_ids_BT': segment_ids_BT,
    'positions_BT': positions_BT,
  }


def _check_sources(sources: Sequence[shards.TokenSource], end_of_text_id: int):
  for source in sources:
    if source.end_of_text_id != end_of_text_id:
      raise ValueError(
        f'{source.name} separates documents by token {source.end_of_text_id}, '
        f'but end_of_text_id is {end_of_text_id}; use the tokenizer that made '
        f'the shards'
      )
    if source.sequence_length != sources[0].sequence_length:
      raise ValueError(
        f'{source.name} has rows of {source.sequence_length} tokens and '
        f'{sources[0].name} of {sources[0].sequence_length}; tokenize both '
        f'with one sequence_length'
      )
