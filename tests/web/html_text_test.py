"""Text out of pages, well formed and hostile."""

import os
import signal
import threading
import time

import pytest

from llm_jax.web import html_text

PARAGRAPH = (
  'The old mill stands where two streams meet, and its wheel has not turned '
  'since the year in which the railway came to the valley.'
)
PAGE = (
  f'<html><body><nav><a href="/">Home</a></nav><article><h1>Mill</h1>'
  f'<p>{PARAGRAPH}</p><p>Second&nbsp;part of the page, with some more words '
  f'to read.</p></article><script>var x;</script></body></html>'
)


@pytest.mark.parametrize('extractor', ['trafilatura', 'resiliparse'])
def test_both_extractors_find_the_text(extractor):
  text = html_text.extract(html_text.Extraction(extractor=extractor), PAGE)
  assert PARAGRAPH in text
  assert 'Second part of the page' in text
  assert 'var x' not in text
  assert '\xa0' not in text


def test_resiliparse_keeps_lines_and_repeated_lines_can_go():
  page = '<body>name(a, b)<br>Does it well.<br>name(a, b)<br>x<br>x</body>'
  keep = html_text.Extraction('resiliparse', drop_repeated_lines=False)
  drop = html_text.Extraction('resiliparse')
  lines = html_text.extract(keep, page).split('\n')
  assert lines == ['name(a, b)', 'Does it well.', 'name(a, b)', 'x', 'x']
  lines = html_text.extract(drop, page).split('\n')
  assert lines == ['name(a, b)', 'Does it well.', 'x', 'x']


def test_unknown_extractor_is_refused():
  with pytest.raises(ValueError, match="'boilerpipe' is unknown; use one of"):
    html_text.Extraction(extractor='boilerpipe')


@pytest.mark.parametrize(
  ('body', 'charset', 'expected'),
  [
    ('naïve'.encode(), 'latin-1', 'naïve'),  # UTF-8 wins over a wrong header
    (b'\xef\xbb\xbfbom', '', 'bom'),
    ('наука'.encode('koi8-r'), 'koi8-r', 'наука'),
    (b'<meta charset="koi8-r">' + 'наука'.encode('koi8-r'), 'utf-8', None),
    ('日本語のページ'.encode('euc-jp') * 9, 'utf-8', '日本語のページ' * 9),
    (b'caf\xe9', 'no-such-charset', 'café'),
  ],
)
def test_charsets(body, charset, expected):
  text = html_text.decode(body, charset)
  assert text == expected or (expected is None and text.endswith('наука'))


def test_child_survives_hostile_pages():
  cfg = html_text.Extraction('resiliparse', 1 << 20, deadline_s=0.7)
  with html_text.Extractor(cfg) as extractor:
    assert PARAGRAPH in extractor.extract(PAGE.encode(), '')
    for body, reason in [
      (b'<div>' * 40_000 + b'x', 'deadline'),  # quadratic in nesting
      (b'x' * (1 << 20) + b'x', 'html_too_large'),
      (b'<p></p>', 'no_text'),
    ]:
      with pytest.raises(html_text.ExtractionError) as caught:
        extractor.extract(body, '')
      assert caught.value.reason == reason
      assert PARAGRAPH in extractor.extract(PAGE.encode(), '')


def test_child_that_is_killed_loses_one_page():
  cfg = html_text.Extraction('resiliparse', deadline_s=60)
  with html_text.Extractor(cfg) as extractor:
    extractor.extract(PAGE.encode(), '')

    def kill():
      time.sleep(0.3)
      os.kill(extractor._child.pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(html_text.ExtractionError) as caught:
      extractor.extract(b'<div>' * 100_000 + b'x', '')
    thread.join()
    assert caught.value.reason == 'parser_crash'
    assert PARAGRAPH in extractor.extract(PAGE.encode(), '')
