"""Copies found against closed forms, by hand and by a slow twin."""

import itertools
import random
import unicodedata

import numpy as np
import pytest

from llm_jax.web.dedup import deduplication
from tools import make_golden, make_golden_copies

CFG = deduplication.MinHash()
WORDS = [f'word{chr(97 + i // 26)}{chr(97 + i % 26)}' for i in range(600)]


def text_of(generator: random.Random, n: int = 200) -> str:
  return ' '.join(generator.choices(WORDS, k=n))


def resolve(texts: list[str], cfg=CFG) -> list[str]:
  """Verdict on each of several texts, as the pipeline comes to it."""
  columns = np.stack([deduplication.keys(cfg, text) for text in texts])
  ids = np.arange(len(texts), dtype='u8')
  found = [
    deduplication.pairs(column, ids, place)
    for place, column in enumerate(columns.T)
  ]
  pairs = deduplication.unique_pairs(np.concatenate(found, axis=1))
  verified = deduplication.verify(
    cfg, pairs, lambda ids: {i: texts[i] for i in ids}, block=3
  )
  verdicts = [''] * len(texts)
  gone, is_exact = deduplication.copies(verified)
  for i, exact in zip(gone.tolist(), is_exact.tolist(), strict=True):
    verdicts[i] = 'exact_copy' if exact else 'near_copy'
  return verdicts


def test_normalized_text_decides_on_exact_copies():
  same = ['Ünder 3 bridges!', 'under  12 BRIDGES', 'under bridges']
  keys = [deduplication.keys(CFG, text)[0] for text in same]
  assert keys[0] == keys[1] != keys[2]
  assert resolve(same) == ['', 'exact_copy', '']
  # Without words there is only the text itself.
  assert resolve(['!!!', '???', '!!!']) == ['', '', 'exact_copy']


@pytest.mark.parametrize(
  ('text', 'normal'),
  [
    ('\nA1½2_b\u0301\xa0Σ9\u0660²', 'a0½0 b σ0²'),
    ('E\u0301té, 한국 1,000.5\tüç\u0327', 'ete 한국 0 0 0 uc'),
    ('_ - !', ''),
  ],
)
def test_normalize(text, normal):
  assert deduplication.normalize(text) == unicodedata.normalize('NFD', normal)


@pytest.mark.parametrize('similarity', [0.6, 0.75])
def test_bands_are_shared_as_often_as_the_formula_says(similarity):
  """P = 1 - (1 - s^8)^14 within 3 points, over 3,000 pairs of random sets."""
  generator = np.random.default_rng(0)
  n_pairs, n_shared, size = 3000, 0, 60
  n_common = round(2 * size * similarity / (1 + similarity))
  similarity = n_common / (2 * size - n_common)
  for _ in range(n_pairs):
    values = generator.integers(0, 2**64, 2 * size - n_common, 'u8')
    a = deduplication._bands(CFG, values[:size])
    b = deduplication._bands(CFG, values[size - n_common :])
    n_shared += bool((a == b).any())
  expected = 1 - (1 - similarity**8) ** 14
  assert abs(n_shared / n_pairs - expected) < 0.03  # 3 standard deviations


VALUES = [
  (' '.join(f'word{chr(97 + i % 26)}' for i in range(60)),
   158318183512755678, 463173806723245569),
  ('The quick brown fox, 12 years old, jumps over the lazy dog. It rains in '
   'Paris and the café is closed today.',
   92905601561327894, 871697784153277715),
]  # fmt: skip


@pytest.mark.parametrize(('text', 'first', 'all_together'), VALUES)
def test_values_are_those_of_datatrove(text, first, all_together):
  """First value and exclusive or of all 112 that datatrove 0.10.1 gives."""
  shingles = deduplication._shingles(CFG, deduplication.normalize(text))
  values = deduplication._smallest(CFG, shingles)
  assert len(values) == 112
  assert (values[0], np.bitwise_xor.reduce(values)) == (first, all_together)


