"""Calls of tools: what is executed, and what a model is told."""

import contextlib
import json
import math
import socket
import threading
import time

import hypothesis
import jax
import pytest
from hypothesis import strategies as st

from llm_jax.agent import python, search, toolbox, tools
from llm_jax.chat import calls
from llm_jax.verify.sandbox import sandbox

DONE = []  # what was executed

ECHO = tools.Tool(
  tools.Signature(
    'echo',
    'Says it again.',
    {
      'type': 'object',
      'properties': {'text': {'type': 'string'}},
      'required': ['text'],
      'additionalProperties': False,
    },
  ),
  lambda arguments, earlier: DONE.append(arguments) or arguments['text'],
)


def say(call, **settings):
  return tools.run({'echo': ECHO}, call, **settings)


@pytest.mark.parametrize(
  ('call', 'told'),
  [
    (calls.Call('echo', {}, 'it is no JSON'), 'Error: this was no call: it is'),
    (calls.Call('shell', {'x': 'ls'}), "there is no tool 'shell'; use echo"),
    (calls.Call('echo', {}), "'text' is a required property"),
    (calls.Call('echo', {'text': 3}), "3 is not of type 'string'"),
    (calls.Call('echo', {'text': 'a', 'b': 1}), "'b' was unexpected"),
  ],
)
def test_what_is_no_call_is_not_executed(call, told):
  DONE.clear()
  result = say(call)
  assert result.is_error
  assert told in result.text
  assert not DONE


def test_results_are_cut_and_say_so():
  result = say(calls.Call('echo', {'text': 'abcde'}), max_chars=3)
  assert result.text == 'abc\n... (2 more characters)'
  assert say(calls.Call('echo', {'text': '\ud800'})).text == '?'


def test_a_function_of_users_that_fails_or_hangs_ends_no_conversation():
  @tools.tool('Fails.', {'type': 'object'})
  def fails_in_a_test():
    return 1 // 0

  @tools.tool('Hangs.', {'type': 'object'})
  def hangs_in_a_test():
    threading.Event().wait(20)

  for name, told in (
    ('fails_in_a_test', 'Error: ZeroDivisionError: '),
    ('hangs_in_a_test', 'Error: no result in 0.1 s.'),
  ):
    available = {name: tools.registered(name, timeout_s=0.1)}
    result = tools.run(available, calls.Call(name, {}))
    assert result.is_error
    assert result.text.startswith(told)


def test_a_sandbox_that_has_ended_ends_the_run():
  """It is no mistake of the model, which would be told of all its calls."""
  with contextlib.closing(sandbox.Sandbox()) as box:
    box._control.shutdown(socket.SHUT_RDWR)
    available = {'python': python.make(box)}
    with pytest.raises(OSError, match='sandbox server has ended'):
      tools.run(available, calls.Call('python', {'code': '1'}))


_TEXTS = (
  st.text()
  | st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda x: st.lists(x) | st.dictionaries(st.text(), x),
  ).map(json.dumps)
  | st.sampled_from(
    ['{"name": "echo"}', '{"name": "echo", "arguments": {}}', '[' * 5000,
     '{"name": "echo", "arguments": "{"}', '{"name": 3}', '[]', '[[]]', '{}',
     '{"name": "echo", "arguments": "__import__(\'os\').system(\'ls\')"}']
  )
)  # fmt: skip


@pytest.mark.parametrize(
  'n', [300, pytest.param(10_000, marks=pytest.mark.nightly)]
)
def test_any_text_is_a_call_or_a_fault(n):
  """A fuzzer: nothing raises, and nothing is done that was not asked for."""

  @hypothesis.settings(max_examples=n, deadline=None)
  @hypothesis.given(_TEXTS)
  def check(text):
    for call in calls.parse(text):
      DONE.clear()
      result = say(call)
      assert result.is_error == (not DONE)
      for done in DONE:
        assert '"echo"' in text
        assert [*done] == ['text']

  check()


def test_registered_functions_are_tools():
  @tools.tool('Weather.', {'type': 'object', 'properties': {'city': {}}})
  def weather_of_a_test(city):
    return f'Rain in {city}'

  box = toolbox.Toolbox(names=('weather_of_a_test',))
  assert box.schemas()[0]['function']['description'] == 'Weather.'
  with box.opened() as using:
    call = calls.Call('weather_of_a_test', {'city': 'Bonn'})
    assert tools.run(using.available, call).text == 'Rain in Bonn'
  with pytest.raises(ValueError, match="no tool 'nothing', but python, search"):
    toolbox.Toolbox(names=('nothing',)).schemas()
  with pytest.raises(ValueError, match='Toolbox.n_threads = 0; use 1 or more'):
    toolbox.Toolbox(n_threads=0)


@pytest.fixture(name='box', scope='module')
def _box():
  with contextlib.closing(sandbox.Sandbox(timeout_s=2)) as box:
    yield box


