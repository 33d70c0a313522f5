"""The page as a person uses it: headless Chromium against the real server."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from tests.evals import tiny_checkpoint
from tests.serve import browser

_TABS = ('chat', 'tokens', 'next', 'side', 'arena', 'inside', 'runs')
_START_S = 120  # a loaded machine imports JAX and compiles slowly
_ANSWER_MS = 60_000


def _is_up(origin):
  try:
    with urllib.request.urlopen(origin + '/health', timeout=5) as reply:
      return reply.status == 200
  except (urllib.error.URLError, OSError):
    return False


@pytest.fixture(name='runs', scope='module')
def _runs(tmp_path_factory):
  folder = tmp_path_factory.mktemp('runs')
  (folder / 'mine').mkdir()
  rows = [{'step': step, 'loss': 4 - step / 10} for step in range(1, 21)]
  text = ''.join(json.dumps(row) + '\n' for row in rows)
  (folder / 'mine' / 'metrics.jsonl').write_text(text)
  return folder


@pytest.fixture(name='origin', scope='module')
def _origin(tmp_path_factory, runs):
  """The address of a server with one base and two chat models."""
  folder = tmp_path_factory.mktemp('serve')
  words = [sys.executable, '-m', 'experiments.serve']
  for i, (name, letter) in enumerate(
    [('base', 'e'), ('one', 'x'), ('two', 'y')]
  ):
    path = tiny_checkpoint.write(
      folder / name, is_chat=name != 'base', seed=i, favourite=letter
    )
    words += ['--checkpoint', f'{name}={path}']
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = free.getsockname()[1]
  words += ['--port', str(port), '--runs', str(runs)]
  words += ['--votes', str(folder / 'votes.jsonl')]
  with (folder / 'log').open('w') as log:
    process = subprocess.Popen(words, stdout=log, stderr=log)
  origin = f'http://127.0.0.1:{port}'
  end = time.monotonic() + _START_S
  while not _is_up(origin):
    said = (folder / 'log').read_text()[-2000:]
    assert process.poll() is None, said
    assert time.monotonic() < end, said
    time.sleep(0.2)
  yield origin
  process.terminate()
  process.wait(60)


@pytest.fixture(name='chromium', scope='module')
def _chromium():
  with browser.chromium() as chromium:
    yield chromium


@pytest.fixture(name='page')
def _page(chromium, origin):
  """A fresh browser's page; a test fails on errors and on other hosts."""
  context = chromium.new_context(accept_downloads=True)
  context.set_default_timeout(_ANSWER_MS)
  page = context.new_page()
  faults = browser.watched(page, origin)
  page.goto(origin)
  page.wait_for_selector('[role=tab][aria-selected=true]')
  yield page
  context.close()
  assert faults == []


def _tab(page, name):
  page.click(f'#tab-{name}')
  return page.locator(f'#panel-{name}')


def _answered(panel, n_turns):
  """Waits until so many turns have their answers, and nothing runs."""
  panel.locator(
    f'article:nth-of-type({n_turns}) .facts:text("seed")'
  ).wait_for()
  panel.locator('.compose button.primary').wait_for()


def _settings(panel, model, max_tokens):
  panel.get_by_label('Model').select_option(model)
  panel.get_by_label('Most tokens').fill(str(max_tokens))


def test_the_keyboard_alone_sends_a_message(page):
  panel = page.locator('#panel-chat')
  _settings(panel, 'two', 8)
  page.evaluate('document.activeElement.blur()')
  for _ in range(40):
    page.keyboard.press('Tab')
    if page.evaluate('document.activeElement.id') == 'message':
      break
  page.keyboard.type('Hello')
  page.keyboard.press('Shift+Enter')
  page.keyboard.type('you')
  page.keyboard.press('Enter')
  _answered(panel, 1)
  assert panel.locator('.user .text').inner_text() == 'Hello\nyou'
  assert panel.locator('.parts').inner_text() == 'y' * 8
  # A screen reader hears the answer once it is whole.
  assert page.locator('#said').inner_text() == 'two answered: ' + 'y' * 8
  assert page.evaluate('document.activeElement.id') == 'message'


