"""Conversations that users bring: read in any form, laid out, and counted.

What is left out is counted by reason, with the first place of each, and
printed as a table; a source of which nothing is left is an error.
"""

import collections
import itertools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from absl import logging

from llm_jax import files
from llm_jax.chat import conversation, forms, template
from llm_jax.data import conversations, readers
from llm_jax.tokenizer import text_tokenizer

TOO_LONG = ('drop', 'cut', 'error')
_N_SHOWN = 3  # sources of which a report shows a row
Item = conversations.Item
RowsFn = Callable[[Sequence[conversation.Message]], list[template.Rendered]]


class LaidOut(NamedTuple):
  """A row that is learnt from, and its source's name."""

  source: str
  rendered: template.Rendered


def named(given: Sequence[str], taken: Sequence[str]) -> dict[str, str]:
  """Sources by name, from `name=source`; else a file's own name is it.

  Raises:
    ValueError: if two have one name.
  """
  texts = []
  for text in given:
    is_named = '=' in text and '/' not in text.partition('=')[0]
    stem = pathlib.PurePath(text).name.partition('.')[0]
    name = ''.join(c if c.isalnum() else '_' for c in stem).strip('_')
    texts.append(text if is_named or not name else f'{name}={text}')
  return readers.named(texts, 'conversations', taken)


def fingerprints(
  sources: Mapping[str, str], what: str = 'conversations'
) -> dict[str, str]:
  """Of each source's files, by `conversations NAME`."""
  return {
    f'{what} {name}': readers.fingerprint_of(conversations.find(source))
    for name, source in sources.items()
  }


def read(sources: Mapping[str, str]) -> Iterator[Item]:
  """The conversations of all sources, in their order.

  Raises:
    ValueError: if a file is damaged, or a source holds no conversation.
  """
  known = (
    'conversations of OpenAI, ShareGPT, Alpaca, OASST, or prompts with '
    'completions'
  )
  for name, (place, messages) in read_sources(
    sources, forms.read_rows, what='conversations', known=known
  ):
    yield Item(name, place, messages)


def read_sources(
  sources: Mapping[str, str],
  read_rows: Callable[..., Iterator[Any]],
  what: str,
  known: str,
) -> Iterator[tuple[str, Any]]:
  """What is read of all sources, in their order, each with its source's name.

  Args:
    sources: files by the source's name.
    read_rows: of forms.py or rankings.py.
    what: is read, as its flag is called.
    known: the forms, in words.

  Raises:
    ValueError: if a file is damaged, or a source holds nothing of that kind.
  """
  for name, source in sources.items():
    tally = forms.Tally()
    for path in conversations.find(source):
      unit = 'row' if path.suffix.lower() == '.parquet' else 'line'
      shown, numbered = files.show(path), conversations.rows(path)
      rows = ((f'{unit} {n} of {shown}', row) for n, row in numbered)
      for found in read_rows(rows, tally):
        yield name, found
    source = f'--{what} {name}={source}'
    for counted, counts in (
      (f'{what} read', tally.forms),
      ('keys ignored', tally.ignored),
    ):
      if counts:
        found = ', '.join(f'{n:,} {key}' for key, n in counts.most_common())
        logging.info('%s: %s: %s', source, counted, found)
    say_left_out(
      source,
      tally,
      f'{source} holds no {what.removesuffix("s")} to learn from; give {known}',
    )


def say_left_out(source: str, tally: forms.Tally, nothing: str) -> None:
  """Print what is left out of a source; refuse one where that is all."""
  table = '\n'.join([f'{tally.n_rejected:,} are left out:', *tally.lines()])
  if not tally.forms:
    raise ValueError(
      nothing + (f'; {table}' if tally.rejects else ': it is empty')
    )
  if tally.rejects:
    logging.warning('%s: %s', source, table)


def all_left_out(
  tallies: Mapping[str, forms.Tally], nothing: str
) -> dict[str, int]:
  """Do so for every source, which `nothing` names; counts for the record."""
  found = {}
  for source, tally in tallies.items():
    found |= {f'{source}: {k}': n for k, (n, _) in tally.rejects.items()}
    say_left_out(source, tally, nothing.format(source))
  return found


