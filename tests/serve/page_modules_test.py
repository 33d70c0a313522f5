"""The page's modules one by one, in Chromium: what they compute and read."""

import http.server
import json
import math
import pathlib
import re
import threading
import time

import jax.numpy as jnp
import numpy as np
import pytest

from llm_jax import serve
from llm_jax.infer import sampling
from tests.serve import browser

_PAGE = pathlib.Path(serve.__file__).parent / 'page'
_SCRIPTS = sorted(_PAGE.glob('*.js'))
_TYPES = {'.js': 'text/javascript', '.css': 'text/css', '.html': 'text/html'}
# Two-, three- and four-byte characters, and line ends within a text.
_PIECES = ('Grüße ', '水', ' 🙂\n', '\r', '<think>', '\n\ndata: [DONE]')


def _events(*, is_whole: bool):
  yield {'choices': [{'index': 0, 'delta': {'role': 'assistant'}}]}
  for piece in _PIECES:
    yield {'choices': [{'index': 0, 'delta': {'content': piece}}]}
  yield {'choices': [{'index': 0, 'delta': {}, 'finish_reason': 'stop'}]}
  if is_whole:
    yield {'choices': [], 'usage': {'completion_tokens': 6}}


class _Files(http.server.BaseHTTPRequestHandler):
  """The page's files, and one answer that comes a byte a time."""

  def do_GET(self):
    path = _PAGE / pathlib.Path(self.path).name
    is_file = path.is_file()
    self.send_response(200 if is_file else 404)
    self.send_header('Content-Type', _TYPES.get(path.suffix, 'text/plain'))
    self.end_headers()
    if is_file:
      self.wfile.write(path.read_bytes())

  def do_POST(self):
    request = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
    is_whole = request['model'] == 'whole'
    self.send_response(200)
    self.send_header('Content-Type', 'text/event-stream')
    self.end_headers()
    lines = [
      f'data: {json.dumps(event, ensure_ascii=False)}\r\n\r\n'
      for event in _events(is_whole=is_whole)
    ]
    lines += ['data: [DONE]\r\n\r\n'] if is_whole else []
    for byte in ''.join(lines).encode():
      self.wfile.write(bytes([byte]))
      self.wfile.flush()
      if byte > 127 or byte == 10:  # or the network would put them together
        time.sleep(0.02)

  def log_message(self, format, *args):
    """Writes nothing."""


@pytest.fixture(name='page', scope='module')
def _page():
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), _Files)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  with browser.chromium() as chromium:
    page = chromium.new_page()
    page.goto(f'http://127.0.0.1:{server.server_port}/icon.svg')
    yield page
  server.shutdown()
  server.server_close()


def _run(page, module, expression, argument=None):
  script = f'async (given) => {{ const m = await import("/{module}"); '
  return page.evaluate(script + f'return {expression}; }}', argument)


_ANSWER = (
  'm.answer({model: {id: given, is_chat: true}, messages: [], settings: {}, '
  'seed: 1}, () => {}).then((made) => made, (error) => error.message)'
)


def test_a_stream_is_read_for_any_chunking(page):
  made = _run(page, 'api.js', _ANSWER, 'whole')
  assert made['parts'] == [{'text': ''.join(_PIECES)}]
  assert made['finish'] == 'stop'
  assert made['usage'] == {'completion_tokens': 6}


def test_a_stream_that_breaks_off_is_said(page):
  assert _run(page, 'api.js', _ANSWER, 'cut') == (
    'The answer broke off before its end.'
  )


@pytest.mark.parametrize(
  'rules',
  [
    (1, 0, 1, 0),
    (0.5, 0, 1, 0),
    (1.7, 5, 1, 0),
    (0.8, 0, 0.6, 0),
    (1.3, 12, 0.7, 0),
    (0.9, 0, 1, 0.2),
    (1.2, 9, 0.9, 0.15),
    (0, 0, 1, 0),
  ],
)
def test_weights_are_those_of_the_engine(page, rules):
  """Of 20 tokens, all of which are shown; the engine says what it drew by."""
  names = ('temperature', 'top_k', 'top_p', 'min_p')
  logits = np.sort(np.random.default_rng(3).normal(0, 2, 20))[::-1]
  logps = (logits - np.log(np.exp(logits).sum())).tolist()
  given = [logps, 20, dict(zip(names, rules, strict=True))]
  made = _run(page, 'next.js', 'm.reweigh(...given)', given)
  n_rows = 512
  temperature, top_k, top_p, min_p = rules
  drawn_by = sampling.Rules(
    temperature_B=jnp.full(n_rows, temperature, jnp.float32),
    top_k_B=jnp.full(n_rows, top_k),
    top_p_B=jnp.full(n_rows, top_p, jnp.float32),
    min_p_B=jnp.full(n_rows, min_p, jnp.float32),
  )
  token_B, logp_B = sampling.sample(
    logits_BV=jnp.tile(jnp.float32(logits), (n_rows, 1)),
    rules=drawn_by,
    seed_B=jnp.arange(n_rows, dtype=jnp.uint32),
    position_B=jnp.zeros(n_rows, jnp.int32),
  )
  ps = np.array(made['ps'])
  assert made['rest'] == pytest.approx(0, abs=1e-9)
  assert ps.sum() == pytest.approx(1)
  assert set(np.asarray(token_B)) <= set(np.nonzero(ps)[0])
  if temperature:  # at 0 the engine gives the logp of the model itself
    p_B = np.exp(np.asarray(logp_B))
    np.testing.assert_allclose(ps[np.asarray(token_B)], p_B, rtol=1e-4)


