"""The server as a process: what it serves, how it ends, and what it keeps."""

import contextlib
import http.client
import importlib
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from fastapi import testclient

from experiments import serve
from llm_jax.evals import arena
from llm_jax.interop import huggingface
from llm_jax.serve import app
from llm_jax.train import checkpoint
from tests.evals import tiny_checkpoint


@contextlib.contextmanager
def running(tmp_path, **flags):
  """Port and process of a server with two chat models."""
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = free.getsockname()[1]
  words = [sys.executable, '-m', 'experiments.serve', '--port', str(port)]
  for name, letter in (('one', 'x'), ('two', 'y')):
    path = tiny_checkpoint.write(tmp_path / name, True, favourite=letter)
    words += ['--checkpoint', f'{name}={path}']
  for name, value in flags.items():
    words += [f'--{name}', str(value)]
  with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
    try:
      assert process.stdout
      printed = ''
      while '/v1' not in printed:
        printed = process.stdout.readline()
        assert printed
      while True:
        with contextlib.suppress(OSError):
          urllib.request.urlopen(f'http://127.0.0.1:{port}/health').close()
          break
        time.sleep(0.05)
      yield port, process
    finally:
      process.kill()


@contextlib.contextmanager
def posted(port, path, body):
  connection = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
  with contextlib.closing(connection):
    headers = {'Content-Type': 'application/json'}
    connection.request('POST', path, json.dumps(body), headers)
    yield connection.getresponse()


def post(port, path, body):
  with posted(port, path, body) as reply:
    return reply.status, reply.read().decode()


def test_an_answer_that_runs_is_finished_and_votes_are_kept(tmp_path):
  votes = tmp_path / 'votes.jsonl'
  said = [{'role': 'user', 'content': 'Who?'}]
  with running(tmp_path, votes=votes) as (port, process):
    _, lines = post(port, '/arena/battles', {'messages': said})
    told = [json.loads(x[6:]) for x in lines.split('\n\n') if '{' in x]
    texts = dict.fromkeys('ab', '')
    for event in told:
      texts[event.get('side', 'a')] += event.get('text', '')
    assert {x[0] for x in texts.values()} == {'x', 'y'}
    assert '"one"' not in lines  # names are told after the vote
    vote = {'battle': told[-1]['battle'], 'vote': 'a'}
    names = json.loads(post(port, '/arena/votes', vote)[1])
    assert post(port, '/arena/votes', vote)[0] == 400  # once
    process.kill()  # nothing of it is lost
    process.wait()
  (kept,) = arena.read(str(votes))
  assert {kept['a'], kept['b']} == {'one', 'two'}
  assert (kept['a'], kept['vote'], kept['answers']) == (
    names['a'], 'a', texts,
  )  # fmt: skip
  asked = {
    'model': 'one',
    'prompt': 'a',
    'max_tokens': 120,
    'stream': True,
    'ignore_eos': True,
  }
  with running(tmp_path, votes=votes) as (port, process):
    url = f'http://127.0.0.1:{port}/arena/ratings'
    with urllib.request.urlopen(url) as reply:
      rated = json.load(reply)
    assert [x['model'] for x in rated['ratings']] == [kept['a'], kept['b']]
    with posted(port, '/v1/completions', asked) as reply:
      reply.readline()
      process.send_signal(signal.SIGTERM)
      rest = reply.read().decode()
    assert rest.endswith('data: [DONE]\n\n')
    assert '"finish_reason": "length"' in rest
    process.wait(20)
    with pytest.raises(ConnectionRefusedError):
      post(port, '/v1/completions', asked)


def test_published_folders_and_int8(tmp_path, capsys):
  loaded = checkpoint.load_model(tiny_checkpoint.write(tmp_path / 'own', True))
  huggingface.write(
    tmp_path / 'published',
    loaded.model_config,
    loaded.params,
    tokenizer_dir=loaded.tokenizer_dir,
    is_chat=True,
  )
  found = {}
  for name, int8 in (('own', False), ('published', False), ('rounded', True)):
    folder = 'own' if name == 'own' else 'published'
    cfg = serve.Config(n_rows=2, n_slots=64, int8=int8)
    served = serve._load(name, str(tmp_path / folder), cfg=cfg, using=None)
    assert served.stage == ('sft' if name == 'own' else 'published')
    assert served.entry(0)['max_model_len'] == 64
    assert served.model.chat_format.is_chat
    made = testclient.TestClient(
      app.make({name: served}), base_url='http://localhost'
    )
    asked = {
      'model': name,
      'messages': [{'role': 'user', 'content': 'hello'}],
      'temperature': 0,
      'max_tokens': 8,
      'logprobs': True,
    }
    reply = made.post('/v1/chat/completions', json=asked).json()
    (choice,) = reply['choices']
    content = choice['logprobs']['content']
    found[name] = [(x['token'], round(x['logprob'], 3)) for x in content]
    assert len(found[name]) == 8
  assert found['own'] == found['published']
  printed = capsys.readouterr().out.splitlines()
  sizes = [float(x.split('weights ')[1].split(' MB')[0]) for x in printed]
  assert sizes[0] == sizes[1]
  assert sizes[2] <= sizes[1]
  assert '2 rows of 64 tokens' in printed[0]


def test_what_is_not_installed_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, 'uvicorn', None)
  with pytest.raises(ModuleNotFoundError, match=r"pip install '.\[serve\]'"):
    importlib.reload(serve)


def test_what_cannot_be_served():
  with pytest.raises(ValueError, match='there is no model to serve'):
    serve.run(serve.Config())
  with pytest.raises(ValueError, match='two folders are named a'):
    serve.run(serve.Config(), checkpoint=['a=x', 'y/a'])
  with pytest.raises(FileNotFoundError, match='nowhere holds no checkpoint'):
    serve.run(serve.Config(), checkpoint=['nowhere'])