def lay_out(
  items: Iterable[Item], rows_fn: RowsFn, length: int, too_long: str
) -> tuple[list[LaidOut], dict[str, Any]]:
  """Conversations as rows to learn from.

  Args:
    items: the conversations.
    rows_fn: lays one out; see chat/template.py.
    length: inputs of the longest row.
    too_long: what becomes of longer ones: 'drop'; 'cut' away the first turns
      until the rest, which begins with the user, fits; or 'error'.

  Returns:
    The rows, and for the record what was left out and how many were cut.

  Raises:
    ValueError: if a source is left out as a whole, or one is too long and that
      is an error.
  """
  rows: list[LaidOut] = []
  tallies: dict[str, forms.Tally] = collections.defaultdict(forms.Tally)
  n_cut = 0
  for item in items:
    tally = tallies[item.source]
    try:
      found, was_cut = _rows_that_fit(
        item, rows_fn, length=length, may_cut=too_long == 'cut'
      )
    except _TooLong as error:
      if too_long == 'error':
        raise ValueError(
          f'{item.source}, {item.place}: {error}; set Config.sequence_length, '
          "or Config.too_long = 'cut' or 'drop'"
        ) from None
      tally.reject(f'longer than a row of {length} tokens', item.place)
    except ValueError as error:
      tally.reject(forms.reason(error), item.place)
    else:
      n_cut += was_cut
      tally.forms['laid out'] += 1
      rows += [LaidOut(item.source, row) for row in found]
  left_out = all_left_out(
    tallies,
    'nothing of the conversations of {} is left; set Config.sequence_length or '
    "Config.too_long = 'cut' for long ones, or give others",
  )
  if n_cut:
    logging.info('%d conversations are cut from the left', n_cut)
  return rows, {'left_out': left_out, 'cut': n_cut}


class _TooLong(ValueError):
  pass


def _rows_that_fit(
  item: Item, rows_fn: RowsFn, length: int, may_cut: bool
) -> tuple[list[template.Rendered], bool]:
  """Rows of at most length + 1 tokens, and whether turns were cut away."""
  messages = item.messages
  n_head = int(messages[0]['role'] == conversation.SYSTEM)
  later = [
    i
    for i, message in enumerate(messages)
    if message['role'] == conversation.USER and i > n_head
  ]
  most = 0
  for start in [n_head, *(later if may_cut else [])]:
    kept = [*messages[:n_head], *messages[start:]]
    if not any(map(conversation.is_learnt, kept)):
      break
    rows = [row for row in rows_fn(kept) if any(row.loss_mask)]
    n_tokens = max((len(row.token_ids) for row in rows), default=0)
    if not rows:
      raise ValueError('the format shows nothing of it that is learnt')
    if n_tokens <= length + 1:
      return rows, start != n_head
    most = most or n_tokens
  raise _TooLong(f'{most} tokens do not fit into a row of {length + 1}')


def write_masks(
  workdir: str,
  tokenizer: text_tokenizer.TextTokenizer,
  rows: Sequence[LaidOut],
) -> None:
  """The first row of each source token by token, as a report shows it."""
  first: dict[str, template.Rendered] = {}
  for row in rows:
    first.setdefault(row.source, row.rendered)
  shown = [
    {
      'source': source,
      'tokens': [
        [tokenizer.shown(token_id), learnt]
        for token_id, learnt in zip(*rendered, strict=True)
      ],
    }
    for source, rendered in itertools.islice(first.items(), _N_SHOWN)
  ]
  files.write_jsonl(pathlib.Path(workdir, 'masks.jsonl'), shown)


def mixture(rows: Sequence[LaidOut], epochs: float) -> list[dict[str, Any]]:
  """What a run reads of each source so often, for `record.mixture`."""
  counted = []
  for source, (ids, loss_mask) in rows:
    n, n_learnt = len(ids), sum(loss_mask)
    own = {'conversations': 1, 'tokens': n, 'learnt': n_learnt}
    counted.append((source, own))
  return shares(counted, epochs)


def shares(
  counted: Iterable[tuple[str, dict[str, int]]], epochs: float
) -> list[dict[str, Any]]:
  """Counts of each source, `tokens` among them, as rows of a mixture."""
  counts: dict[str, Any] = collections.defaultdict(collections.Counter)
  for source, own in counted:
    counts[source].update(own)
  n_tokens = sum(own['tokens'] for own in counts.values())
  for source, own in counts.items():
    share = own['tokens'] / n_tokens
    counts[source] = {'source': source, **own, 'share': share, 'epochs': epochs}
  return [*counts.values()]
