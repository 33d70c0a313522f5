"""Requests that nobody would send: no 5xx, and the next one is answered."""

import json

import hypothesis
import pytest
from fastapi import testclient
from hypothesis import strategies as st

from llm_jax.agent import turns
from llm_jax.serve import app, incoming, page_routes, worker
from llm_jax.train import checkpoint
from tests.evals import tiny_checkpoint

_SAID = [{'role': 'user', 'content': 'hello'}]
_BODIES = {
  '/v1/chat/completions': {'model': 'chat', 'messages': _SAID, 'max_tokens': 2},
  '/v1/completions': {'model': 'base', 'prompt': 'ab', 'max_tokens': 2},
  '/tokenize': {'model': 'chat', 'prompt': 'ab'},
  '/detokenize': {'model': 'chat', 'tokens': [70]},
  '/arena/battles': {'messages': _SAID},
  '/arena/votes': {'battle': 'x', 'vote': 'a'},
  '/inside/attention': {'model': 'base', 'tokens': [1], 'layer': 0, 'head': 0},
  '/inside/neighbours': {'model': 'base', 'plus': ['a'], 'minus': []},
}
_PATHS = ['/v1/models', '/v1/models/x', '/runs', '/runs/x/metrics', '/metrics']
_FIELDS = sorted(
  {
    *('stream', 'stream_options', 'n', 'seed', 'stop', 'temperature', 'top_p'),
    *('top_k', 'min_p', 'repetition_penalty', 'presence_penalty', 'logprobs'),
    *('frequency_penalty', 'logit_bias', 'min_tokens', 'ignore_eos', 'user'),
    *('max_tokens', 'max_completion_tokens', 'top_logprobs', 'tools', 'echo'),
    *('tool_choice', 'response_format', 'messages', 'prompt', 'model'),
    *('add_special_tokens', 'return_token_strs', 'add_generation_prompt'),
    *('tokens', 'layer', 'head', 'plus', 'minus', 'battle', 'vote', 'suffix'),
  }
)
_ODD = st.sampled_from(
  [
    *(0, 1, 2, -1, 20, 21, 319, 320, 2**31, 2**64, 1e400, float('nan'), 0.5),
    *('', 'a', 'auto', 'none', '<|im_end|>', '\ud800', '\0', 'a' * 500, 'ab'),
    *([], {}, None, True, False, [[1]], [70, 71], ['a', 'b'], _SAID, [_SAID]),
    *({'type': 'text'}, {'70': 3}, {'include_usage': True}),
    [{'role': 'assistant', 'content': None}],
    [{'role': 'tool', 'content': 'x', 'tool_call_id': 'y'}],
    [*_SAID, {'role': 'assistant', 'content': 'x', 'tool_calls': [{}]}],
    [{'role': 'user', 'content': [{'type': 'text', 'text': 'x'}]}],
    [{'type': 'function', 'function': {'name': 'python'}}],
  ]
)
_JSON = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
  lambda inner: (
    st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=8), inner, max_size=4)
  ),
  max_leaves=8,
)
_CHANGES = st.dictionaries(
  st.sampled_from(_FIELDS) | st.text(max_size=10), _ODD | _JSON, max_size=4
)


@pytest.fixture(name='client', scope='module')
def _client(tmp_path_factory):
  folder = tmp_path_factory.mktemp('fuzz')
  models = {}
  for name in ('chat', 'base', 'other'):
    path = tiny_checkpoint.write(folder / name, is_chat=name != 'base')
    model = turns.of_checkpoint(checkpoint.load_model(str(path)))
    rows = worker.Worker(model, n_rows=4, max_chunk=4, name=f'fuzz-{name}')
    models[name] = incoming.Served(name, model, rows, stage='sft')
  lab = page_routes.Lab(votes=str(folder / 'votes'), runs=str(folder))
  made = app.make(models, limits=app.Limits(max_body=10_000), lab=lab)
  with testclient.TestClient(made, base_url='http://localhost') as client:
    yield client
  for served in models.values():
    assert served.worker.failure == ''
    assert served.worker.jobs == {}


def _is_answered(reply):
  assert reply.status_code < 500, reply.text
  if reply.status_code >= 400 and reply.request.method != 'HEAD':
    error = reply.json()['error']
    assert error.keys() == {'message', 'type', 'param', 'code'}
    assert error['message']


def _fuzz(client, n_examples):
  """How many requests were done, and how many were refused."""
  n_told = {True: 0, False: 0}

  @hypothesis.settings(
    max_examples=n_examples,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[*hypothesis.HealthCheck],
  )
  @hypothesis.given(
    path=st.sampled_from(sorted(_BODIES)),
    changes=_CHANGES,
    dropped=st.sets(st.sampled_from(_FIELDS), max_size=2),
    raw=st.none() | st.binary(max_size=40),
    get=st.sampled_from(_PATHS) | st.text(max_size=10).map(lambda x: '/' + x),
  )
  def ask(path, changes, dropped, raw, get):
    body = {
      key: value
      for key, value in (_BODIES[path] | changes).items()
      if key not in dropped
    }
    content = json.dumps(body).encode() if raw is None else raw
    headers = {'content-type': 'application/json'}
    reply = client.post(path, content=content, headers=headers)
    n_told[reply.status_code < 300] += 1
    _is_answered(reply)
    if raw is not None:
      _is_answered(client.get(path))
      if get.isprintable():
        _is_answered(client.get(get))

  ask()
  return n_told


@pytest.mark.parametrize(
  'n', [250, pytest.param(10_000, marks=pytest.mark.nightly)]
)
def test_odd_requests_are_answered(client, n):
  n_told = _fuzz(client, n)
  assert min(n_told.values()) > n / 20, n_told
  reply = client.post('/v1/completions', json=_BODIES['/v1/completions'])
  assert reply.status_code == 200