def test_edit_again_keep_and_export(page):
  panel = page.locator('#panel-chat')
  _settings(panel, 'one', 6)
  panel.get_by_label('Seed').fill('7')
  panel.get_by_label('System message').fill('Be brief.')
  panel.get_by_label('Message', exact=True).fill('first')
  page.keyboard.press('Enter')
  _answered(panel, 1)
  panel.get_by_role('button', name='Edit').click()
  panel.get_by_label('Edited message').fill('second')
  panel.get_by_role('button', name='Send again').click()
  _answered(panel, 1)
  assert panel.locator('.user .text').all_inner_texts() == ['second']
  assert 'one · seed 7 · 6 tokens' in panel.locator('.facts').inner_text()
  panel.get_by_role('button', name='Again', exact=True).click()
  panel.locator('.facts:text("seed 8")').wait_for()
  _answered(panel, 1)
  page.reload()
  page.wait_for_selector('#panel-chat article')
  assert panel.get_by_label('Seed').input_value() == '7'
  with page.expect_download() as download:
    panel.get_by_role('button', name='Export').click()
  lines = download.value.path().read_text().splitlines()
  assert [json.loads(line)['messages'] for line in lines] == [
    [
      {'role': 'system', 'content': 'Be brief.'},
      {'role': 'user', 'content': 'second'},
      {'role': 'assistant', 'content': 'x' * 6},
    ]
  ]
  panel.get_by_role('button', name='New').click()
  assert panel.locator('article').count() == 0
  panel.locator('.opener').click()
  assert panel.locator('.parts').inner_text() == 'x' * 6


def test_stop_takes_the_request_back(page):
  panel = page.locator('#panel-chat')
  page.route('**/v1/chat/completions', lambda route: None)  # never answered
  _settings(panel, 'one', 6)
  panel.get_by_label('Message', exact=True).fill('wait')
  page.keyboard.press('Enter')
  assert panel.locator('.waiting').inner_text() == 'Waiting…'
  with page.expect_event('requestfailed'):
    panel.get_by_role('button', name='Stop').click()
  panel.get_by_role('button', name='Send', exact=True).wait_for()
  assert page.locator('#said').inner_text() == 'Stopped'


def test_what_does_not_fit_is_dropped_and_said(page):
  """The context has 128 tokens, each a byte."""
  panel = page.locator('#panel-chat')
  _settings(panel, 'one', 8)
  for n_turns in (1, 2, 3):
    panel.get_by_label('Message', exact=True).fill('m' * 40)
    page.keyboard.press('Enter')
    _answered(panel, n_turns)
  last = panel.locator('.facts').last.inner_text()
  assert 'the context is full: the oldest' in last
  assert 'not shown to one' in last


def test_an_error_is_shown_in_the_servers_words(page):
  panel = page.locator('#panel-chat')
  _settings(panel, 'one', 8)
  panel.get_by_label('Message', exact=True).fill('m' * 400)
  page.keyboard.press('Enter')
  panel.locator('article .problem').wait_for()
  assert '128' in panel.locator('article .problem').inner_text()


def test_a_base_model_continues(page):
  panel = page.locator('#panel-chat')
  _settings(panel, 'base', 5)
  assert not panel.get_by_label('System message').is_visible()
  panel.get_by_label('Message', exact=True).fill('On ')
  page.keyboard.press('Enter')
  _answered(panel, 1)
  panel.get_by_role('button', name='Continue').click()
  _answered(panel, 2)
  assert panel.locator('.parts').all_inner_texts() == ['e' * 5] * 2


def test_tokens(page):
  panel = _tab(page, 'tokens')
  panel.get_by_label('Text', exact=True).fill('añ\n')
  panel.locator('.count:text("4 bytes")').wait_for()
  # Of single bytes; half a character is not shown as another one.
  assert panel.locator('.token').count() == 4
  panel.locator('.token').first.focus()
  page.keyboard.press('End')
  assert 'id' in panel.locator('.detail').inner_text()
  assert '"\\n"' in panel.locator('.detail').inner_text()
  panel.get_by_label('Colour').select_option('surprise')
  panel.locator('.count:text("bits a token")').wait_for()
  panel.get_by_label('Of', exact=True).select_option('messages')
  panel.get_by_label('Colour').select_option('loss')
  panel.locator('.count:text("carry the loss")').wait_for()
  learnt = panel.locator('.token:not(.dim)').all_inner_texts()
  assert ''.join(learnt).startswith('12')


