"""Words and sentences against spaCy's, recorded and live."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_jax.web.filter import english_words, words
from tools import make_golden

RENEW = 'renew: PYTHON -m tools.make_golden, PYTHON with spaCy and datatrove'


@pytest.fixture(scope='module')
def golden():
  return make_golden.read('words')


def test_chunks_as_spacy_cuts_them(golden):
  expected = [chunk.split(' ') for chunk in golden['chunks']]
  wrong = [e for e in expected if words.split(''.join(e)) != e]
  assert len(expected) > 7000
  assert not wrong, f'{len(wrong)} of {len(expected)}; {RENEW}'


def test_texts_as_spacy_cuts_them(golden):
  for text, cut, sentence_cuts in golden['texts']:
    assert words.split(text) == cut.split(' '), RENEW
    ends = [0, *sentence_cuts, len(text)]
    expected = [text[a:b] for a, b in zip(ends, ends[1:], strict=False)]
    assert words.sentences(text) == expected, RENEW


def test_every_exception_is_cut_as_it_says():
  exceptions = english_words.exceptions()
  assert len(exceptions) > 1300
  for chunk, parts in exceptions.items():
    assert ''.join(parts) == chunk
    assert words.split(chunk) == list(parts)


def test_no_words():
  assert words.split('') == words.split(' \n\t') == []
  assert words.sentences('') == ['']


@pytest.mark.parametrize(
  'unit', ['(', '.', "'s", ':(', 'a.', 'a@', 'a:', '1.', 'a.a@', '-', '…', 'é']
)
def test_a_hostile_run_takes_linear_time(unit):
  run = unit * (60_000 // len(unit))  # a quadratic scan takes hours
  assert ''.join(words.split(run)) == run


_PIECES = st.one_of(
  st.sampled_from(sorted(english_words.exceptions())),
  st.sampled_from('.,;:!?\'"()-/[]{}…’“”—–#%$€°·*+=<>@_~^|&\\'),
  st.sampled_from(['km', 'GB', '10', '3.5', 'US$', 'foo.bar', 'a@b.org', 'Né']),
  st.text(min_size=1, max_size=3),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_PIECES, max_size=12), st.integers())
def test_live_spacy_agrees(pieces, seed):
  spacy = pytest.importorskip('spacy', reason='compares with a live spaCy')
  rng = random.Random(seed)
  spaces = ('', '', '', ' ', ' ', '\n', '  ')
  text = ''.join(piece + rng.choice(spaces) for piece in pieces)
  text = text.replace('\0', '').encode(errors='ignore').decode()
  nlp = test_live_spacy_agrees.__dict__.setdefault('nlp', spacy.blank('en'))
  cut = [str(token).strip() for token in nlp.tokenizer(text)]
  assert words.split(text) == [word for word in cut if word]
