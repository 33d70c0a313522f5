"""Every form of conversations, as messages of ours, or why not."""

import pytest

from llm_jax.chat import forms, template
from llm_jax.tokenizer import encoding


def say(*contents, system=''):
  """User and assistant by turns."""
  head = [{'role': 'system', 'content': system}] if system else []
  return head + [
    {'role': ('user', 'assistant')[i % 2], 'content': content}
    for i, content in enumerate(contents)
  ]


def read(*rows):
  tally = forms.Tally()
  numbered = ((f'line {n}', row) for n, row in enumerate(rows, start=1))
  found = forms.read_rows(numbered, tally)
  return [one.messages for one in found], tally


def turns(*pairs):
  return [{'from': speaker, 'value': value} for speaker, value in pairs]


CALL = {'name': 'add', 'arguments': {'a': 1}}
PARTS = [{'type': 'text', 'text': 'a'}, {'text': 'b', 'image_url': None}]


@pytest.mark.parametrize(
  ('form', 'row', 'messages', 'ignored'),
  [
    ('OpenAI', {'messages': say('q', 'a', system='s')},
     say('q', 'a', system='s'), {}),
    ('OpenAI', {'id': 7, 'messages': say('q', 'a'), 'tools': None},
     say('q', 'a'), {'id': 1}),
    ('OpenAI', {'messages': say(PARTS, [{'type': 'text', 'text': 'c'}])},
     say('ab', 'c'), {}),
    ('OpenAI',
     {'messages': [{'role': 'user', 'content': 'q', 'name': 'x', 'date': None},
                   {'role': 'assistant', 'content': 'a', 'weight': 1}]},
     [say('q')[0], say('q', 'a')[1] | {'weight': 1}],
     {'name of a message': 1}),
    ('OpenAI',
     {'messages': [*say('q'), {'role': 'assistant', 'content': None,
                               'tool_calls': [{'id': '1', 'function': CALL}]},
                   {'role': 'tool', 'content': '2', 'tool_call_id': '1'},
                   {'role': 'assistant', 'content': '2'}]},
     [*say('q', ''), {'role': 'tool', 'content': '2', 'tool_call_id': '1'},
      {'role': 'assistant', 'content': '2'}], {}),
    ('ShareGPT',
     {'conversations': turns(('human', 'q'), ('gpt', 'a'), ('user', 'r'),
                             ('assistant', 'b')), 'system': 's'},
     say('q', 'a', 'r', 'b', system='s'), {}),
    ('ShareGPT', {'conversations': say('q', 'a')}, say('q', 'a'), {}),
    ('ShareGPT',
     {'conversations': turns(
       ('system', 's'), ('human', 'q'),
       ('function_call', '{"name": "add", "arguments": {"a": 1}}'),
       ('observation', '2'), ('gpt', 'a'))},
     [*say('q', '', system='s'), {'role': 'tool', 'content': '2'},
      {'role': 'assistant', 'content': 'a'}], {}),
    ('Alpaca', {'instruction': 'q', 'input': '', 'output': 'a', 'text': 'x'},
     say('q', 'a'), {'text': 1}),
    ('Alpaca', {'instruction': 'q', 'input': 'more', 'output': 'a'},
     say('q\n\nmore', 'a'), {}),
    ('Alpaca', {'instruction': 'r', 'output': 'b', 'system': 's',
                'history': [['q', 'a']]},
     say('q', 'a', 'r', 'b', system='s'), {}),
    ('Dolly', {'instruction': 'q', 'context': 'c', 'response': 'a'},
     say('q\n\nc', 'a'), {}),
    ('prompt and completion', {'prompt': 'q', 'completion': 'a'},
     say('q', 'a'), {}),
    ('prompt and completion',
     {'prompt': say('q', system='s'), 'completion': say('q', 'a')[1:]},
     say('q', 'a', system='s'), {}),
  ],
)  # fmt: skip
def test_read(form, row, messages, ignored):
  found, tally = read(row)
  for message in found[0]:
    message.pop('tool_calls', None)
  assert found == [messages]
  assert (dict(tally.forms), dict(tally.ignored)) == ({form: 1}, ignored)
  assert not tally.rejects


def test_calls_of_tools_are_kept():
  (shared,), _ = read(
    {'conversations': turns(('human', 'q'), ('function_call', '{"name": "f"}'))}
  )
  call = {'type': 'function', 'function': {'name': 'f'}}
  assert shared[1] == {'role': 'assistant', 'content': '', 'tool_calls': [call]}
  asked = [
    *say('q'),
    {'role': 'assistant', 'content': None, 'tool_calls': [call]},
  ]
  assert read({'messages': asked})[0] == [shared]


