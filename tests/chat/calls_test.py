"""Calls of tools as chat templates of published shapes write them."""

import json

import pytest

from llm_jax.chat import imported
from tests.chat import published_templates

# As Hermes and Qwen write them; results stand in messages of the user.
TAGS = """\
{% if tools %}{{ '<|im_start|>system\\nTools:' }}{% for t in tools %}
{{- '\\n' + (t | tojson) }}{% endfor %}{{ '<|im_end|>\\n' }}{% endif %}
{% for m in messages %}
{% if m.role == 'tool' %}
{{ '<|im_start|>user\\n<tool_response>\\n' + m.content }}
{{- '\\n</tool_response><|im_end|>\\n' }}
{%- else %}
{{ '<|im_start|>' + m.role + '\\n' + m.content }}
{%- for c in m.tool_calls or [] %}
{{- '\\n' if m.content or not loop.first }}
{{- '<tool_call>\\n{"name": "' + c.function.name + '", "arguments": ' }}
{{- (c.function.arguments | tojson) + '}\\n</tool_call>' }}
{%- endfor %}{{ '<|im_end|>\\n' }}
{%- endif %}
{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""
# As Llama 3.1 writes them: a message is one call and nothing else.
BARE = """\
{% for m in messages %}
{% if m.tool_calls %}
{% set c = m.tool_calls[0].function %}
{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{{- '{"name": "' + c.name + '", "parameters": ' }}
{{- (c.arguments | tojson) + '}<|eot_id|>' }}
{%- else %}
{{ '<|start_header_id|>' + ('ipython' if m.role == 'tool' else m.role) }}
{{- '<|end_header_id|>\\n\\n' + m.content | trim + '<|eot_id|>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
SCHEMA = {'type': 'function', 'function': {'name': 'python', 'parameters': {}}}
CALL = {'name': 'python', 'arguments': {'code': 'print("</s> <|im_end|>")'}}
ANSWER = {
  'role': 'assistant',
  'content': '',
  'tool_calls': [{'type': 'function', 'function': CALL}],
}
MESSAGES = [
  {'role': 'user', 'content': 'a?'},
  ANSWER,
  {'role': 'tool', 'content': '4'},
  {'role': 'assistant', 'content': 'four'},
]


def chat_format(source, tools=()):
  tokenizer = published_templates.tokenizer(source)
  return tokenizer, imported.Imported(tokenizer, source, tools)


@pytest.mark.parametrize('source', [TAGS, BARE])
def test_calls_are_read_back_and_results_follow_by_ids(source):
  """Prompt, call, result and answer are the ids of the whole conversation."""
  _, own = chat_format(source)
  (row,) = own.rows(MESSAGES)
  prompt = own.prompt(MESSAGES[:1])
  assert row.token_ids[: len(prompt)] == prompt
  n_learnt = row.loss_mask[len(prompt) :].index(0)
  drawn = row.token_ids[len(prompt) : len(prompt) + n_learnt]
  content, (call,) = own.split_calls(drawn)
  assert (content, call.name, call.arguments, call.fault) == (
    '', 'python', CALL['arguments'], '',
  )  # fmt: skip
  read = own.message(drawn)['tool_calls'][0]['function']
  assert json.loads(read['arguments']) == CALL['arguments']
  behind = own.after_tools(['4'])
  assert prompt + drawn + behind == own.prompt(MESSAGES[:3])
  assert row.token_ids[: len(prompt + drawn + behind)] == (
    prompt + drawn + behind
  )


def test_content_stands_beside_calls():
  _, own = chat_format(TAGS)
  messages = [MESSAGES[0], ANSWER | {'content': 'I count.'}]
  (row,) = own.rows(messages)
  content, (call,) = own.split_calls(
    row.token_ids[len(own.prompt(messages[:1])) :]
  )
  assert content == 'I count.'
  assert call.name == 'python'


@pytest.mark.parametrize(
  ('source', 'text', 'faults'),
  [
    (TAGS, 'x <tool_call>\n{"name": "a"}', ['<tool_call> has no </tool_call>']),
    (TAGS, '<tool_call>\n{"name"}\n</tool_call>', ['it is no JSON']),
    (TAGS, '{"name": "a", "arguments": {}}', []),
    (BARE, '{"name": "a", "parameters": {}}', ['']),
    (BARE, '{"name": "a", "parameters": ', ['it is no JSON']),
    (BARE, 'no {"name": "a"}', []),
    (published_templates.CHATML, '<tool_call>{}</tool_call>', []),
    (TAGS, '<think><tool_call>{}</tool_call>', []),
    (TAGS, '<think><tool_call>{}</tool_call></think>no', []),
    (BARE, '<think>{}</think>{"name": "a"}', ['']),
  ],
)
def test_what_is_no_call_says_so(source, text, faults):
  tokenizer, own = chat_format(source)
  found = own.split_calls(tokenizer.encode(text))[1]
  assert [call.fault for call in found] == faults


def test_schemas_are_shown():
  tokenizer, own = chat_format(TAGS, [SCHEMA])
  text = tokenizer.decode(own.prompt(MESSAGES[:1]))
  assert '"name": "python"' in text


def test_a_template_without_tools_refuses_results():
  _, own = chat_format(published_templates.CHATML)
  with pytest.raises(ValueError, match='shows no calls of tools'):
    own.after_tools(['4'])
