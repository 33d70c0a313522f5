"""The client of endpoints, against a local server that misbehaves."""

import threading
import time

import pytest

from llm_jax import endpoint
from tests import completions_server
from tests.completions_server import completion

ASKED = {'messages': [{'role': 'user', 'content': 'Why?'}], 'seed': 3}


def client(server, **more):
  settings = {'timeout_s': 5.0, 'n_tries': 4, 'wait_s': 0.01, **more}
  return endpoint.Endpoint(server.url, 'm1', **settings)


def test_it_asks_as_openai_wants_it(monkeypatch):
  monkeypatch.setenv(endpoint.KEY, ' sk-secret\n')
  with completions_server.running(lambda *_: completion('Because.')) as server:
    for url in (server.url, f'{server.url}/'):
      one = endpoint.Endpoint(url, 'm1')
      assert one.ask(ASKED)[:2] == ('Because.', '')
    monkeypatch.delenv(endpoint.KEY)
    one.ask(ASKED)
  for path, headers, body in server.seen:
    assert path == '/v1/chat/completions'
    assert body == {'model': 'm1', **ASKED}
    assert headers['Content-Type'] == 'application/json'
  keys = [headers.get('Authorization') for _, headers, _ in server.seen]
  assert keys == ['Bearer sk-secret'] * 2 + [None]


@pytest.mark.parametrize(
  ('more', 'fault'),
  [
    ({'finish_reason': 'stop'}, ''),
    ({'finish_reason': 'length'}, endpoint.NO_END),
    ({'finish_reason': 'content_filter'}, 'filtered by the server'),
  ],
)
def test_what_is_no_whole_answer_says_so(more, fault):
  body = completion('a \ud800', **more)
  with completions_server.running(lambda *_: body) as server:
    assert client(server).ask(ASKED)[:2] == ('a ?', fault)


def test_content_that_is_null_is_empty():
  with completions_server.running(lambda *_: completion(None)) as server:
    assert client(server).ask(ASKED).text == ''


@pytest.mark.parametrize(
  'fault',
  [
    'reset',
    'cut',
    (429, {}, b'slow down'),
    (500, {}, b'oops'),
    (503, {'Content-Type': 'text/html'}, b'<html>later</html>'),
  ],
  ids=['reset', 'cut', '429', '500', '503'],
)
def test_passing_faults_are_asked_again(fault):
  def answer(_, number):
    return fault if number < 4 else completion('ok')

  with completions_server.running(answer) as server:
    assert client(server).ask(ASKED).text == 'ok'
    assert len(server.seen) == 4
  with completions_server.running(lambda *_: fault) as server:
    with pytest.raises(OSError, match='give the same command again') as caught:
      client(server).ask(ASKED)
    assert len(server.seen) == 4  # and no more
    assert server.url in str(caught.value)


def test_silence_is_given_up_and_asked_again():
  def answer(_, number):
    return 'silence' if number == 1 else completion('ok')

  with completions_server.running(answer) as server:
    start_s = time.monotonic()
    assert client(server, timeout_s=0.3).ask(ASKED).text == 'ok'
    assert 0.3 <= time.monotonic() - start_s < 5


def test_it_waits_as_long_as_the_server_asks():
  def answer(_, number):
    busy = 429, {'Retry-After': '1'}, b''
    return busy if number == 1 else completion('ok')

  with completions_server.running(answer) as server:
    start_s = time.monotonic()
    client(server).ask(ASKED)
    assert time.monotonic() - start_s >= 1
  # But not for ever.
  with completions_server.running(
    lambda *_: (429, {'Retry-After': '3600'}, b'')
  ) as server:
    with pytest.raises(OSError, match='answers 429'):
      client(server, timeout_s=0.2, n_tries=2).ask(ASKED)
    assert time.monotonic() - start_s < 20


def test_a_server_that_is_down_is_one_clear_error(monkeypatch):
  monkeypatch.setenv(endpoint.KEY, 'sk-secret')
  with completions_server.running(lambda *_: b'') as server:
    pass
  with pytest.raises(OSError, match='(?i)does not answer: .*refused') as caught:
    client(server).ask(ASKED)
  assert 'sk-secret' not in str(caught.value)


