"""Every form of ranked answers, or why a row is none."""

import pytest

from llm_jax.chat import forms, rankings


def user(text):
  return {'role': 'user', 'content': text}


def assistant(text):
  return {'role': 'assistant', 'content': text}


def read(*rows):
  tally = forms.Tally()
  numbered = ((f'line {n}', row) for n, row in enumerate(rows, start=1))
  return list(rankings.read_rows(numbered, tally)), tally


def node(name, parent, role, rank=None, **more):
  row = {'message_id': name, 'parent_id': parent, 'text': name, 'role': role}
  return row | {'rank': rank} | more


Q, GOOD, BAD = [user('q')], [assistant('good')], [assistant('bad')]
SYSTEM = {'role': 'system', 'content': 's'}
TALK = '\n\nHuman: q\n\nAssistant: a\n\nHuman: r\n\nAssistant: '
LONGER = [user('q'), assistant('a'), user('r')]


@pytest.mark.parametrize(
  ('row', 'prompt', 'answers', 'ranks'),
  [
    ({'prompt': 'q', 'chosen': 'good', 'rejected': 'bad'},
     Q, [GOOD, BAD], [0, 1]),
    ({'prompt': [SYSTEM, *Q], 'chosen': 'good', 'rejected': BAD},
     [SYSTEM, *Q], [GOOD, BAD], [0, 1]),
    ({'messages': LONGER, 'chosen': GOOD, 'rejected': BAD, 'id': 1},
     LONGER, [GOOD, BAD], [0, 1]),
    # TRL's implicit prompt, with and without the prompt beside it.
    ({'chosen': [*LONGER, *GOOD], 'rejected': [*LONGER, *BAD]},
     LONGER, [GOOD, BAD], [0, 1]),
    ({'prompt': 'q', 'chosen': [*Q, *GOOD], 'rejected': [*Q, *BAD]},
     Q, [GOOD, BAD], [0, 1]),
    # They part at a question: what is compared begins with an answer.
    ({'chosen': [*LONGER, *GOOD],
      'rejected': [*Q, assistant('a'), user('x'), *BAD]},
     Q, [[*LONGER[1:], *GOOD], [assistant('a'), user('x'), *BAD]], [0, 1]),
    ({'chosen': [*LONGER, *GOOD], 'rejected': LONGER[:2]},
     Q, [[*LONGER[1:], *GOOD], [assistant('a')]], [0, 1]),
    ({'chosen': TALK + 'good', 'rejected': TALK + 'bad\n'},
     LONGER, [GOOD, BAD], [0, 1]),
    # The lowest number is the best, and equal ones are tied.
    ({'prompt': 'q', 'responses': ['bad', 'good', 'b', 'c'],
      'ranking': [9, 1, 2.5, 2.5]},
     Q, [BAD, GOOD, [assistant('b')], [assistant('c')]], [2, 0, 1, 1]),
    ({'conversation_a': [*Q, *BAD], 'conversation_b': [*Q, *GOOD],
      'winner': 'model_b', 'model_a': 'x'}, Q, [BAD, GOOD], [1, 0]),
    ({'prompt': 'q', 'completion': 'good', 'label': True}, Q, [GOOD], [0]),
    ({'prompt': LONGER, 'completion': BAD, 'label': False}, LONGER, [BAD], [1]),
  ],
)  # fmt: skip
def test_forms(row, prompt, answers, ranks):
  (found,), tally = read(row)
  assert found == ('line 1', prompt, answers, ranks)
  assert not tally.rejects
  assert dict(tally.ignored) == ({'id': 1} if 'id' in row else {})


def pair(chosen, rejected, **more):
  return {'prompt': 'q', 'chosen': chosen, 'rejected': rejected} | more


def vote(winner):
  both = {'conversation_a': [*Q, *BAD], 'conversation_b': [*Q, *GOOD]}
  return both | {'winner': winner}


def ranking(responses, ranks):
  return {'prompt': 'q', 'responses': responses, 'ranking': ranks}


@pytest.mark.parametrize(
  ('row', 'fault'),
  [
    (pair('good', ''), 'an answer is empty'),
    (pair('good', ' \n'), 'an answer is empty'),
    (pair([*Q, *GOOD], 'bad'), 'one of chosen and rejected begins'),
    (pair([*Q, *GOOD], [*Q, *GOOD]), 'both answers are equal'),
    (pair('good', 7), 'a conversation is not a list'),
    (pair('good', 'bad', prompt=[*Q, *GOOD]), 'the last message is of the ass'),
    (pair([user('r')], [user('s')]), 'no common beginning'),
    ({'chosen': 'x', 'rejected': 'y'}, 'texts without a prompt'),
    ({'chosen': TALK, 'rejected': TALK + 'bad'}, 'an answer is empty'),
    (
      {'chosen': [*LONGER, *GOOD], 'rejected': LONGER},
      'answer ends with the us',
    ),
    (ranking(['one'], [0]), 'a ranking of one answer'),
    (ranking([], []), 'responses is not a list'),
    (ranking(['a', 'b'], [1]), 'one number for each of 2'),
    (ranking(['a', 'b'], [1, float('nan')]), 'nan, which is no number'),
    (ranking(['a', 'b'], [1, 'first']), "'first', which is no number"),
    (ranking(['a', 'b'], [1, True]), 'True, which is no number'),
    (ranking(['a', 'b'], [3, 3]), 'all answers are tied'),
    (vote('tie'), 'all answers are tied'),
    (vote('A'), "winner is 'A', which is none of model_a, model_b"),
    ({'prompt': 'q', 'completion': 'a', 'label': 1}, 'label is 1; write true'),
    ({'prompt': 'q', 'completion': '', 'label': True}, 'an answer is empty'),
    ({'model_a': 'x', 'model_b': 'y', 'score': 1}, 'no known form'),
    ('not a JSON object', 'not a JSON object'),
  ],
)
def test_rejects_by_reason_and_goes_on(row, fault):
  found, tally = read(row, pair('good', 'bad'))
  assert [one.place for one in found] == ['line 2']
  ((reason, (n, first)),) = tally.rejects.items()
  assert fault in reason
  assert (n, first) == (1, 'line 1')


def test_trees_of_oasst_rank_the_replies_to_each_question():
  """As messages in any order, and as one tree; deleted ones are left out."""
  rows = [
    node('good', 'q', 'assistant', 0),
    node('q', None, 'prompter'),
    node('bad', 'q', 'assistant', 1),
    node('gone', 'q', 'assistant', 2, deleted=True),
    node('unranked', 'q', 'assistant'),
    node('r', 'good', 'prompter'),
    node('y', 'r', 'assistant', 5),
    node('x', 'r', 'assistant', 3),
    node('s', 'bad', 'prompter'),
    node('only', 's', 'assistant', 0),
  ]

  def nested(name):
    (row,) = (row for row in rows if row['message_id'] == name)
    below = [r['message_id'] for r in rows if r['parent_id'] == name]
    return row | {'replies': [nested(n) for n in below]}

  tree = {'message_tree_id': 't', 'prompt': nested('q')}
  for given in (rows, [tree]):
    found, tally = read(*given)
    assert [(one.prompt, one.answers, one.ranks) for one in found] == [
      (Q, [GOOD, BAD], [0, 1]),
      (
        [user('q'), *GOOD, user('r')],
        [[assistant('y')], [assistant('x')]],
        [1, 0],
      ),
    ]
    assert tally.forms == {'OASST': 2}
    assert not tally.rejects
