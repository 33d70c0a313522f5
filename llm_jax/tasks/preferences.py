"""Ranked answers that users bring: read in any form, laid out, and counted.

What is left out is counted by reason, with the first place of each, and
printed as a table; a source of which nothing is left is an error. No answer is
cut.
"""

import collections
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from llm_jax.chat import forms, rankings, template
from llm_jax.data import preferences
from llm_jax.tasks import given, splits

_FLAG = 'preferences'
_FORMS = (
  'rows with prompt, chosen and rejected, or with prompt, responses and '
  'ranking, transcripts of hh-rlhf, trees of OASST with ranks, votes with '
  'both conversations, or rows with prompt, completion and label'
)


class Limits(NamedTuple):
  """What can be learnt from."""

  model: int  # tokens that it reads
  row: int  # of all answers to a prompt, each with the prompt
  takes_labels: bool = False  # an answer with a label needs no other beside it


class LaidOut(NamedTuple):
  """The answers to a prompt as tokens, and their source's name."""

  source: str
  group: preferences.Group
  is_held_out: bool


def fingerprints(sources: Mapping[str, str]) -> dict[str, str]:
  """Of each source's files, by `preferences NAME`."""
  return given.fingerprints(sources, _FLAG)


def load(
  sources: Mapping[str, str], chat_format: template.Format, limits: Limits
) -> tuple[list[LaidOut], dict[str, Any]]:
  """Read the rankings of all sources and lay them out.

  One prompt in ten is held out, by its checksum.

  Args:
    sources: files by the source's name.
    chat_format: how the model is spoken to.
    limits: of what is laid out.

  Returns:
    The rankings; and for the record what was left out.

  Raises:
    ValueError: if a file is damaged, or nothing of a source is left.
  """
  laid_out: list[LaidOut] = []
  tallies: dict[str, forms.Tally] = collections.defaultdict(forms.Tally)
  for source, ranked in given.read_sources(
    sources, rankings.read_rows, what=_FLAG, known=_FORMS
  ):
    tally = tallies[source]
    with tally.rejecting(ranked.place):
      if len(ranked.answers) == 1 and not limits.takes_labels:
        raise ValueError(
          'an answer with a label alone, which only dpo with Preference.loss = '
          "'kto' can learn from"
        )
      group = _group(ranked, chat_format, limits)
      key = json.dumps(ranked.prompt, ensure_ascii=False, sort_keys=True)
      laid_out.append(LaidOut(source, group, splits.is_held_out(key)))
      tally.forms['laid out'] += 1
  left_out = given.all_left_out(
    tallies,
    'nothing of the preferences of {} is left; raise Config.sequence_length '
    'for long ones, or give others',
  )
  return laid_out, {'left_out': left_out}


def _group(
  ranked: rankings.Ranked, chat_format: template.Format, limits: Limits
) -> preferences.Group:
  """The answers to a prompt; ValueError says why they cannot be compared."""
  prompt_ids = chat_format.prompt(ranked.prompt)
  before = [{**message, 'weight': 0} for message in ranked.prompt]
  group = []
  for answer, rank in zip(ranked.answers, ranked.ranks, strict=True):
    rows = chat_format.rows([*before, *answer])
    if len(rows) != 1 or not any(rows[0].loss_mask):
      raise ValueError('the format shows an answer in several rows, or none')
    ids, mask = rows[0]
    if ids[: len(prompt_ids)] != prompt_ids or any(mask[: len(prompt_ids)]):
      raise ValueError('the format does not show the prompt before each answer')
    group.append(preferences.Answer(ids, mask, rank))
  by_ids: dict[tuple[int, ...], int] = {}
  for answer in group:
    if by_ids.setdefault(tuple(answer.token_ids), answer.rank) != answer.rank:
      raise ValueError('answers of different ranks are equal as tokens')
  lengths = [len(answer.token_ids) for answer in group]
  if max(lengths) > limits.model:
    raise ValueError(f'longer than the {limits.model} tokens of the model')
  if sum(lengths) > limits.row:
    raise ValueError(
      f'all answers are longer than a row of {limits.row} tokens'
    )
  return group


def split(
  rows: Sequence[LaidOut],
) -> tuple[list[LaidOut], list[preferences.Group]]:
  """What is trained on, and the answers to prompts that are held out.

  Held-out answers with a label are compared in pairs, a good one and one that
  is not, in their order; what is left over is not.

  Raises:
    ValueError: if there is nothing of one of both.
  """
  trained = [row for row in rows if not row.is_held_out]
  held_out = [row.group for row in rows if row.is_held_out]
  pairs = [group for group in held_out if len(group) > 1]
  labelled = [group[0] for group in held_out if len(group) == 1]
  good, bad = ([a for a in labelled if a.rank == rank] for rank in (0, 1))
  pairs += zip(good, bad, strict=False)
  if not trained or not pairs:
    raise ValueError(
      f'of {len(rows)} prompts with rankings {len(held_out)} are held out, one '
      'in ten by its checksum, and there must be answers to compare among '
      'these, and others to learn from; give more'
    )
  return trained, pairs


def mixture(rows: Sequence[LaidOut], epochs: float) -> list[dict[str, Any]]:
  """What a run reads of each source so often, for `record.mixture`."""
  counted = []
  for source, group, _ in rows:
    n_tokens = sum(len(answer.token_ids) for answer in group)
    own = {'rankings': 1, 'answers': len(group), 'tokens': n_tokens}
    counted.append((source, own))
  return given.shares(counted, epochs)
