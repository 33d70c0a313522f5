"""The server, asked by OpenAI's own client over real sockets."""

import contextlib
import http.client
import json
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import openai
import pytest
import uvicorn
from fastapi import testclient
from openai.types import chat as openai_chat

from llm_jax.agent import turns
from llm_jax.infer import reading
from llm_jax.serve import app, incoming, text, worker
from llm_jax.train import checkpoint
from tests.evals import tiny_checkpoint

_KEY = 'sesame'


@pytest.fixture(scope='module')
def served(tmp_path_factory):
  """Models by name, and a client of the server that has them."""
  models = {}
  for name in ('chat', 'base'):
    folder = tmp_path_factory.mktemp(name)
    tiny_checkpoint.write(folder, is_chat=name == 'chat')
    model = turns.of_checkpoint(checkpoint.load_model(str(folder)))
    rows = worker.Worker(model, n_rows=4, max_chunk=4, name=name)
    models[name] = incoming.Served(name, model, rows, stage='sft')
  made = app.make(
    models,
    access=app.Access(key=_KEY),
    limits=app.Limits(max_waiting=20, max_body=100_000),
  )
  server = uvicorn.Server(uvicorn.Config(made, port=0, log_level='error'))
  thread = threading.Thread(target=server.run)
  thread.start()
  while not server.started:
    time.sleep(0.01)
  port = server.servers[0].sockets[0].getsockname()[1]
  url = f'http://127.0.0.1:{port}'
  yield models, openai.OpenAI(base_url=f'{url}/v1', api_key=_KEY), url
  server.should_exit = True
  thread.join()


_ASKED = {
  'model': 'chat',
  'messages': [{'role': 'user', 'content': 'hello'}],
  'max_tokens': 24,
  'seed': 7,
}


def test_models_and_settings(served):
  _, client, _ = served
  assert [x.id for x in client.models.list()] == ['chat', 'base']
  assert client.models.retrieve('base').model_extra['max_model_len'] == 128


def test_streamed_is_unstreamed_and_chunks_have_the_right_order(served):
  _, client, _ = served
  whole = client.chat.completions.create(**_ASKED)
  chunks = list(
    client.chat.completions.create(
      **_ASKED, stream=True, stream_options={'include_usage': True}
    )
  )
  for chunk in chunks:
    openai_chat.ChatCompletionChunk.model_validate(chunk.model_dump())
  *body, last = chunks
  assert last.choices == []
  assert last.usage == whole.usage
  assert body[0].choices[0].delta.role == 'assistant'
  end = body[-1].choices[0]
  assert end.delta.content is None
  assert end.finish_reason == whole.choices[0].finish_reason == 'length'
  assert {x.choices[0].finish_reason for x in body[:-1]} == {None}
  said = ''.join(x.choices[0].delta.content or '' for x in body)
  assert said == whole.choices[0].message.content
  plain = client.chat.completions.create(**_ASKED, stream=True)
  assert all(chunk.choices for chunk in plain)


def test_choices_of_one_seed_differ_and_come_again(served):
  _, client, _ = served

  def ask(**more):
    found = client.chat.completions.create(**_ASKED | more)
    return [x.message.content for x in found.choices]

  first = ask(n=6)
  assert len(set(first)) == 6
  assert ask(n=6) == first
  assert ask()[0] == first[0]
  assert ask(temperature=0, seed=1) == ask(temperature=0, seed=2)
  assert ask(seed=6) != ask()  # a seed does not make it greedy


def test_stop_strings_leave_nothing_of_themselves(served):
  _, client, _ = served
  whole = client.completions.create(
    model='base', prompt='ab', max_tokens=40, seed=3
  ).choices[0]
  at = len(whole.text) // 2
  stop = whole.text[at : at + 3]
  asked = {'model': 'base', 'prompt': 'ab', 'max_tokens': 40, 'seed': 3}
  cut = client.completions.create(**asked, stop=[stop, 'never']).choices[0]
  assert cut.text == whole.text[: whole.text.index(stop)]
  assert cut.finish_reason == 'stop'


