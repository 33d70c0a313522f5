"""The layout by hand, its mask, and what is refused."""

import hypothesis
import pytest
from hypothesis import strategies as st

from llm_jax.chat import conversation, jinja_template, template
from llm_jax.tokenizer import encoding

BYTES = encoding.Tokenizer.from_merges([], 'qwen2')
START, SEP, END = (
  BYTES.special_id(name)
  for name in ('<|im_start|>', '<|im_sep|>', '<|im_end|>')
)


def say(role, content):
  return {'role': role, 'content': content}


class TestRender:
  def test_layout_and_mask(self):
    said = 'system S', 'user hi', 'assistant yo', 'tool 4', 'assistant '
    rendered = template.render(BYTES, [say(*x.split(' ')) for x in said])
    # fmt: off
    assert rendered.token_ids == [
      START, *b'system', SEP, *b'S', END,
      START, *b'user', SEP, *b'hi', END,
      START, *b'assistant', SEP, *b'yo', END,
      START, *b'tool', SEP, *b'4', END,
      START, *b'assistant', SEP, END,
    ]
    assert rendered.loss_mask == (
      [0] * 10 + [0] * 9 + [0] * 11 + [1, 1, 1] + [0] * 8 + [0] * 11 + [1]
    )
    # fmt: on

  def test_a_result_is_learnt_only_where_it_says_so(self):
    said = [say('user', 'q'), say('assistant', ''), say('tool', '42')]
    rendered = template.render(BYTES, said)
    marked = template.render(BYTES, [*said[:2], said[2] | {'weight': 1}])
    assert marked.token_ids == rendered.token_ids
    differ = [
      i
      for i, pair in enumerate(
        zip(marked.loss_mask, rendered.loss_mask, strict=True)
      )
      if pair[0] != pair[1]
    ]
    assert [marked.token_ids[i] for i in differ] == [*b'42', END]
    asked = [said[0] | {'weight': 1}, *said[1:]]
    assert template.render(BYTES, asked) == rendered

  def test_generation_prompt(self):
    question = [say('user', 'q')]
    ids = template.render(BYTES, question, True).token_ids
    rendered = template.render(BYTES, question)
    assert ids == [*rendered.token_ids, START, *b'assistant', SEP]
    assert sum(template.render(BYTES, question, True).loss_mask) == 0

  @hypothesis.settings(deadline=None)
  @hypothesis.given(
    st.lists(st.sampled_from(['<|im_end|>', '<|im_start|>', 'system', 'x', '']))
  )
  def test_content_cannot_end_its_message(self, parts):
    question = [say('user', ''.join(parts))]
    ids = template.render(BYTES, question, True).token_ids
    control = [i for i in ids if i in BYTES.special_ids]
    assert control == [START, SEP, END, START, SEP]

  def test_nothing_to_answer(self):
    answered = [say('user', 'q'), say('assistant', 'a')]
    for last in ([say('system', 's')], answered):
      with pytest.raises(ValueError, match='nothing to answer'):
        template.render(BYTES, last, True)


@pytest.mark.parametrize(
  ('messages', 'error'),
  [
    ([], 'no messages'),
    (say('user', 'x'), 'a list of messages, not dict'),
    ('x', 'a list of messages, not str'),
    (['x'], 'message 0 is str'),
    ([{'role': 'user'}], 'message 0 has content None'),
    ([say('user', 3)], 'message 0 has content 3'),
    ([say('robot', 'x')], "message 0 has role 'robot'; use one of system"),
    ([say('assistant', 'x')], 'at the beginning; here comes system or user'),
    ([say('user', 'x')] * 2, "message 1 has role 'user' after 'user'"),
    ([say('system', 'x'), say('system', 'x')], "'system' after 'system'"),
    ([say('user', 'x'), say('tool', 'x')], 'here comes assistant'),
    ([{**say('user', 'x'), 'tool_calls': []}], '0 of the user has tool_calls'),
    (
      [say('user', 'x'), {**say('assistant', ''), 'tool_calls': {}}],
      'message 1 is wrong: tool_calls is dict, not a list',
    ),
    (
      [say('user', 'x'), {**say('assistant', ''), 'tool_calls': [{}]}],
      'message 1 is wrong: a call in tool_calls has no function',
    ),
    (
      [
        say('user', 'x'),
        {
          **say('assistant', ''),
          'tool_calls': [{'function': {'name': 'a', 'arguments': '{'}}],
        },
      ],
      'a call in tool_calls: its arguments are no JSON',
    ),
  ],
)
def test_refused(messages, error):
  with pytest.raises(ValueError, match=error):
    conversation.check(messages)


def test_the_exported_template_writes_calls_as_we_do():
  """As text, arguments being objects; JSON text is refused there."""
  made = [
    {'name': 'python', 'arguments': {'code': 'print("é")'}},
    {'name': 'python', 'arguments': {'code': '1', 'more': 2}},
    {'name': 'search', 'arguments': {'query': '<b>'}},
    {'name': 'weather', 'arguments': {'city': 'Köln', 'days': [1, None]}},
  ]
  entries = [{'type': 'function', 'function': one} for one in made]
  messages = [
    say('user', 'q'),
    {**say('assistant', 'a'), 'tool_calls': entries},
    say('tool', '1'),
  ]
  ours = template.render(BYTES, messages, add_generation_prompt=True)
  theirs = jinja_template.Template(template.JINJA, {})
  text = theirs.render(messages, add_generation_prompt=True)
  assert text == BYTES.decode(ours.token_ids)
  made[0]['arguments'] = '{"code": "1"}'
  with pytest.raises(ValueError, match='are an object here'):
    theirs.render(messages)