@pytest.mark.parametrize(
  ('answer', 'said'),
  [
    ((200, {}, b'<html>Log in</html>'), '200: .*Log in'),
    (b'{"error": {"message": "no such model"}}', 'no such model'),
    (b'{"choices": []}', 'no chat completion'),
    (b'{"choices": [{"text": "old form"}]}', 'old form'),
    (b'{"choices": [{"message": {"content": ["x"]}}]}', 'no chat completion'),
    (b'[]', 'no chat completion'),
    (b'[' * 100_000, 'no chat completion'),
    (b'\xff\xfe', 'no chat completion'),
    ((401, {}, b'bad key'), '401: .*bad key.*OPENAI_API_KEY'),
    ((404, {}, b'nothing here'), "404: .*ends in /v1.*'m1'"),
    ((307, {'Location': 'http://127.0.0.1:1/'}, b''), 'answers 307'),
  ],
  ids=str,
)  # fmt: skip
def test_what_is_wrong_is_said_at_once(answer, said, monkeypatch):
  monkeypatch.setenv(endpoint.KEY, 'sk-secret')
  with completions_server.running(lambda *_: answer) as server:
    with pytest.raises(ValueError, match=said) as caught:
      client(server).ask(ASKED)
    assert len(server.seen) == 1  # neither again nor elsewhere
  assert 'sk-secret' not in str(caught.value)
  assert len(str(caught.value)) < 1000


@pytest.mark.parametrize('url', ['file:///etc/passwd', 'localhost:80/v1', ''])
def test_what_is_no_address_is_refused(url):
  with pytest.raises(ValueError, match='is no address; give one as http://'):
    endpoint.Endpoint(url, 'm1')


def requests(count):
  return [{**ASKED, 'seed': seed} for seed in range(count)]


def test_answers_are_asked_for_once(tmp_path):
  """Out of order and together, by content, model and server."""
  last = threading.Event()

  def answer(asked, _):
    if asked['seed'] == 0:
      assert last.wait(5)  # those after it are answered before
    if asked['seed'] == 3:
      last.set()
    return completion(f'answer {asked["seed"]}')

  def get(who, count):
    answers = endpoint.Answers(tmp_path / 'answers.jsonl', who)

    def ask(missing, on_reply):
      endpoint.ask_all(client(server), missing, on_reply, n_threads=4)

    # One request twice is one question.
    asked = [*requests(count), requests(count)[0]]
    return [reply.text for reply in answers.get(asked, ask)]

  with completions_server.running(answer) as server:
    wanted = [f'answer {i}' for i in range(6)]
    assert get('m1', 4) == [*wanted[:4], 'answer 0']
    assert len(server.seen) == 4
    assert get('m1', 6) == [*wanted, 'answer 0']
    assert sorted(x['seed'] for _, _, x in server.seen) == [*range(6)]
    assert get('m2', 1) == ['answer 0'] * 2
    assert len(server.seen) == 7


def test_what_was_answered_before_a_fault_is_kept(tmp_path):
  begun = threading.Barrier(3, timeout=5)

  def answer(asked, _):
    if asked['seed'] < 3:
      begun.wait()
    return (400, {}, b'no') if asked['seed'] == 1 else completion('ok')

  path = tmp_path / 'answers.jsonl'

  def ask(missing, on_reply):
    endpoint.ask_all(client(server), missing, on_reply, n_threads=3)

  with completions_server.running(answer) as server:
    with pytest.raises(ValueError, match='answers 400'):
      endpoint.Answers(path, 'm').get(requests(300), ask)
    n_seen = len(server.seen)
    assert n_seen < 300  # the others were not begun
  kept = endpoint.Answers(path, 'm')
  missing = []

  def list_missing(requests, on_reply):
    missing.extend(requests)
    for request in requests:
      on_reply(request, endpoint.Reply('', ''))

  kept.get(requests(300), list_missing)
  assert len(missing) == 300 - n_seen + 1
