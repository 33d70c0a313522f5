"""Ranked answers as tokens and batches: what is kept, left out, and said."""

import json
from unittest import mock

import numpy as np
import pytest

from llm_jax.chat import formats, rankings
from llm_jax.data import preferences as rows_of_preferences
from llm_jax.tasks import given, preferences
from llm_jax.tokenizer import encoding
from tests.chat import imported_test

CHAT = formats.Own(encoding.Tokenizer.from_merges([], 'qwen2'))
PAD = CHAT.stop_ids[0]  # what fills a row up is what ends an answer


def said(text):
  return [{'role': 'assistant', 'content': text}]


def ranked(*answers, ranks=(), prompt='q', place='line 1'):
  messages = [{'role': 'user', 'content': prompt}]
  ranks = ranks or range(len(answers))
  return rankings.Ranked(place, messages, [*map(said, answers)], [*ranks])


def lay_out(*found, model=64, row=128, chat=CHAT, takes_labels=False):
  read = [('mine', one) for one in found]
  limits = preferences.Limits(model, row, takes_labels)
  with mock.patch.object(given, 'read_sources', return_value=read):
    return preferences.load({}, chat, limits)


def test_prompt_and_answer_are_the_full_rendering():
  (laid_out,), left_out = lay_out(ranked('good', 'very bad'))
  assert not left_out['left_out']
  question = [{'role': 'user', 'content': 'q'}]
  for answer, text in zip(laid_out.group, ('good', 'very bad'), strict=True):
    full = CHAT.rows([*question, *said(text)])[0]
    assert answer.token_ids == full.token_ids
    prompt_ids, answer_ids = answer.parts
    assert [*prompt_ids] == CHAT.prompt(question)
    assert CHAT.text(answer_ids) == text
    assert answer_ids[-1] == PAD
    assert answer.n_tokens == len(answer_ids) == len(text) + 1


def test_answers_of_earlier_turns_are_part_of_the_prompt():
  one = ranked('good', 'bad')
  before = [{'role': 'user', 'content': 'a'}, *said('b')]
  (laid_out,), _ = lay_out(one._replace(prompt=[*before, *one.prompt]))
  first, answer_ids = laid_out.group[0].parts
  assert CHAT.text(answer_ids) == 'good'
  assert CHAT.text(first).endswith('userqassistant')


@pytest.mark.parametrize('name', ['thinking', 'opened', 'chatml'])
def test_templates_that_open_a_thought(name):
  """Only one answer has it, and both stand behind the same prompt."""
  chat = imported_test.FORMATS[name]
  one = ranked('<think>\nw\n</think>\n\ngood', 'bad')
  (laid_out,), _ = lay_out(one, model=999, row=999, chat=chat)
  for answer, text in zip(laid_out.group, one.answers, strict=True):
    first, ids = answer.parts
    assert [*first] == chat.prompt(one.prompt)
    assert answer.token_ids == chat.rows([*one.prompt, *text])[0].token_ids
    assert ids[-1] in chat.stop_ids


def test_what_is_left_out_is_counted(caplog):
  laid_out, left_out = lay_out(
    ranked('good', 'bad'),
    ranked('same', 'same'),
    ranked('same', 'same', 'other', ranks=(0, 0, 1)),  # these are tied
    ranked('good', 'x' * 60),
    ranked('a' * 40, 'b' * 40, 'c' * 40),
  )
  assert [len(one.group) for one in laid_out] == [2, 3]
  assert left_out['left_out'] == {
    'mine: answers of different ranks are equal as tokens': 1,
    'mine: longer than the 64 tokens of the model': 1,
    'mine: all answers are longer than a row of 128 tokens': 1,
  }
  assert '3 are left out' in caplog.text
  with pytest.raises(ValueError, match='nothing of the preferences of mine'):
    lay_out(ranked('same', 'same'))