@pytest.mark.parametrize('temperature', [0.5, 1, 2])
def test_what_is_not_shown_is_at_most_the_rest(page, temperature):
  """By hand, of 500 tokens, 20 of which are shown."""
  logits = np.sort(np.random.default_rng(5).normal(0, 2, 500))[::-1]
  logps = (logits - np.log(np.exp(logits).sum()))[:20].tolist()
  rules = {'temperature': temperature, 'top_k': 0, 'top_p': 1, 'min_p': 0}
  made = _run(page, 'next.js', 'm.reweigh(...given)', [logps, 500, rules])
  p = np.exp(logits / temperature)
  rest = p[20:].sum() / p.sum()
  assert made['rest'] >= rest - 1e-9
  assert math.fsum(made['ps']) + made['rest'] == pytest.approx(1)
  if temperature == 1:
    assert made['rest'] == pytest.approx(rest)


def test_an_analogy_keeps_the_blanks_of_tokens(page):
  read = 'given.map(m.analogy)'
  given = ['a - b + c', ' one', ' king -  man +  woman', 'x-y + +']
  assert _run(page, 'inside.js', read, given) == [
    {'plus': ['a', 'c'], 'minus': ['b']},
    {'plus': [' one'], 'minus': []},
    {'plus': [' king', ' woman'], 'minus': [' man']},
    {'plus': ['x-y', '+'], 'minus': []},
  ]


def test_messages_are_those_of_openai(page):
  call = {'name': 'python', 'arguments': {'code': 'print(1)'}}
  turns = [
    {
      'text': 'Q',
      'parts': [{'text': 'a'}, {'call': call, 'result': '1'}, {'text': 'b'}],
    },
    {'text': 'R'},
  ]
  made = _run(page, 'messages.js', 'm.toMessages(given, "S")', turns)
  function = {'name': 'python', 'arguments': '{\n "code": "print(1)"\n}'}
  assert made == [
    {'role': 'system', 'content': 'S'},
    {'role': 'user', 'content': 'Q'},
    {
      'role': 'assistant',
      'content': 'a',
      'tool_calls': [
        {'id': 'call_0_1', 'type': 'function', 'function': function}
      ],
    },
    {'role': 'tool', 'tool_call_id': 'call_0_1', 'content': '1'},
    {'role': 'assistant', 'content': 'b'},
    {'role': 'user', 'content': 'R'},
  ]


def test_texts_never_become_markup():
  """Elements are made one by one; no sink takes a text for HTML or code."""
  sinks = r'innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b'
  sinks += r"|new Function|DOMParser|setAttribute\('(on|style|srcdoc)"
  assert len(_SCRIPTS) > 5
  for path in _SCRIPTS:
    assert re.findall(sinks, path.read_text(encoding='utf-8')) == [], path.name
  page = (_PAGE / 'index.html').read_text(encoding='utf-8')
  assert re.findall(r'<style|style=|<script(?![^>]*src=)| on\w+=', page) == []


def test_nothing_is_asked_of_another_host():
  for path in _PAGE.iterdir():
    text = path.read_text(encoding='utf-8')
    text = text.replace('http://www.w3.org/2000/svg', '')  # a name, not asked
    assert re.findall(r'\w+://|@import|["\'(]//\w', text) == [], path.name


def test_the_page_is_small():
  lines = [
    len(path.read_text(encoding='utf-8').splitlines())
    for path in [*_SCRIPTS, *_PAGE.glob('*.css')]
  ]
  assert sum(lines) <= 1500
