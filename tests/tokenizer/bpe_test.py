"""The trainer against hand arithmetic, a slow plain version and rustbpe."""

import argparse
import collections
import contextlib
import inspect
import itertools
import textwrap
import unittest

import hypothesis
import pytest
from hypothesis import strategies as st

from llm_jax.tokenizer import bpe, patterns

QWEN2 = patterns.by_name('qwen2').split
CL100K = patterns.by_name('cl100k').split

TEXT = """The rain in Spain stays mainly in the plain; 1234 plain trains.
def main(argv):
    return [train(x) for x in range(10)]  # aaaa aaaaa aaaaaaa
Ünïcödé: 你好, 世界! 你好. In the main, the rain's gone; it'll rain again.
"""

# fmt: off
GOLDEN_MERGES = [
  (105, 110), (97, 97), (97, 256), (32, 114), (32, 116), (104, 101),
  (257, 257), (32, 109), (32, 228), (32, 256), (32, 262), (259, 258),
]
# fmt: on


def slow_merges(counts, n_merges):
  """The algorithm as the docstring of learn_merges writes it down."""
  doc = inspect.getdoc(bpe.learn_merges) or ''  # not indented, as in 3.13
  code = doc.partition('bpe_test.py:\n')[2].partition('Here each')[0]
  names = {
    'counts': counts, 'n_merges': n_merges, 'merges': [],
    'collections': collections, 'itertools': itertools,
  }  # fmt: skip
  with contextlib.suppress(ValueError):  # there is no pair left
    exec(textwrap.dedent(code), names)
  return names['merges']


class LearnMergesTest(unittest.TestCase):
  def test_wikipedia_example(self):
    """aaabdaaabac: aa (4) -> Z; ab before Za on a tie (2) -> Y; ZY -> X."""
    merges = bpe.learn_merges({'aaabdaaabac': 1}, 3)
    assert merges == [(97, 97), (97, 98), (256, 257)]

  @hypothesis.settings(deadline=None, max_examples=150)
  @hypothesis.given(
    st.dictionaries(
      st.text('ab', min_size=1, max_size=12) | st.text('xyzé', min_size=1),
      st.integers(1, 5),
      min_size=1,
      max_size=12,
    )
  )
  def test_equals_slow_version(self, counts):
    expected = slow_merges(counts, 20)
    assert bpe.learn_merges(counts, len(expected)) == expected
    if len(expected) < 20:
      with pytest.raises(ValueError, match=f'for {len(expected)} merges only'):
        bpe.learn_merges(counts, 20)

  def test_equals_rustbpe(self):
    rustbpe = pytest.importorskip('rustbpe', reason='compared with rustbpe')
    texts = [inspect.getsource(m) for m in (argparse, textwrap, inspect)]
    for split in (QWEN2, CL100K):
      other = rustbpe.Tokenizer()
      other.train_from_iterator(iter(texts), 1500, pattern=split)
      expected = {bytes(b): i for b, i in other.get_mergeable_ranks()}
      merges = bpe.learn_merges(bpe.count_pretokens(texts, split), 1500 - 256)
      assert bpe.token_ranks(merges) == expected

  def test_fewer_merges_are_a_prefix(self):
    counts = bpe.count_pretokens([TEXT], QWEN2)
    many = bpe.learn_merges(counts, 90)
    for n in (0, 1, 37, 89):
      assert bpe.learn_merges(counts, n) == many[:n]

  def test_counts_beyond_32_bits_and_53_bits(self):
    counts = bpe.count_pretokens([TEXT], QWEN2)
    expected = bpe.learn_merges(counts, 90)
    huge = {word: count * 3_000_000_000 for word, count in counts.items()}
    assert bpe.learn_merges(huge, 90) == expected
    # Equal as float64, so that a sum in floats would choose the smaller pair.
    close = {'ab': 2**60, 'yz': 2**60 + 1}
    assert bpe.learn_merges(close, 1) == [(ord('y'), ord('z'))]

  def test_order_of_the_text_does_not_matter(self):
    counts = bpe.count_pretokens([TEXT], QWEN2)
    backwards = dict(reversed(counts.items()))
    assert bpe.learn_merges(backwards, 90) == bpe.learn_merges(counts, 90)

  def test_nothing_to_merge(self):
    assert bpe.learn_merges({}, 0) == []
    with pytest.raises(
      ValueError, match='more text or a Config.vocab_size 1 less'
    ):
      bpe.learn_merges({}, 1)
    with pytest.raises(ValueError, match='for 0 merges only, not 2'):
      bpe.learn_merges({'a': 9}, 2)

  def test_golden(self):
    """Fixed for ever: saved vocabularies depend on this order."""
    merges = bpe.learn_merges(bpe.count_pretokens([TEXT], QWEN2), 12)
    assert merges == GOLDEN_MERGES


class CountPretokensTest(unittest.TestCase):
  def test_pretokens_are_the_text(self):
    for split in (QWEN2, CL100K, patterns.by_name('gpt2').split):
      counts = bpe.count_pretokens([TEXT], split)
      assert sum(len(t) * n for t, n in counts.items()) == len(TEXT)

  def test_counts_of_shards_add_up(self):
    both = bpe.count_pretokens([TEXT, TEXT[:50]], QWEN2)
    apart = [bpe.count_pretokens([t], QWEN2) for t in (TEXT, TEXT[:50])]
    assert both == apart[0] + apart[1]

  def test_digits(self):
    assert bpe.count_pretokens(['12345'], QWEN2) == dict.fromkeys('12345', 1)
    assert bpe.count_pretokens(['12345'], CL100K) == {'123': 1, '45': 1}


class TokenRanksTest(unittest.TestCase):
  def test_no_two_ids_have_the_same_bytes(self):
    merges = bpe.learn_merges(bpe.count_pretokens([TEXT], QWEN2), 90)
    ranks = bpe.token_ranks(merges)
    assert list(ranks.values()) == list(range(346))