def test_first_of_a_pair_survives():
  generator = random.Random(1)
  base, other = text_of(generator), text_of(generator)
  near = base.replace(' ', '  ').upper() + ' end'
  texts = [other, base, near, base, other + ' more', text_of(generator), other]
  exact = dict.fromkeys((3, 6), 'exact_copy')
  for cfg, removed in (
    (CFG, exact | dict.fromkeys((2, 4), 'near_copy')),
    (deduplication.MinHash(enabled=False), exact),
  ):
    assert resolve(texts, cfg) == [removed.get(i, '') for i in range(7)]


def test_candidates_are_verified():
  """Two rows in one band: nearly all pairs are candidates, few are copies."""
  loose = deduplication.MinHash(n_bands=60, n_rows=1)
  generator = random.Random(2)
  shared = text_of(generator, 60)
  texts = [f'{shared} {text_of(generator, 60)}' for _ in range(20)]
  assert resolve(texts, loose) == [''] * 20
  every = deduplication.MinHash(n_bands=60, n_rows=1, min_similarity=0.0)
  assert sorted(resolve(texts, every)) == [''] + ['near_copy'] * 19


def test_pairs_against_a_slow_twin():
  """All pairs of a small group; first and last few of a large one."""
  generator = np.random.default_rng(3)
  for n_values in (3, 30, 300):
    ids = generator.permutation(1000)[:300].astype('u8')
    keys = generator.integers(0, n_values, 300, 'u8')
    expected = set()
    for value in range(n_values):
      group = sorted(ids[keys == value].tolist())
      for i, j in itertools.combinations(range(len(group)), 2):
        if i == 0 or j - i <= deduplication._WINDOW:
          expected.add((group[j], group[i]))
    for place, band in ((0, 0), (1, 0), (14, 13)):
      found = deduplication.pairs(keys, ids, place)
      assert list(map(tuple, found[:2].T.tolist())) == sorted(expected)
      assert set(found[2].tolist()) == {band}
  assert deduplication.pairs(ids[:0], ids[:0], 0).shape == (3, 0)


def test_a_pair_stands_in_its_first_band():
  pairs = np.array([[3, 1, 3, 2, 3], [1, 0, 1, 2, 0], [5, 7, 4, 0, 6]], 'u8')
  found = deduplication.unique_pairs(pairs).T.tolist()
  assert found == [[1, 0, 7], [3, 0, 6], [3, 1, 4]]


def gone_of(edges, first: int = 0) -> list[int]:
  """What goes, of (later, earlier, band)."""
  verified = np.array([(*edge, 0) for edge in edges], 'u8').reshape(-1, 4).T
  return deduplication.copies(verified, first)[0].tolist()


def test_copies_against_slow_grouping():
  generator = random.Random(4)
  for _ in range(200):
    n = generator.randrange(2, 30)
    first = generator.choice((0, 0, n // 4))
    edges = [
      (later, generator.randrange(later), generator.randrange(14))
      for later in generator.choices(range(max(first, 1), n), k=20)
    ]
    groups = {i: [i] for i in range(n)}  # of each document, its root first
    for later, earlier, _ in sorted(edges, key=lambda e: (e[2], e)):
      large, small = groups[earlier], groups[later]
      if large is not small:
        if large[0] >= first and (small[0] < first or len(small) > len(large)):
          large, small = small, large
        large += small
        groups.update(dict.fromkeys(small, large))
    goes = [i for i in range(first, n) if groups[i][0] != i]
    assert gone_of(edges, first) == goes


def test_survivors_are_those_of_datatrove():
  """Groups that grew by edits of edits; the root of many is not the first.

  Not all are the same: datatrove joins the pairs of a band in the order of its
  hashes.
  """
  files, removed = make_golden_copies.files(), make_golden.read('copies')
  texts = [text for file in files for text in file]
  theirs = [
    '' if row not in rows else 'copy'
    for file, rows in zip(files, removed['removed'], strict=True)
    for row in range(len(file))
  ]
  cfg = deduplication.MinHash(min_similarity=0)
  ours = [verdict and 'copy' for verdict in resolve(texts, cfg)]
  assert ours.count('copy') == theirs.count('copy') == 589
  n_other = sum(a != b == 'copy' for a, b in zip(ours, theirs, strict=True))
  assert n_other / 589 < 0.01, 'renew: PYTHON -m tools.make_golden_copies'
