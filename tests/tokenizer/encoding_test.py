"""Encoding against a plain version and published ids."""

import argparse
import inspect
import itertools
import os
import textwrap
import unicodedata
import unittest.mock

import hypothesis
import pytest
import regex
from hypothesis import strategies as st

from llm_jax.tokenizer import encoding, patterns, specials

# Pieces of text that are hard to cut, to be put together at random.
# fmt: off
PIECES = [
  '<|im_start|>', '<|endoftext|>', '<PYTHON_END>', '<|reserved_0|>', '<|', '!',
  ' ', '  ', '\n', '\r\n', '\t', '\u3000', '\x1c', "'s", "'LL", 'ſ', 'é',
  '1', '12345678', '½', '你好', '韬', '🙂', 'def ', 'return', 'self',
]
# fmt: on
HARD = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=30).map(
  ''.join
)
GOLDEN_FINGERPRINT = (
  'c1184657bd61003ed3e59a201a42d9bd18a55af5ea341ce99521f53f2c4d9269'
)
LIMITS = hypothesis.settings(
  deadline=None,
  max_examples=150,
  suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope='module')
def texts():
  return [
    inspect.getsource(argparse),
    inspect.getsource(textwrap),
    "It's 你好, 世界 — ¿qué? ﬁ① 韬 🙂 \r\n\r\n\t x  \n\n  y 12345678 ",
  ]


@pytest.fixture(scope='module')
def own(texts):
  return encoding.Tokenizer.train(texts, 1024)


def slow_encode(ranks, split, text):
  """Merge the pair of the lowest rank until there is none."""
  ids = []
  for piece in regex.findall(split, text):
    parts = [bytes([b]) for b in piece.encode()]
    while len(parts) > 1:
      pairs = [a + b for a, b in itertools.pairwise(parts)]
      best = min(pairs, key=lambda pair: ranks.get(pair, 1 << 30))
      if best not in ranks:
        break
      i = pairs.index(best)
      parts[i : i + 2] = [best]
    ids += [ranks[part] for part in parts]
  return ids


def ranks_of(tokenizer):
  first = min(tokenizer.special_ids)
  return {tokenizer.token_bytes(i): i for i in range(first)}


class TestEncode:
  @LIMITS
  @hypothesis.given(HARD)
  def test_equals_slow_version(self, own, text):
    split = patterns.by_name('qwen2').split
    # `regex` and tiktoken know other versions of Unicode: both know what the
    # older one of Python has.
    hypothesis.assume(all(unicodedata.category(c) != 'Cn' for c in text))
    assert own.encode(text) == slow_encode(ranks_of(own), split, text)

  @LIMITS
  @hypothesis.given(HARD)
  def test_text_comes_back_and_makes_no_control_token(self, own, text):
    ids = own.encode(text)
    assert own.decode(ids) == text
    assert not own.special_ids.intersection(ids)

  def test_every_name_is_ordinary_text(self, own):
    for name in own.special_names:
      ids = own.encode(name)
      assert len(ids) > 1
      assert not own.special_ids.intersection(ids)
      assert own.decode([own.special_id(name)]) == name

  def test_digits(self):
    """A merge of two digits is used only where a pre-token holds both."""
    for pattern, ids in (('qwen2', [49, 50]), ('cl100k', [256])):
      tokenizer = encoding.Tokenizer.from_merges([(49, 50)], pattern)
      assert tokenizer.encode('12') == ids

  @pytest.mark.parametrize('pattern', list(patterns.PATTERNS))
  def test_cutting_long_runs_changes_no_id(self, texts, pattern):
    blanks = (' ' * 7 + 'x' + '\t' * 5 + '\n') * 9  # so that runs are tokens
    whole = encoding.Tokenizer.train([*texts, blanks], 700, pattern)
    with unittest.mock.patch.object(encoding, '_LONG_RUN', 4):
      cutting = encoding.Tokenizer.train([*texts, blanks], 700, pattern)

    @LIMITS
    @hypothesis.given(
      st.lists(
        st.sampled_from([' ' * 9, '\t' * 4, '\u3000' * 10, ' ', '\n', '\r'])
        | st.sampled_from(['\x1c', 'x', ' x', '1', '!', '!\n', 'é']),
        max_size=12,
      ).map(''.join)
    )
    def check(text):
      expected = whole.encode(text)
      with unittest.mock.patch.object(encoding, '_LONG_RUN', 4):
        assert cutting.encode(text) == expected

    check()

  @pytest.mark.parametrize('end', ['', 'x', '1', '\n', '\nx'])
  def test_a_million_blanks(self, own, end):
    text = 'a\n' + ' ' * 1_100_000 + end
    assert own.decode(own.encode(text)) == text

  def test_golden(self):
    """Fixed for ever: shards and checkpoints hold such ids."""
    merges = [(105, 110), (32, 116), (104, 101), (257, 258), (32, 256)]
    small = encoding.Tokenizer.from_merges(merges, 'qwen2')
    assert small.encode('in the inn 10') == [256, 259, 260, 110, 32, 49, 48]
    assert small.fingerprint == GOLDEN_FINGERPRINT

  def test_lone_surrogate(self, own):
    with pytest.raises(ValueError, match=r'character 2 .* U\+D800'):
      own.encode('ab\ud800')


class TestDecode:
  def test_unknown_ids(self, own):
    for token_id in (own.vocab_size, -1, 10**9):
      with pytest.raises(ValueError, match=f'no token has id {token_id}'):
        own.decode([65, token_id])

  def test_broken_utf8(self, own):
    assert own.decode([0x41, 0xE9, 0x42]) == 'A\ufffdB'

  def test_unknown_name(self, own):
    with pytest.raises(ValueError, match=r"no control token '<\|x\|>'"):
      own.special_id('<|x|>')


