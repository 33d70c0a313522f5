"""Tools by HTTP: run by the server, or by its client; and their streams."""

import concurrent.futures
import threading
import time

import openai
import pytest
import uvicorn
from openai.types import chat as openai_chat

from llm_jax.agent import toolbox, turns
from llm_jax.serve import app, incoming, text, worker
from tests.agent import talker
from tests.chat import calls_test

_ADD = {'name': 'python', 'arguments': '{"code": "7+8"}'}
_FIND = {'name': 'search', 'arguments': '{"query": "Rome"}'}
_TOOL = {'type': 'function', 'function': {'name': 'python'}}


@pytest.fixture(name='client', scope='module')
def _client():
  """Of a server that runs tools for `runs`, and none for `asks`."""
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    using = toolbox.Tools(talker.available(), pool, toolbox.Toolbox())
    models = {}
    for name, tools in (('runs', using), ('asks', None)):
      model = turns.Model(
        talker.CFG, talker.params(), talker.TOKENIZER, talker.FORMAT, tools
      )
      rows = worker.Worker(model, n_rows=2, max_chunk=3, name=name)
      models[name] = incoming.Served(name, model, rows, stage='sft')
    config = uvicorn.Config(app.make(models), port=0, log_level='error')
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
      time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    url = f'http://127.0.0.1:{port}/v1'
    yield openai.OpenAI(base_url=url, api_key='none', max_retries=0)
    server.should_exit = True
    thread.join()


def _ask(client, model, *messages, **more):
  """The message, and how it ended; streamed and whole, which are the same."""
  messages = [
    {'role': 'user', 'content': x} if isinstance(x, str) else x
    for x in messages
  ]
  asked = {'model': model, 'messages': messages, 'temperature': 0} | more
  whole = client.chat.completions.create(**asked).choices[0]
  said, found, results, finish = '', {}, [], None
  for chunk in client.chat.completions.create(**asked, stream=True):
    openai_chat.ChatCompletionChunk.model_validate(chunk.model_dump())
    choice = chunk.choices[0]
    said += choice.delta.content or ''
    for piece in choice.delta.tool_calls or ():
      one = found.setdefault(piece.index, {'name': '', 'arguments': ''})
      one['name'] += piece.function.name or ''
      one['arguments'] += piece.function.arguments or ''
    if 'llm_jax' in chunk.model_extra:
      results.append(chunk.model_extra['llm_jax'])
    finish = choice.finish_reason
  message = whole.message
  called = [x.function.model_dump() for x in message.tool_calls or ()]
  assert said == (message.content or '')
  assert [found[i] for i in range(len(found))] == called
  assert results == message.model_extra.get('llm_jax', [])
  assert finish == whole.finish_reason
  return message, called, finish


def test_the_client_runs_tools(client):
  message, called, finish = _ask(client, 'asks', 'a?')
  assert (message.content, called, finish) == (None, [_ADD], 'tool_calls')
  (call,) = message.tool_calls
  result = {'role': 'tool', 'tool_call_id': call.id, 'content': '15'}
  before = 'a?', message.model_dump(exclude_none=True)
  message, called, finish = _ask(client, 'asks', *before, result)
  assert (message.content, called, finish) == ('it is 15', [], 'stop')
  with pytest.raises(openai.BadRequestError, match='not in its place'):
    _ask(client, 'asks', *before, result | {'tool_call_id': 'other'})


def test_text_and_several_calls(client):
  message, called, finish = _ask(client, 'asks', 'b?')
  assert (message.content, finish) == ('hm', 'tool_calls')
  assert called == [_FIND, _ADD]
  assert len({x.id for x in message.tool_calls}) == 2
  _, called, _ = _ask(client, 'asks', 'd?')
  assert called == [{'name': 'nope', 'arguments': '{"x": [1]}'}]


def test_the_server_runs_tools(client):
  message, called, finish = _ask(client, 'runs', 'a?')
  assert (message.content, called, finish) == ('it is 15', [], 'stop')
  call = {'name': 'python', 'arguments': '{"code": "7+8"}'}
  assert message.model_extra['llm_jax'] == [
    {'call': call, 'result': '15', 'is_error': False}
  ]
  message, *_ = _ask(client, 'runs', 'b?')
  assert message.content == 'hmboth'
  told = [x['result'] for x in message.model_extra['llm_jax']]
  assert told == ['Italy', '15', 'Italy']
  message, *_ = _ask(client, 'runs', 'c?')
  assert (message.content, message.model_extra) == ('none', {})


def test_a_client_with_tools_runs_them_itself(client):
  _, called, finish = _ask(client, 'runs', 'a?', tools=[_TOOL])
  assert (called, finish) == ([_ADD], 'tool_calls')


def test_no_tools_are_called_if_that_is_asked(client):
  for model in ('runs', 'asks'):
    message, called, _ = _ask(
      client, model, 'a?', tool_choice='none', max_tokens=20
    )
    assert called == []
    assert message.model_extra == {}


def test_what_cannot_be_shown_is_refused(client):
  other = {'type': 'function', 'function': {'name': 'weather'}}
  with pytest.raises(openai.BadRequestError, match='weather') as caught:
    _ask(client, 'asks', 'a?', tools=[other])
  assert caught.value.param == 'tools'
  wrong = {'name': 'python', 'parameters': {'type': 'nothing'}}
  with pytest.raises(openai.BadRequestError, match='parameters'):
    _ask(client, 'asks', 'a?', tools=[{'type': 'function', 'function': wrong}])


def test_clients_go_while_a_tool_works(client, monkeypatch):
  """Neither its row nor its talk is left behind."""
  free = threading.Event()
  monkeypatch.setitem(talker.RESULTS, '7+8', 'late')
  monkeypatch.setattr(talker, 'pause', lambda: free.wait(20))  # of every tool
  with pytest.raises(openai.APITimeoutError):
    _ask(client.with_options(timeout=0.7), 'runs', 'a?')
  free.set()
  message, *_ = _ask(client, 'runs', 'c?')
  assert message.content == 'none'


@pytest.mark.parametrize(
  ('source', 'said'),
  [
    (calls_test.TAGS, 'I <b>count</b>.\n<tool_call>\n{"name": "a", '
     '"arguments": {"x": "mkdir -p t/{a,b"}}\n</tool_call>'),
    (calls_test.TAGS, 'no <tool_call without an end'),
    (calls_test.TAGS, 'no call <tool'),
    (calls_test.TAGS, '<think>a</think>so\n<tool_call>\n{"name": "a"}'),
    (calls_test.BARE, '{"name": "a", "parameters": {"x": 1}}'),
    (calls_test.BARE, 'a set {1, 2} and more'),
  ],
)  # fmt: skip
def test_pieces_are_what_the_template_reads(source, said):
  """Put together, for every token; nothing of a call is sent as text."""
  tokenizer, own = calls_test.chat_format(source)
  ids = tokenizer.encode(said)
  pieces = text.Pieces(tokenizer, own, may_call=True)
  sent = [pieces.push(token) for token in ids]
  rest, found = pieces.finish()
  content, expected = own.split_calls(ids)
  assert (''.join(sent) + rest).strip() == content.strip()
  assert found == expected
  if '<tool_call>' in said:
    assert '<tool' not in ''.join(sent)