@pytest.mark.parametrize(
  ('row', 'reason'),
  [
    ('not a JSON object', 'not a JSON object'),
    ({'text': 'x', 'a': 1}, 'no known form, but the keys a, text'),
    ({'messages': []}, 'messages is not a list of at least one message'),
    ({'messages': 'hi'}, 'messages is not a list'),
    ({'messages': ['hi']}, 'a message is str, not an object'),
    ({'messages': say('q')}, 'no message of the assistant to learn from'),
    ({'messages': say('q', '')}, 'the assistant says nothing'),
    ({'messages': [*say('q'), *say('q', 'a')]}, "'user' after 'user'"),
    ({'messages': say('q', 'a')[1:]}, "'assistant' at the beginning"),
    ({'messages': [*say('q', 'a'), say('', 'b')[1]]}, "'assistant' after 'as"),
    ({'messages': say('q', 'a') + say('q', 'a', system='s')}, "'system' after"),
    ({'messages': say('q', 5)}, 'a message has content of type int'),
    ({'messages': [*say('q'), {'role': 'assistant'}]}, 'has no content'),
    ({'messages': [{'content': 'q'}]}, 'a message has role None'),
    ({'messages': say([{'type': 'image_url', 'image_url': 'u'}], 'a')},
     "content part 'image_url', which is no text"),
    ({'messages': [*say('q'), {'role': 'developer', 'content': ''}]},
     "a message has role 'developer'"),
    ({'messages': [*say('q'), say('', 'a')[1] | {'weight': 0}]},
     'no message of the assistant to learn from'),
    ({'messages': [*say('q'), say('', 'a')[1] | {'weight': 0.5}]},
     'a message has weight 0.5, not 0 or 1'),
    ({'conversations': turns(('gpt', 'a'), ('human', 'q'))}, 'the beginning'),
    ({'conversations': turns(('alien', 'a'))}, "is from 'alien'"),
    ({'conversations': turns(('human', 'q'), ('function_call', 'f(1)'))},
     'the call of a function is not JSON'),
    ({'conversations': [{'speaker': 'x'}]}, "KeyError('from')"),
    ({'instruction': 'q', 'output': ''}, 'the assistant says nothing'),
    ({'instruction': 'q', 'output': None}, 'no known form'),
    ({'instruction': 'q', 'input': 3, 'output': 'a'}, 'AttributeError'),
    ({'prompt': 'q', 'completion': ['a']}, 'prompt is not a list'),
    ({'prompt': 'q', 'chosen': 'a', 'rejected': 'b'}, 'no known form'),
  ],
)  # fmt: skip
def test_rejected_for_a_reason(row, reason):
  """Nothing is put into another order, and the rows around are read."""
  good = {'messages': say('q', 'a')}
  found, tally = read(good, row, row, good)
  assert found == [say('q', 'a')] * 2
  ((text, (n, first)),) = tally.rejects.items()
  assert reason in text
  assert (n, first, tally.n_rejected) == (2, 'line 2', 2)
  assert tally.lines() == [f'      2  {text} (first: line 2)']


def node(name, text, parent=None, **more):
  role = 'assistant' if text.startswith('a') else 'prompter'
  return {
    'message_id': name, 'parent_id': parent, 'role': role, 'text': text, **more
  }  # fmt: skip


# q1 - a1 - q2 - a3          a1 is on two paths, a2 and a3 on one.
#         \ q3 - a4 - q4     q4 has no answer.
#    - a2 - q5 (deleted) - a5
TREE = [
  node('n1', 'q1'),
  node('n3', 'a2', 'n1', rank=1),
  node('n2', 'a1', 'n1', rank=0),
  node('n4', 'q2', 'n2'),
  node('n5', 'a3', 'n4'),
  node('n6', 'q3', 'n2'),
  node('n7', 'a4', 'n6'),
  node('n8', 'q4', 'n7'),
  node('n9', 'q5', 'n3', deleted=True),
  node('n10', 'a5', 'n9'),
]


def nested(name):
  (own,) = (n for n in TREE if n['message_id'] == name)
  replies = [nested(n['message_id']) for n in TREE if n['parent_id'] == name]
  return {'role': own['role'], 'text': own['text'], 'replies': replies} | {
    'deleted': own.get('deleted', False)
  }


@pytest.mark.parametrize(
  'rows',
  [TREE, TREE[::-1], [{'message_tree_id': 'n1', 'prompt': nested('n1')}]],
)
def test_trees_are_read_from_the_root_to_each_leaf(rows):
  found, tally = read(*rows)
  byte_level = encoding.Tokenizer.from_merges([], 'qwen2')
  learnt = {}
  for messages in found:
    ids, mask = template.render(byte_level, messages)
    kept = [i for i, is_learnt in zip(ids, mask, strict=True) if is_learnt]
    path = ' '.join(message['content'] for message in messages)
    end = byte_level.special_id('<|im_end|>')
    learnt[path] = byte_level.decode([i for i in kept if i != end])
  assert learnt == {'q1 a2': 'a2', 'q1 a1 q2 a3': 'a3', 'q1 a1 q3 a4': 'a4'}
  assert tally.forms == {'OASST': 3}
  assert tally.ignored['deleted messages'] == 1
  assert tally.ignored['questions without an answer'] == 1
  assert not tally.rejects


def test_a_tree_of_one_path_is_learnt_as_a_whole():
  (messages,), _ = read(*(TREE[i] for i in (0, 2, 3, 4)))
  assert messages == say('q1', 'a1', 'q2', 'a3')


def test_messages_without_their_tree_are_counted():
  lost = node('x', 'a9', 'not there'), node('y', 'q9', 'x')
  found, tally = read(*lost, *TREE)
  assert len(found) == 3
  reason = 'the first message of its tree is not there'
  assert tally.rejects == {reason: (2, 'line 1')}