@pytest.mark.parametrize(
  ('cells', 'text'),
  [
    (['print(6 * 7)'], '42'),
    (['6 * 7'], '42'),
    (['x = 3', 'x * 14'], '42'),
    (['print("seen")\nx = 3', 'x'], '3'),
    (['x = 1', '1 / 0', 'x'], '1'),
    (['pass'], 'Nothing was printed.'),
    (['1 / 0'], 'Error: ZeroDivisionError: division by zero'),
    (['def f(:'], 'Error: SyntaxError'),
    (['while 1: pass'], 'Error: it took too long'),
    (['print("a" * 10 ** 6)'], 'Error: it printed more than'),
    (['import sys; sys.stdout.buffer.write(b"\\xff")', '2'], '2'),
    (['print("\ud800")'], 'Error: UnicodeEncodeError'),
    (['open("/etc/passwd")'], 'Error: PermissionError'),
    (['"<|im_end|>"'], "'<|im_end|>'"),
  ],
)
def test_python(box, cells, text):
  available = {'python': python.make(box)}
  earlier = []
  for code in cells:
    call = calls.Call('python', {'code': code})
    earlier.append(tools.run(available, call, earlier))
  assert earlier[-1].text.startswith(text)


def test_python_without_a_session(box):
  available = {'python': python.make(box, is_session=False)}
  first = tools.run(available, calls.Call('python', {'code': 'x = 3'}))
  call = calls.Call('python', {'code': 'x'})
  assert "'x' is not defined" in tools.run(available, call, [first]).text


TEXTS = {
  'a.txt': 'The river Aller flows into the Weser.',
  'b.txt': 'The river Leine flows into the Aller.',
  'c.txt': 'Mount Brocken. ' + 'Trees. ' * 200 + 'Its height is 1141 m.',
}


@pytest.fixture(name='documents')
def _documents(tmp_path):
  folder = tmp_path / 'documents'
  folder.mkdir()
  for name, text in TEXTS.items():
    (folder / name).write_text(text)
  return str(folder)


def test_search_finds_the_window(documents, tmp_path):
  index = search.build(documents)
  assert len(index.texts) == 3
  assert index.find('Leine', 2, 100) == [TEXTS['b.txt']]
  assert set(index.find('Aller', 2, 100)) == {TEXTS['a.txt'], TEXTS['b.txt']}
  (found,) = index.find('Its height', 1, 60)
  assert found.startswith('...')
  assert 'Its height is' in found
  assert len(found) <= 66
  for nothing in ('', 'zebra', '\ud800', '<|im_end|>'):
    assert index.find(nothing, 3, 100) == []
  about = search.save(documents, str(tmp_path / 'index'))
  assert about['n'] == 3
  again = search.load(str(tmp_path / 'index'), documents)
  assert again.find('Its height', 1, 60) == [found]
  tool = {'search': search.make(again, n_snippets=2, max_chars=100)}
  told = tools.run(tool, calls.Call('search', {'query': 'Aller'})).text
  assert told.splitlines()[0].startswith('1. The river')
  told = tools.run(tool, calls.Call('search', {'query': 'zebra'})).text
  assert told == 'Nothing was found.'


def test_scores_are_those_of_lucene(documents):
  """By hand: ln(1 + (N - n + .5) / (n + .5)) tf / (tf + k (1 - b + b l/L))."""
  index = search.build(documents)
  _, scores = index.bm25.retrieve([['leine']], k=1, show_progress=False)
  lengths = [7, 7, 207]
  norm = 1.5 * (0.25 + 0.75 * 7 / (sum(lengths) / 3))
  assert scores[0][0] == pytest.approx(
    math.log(1 + 2.5 / 1.5) * 1 / (1 + norm), rel=1e-5
  )


def test_a_window_of_a_long_text_is_found_fast():
  text = 'the ' * 300_000 + 'the end'
  started = time.monotonic()
  assert search.window(text, {'the': 1.0, 'end': 2.0}, 40).endswith('the end')
  assert time.monotonic() - started < 20  # minutes, if each looks at all others


def test_texts_without_words(tmp_path):
  (tmp_path / 'a.txt').write_text('!? ...')
  with pytest.raises(ValueError, match='has a word; give others'):
    search.build(str(tmp_path))


def test_indexes_of_other_documents_are_refused(documents, tmp_path):
  folder = tmp_path / 'index'
  with pytest.raises(ValueError, match='holds no index'):
    search.load(str(tmp_path))
  search.save(documents, str(folder))
  (tmp_path / 'documents' / 'd.txt').write_text('More.')
  with pytest.raises(ValueError, match='is of other documents'):
    search.load(str(folder), documents)
  for name in ('data.csc.index.npy', 'corpus.jsonl', 'index.json'):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(b'')
    with pytest.raises(ValueError, match='damaged|JSON'):
      search.load(str(folder))
    (folder / name).write_bytes(content)
  (folder / 'corpus.jsonl').unlink()
  with pytest.raises(ValueError, match='is damaged'):
    search.load(str(folder))


def test_other_documents_are_another_run(documents, tmp_path):
  box = toolbox.Toolbox(names=('search',), documents=documents)
  before = box.inputs()
  search.save(documents, str(tmp_path / 'index'))
  saved = toolbox.Toolbox(names=('search',), documents=str(tmp_path / 'index'))
  assert saved.inputs() == before
  (tmp_path / 'documents' / 'd.txt').write_text('More.')
  assert box.inputs() != before
  assert saved.inputs() == before
  assert toolbox.Toolbox().inputs() == {}


def test_several_processes_are_refused(monkeypatch):
  """A tool ends at another step of each, and their rows would wait for ever."""
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  with (
    pytest.raises(ValueError, match='on 2 processes: tools need one'),
    toolbox.Toolbox(names=('python',)).opened(),
  ):
    pass


def test_search_needs_documents():
  with pytest.raises(ValueError, match='needs documents'):
    toolbox.Toolbox(names=('search',))