def test_next_token(page):
  panel = _tab(page, 'next')
  panel.get_by_label('Text', exact=True).fill('ab')
  shown = panel.locator('.strip')
  panel.locator('.token:text-is("b")').wait_for()
  panel.locator('.bars li:nth-child(20)').wait_for()
  assert panel.locator('.bars code').first.inner_text() == 'e'
  panel.get_by_label('Temperature').fill('0')
  assert panel.locator('.bars .number').first.inner_text() == '100.0%'
  panel.locator('.bars button').first.click()
  panel.locator('.token:text-is("e")').wait_for()
  assert shown.inner_text().endswith('abe')  # a begin token stands before it
  panel.get_by_role('button', name='Take back').click()
  panel.locator('.token:text-is("e")').wait_for(state='detached')
  assert shown.inner_text().endswith('ab')


def test_side_by_side(page):
  panel = _tab(page, 'side')
  panel.get_by_text('Sampling').click()
  panel.get_by_label('Most tokens').fill('4')
  panel.get_by_label('Prompt').fill('Hi')
  panel.get_by_role('button', name='Compare').click()
  for letter in 'exy':
    panel.locator(f'.parts:has-text("{letter * 4}")').wait_for()
  panel.get_by_role('button', name='Compare').wait_for()
  seeds = {t.split(' · ')[1] for t in panel.locator('.facts').all_inner_texts()}
  assert len(seeds) == 1


def test_arena(page):
  panel = _tab(page, 'arena')
  panel.get_by_label('Ask both').fill('Who?')
  page.keyboard.press('Enter')
  panel.locator('[role=group] button:enabled').first.wait_for()
  assert panel.locator('h2').all_inner_texts() == ['A', 'B']
  first = panel.locator('.parts').first.inner_text()
  panel.get_by_role('button', name='A is better').click()
  panel.locator('table').wait_for()
  names = panel.locator('h2').all_inner_texts()
  assert names == (
    ['A: one', 'B: two'] if first[0] == 'x' else ['A: two', 'B: one']
  )
  assert panel.locator('[role=group] button:enabled').count() == 0


def test_inside(page):
  panel = _tab(page, 'inside')
  panel.get_by_label('Text', exact=True).fill('abc')
  panel.locator('rect:nth-of-type(10)').wait_for()
  panel.locator('rect:nth-of-type(11)').wait_for(state='detached')
  assert 'reads from' in panel.locator('.detail').last.inner_text()
  panel.get_by_label('A token, or a - b').fill('a - b + c')
  panel.get_by_role('button', name='Find').click()
  panel.locator('ol.bars li:nth-child(12)').wait_for()
  panel.locator('.count:text("in all")').wait_for()


def test_runs_grow(page, runs):
  panel = _tab(page, 'runs')
  panel.locator('td:text-is("20")').wait_for()
  with (runs / 'mine' / 'metrics.jsonl').open('a') as file:
    file.write(json.dumps({'step': 21, 'loss': 1.5}) + '\n')
  panel.locator('td:text-is("21")').wait_for()
  assert panel.locator('polyline').count() == 1


def test_tabs_by_keyboard(page):
  page.locator('#tab-chat').focus()
  page.keyboard.press('ArrowLeft')
  assert page.locator('#panel-runs').is_visible()
  page.keyboard.press('Home')
  assert page.locator('#panel-chat').is_visible()
  assert page.evaluate('location.hash') == '#chat'


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_accessible_on_each_tab_of_a_phone(chromium, origin, scheme):
  page = chromium.new_page(
    viewport={'width': 360, 'height': 740}, color_scheme=scheme
  )
  faults = browser.watched(page, origin)
  page.goto(origin)
  for name in _TABS:
    panel = _tab(page, name)
    page.wait_for_timeout(700)  # what the tab asks for at once
    assert browser.axe_violations(page) == [], name
    wider = '(e) => e.scrollWidth - e.clientWidth'
    assert panel.evaluate(wider) <= 0, name
    assert page.locator('html').evaluate(wider) <= 0, name
  page.close()
  assert faults == []