class TestVocabulary:
  def test_layout(self, own):
    """256 bytes, merges, then 64 slots; exactly as many as asked for."""
    assert own.vocab_size == 1024
    assert own.special_id('<|endoftext|>') == 1024 - 64
    ids = [own.special_id(name) for name in specials.NAMES]
    assert ids == list(range(960, 973))
    assert own.special_ids == frozenset(range(960, 1024))

  def test_wrong_vocabularies(self):
    byte_ranks = {bytes([i]): i for i in range(256)}
    make = encoding.Tokenizer
    with pytest.raises(ValueError, match='no token for byte 0x41'):
      make({t: i for t, i in byte_ranks.items() if i != 65}, 'qwen2', {}, 300)
    with pytest.raises(ValueError, match='two tokens have id 7'):
      make(byte_ranks, 'qwen2', {'<s>': 7}, 300)
    with pytest.raises(ValueError, match='below vocab_size 300; raise it to 9'):
      make(byte_ranks, 'qwen2', {'<s>': 998}, 300)
    with pytest.raises(ValueError, match="'<s>' is both a control token"):
      make({**byte_ranks, b'<s>': 256}, 'qwen2', {'<s>': 257}, 300)
    with pytest.raises(ValueError, match="no split pattern 'qwen'"):
      make(byte_ranks, 'qwen', {}, 300)

  def test_too_small(self, texts):
    with pytest.raises(ValueError, match='use at least 321'):
      encoding.Tokenizer.train(texts, 320)


class TestFiles:
  def test_saved_and_loaded(self, own, tmp_path):
    own.save(tmp_path)
    again = encoding.Tokenizer.load(tmp_path)
    text = 'def f(x): return 韬 <|im_end|>'
    assert again.encode(text) == own.encode(text)
    assert again.fingerprint == own.fingerprint
    assert again.special_names == own.special_names
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ['ranks.tiktoken', 'spec.json', 'tokenizer.json']

  def test_missing(self, own, tmp_path):
    with pytest.raises(ValueError, match=r'ranks\.tiktoken is missing'):
      encoding.Tokenizer.load(tmp_path)
    own.save(tmp_path)
    (tmp_path / 'spec.json').unlink()
    with pytest.raises(
      ValueError, match=r'spec\.json is missing.*restore them'
    ):
      encoding.Tokenizer.load(tmp_path)

  def test_other_ranks(self, own, texts, tmp_path):
    """Files of two vocabularies of one size do not go together."""
    own.save(tmp_path)
    other = encoding.Tokenizer.train(texts[1:], 1024)
    other.save(tmp_path / 'other')
    os.replace(tmp_path / 'other/ranks.tiktoken', tmp_path / 'ranks.tiktoken')
    with pytest.raises(ValueError, match=own.fingerprint) as error:
      encoding.Tokenizer.load(tmp_path)
    assert other.fingerprint in str(error.value)

  def test_damaged_ranks(self, own, tmp_path):
    own.save(tmp_path)
    path = tmp_path / 'ranks.tiktoken'
    content = path.read_bytes()
    for damaged in (
      content[:-3],
      content[:-5],
      content.replace(b'IQ== 33', b'IQ== 3x'),
      content.replace(b'IQ== 33', b'IQ= 33'),
    ):
      path.write_bytes(damaged)
      with pytest.raises(
        ValueError, match='do not make the tokenizer that was'
      ):
        encoding.Tokenizer.load(tmp_path)

  def test_other_pattern(self, own, tmp_path):
    """A pattern that a newer version spells otherwise is noticed."""
    own.save(tmp_path)
    other = {**patterns.PATTERNS, 'qwen2': patterns.PATTERNS['cl100k']}
    with (
      unittest.mock.patch.object(patterns, 'PATTERNS', other),
      pytest.raises(ValueError, match=f'says {own.fingerprint}\\); restore'),
    ):
      encoding.Tokenizer.load(tmp_path)

  def test_not_the_published_file(self, own, tmp_path):
    own.save(tmp_path)
    path = tmp_path / 'ranks.tiktoken'
    with pytest.raises(ValueError, match='ranks of cl100k have 223921b76ee9'):
      encoding.Tokenizer.from_ranks(path)


@pytest.fixture(scope='module')
def cl100k():
  path = os.environ.get('LLM_JAX_CL100K')
  if not path:
    pytest.skip('LLM_JAX_CL100K is not the path of cl100k_base.tiktoken')
  return encoding.Tokenizer.from_ranks(path)


class TestCl100k:
  """Published facts; set LLM_JAX_CL100K to the path of cl100k_base.tiktoken."""

  @pytest.mark.parametrize(
    ('text', 'ids'),
    [
      ('hello', [15339]),
      ('hello world', [15339, 1917]),
      ('HelloWorld', [9906, 10343]),
      ('你', [57668]),
      ('韬', [165, 253, 105]),
    ],
  )
  def test_ids(self, cl100k, text, ids):
    assert cl100k.encode(text) == ids
    assert cl100k.decode(ids) == text

  def test_control_tokens(self, cl100k):
    assert cl100k.vocab_size == 100277
    expected = {
      '<|endoftext|>': 100257, '<|fim_prefix|>': 100258,
      '<|fim_middle|>': 100259, '<|fim_suffix|>': 100260,
      '<|im_start|>': 100264, '<|im_end|>': 100265, '<|im_sep|>': 100266,
    }  # fmt: skip
    assert {name: cl100k.special_id(name) for name in expected} == expected

  def test_holes(self, cl100k):
    for token_id in (100256, 100261, 100263, 100273, 100275):
      with pytest.raises(ValueError, match=f'no token has id {token_id}'):
        cl100k.decode([token_id])
