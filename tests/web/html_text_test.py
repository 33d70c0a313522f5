"""Text out of pages, well formed and hostile."""

import contextlib
import json
import os
import pydoc
import signal
import threading
import time

import pytest
import trafilatura

from llm_jax.web.extract import html_text, warc

PARAGRAPH = (
  'The old mill stands where two streams meet, and its wheel has not turned '
  'since the year in which the railway came to the valley.'
)
PAGE = (
  f'<html><body><nav><a href="/">Home</a></nav><article><h1>Mill</h1>'
  f'<p>{PARAGRAPH}</p><p>Second&nbsp;part of the page, with some more words '
  f'to read.</p></article><style>p {{color: red}}</style><svg><path d="M1"/>'
  f'</svg><script>var x;</script></body></html>'
)
# The article is a teaser here, at which trafilatura's own rules stop.
HARD = (
  f'<html><body><article><p>{PARAGRAPH}</p><p>{PARAGRAPH} Two.</p></article>'
  '<div class="x">'
  + ''.join(f'<p>{PARAGRAPH} Again {i}, as ever.</p>' for i in range(20))
  + '</div></body></html>'
)


@pytest.mark.parametrize('extractor', html_text._EXTRACTORS)
@pytest.mark.parametrize('favor', html_text._FAVORS)
def test_every_setting_finds_the_text(extractor, favor):
  cfg = html_text.Extraction(extractor, favor)
  text = html_text.extract(cfg, PAGE)
  assert PARAGRAPH in text
  assert 'Second part of the page' in text
  assert 'var x' not in text
  assert 'color' not in text
  assert '\xa0' not in text


@pytest.mark.parametrize('favor', html_text._FAVORS)
def test_text_is_that_of_the_library_alone(favor):
  """What is dropped from the tree before decides nothing."""
  settings = {f'favor_{favor}': True} if favor else {}
  pages = [PAGE, HARD, pydoc.HTMLDoc().document(json), '<p>x</p>', '<', 'none']
  pages += [PAGE.replace('<p>', f'<p>{c}') for c in '\x07\x1f\x85\ufffe']
  for page in pages:
    alone = trafilatura.extract(page, include_comments=False, **settings)
    text = html_text.extract(html_text.Extraction(favor=favor), page)
    assert text == html_text._tidy(alone or '', False)


def test_resiliparse_keeps_lines_and_repeated_lines_can_go():
  page = '<body>name(a, b)<br>Does it well.<br>name(a, b)<br>x<br>x</body>'
  keep = html_text.Extraction('resiliparse', drop_repeated_lines=False)
  drop = html_text.Extraction('resiliparse')
  lines = html_text.extract(keep, page).split('\n')
  assert lines == ['name(a, b)', 'Does it well.', 'name(a, b)', 'x', 'x']
  lines = html_text.extract(drop, page).split('\n')
  assert lines == ['name(a, b)', 'Does it well.', 'x', 'x']


def test_odd_characters():
  for extractor in html_text._EXTRACTORS:
    cfg = html_text.Extraction(extractor)
    text = html_text.extract(cfg, PAGE.replace('mill', 'm\ufffd\x00il\r\nl'))
    assert 'm\ufffd' in text
    assert not {'\x00', '\r'} & set(text)


def test_unknown_settings_are_refused():
  with pytest.raises(ValueError, match="'boilerpipe' is unknown; use one of"):
    html_text.Extraction(extractor='boilerpipe')
  with pytest.raises(ValueError, match="favor 'speed' is unknown; use one of"):
    html_text.Extraction(favor='speed')


def page(body: bytes, **fields) -> warc.Record:
  return warc.Record(body=body, **fields)


def text_page(text: str) -> warc.Record:
  return page(text.encode(), kind='conversion')


def judge_length(text: str) -> tuple[int, bool]:
  return len(text), len(text) < 8000


def test_cascade_asks_before_the_slow_extractor():
  long = HARD.replace('Two.', 'Two. ' * 2000)
  fast, long_fast = (
    html_text.extract(html_text.Extraction('resiliparse'), source)
    for source in (HARD, long)
  )
  slow = html_text.extract(html_text.Extraction('trafilatura'), HARD)
  assert fast != slow
  cfg = html_text.Extraction('cascade')
  with contextlib.closing(html_text.Extractor(cfg, judge_length)) as extractor:
    for given, expected in [
      (page(long.encode()), (long_fast, '', len(long_fast))),
      (page(b'<p></p>'), ('', 'no_text', None)),
      (text_page(' One. '), ('One.', '', 4)),
      (page(HARD.encode()), (slow, '', len(fast))),
    ]:
      assert extractor.extract(given) == expected


def outcomes(extractor: html_text.Extractor, *bodies: bytes) -> list[str]:
  """Why each page has no text; '' where it has PARAGRAPH."""
  found = [extractor.extract(page(body)) for body in bodies]
  assert all((PARAGRAPH in text) == (not reason) for text, reason, _ in found)
  return [reason for _, reason, _ in found]


def test_child_survives_hostile_pages():
  cfg = html_text.Extraction('resiliparse', deadline_s=0.7)
  good = PAGE.encode()
  with contextlib.closing(html_text.Extractor(cfg)) as extractor:
    for body, reason in [
      (b'<div>' * 40_000 + b'x', 'deadline'),  # quadratic in nesting
      (b'<p></p>', 'no_text'),
    ]:
      assert outcomes(extractor, good, body, good) == ['', reason, '']
      assert outcomes(extractor, body) == [reason]
      assert outcomes(extractor, body, good) == [reason, '']


def test_child_that_is_killed_loses_one_page():
  cfg = html_text.Extraction('resiliparse', deadline_s=60)
  with contextlib.closing(html_text.Extractor(cfg)) as extractor:
    assert outcomes(extractor, PAGE.encode()) == ['']

    def kill():
      time.sleep(0.3)
      os.kill(extractor._child.pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    found = outcomes(extractor, b'<div>' * 100_000 + b'x', PAGE.encode())
    assert found == ['parser_crash', '']
    thread.join()
    os.kill(extractor._child.pid, signal.SIGKILL)  # while it has nothing to do
    extractor._child.join()
    assert outcomes(extractor, *[PAGE.encode()] * 2) == ['parser_crash', '']


def test_child_that_hangs_loses_one_page():
  cfg = html_text.Extraction('resiliparse', max_wall_s=3.0)
  with contextlib.closing(html_text.Extractor(cfg)) as extractor:
    assert outcomes(extractor, PAGE.encode()) == ['']
    os.kill(extractor._child.pid, signal.SIGSTOP)
    assert outcomes(extractor, *[PAGE.encode()] * 2) == ['parser_hang', '']
