"""No character of unknown text acts on a terminal or a page."""

import unicodedata

import pytest

from llm_jax import visible_text


@pytest.mark.parametrize(
  ('text', 'shown'),
  [
    ('\x1b[2J', r'\x1b[2J'),  # clears the screen
    ('\x1b]0;title\x07', r'\x1b]0;title\x07'),  # sets the window title
    ('ok\rno', r'ok\rno'),  # overwrites the line
    ('a\x08b', r'a\x08b'),  # erases a letter
    ('\x9b31m', r'\x9b31m'),  # the C1 form of an escape sequence
    ('abc\u202ecba', r'abc\u202ecba'),  # reverses what follows
    ('\u2066x\u2069', r'\u2066x\u2069'),
    ('\ufeffx\u200by', r'\ufeffx\u200by'),
    ('\U000e0041', r'\U000e0041'),  # an invisible tag letter
    ('\ud800', r'\ud800'),  # half a surrogate pair
  ],
)
def test_what_acts_is_shown(text, shown):
  assert visible_text.visible(text) == shown


@pytest.mark.parametrize(
  'text',
  [
    'two\nlines\tand a tab',
    'Grüße, 你好, שלום',
    '👩\u200d🔬',
    'می\u200cخواهم',
    '�',
  ],
)
def test_what_is_written_stays(text):
  assert visible_text.visible(text) == text


def test_no_control_character_survives():
  every = ''.join(map(chr, range(0x3000)))
  left = {c for c in visible_text.visible(every) if ord(c) < 32 or c == '\x7f'}
  assert left == {'\n', '\t'}
  assert not [
    c
    for c in visible_text.visible(every)
    if unicodedata.bidirectional(c) in {'RLO', 'LRO', 'RLI', 'LRI', 'FSI'}
  ]
