"""Copies found against closed forms and by hand."""

import random

import numpy as np
import pytest

from llm_jax.web import deduplication

CFG = deduplication.MinHash()
WORDS = [f'word{chr(97 + i // 26)}{chr(97 + i % 26)}' for i in range(600)]


def text_of(generator: random.Random, n: int = 200) -> str:
  return ' '.join(generator.choices(WORDS, k=n))


def resolve(texts: list[str], cfg=CFG) -> list[str]:
  shingles = [deduplication.shingles(cfg, text) for text in texts]
  bands = np.stack([deduplication.signature(cfg, s) for s in shingles])
  keys = [deduplication.text_key(text) for text in texts]
  return deduplication.resolve(cfg, keys, bands, shingles.__getitem__)


def test_shingles_are_the_n_grams():
  text = 'One two three, four FIVE six! Six'
  # one..five, two..six, three..six six
  assert len(deduplication.shingles(CFG, text)) == 3
  same = deduplication.shingles(CFG, 'one TWO three four five six six')
  np.testing.assert_array_equal(deduplication.shingles(CFG, text), same)
  assert len(deduplication.shingles(CFG, 'two words')) == 1
  assert len(deduplication.shingles(CFG, '!!!')) == 0


@pytest.mark.parametrize('similarity', [0.5, 0.7, 0.8])
def test_bands_are_shared_as_often_as_the_formula_says(similarity):
  """P = 1 - (1 - s^8)^14, over 300 pairs of random sets."""
  generator = np.random.default_rng(0)
  n_pairs, n_shared, size = 300, 0, 300
  n_common = round(2 * size * similarity / (1 + similarity))
  for _ in range(n_pairs):
    values = generator.choice(2**31 - 1, 2 * size - n_common, replace=False)
    values = values.astype('u8')
    a = deduplication.signature(CFG, np.sort(values[:size]))
    b = deduplication.signature(CFG, np.sort(values[size - n_common :]))
    n_shared += bool((a == b).any())
  expected = 1 - (1 - similarity**8) ** 14
  deviation = (expected * (1 - expected) / n_pairs) ** 0.5
  assert abs(n_shared / n_pairs - expected) < 4 * deviation


def test_first_of_each_group_survives():
  generator = random.Random(1)
  base, other = text_of(generator), text_of(generator)
  near = base.replace(' ', '  ').upper() + ' end'
  texts = [other, base, near, base, other + ' more', text_of(generator), other]
  assert resolve(texts) == [
    '', '', 'near_copy', 'exact_copy', 'near_copy', '', 'exact_copy',
  ]  # fmt: skip
  off = deduplication.MinHash(enabled=False)
  assert resolve(texts, off) == [
    '', '', '', 'exact_copy', '', '', 'exact_copy',
  ]  # fmt: skip


def test_candidates_are_verified():
  """Two rows in one band: nearly all pairs are candidates, few are copies."""
  loose = deduplication.MinHash(n_bands=60, n_rows=1)
  generator = random.Random(2)
  shared = text_of(generator, 60)
  texts = [f'{shared} {text_of(generator, 60)}' for _ in range(20)]
  bands = np.stack(
    [
      deduplication.signature(loose, deduplication.shingles(loose, text))
      for text in texts
    ]
  )
  assert len(list(deduplication.candidate_pairs(bands))) > 19
  assert resolve(texts, loose) == [''] * 20


def test_survivors_against_slow_grouping():
  generator = random.Random(3)
  for _ in range(50):
    n = generator.randrange(1, 30)
    pairs = [
      (generator.randrange(n), generator.randrange(n))
      for _ in range(generator.randrange(20))
    ]
    group = list(range(n))
    for _ in range(n):
      for a, b in pairs:
        group[a] = group[b] = min(group[a], group[b])
    assert deduplication.survivors(n, pairs).tolist() == group


def test_many_copies_do_not_make_every_pair():
  bands = np.zeros((1000, 14), 'u8')
  assert len(list(deduplication.candidate_pairs(bands))) < 2000
