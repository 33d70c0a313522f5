"""Ranked answers in the forms of others, as a prompt, answers and their ranks.

Which form a row has is seen by its keys: a prompt with a chosen and a rejected
answer, as text or messages; two conversations with one beginning, as TRL's
implicit prompt and the transcripts of hh-rlhf; a prompt with responses and
their ranking; two conversations with a vote, as an arena keeps them; trees of
OASST, whose replies have ranks; one answer with a label. A row is read as it
is, or rejected for a reason. Reads no files.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from llm_jax.chat import conversation, forms

_TURN = re.compile(r'(?:^|\n\n)(Human|Assistant):')
_SPEAKERS = {'Human': conversation.USER, 'Assistant': conversation.ASSISTANT}
# Ranks of the two answers that a vote is about.
_VOTES = {'model_a': (0, 1), 'model_b': (1, 0)}
_VOTES |= dict.fromkeys(('tie', 'tie (bothbad)', 'tie_bothbad'), (0, 0))


class Ranked(NamedTuple):
  """A prompt, the answers to it, and how they are ranked."""

  place: str  # where the row stands
  prompt: forms.Messages
  answers: list[forms.Messages]  # each mostly one message
  # Of each answer: 0 is the best, equal ones are tied. One answer alone has a
  # label: 0 is good, 1 is not.
  ranks: list[int]


def read_rows(
  rows: Iterable[tuple[str, Mapping[str, Any] | str]], tally: forms.Tally
) -> Iterator[Ranked]:
  """The rankings of a file's rows.

  Args:
    rows: with what names their places; text says why there is no row.
    tally: is kept.

  Yields:
    Rankings of which one answer is better than another, and answers with a
    label; of OASST at the end, one for each question whose answers are ranked.
  """

  def ranked(place: str, read: Any) -> Ranked:
    return _checked(Ranked(place, *read), tally)

  trees = yield from forms.each_row(rows, tally, _FORMS, make=ranked)
  for tree in trees:
    for path, answers in _ranked_replies(tree, []):
      with tally.rejecting(answers[0].place):
        ranks = [answer.message['rank'] for answer in answers]
        found = Ranked(
          answers[0].place,
          [_of_node(node) for node in path],
          [[_of_node(node)] for node in answers],
          ranks=_dense(ranks, len(answers)),
        )
        yield _checked(found, tally)
        tally.forms['OASST'] += 1


def _checked(ranked: Ranked, tally: forms.Tally) -> Ranked:
  """The ranking; ValueError if it ranks nothing, or is no conversation."""
  if len(ranked.answers) > 1 and len(set(ranked.ranks)) == 1:
    raise ValueError('all answers are tied, so that none is better')
  forms.strip(ranked.prompt, tally)
  conversation.check_answerable(ranked.prompt)
  for answer in ranked.answers:
    forms.strip(answer, tally)
    conversation.check([*ranked.prompt, *answer])
    last = answer[-1]
    if last['role'] != conversation.ASSISTANT:
      raise ValueError(f'an answer ends with the {last["role"]}')
    if not last['content'].strip() and not last.get('tool_calls'):
      raise ValueError('an answer is empty')
  return ranked


def _dense(ranks: Any, n_answers: int) -> list[int]:
  """Ranks from 0 on without gaps; the lowest number is the best."""
  if not isinstance(ranks, list) or len(ranks) != n_answers:
    raise ValueError(
      f'ranking is no list of one number for each of {n_answers} responses'
    )
  for rank in ranks:
    is_number = isinstance(rank, int | float) and not isinstance(rank, bool)
    if not is_number or not math.isfinite(rank):
      raise ValueError(f'ranking has {rank!r}, which is no number')
  places = sorted(set(ranks))
  return [places.index(rank) for rank in ranks]


_Read = tuple[forms.Messages, list[forms.Messages], list[int]]


def _pair(row: Mapping[str, Any]) -> _Read:
  """A prompt, and a chosen and a rejected answer."""
  given = [row[key] for key in ('chosen', 'rejected')]
  wholes = [isinstance(x, list) and _begins(x) for x in given]
  if all(wholes):  # messages from the beginning on
    return _two_conversations(*map(_messages, given), ranks=(0, 1))
  if any(wholes):
    raise ValueError('one of chosen and rejected begins with the user')
  prompt = row['messages'] if 'messages' in row else row['prompt']
  answers = [_messages(x, conversation.ASSISTANT) for x in given]
  return _messages(prompt, conversation.USER), answers, [0, 1]


def _implicit(row: Mapping[str, Any]) -> _Read:
  """Two conversations of one beginning, or transcripts of hh-rlhf."""
  return _two_conversations(
    *(_messages(row[key]) for key in ('chosen', 'rejected')), ranks=(0, 1)
  )


def _ranking(row: Mapping[str, Any]) -> _Read:
  responses = forms.to_list(row['responses'], 'responses')
  if len(responses) == 1:
    raise ValueError('a ranking of one answer; it takes two')
  answers = [_messages(x, conversation.ASSISTANT) for x in responses]
  ranks = _dense(row['ranking'], len(answers))
  return _messages(row['prompt'], conversation.USER), answers, ranks


def _vote(row: Mapping[str, Any]) -> _Read:
  if row['winner'] not in _VOTES:
    raise ValueError(
      f'winner is {row["winner"]!r}, which is none of {", ".join(_VOTES)}'
    )
  both = (_messages(row[f'conversation_{name}']) for name in 'ab')
  return _two_conversations(*both, ranks=_VOTES[row['winner']])


def _labelled(row: Mapping[str, Any]) -> _Read:
  if not isinstance(label := row['label'], bool):
    raise ValueError(f'label is {label!r}; write true or false')
  answer = _messages(row['completion'], conversation.ASSISTANT)
  prompt = _messages(row['prompt'], conversation.USER)
  return prompt, [answer], [0 if label else 1]


def _two_conversations(
  one: forms.Messages, other: forms.Messages, ranks: Sequence[int]
) -> _Read:
  """Their common beginning, up to a question, is the prompt."""
  if one == other:
    raise ValueError('both answers are equal')
  pairs = enumerate(zip(one, other, strict=False))
  n_equal = next(
    (i for i, (a, b) in pairs if a != b), min(len(one), len(other))
  )
  n_equal = min(n_equal, len(one) - 1, len(other) - 1)
  asks = (conversation.USER, conversation.TOOL)
  while n_equal > 0 and one[n_equal - 1]['role'] not in asks:
    n_equal -= 1
  if n_equal <= 0:
    raise ValueError('the two conversations have no common beginning')
  return one[:n_equal], [one[n_equal:], other[n_equal:]], [*ranks]


def _messages(value: Any, speaker: str = '') -> forms.Messages:
  """Messages; of text one of the speaker, or without one a transcript."""
  if not isinstance(value, str):
    return [forms.to_message(m) for m in forms.to_list(value, 'a conversation')]
  if speaker:
    return [{'role': speaker, 'content': value}]
  before, *turns = _TURN.split(value)
  if before.strip() or not turns:
    raise ValueError(
      'chosen and rejected are texts without a prompt, and no transcripts that '
      'begin with "Human:"'
    )
  return [
    {'role': _SPEAKERS[name], 'content': text.strip()}
    for name, text in zip(turns[::2], turns[1::2], strict=True)
  ]


def _begins(messages: list[Any]) -> bool:
  """Whether they are a whole conversation, not an answer alone."""
  first = messages[0] if messages else None
  roles = (conversation.USER, conversation.SYSTEM)
  return isinstance(first, Mapping) and first.get('role') in roles


def _of_node(node: forms.Node) -> dict[str, Any]:
  role = node.message['role']
  return forms.to_message(
    {'role': forms.ROLES.get(role, role), 'content': node.message['text']}
  )


def _ranked_replies(
  node: forms.Node, above: Sequence[forms.Node]
) -> Iterator[tuple[list[forms.Node], list[forms.Node]]]:
  """Each path of a tree to a message whose replies are ranked, and these.

  Deleted messages, and replies that nobody ranked, are not among them.
  """
  if node.message.get('deleted'):
    return
  path = [*above, node]
  ranked = [
    reply
    for reply in node.replies
    if reply.message.get('rank') is not None
    and not reply.message.get('deleted')
    and forms.ROLES.get(reply.message['role']) == conversation.ASSISTANT
  ]
  if len(ranked) > 1:
    yield path, ranked
  for reply in node.replies:
    yield from _ranked_replies(reply, path)


_PAIR = 'chosen rejected'
_VOTED = 'conversation_a conversation_b winner'
_FORMS = (
  forms.Form('prompt and pair', f'prompt {_PAIR}', '', read=_pair),
  forms.Form('messages and pair', f'messages {_PAIR}', '', read=_pair),
  forms.Form('pair', _PAIR, '', read=_implicit),
  forms.Form('ranking', 'prompt responses ranking', '', read=_ranking),
  forms.Form('vote', _VOTED, 'model_a model_b', read=_vote),
  forms.Form('label', 'prompt completion label', '', read=_labelled),
)