def test_one_prompt_in_ten_is_held_out_whatever_its_answers():
  both = [
    lay_out(*(ranked(text, 'b', prompt=f'q{i}') for i in range(300)))[0]
    for text in ('a', 'c')
  ]
  first, second = ([one.is_held_out for one in rows] for rows in both)
  assert first == second
  assert 15 <= sum(first) <= 45


def test_answers_with_a_label_need_no_other():
  labelled = [
    ranked('a', ranks=[i % 3 > 0], prompt=f'q{i}') for i in range(300)
  ]
  pair = ranked('good', 'bad')
  rows, _ = lay_out(pair, *labelled, takes_labels=True)
  trained, held_out = preferences.split(rows)
  assert sum(len(row.group) == 1 for row in trained) > 200
  # What is measured are pairs of a good one and one that is not.
  assert len(held_out) > 5
  assert all([a.rank for a in group] == [0, 1] for group in held_out)
  _, left_out = lay_out(pair, *labelled)
  ((reason, n),) = left_out['left_out'].items()
  assert "only dpo with Preference.loss = 'kto'" in reason
  assert n == 300
  rows, _ = lay_out(*labelled[1:3], takes_labels=True)
  with pytest.raises(ValueError, match='answers to compare among these'):
    preferences.split(rows)


def test_sources_are_read_and_an_empty_one_is_refused(tmp_path, caplog):
  caplog.set_level('INFO', 'absl')
  file = tmp_path / 'mine.jsonl'
  rows = [
    {'prompt': 'q', 'chosen': 'a', 'rejected': 'b', 'n': 1},
    {'text': 't'},
  ]
  file.write_text('\n'.join(map(json.dumps, rows)))
  length = preferences.Limits(64, 128)
  laid_out, _ = preferences.load({'mine': str(file)}, CHAT, length)
  assert preferences.mixture(laid_out, 2.0) == [
    {'source': 'mine', 'rankings': 1, 'answers': 2, 'share': 1.0}
    | {'tokens': 2 * len(laid_out[0].group[0].token_ids), 'epochs': 2.0}
  ]
  assert '1 prompt and pair' in caplog.text
  assert 'keys ignored: 1 n' in caplog.text
  assert f'line 2 of {file}' in caplog.text
  file.write_text('{"text": "t"}\n')
  with pytest.raises(ValueError, match='holds no preference to learn from'):
    preferences.load({'mine': str(file)}, CHAT, length)


def test_batches_hold_each_prompt_in_one_row():
  texts = ('ab', 'c'), ('d', 'e', 'fg'), 'hi'
  laid_out, _ = lay_out(*(ranked(*own) for own in texts))
  groups = [one.group for one in laid_out]
  batch_fn, n_rows = rows_of_preferences.make_batch_fn(
    groups, sequence_length=96, batch_size=2, seed=0, pad_id=PAD
  )
  assert n_rows == 2
  batch = batch_fn(0)
  seen = []
  for row in range(2):
    n_groups = batch['group_BA'][row].max()
    assert batch['loss_mask_BT'][row].sum() == pytest.approx(n_groups)
    for place in np.flatnonzero(batch['group_BA'][row]):
      here = batch['segment_ids_BT'][row] == place + 1
      ids = batch['inputs_BT'][row, here].tolist()
      assert batch['positions_BT'][row, here].tolist() == [*range(len(ids))]
      end = batch['end_BA'][row, place]
      assert batch['inputs_BT'][row, end] == PAD
      assert end == np.flatnonzero(here)[-1]
      learnt = batch['loss_mask_BT'][row] * here > 0
      text = CHAT.text(batch['targets_BT'][row, learnt])
      assert batch['targets_BT'][row, learnt][-1] == PAD
      seen.append((text, int(batch['rank_BA'][row, place])))
  assert sorted(seen) == [('ab', 0), ('c', 1), ('d', 0), ('e', 1), ('fg', 2),
                          ('h', 0), ('i', 1)]  # fmt: skip
  with pytest.raises(ValueError, match='raise Config.sequence_length'):
    rows_of_preferences.make_batch_fn(
      groups, sequence_length=40, batch_size=2, seed=0, pad_id=PAD
    )