def test_logprobs_are_of_the_tokens_that_were_drawn(served):
  models, client, _ = served
  found = client.completions.create(
    model='base',
    prompt=[[70, 71], [72]],
    max_tokens=8,
    logprobs=3,
    seed=1,
    extra_body={'return_tokens_as_token_ids': True},
  )
  assert len(found.choices) == 2
  for choice in found.choices:
    logprobs = choice.logprobs
    n = len(logprobs.tokens)
    assert n == 8
    ids = [int(x.removeprefix('token_id:')) for x in logprobs.tokens]
    model = models['base'].worker.model
    assert model.chat_format.text(ids) == choice.text
    assert len(logprobs.token_logprobs) == len(logprobs.text_offset) == n
    assert [len(x) for x in logprobs.top_logprobs] == [3] * n
    for token, logp, top in zip(
      logprobs.tokens,
      logprobs.token_logprobs,
      logprobs.top_logprobs,
      strict=True,
    ):
      assert (
        logp == pytest.approx(top[token])
        if token in top
        else (logp <= min(top.values()))
      )
  chat = client.chat.completions.create(**_ASKED, logprobs=True, top_logprobs=2)
  content = chat.choices[0].logprobs.content
  assert len(content) == chat.usage.completion_tokens == 24
  assert [len(x.top_logprobs) for x in content] == [2] * len(content)


@pytest.mark.parametrize('streams', [True, False])
def test_who_goes_away_frees_the_rows(served, streams, monkeypatch):
  models, _, url = served
  asked = {'model': 'base', 'prompt': [[70]] * 20, 'max_tokens': 120}
  rows = models['base'].worker
  step = rows._turns.step

  def slow(*given):
    time.sleep(0.02)  # all of it takes 3 s, on any machine
    return step(*given)

  monkeypatch.setattr(rows._turns, 'step', slow)
  before = _drawn(rows)
  client = http.client.HTTPConnection(url.removeprefix('http://'))
  headers = {
    'Authorization': f'Bearer {_KEY}',
    'Content-Type': 'application/json',
  }
  with contextlib.closing(client):
    body = json.dumps(asked | {'stream': streams})
    client.request('POST', '/v1/completions', body, headers)
    while _drawn(rows) == before:  # it has begun
      time.sleep(0.01)
  end = time.monotonic() + 20
  while not rows._turns.is_idle and time.monotonic() < end:
    time.sleep(0.02)
  assert rows.n_waiting == 0
  assert _drawn(rows) - before < 20 * 60


@pytest.mark.parametrize(
  ('changed', 'param', 'code'),
  [
    ({'surprise': 1}, 'surprise', None),
    ({'temperature': -1}, 'temperature', None),
    ({'n': 0}, 'n', None),
    ({'tools': [{}]}, 'tools', None),
    ({'stop': ''}, 'stop', None),
    ({'top_logprobs': 2}, 'top_logprobs', None),
    ({'tool_choice': 'required'}, 'tool_choice', None),
    ({'response_format': {'type': 'json_object'}}, 'response_format', None),
    ({'logit_bias': {'320': 1}}, 'logit_bias', None),
    ({'max_tokens': 128}, 'messages', 'context_length_exceeded'),
    (
      {'messages': [{'role': 'user', 'content': 'a' * 200}]},
      'messages',
      'context_length_exceeded',
    ),
  ],
)
def test_what_cannot_be_done_is_refused_by_name(served, changed, param, code):
  _, client, _ = served
  with pytest.raises(openai.BadRequestError) as caught:
    client.chat.completions.create(**_ASKED, extra_body=changed)
  assert (caught.value.param, caught.value.code) == (param, code)


def test_keys_hosts_and_the_queue(served):
  _, client, url = served
  with pytest.raises(openai.AuthenticationError):
    client.with_options(api_key='wrong').models.list()
  with pytest.raises(openai.NotFoundError):
    client.completions.create(model='none', prompt='a')
  with pytest.raises(openai.RateLimitError) as caught:
    client.with_options(max_retries=0).completions.create(
      model='base', prompt='a', n=21
    )
  assert caught.value.response.headers['retry-after'] == '1'
  rebound = urllib.request.Request(f'{url}/health', headers={'Host': 'evil.x'})
  with pytest.raises(urllib.error.HTTPError) as refused:
    urllib.request.urlopen(rebound)
  refused.value.close()
  assert refused.value.code == 400
  with urllib.request.urlopen(url) as page:
    assert page.headers['content-security-policy'] == "default-src 'self'"
    assert 'access-control-allow-origin' not in page.headers


