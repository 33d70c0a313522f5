"""The server as a process: what it serves, how it ends, and what it keeps."""

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import pytest

from experiments import serve
from llm_jax.evals import arena
from llm_jax.interop import huggingface
from llm_jax.serve import worker
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


def post(port, path, body):
  connection = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
  headers = {'Content-Type': 'application/json'}
  connection.request('POST', path, json.dumps(body), headers)
  return connection.getresponse()


def test_an_answer_that_runs_is_finished_and_votes_are_kept(tmp_path):
  votes = tmp_path / 'votes.jsonl'
  said = [{'role': 'user', 'content': 'Who?'}]
  with running(tmp_path, votes=votes) as (port, process):
    lines = post(port, '/arena/battles', {'messages': said}).read().decode()
    told = [json.loads(x[6:]) for x in lines.split('\n\n') if '{' in x]
    texts = dict.fromkeys('ab', '')
    for event in told:
      texts[event.get('side', 'a')] += event.get('text', '')
    assert {x[0] for x in texts.values()} == {'x', 'y'}
    assert '"one"' not in lines  # names are told after the vote
    vote = {'battle': told[-1]['battle'], 'vote': 'a'}
    names = json.load(post(port, '/arena/votes', vote))
    assert post(port, '/arena/votes', vote).status == 400  # once
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
    reply = post(port, '/v1/completions', asked)
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
    served = serve._load(name, str(tmp_path / folder), cfg, None)
    assert served.stage == ('sft' if name == 'own' else 'published')
    assert served.entry(0)['max_model_len'] == 64
    assert served.model.chat_format.is_chat
    prompt = served.model.chat_format.prompt(
      [{'role': 'user', 'content': 'hello'}]
    )
    done, texts = threading.Event(), []

    def emit(event, done=done, texts=texts):
      texts.append(event.text)
      if event.finish:
        done.set()

    body = serve.incoming.schema.Chat(
      model=name,
      messages=[{'role': 'user', 'content': 'hello'}],
      temperature=0,
      max_tokens=8,
    )
    asked = serve.incoming.read(served, body)
    assert asked.prompts == [prompt]
    job = worker.Job(
      prompt,
      0,
      request=asked.wanted[0],
      pieces=asked.pieces(),
      runs_tools=False,
      emit=emit,
    )
    served.worker.submit(job)
    assert done.wait(60)
    found[name] = ''.join(texts)
  assert found['own'] == found['published']
  assert len(found['rounded']) > 0
  printed = capsys.readouterr().out.splitlines()
  sizes = [float(x.split('weights ')[1].split(' MB')[0]) for x in printed]
  assert sizes[0] == sizes[1]
  assert sizes[2] <= sizes[1]
  assert '2 rows of 64 tokens' in printed[0]


def test_what_cannot_be_served():
  with pytest.raises(ValueError, match='there is no model to serve'):
    serve.run(serve.Config())
  with pytest.raises(ValueError, match='two folders are named a'):
    serve.run(serve.Config(), checkpoint=['a=x', 'y/a'])
  with pytest.raises(FileNotFoundError, match='nowhere holds no checkpoint'):
    serve.run(serve.Config(), checkpoint=['nowhere'])
