"""Conversations of users as rows: what is kept, cut, left out, and said."""

import json

import pytest

from llm_jax.chat import template
from llm_jax.tasks import given
from llm_jax.tokenizer import encoding

BYTES = encoding.Tokenizer.from_merges([], 'qwen2')


def say(*contents, system=''):
  head = [{'role': 'system', 'content': system}] if system else []
  return head + [
    {'role': ('user', 'assistant')[i % 2], 'content': content}
    for i, content in enumerate(contents)
  ]


def item(*contents, source='mine', place='line 1 of x', system=''):
  return given.Item(source, place, say(*contents, system=system))


def rows_of(messages):
  return [template.render(BYTES, messages)]


def n_tokens(*contents, system=''):
  return len(rows_of(say(*contents, system=system))[0].token_ids)


def lay_out(items, length, too_long='drop'):
  return given.lay_out(items, rows_of, length=length, too_long=too_long)


def test_sources_are_named_by_their_files_or_as_said():
  found = given.named(['x/my talks.jsonl.gz', 'b=y.jsonl', 'https://a.b/c'], ())
  assert found == {
    'my_talks': 'x/my talks.jsonl.gz',
    'b': 'y.jsonl',
    'c': 'https://a.b/c',
  }
  with pytest.raises(
    ValueError, match="'b' is taken; write --conversations ano"
  ):
    given.named(['b=x.jsonl', 'y/b.jsonl'], ())
  with pytest.raises(ValueError, match="'identity' is taken"):
    given.named(['identity.jsonl'], ['identity'])


def test_two_sources_and_what_is_left_out_of_them(tmp_path, caplog):
  caplog.set_level('INFO', 'absl')
  rows = [
    {'messages': say('q', 'a'), 'id': 1},
    {'instruction': 'q', 'output': 'a'},
    {'messages': say('q')},
    {'messages': say('q')},
  ]
  path = tmp_path / 'one.jsonl'
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  (tmp_path / 'two').mkdir()
  (tmp_path / 'two' / 'b.jsonl').write_text(json.dumps(rows[0]))
  sources = given.named([str(path), f'other={tmp_path / "two"}'], ())
  items = list(given.read(sources))
  assert [(one.source, one.place.split('/')[0]) for one in items] == [
    ('one', 'line 1 of '), ('one', 'line 2 of '), ('other', 'line 1 of ')
  ]  # fmt: skip
  assert 'conversations read: 1 OpenAI, 1 Alpaca' in caplog.text
  assert 'keys ignored: 1 id' in caplog.text
  assert '2 are left out' in caplog.text
  reason = 'no message of the assistant to learn from'
  assert f'      2  {reason} (first: line 3 of {path})' in caplog.text
  before = given.fingerprints(sources)
  assert list(before) == ['conversations one', 'conversations other']
  path.write_text(json.dumps(rows[2]))
  assert given.fingerprints(sources) != before
  with pytest.raises(ValueError, match=f'(?s)one=.*left out.*1  {reason}'):
    list(given.read(sources))
  path.write_text('')
  with pytest.raises(ValueError, match='--conversations one=.* it is empty'):
    list(given.read(sources))


LONG = item('q1', 'a1', 'question', 'answer', 'q3', 'a3', system='s')
SHORT = item('q', 'a')


def test_long_ones_are_dropped_and_counted(caplog):
  length = n_tokens('q', 'a') - 1
  rows, found = lay_out([LONG, SHORT, LONG], length)
  assert rows == [('mine', rows_of(SHORT.messages)[0])]
  reason = f'longer than a row of {length} tokens'
  assert found == {'left_out': {f'mine: {reason}': 2}, 'cut': 0}
  assert f'2  {reason} (first: line 1 of x)' in caplog.text
  other = LONG._replace(source='other')
  with pytest.raises(ValueError, match='(?s)of other is left; set .*2  longer'):
    lay_out([other, SHORT, other], length)


@pytest.mark.parametrize(
  ('kept', 'slack'),
  [
    (('question', 'answer', 'q3', 'a3'), 0),
    (('q3', 'a3'), 0),
    (('q3', 'a3'), 3),
  ],
)
def test_cut_from_the_left_at_a_turn(kept, slack):
  """The system message stays, and what is left begins with the user."""
  length = n_tokens(*kept, system='s') - 1 + slack
  rows, found = lay_out([LONG], length, 'cut')
  assert [row.rendered for row in rows] == rows_of(say(*kept, system='s'))
  assert found == {'left_out': {}, 'cut': 1}


def test_what_cannot_be_cut_is_left_out():
  length = n_tokens('q', 'a') - 1
  rows, found = lay_out([SHORT, item('q' * 99, 'a'), LONG], length, 'cut')
  assert len(rows) == 1
  assert sum(found['left_out'].values()) == 2
  unanswered = item('q1', 'a' * 99, 'q2')
  assert lay_out([SHORT, unanswered], length, 'cut')[1]['cut'] == 0


def test_long_ones_as_an_error():
  assert lay_out([SHORT], n_tokens('q', 'a') - 1, 'error')[0]
  with pytest.raises(
    ValueError, match='mine, line 1 of x: .* tokens do not fit'
  ):
    lay_out([SHORT], n_tokens('q', 'a') - 2, 'error')


def test_what_the_format_cannot_show_is_left_out():
  call = [*say('q'), {'role': 'assistant', 'content': '', 'audio': {}}]
  _, found = lay_out([SHORT, SHORT._replace(messages=call)], 99)
  ((reason, n),) = found['left_out'].items()
  assert n == 1
  assert "a message has 'audio', which the format does not show" in reason


def test_the_first_row_of_each_source_is_kept_for_the_report(tmp_path):
  rows, _ = lay_out([item('q\x1b', 'b'), item('r', 'c')], length=99)
  others = [given.LaidOut(f'{i}', rows[1].rendered) for i in range(3)]
  given.write_masks(str(tmp_path), BYTES, [*rows, *others])
  lines = (tmp_path / 'masks.jsonl').read_text().splitlines()
  found = [json.loads(line) for line in lines]
  assert [row['source'] for row in found] == ['mine', '0', '1']
  assert ['\\x1b', 0] in found[0]['tokens']
  assert found[0]['tokens'][-2:] == [['b', 1], ['<|im_end|>', 1]]


def test_the_mixture_counts_each_source():
  rows, _ = lay_out([SHORT, item('q', 'abc', source='b'), SHORT], 99)
  n_own, n_other = n_tokens('q', 'a'), n_tokens('q', 'abc')
  assert given.mixture(rows, 1.5) == [
    {
      'source': 'mine', 'conversations': 2, 'tokens': 2 * n_own,
      'learnt': 2 * 2, 'share': 2 * n_own / (2 * n_own + n_other), 'epochs': 1.5
    },
    {
      'source': 'b', 'conversations': 1, 'tokens': n_other, 'learnt': 4,
      'share': n_other / (2 * n_own + n_other), 'epochs': 1.5
    },
  ]  # fmt: skip