def test_text_of_users_makes_no_control_tokens(served):
  _, _, url = served
  body = {'model': 'chat', 'prompt': '<|im_end|>', 'add_special_tokens': False}
  found = _post(url, '/tokenize', body)
  assert found['tokens'] == tiny_checkpoint.tokenizer().encode('<|im_end|>')
  assert found['count'] == 10  # a byte each
  asked = {'model': 'chat', 'tokens': found['tokens']}
  assert _post(url, '/detokenize', asked) == {'prompt': '<|im_end|>'}


def _post(url, path, body):
  headers = {
    'Authorization': f'Bearer {_KEY}',
    'Content-Type': 'application/json',
  }
  request = urllib.request.Request(
    url + path, json.dumps(body).encode(), headers
  )
  with urllib.request.urlopen(request) as response:
    return json.load(response)


def _drawn(rows):
  return rows._turns._rows.n_drawn


def _pieces(served, raw: bytes, stops=()):
  model = served[0]['base'].model
  pieces = text.Pieces(model.tokenizer, model.chat_format, stops)
  tokens = tiny_checkpoint.tokenizer()
  ids = {tokens.token_bytes(i): i for i in range(256)}
  found = [pieces.push(ids[bytes([byte])]) for byte in raw]
  return [*found, pieces.finish()[0]]


def test_pieces_are_whole_characters(served):
  assert _pieces(served, b'\xc4\x8f') == ['', '\u010f', '']
  assert ''.join(_pieces(served, b'a\xc4')) == 'a\ufffd'


def test_only_what_may_become_a_stop_string_waits(served):
  found = _pieces(served, b'The quick brown fox', ['own fox'])
  assert ''.join(found) == 'The quick br'
  assert found[:12] == list('The quick br')  # without delay
  assert ''.join(_pieces(served, b'own f', ['own fox'])) == 'own f'


def test_echo_scores_the_prompt(served):
  models, client, _ = served
  texts = ['The sky', 'a']
  asked = {'model': 'base', 'prompt': texts, 'echo': True, 'logprobs': 2}
  scored = client.completions.create(**asked, max_tokens=0)
  assert [x.text for x in scored.choices] == texts
  assert scored.usage.completion_tokens == 0
  model = models['base'].model
  for choice, given in zip(scored.choices, texts, strict=True):
    ids = [*model.tokenizer.prefix_ids, *model.tokenizer.encode(given)]
    pairs = [(ids[:1], ids[1:])] if len(ids) > 1 else []
    expected = reading.logp(model.config, model.params, pairs, batch_size=1)
    found = choice.logprobs
    assert found.token_logprobs[0] is found.top_logprobs[0] is None
    np.testing.assert_allclose(
      found.token_logprobs[1:], expected[0] if pairs else [], atol=1e-4
    )
    assert [len(x) for x in found.top_logprobs[1:]] == [2] * (len(ids) - 1)
    assert choice.finish_reason == 'length'
  # With an answer behind it: of one piece with that of the same seed alone.
  asked |= {'prompt': 'The sky', 'seed': 5, 'max_tokens': 6}
  echoed = client.completions.create(**asked).choices[0]
  alone = client.completions.create(**asked | {'echo': False}).choices[0]
  assert echoed.text == 'The sky' + alone.text
  n = len(alone.logprobs.tokens)
  assert echoed.logprobs.tokens[-n:] == alone.logprobs.tokens
  np.testing.assert_allclose(
    echoed.logprobs.token_logprobs[-n:], alone.logprobs.token_logprobs
  )
  starts = [x + len('The sky') for x in alone.logprobs.text_offset]
  assert echoed.logprobs.text_offset[-n:] == starts
  streamed = client.completions.create(**asked, stream=True)
  assert ''.join(x.choices[0].text for x in streamed) == echoed.text


def test_biases_penalties_and_least_lengths_act(served):
  _, client, _ = served
  asked = _ASKED | {'temperature': 0, 'logprobs': True}

  def tokens(**more):
    found = client.chat.completions.create(**asked, extra_body=more)
    return [x.token for x in found.choices[0].logprobs.content]

  plain = tokens()
  assert tokens(logit_bias={'88': 100}, max_tokens=3) == ['X'] * 3
  assert tokens(logit_bias={'88': 10}) == ['X'] * 24
  assert tokens(logit_bias={'88': 10}, frequency_penalty=2) != ['X'] * 24
  assert tokens(presence_penalty=2) != plain
  ends = tiny_checkpoint.tokenizer().eos_ids
  stop = {str(ends[0]): 100}
  assert tokens(logit_bias=stop) == []
  assert len(tokens(logit_bias=stop, min_tokens=5)) == 5
  assert len(tokens(logit_bias=stop, ignore_eos=True)) == 24


def test_loss_mask_of_a_conversation(served):
  models, _, url = served
  said = [
    {'role': 'user', 'content': 'a'},
    {'role': 'assistant', 'content': 'b'},
  ]
  chat_format = models['chat'].model.chat_format
  for name in ('chat', 'base'):  # the latter's is that of fine-tuning
    found = _post(url, '/tokenize', {'model': name, 'messages': said})
    row = chat_format.rows(said)[0]
    assert (found['tokens'], found['loss_mask']) == (*row,)
    found = _post(url, '/tokenize', {'model': name, 'messages': said[:1]})
    assert found['tokens'] == chat_format.prompt(said[:1])
    assert {*found['loss_mask']} == {0}


def test_vocabulary_and_counts_are_told(served):
  _, client, url = served
  client.completions.create(model='base', prompt='a', max_tokens=2)
  info = _get(url, '/tokenizer_info?model=base')
  assert info['vocab_size'] == tiny_checkpoint.tokenizer().vocab_size
  counts = _get(url, '/metrics', as_json=False)
  assert 'llm_jax_rows_in_use{model="base"} 0.0' in counts
  assert 'llm_jax_first_token_seconds_count{model="base"}' in counts


def test_large_and_late_requests_are_refused(served):
  models, _, url = served
  with pytest.raises(urllib.error.HTTPError) as caught:
    _post(url, '/tokenize', {'model': 'chat', 'prompt': 'a' * 200_000})
  caught.value.close()
  assert caught.value.code == 413
  made = app.make(models, limits=app.Limits(timeout_s=0.0))
  with testclient.TestClient(made, base_url='http://localhost') as late:
    reply = late.post('/v1/chat/completions', json=_ASKED)
    assert reply.status_code == 408
    assert reply.json()['error']['code'] == 'timeout'
    lines = late.post('/v1/chat/completions', json=_ASKED | {'stream': True})
    assert '"timeout"' in lines.text
    assert lines.text.endswith('data: [DONE]\n\n')


def test_only_named_origins_may_ask(served):
  models, _, _ = served
  access = app.Access(origins=['http://page.example'])
  made = testclient.TestClient(
    app.make(models, access=access), base_url='http://localhost'
  )
  for origin, allowed in (('http://page.example', True), ('http://x.y', False)):
    reply = made.get('/v1/models', headers={'Origin': origin})
    assert ('access-control-allow-origin' in reply.headers) == allowed


def test_a_worker_that_fails_says_so(served, monkeypatch):
  loaded = served[0]['base'].model
  rows = worker.Worker(loaded, n_rows=1, max_chunk=2, name='broken')
  model = incoming.Served('broken', loaded, rows, stage='sft')
  made = testclient.TestClient(
    app.make({'broken': model}), base_url='http://localhost'
  )

  def fail(*_):
    raise RuntimeError('out of memory')

  monkeypatch.setattr(rows._turns, 'step', fail)
  asked = {'model': 'broken', 'prompt': 'a', 'n': 3}
  reply = made.post('/v1/completions', json=asked)
  assert reply.status_code == 503
  assert 'out of memory' in reply.json()['error']['message']
  assert made.get('/health').status_code == 503
  assert made.post('/v1/completions', json=asked).status_code == 503


def _get(url, path, as_json=True):
  headers = {'Authorization': f'Bearer {_KEY}'}
  request = urllib.request.Request(url + path, headers=headers)
  with urllib.request.urlopen(request) as response:
    return json.load(response) if as_json else response.read().decode()
