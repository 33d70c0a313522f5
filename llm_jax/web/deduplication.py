"""Finds documents that are copies of others: exact ones, and near ones.

MinHash with 14 bands of 8 hashes over 5-grams of words, as FineWeb used it.
Only keys are compared between documents; a pair that shares a band is then
verified by its true Jaccard similarity, since a shared band alone is wrong in
most cases on some corpora. Of each group the first document survives, so the
result depends on the order of the documents and on nothing else.

It does NOT find copied passages inside different documents.

Source: Penedo et al., arXiv:2406.17557, section 3.4; Broder, "On the
resemblance and containment of documents", 1997.
"""

import dataclasses
import hashlib
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

import numpy as np

_PRIME = (1 << 31) - 1  # products of two residues fit in 62 bits
_NOT_WORD = re.compile(r'[\W_]+')
_DIGITS = re.compile(r'\d+')
_BLOCK = 4096  # shingles hashed at a time: 4096 x 112 x 8 bytes


@dataclasses.dataclass(frozen=True)
class MinHash:
  """How near copies are found.

  Attributes:
    enabled: whether near copies are removed; exact copies always are.
    n_gram: words of a shingle.
    n_bands: a pair that agrees in one whole band is a candidate.
    n_rows: hashes of a band.
    min_similarity: least true Jaccard similarity of a near copy.
    seed: draws the hash functions.
  """

  enabled: bool = True
  n_gram: int = 5
  n_bands: int = 14
  n_rows: int = 8
  min_similarity: float = 0.75
  seed: int = 1


def normalize(text: str) -> str:
  """The text as copies are compared: what does not change the meaning goes.

  Lower case, no marks over letters, no punctuation, every number as 0,
  single spaces.

  >>> normalize('Café,  No. 12!')
  'cafe no 0'
  """
  text = unicodedata.normalize('NFD', text.lower())
  text = ''.join(c for c in text if unicodedata.category(c) != 'Mn')
  return _NOT_WORD.sub(' ', _DIGITS.sub('0', text)).strip()


def text_key(text: str) -> bytes:
  """A key that exact copies share: a hash of the text itself."""
  return hashlib.blake2b(text.encode(), digest_size=16).digest()


def shingles(cfg: MinHash, text: str) -> np.ndarray:
  """Hashes of the n-grams of words of a document, sorted, each once.

  Args:
    cfg: the length of the n-grams.
    text: the document.

  Returns:
    Values in [0, 2^31 - 1). A text of fewer words is one shingle.
  """
  words = normalize(text).split()
  n = min(cfg.n_gram, len(words))
  if n == 0:
    return np.zeros(0, 'u8')
  keys = {w: int.from_bytes(_digest(w), 'little') for w in set(words)}
  word_hashes = np.array([keys[w] for w in words], 'u8')
  size = len(words) - n + 1
  hashes = np.zeros(size, 'u8')
  for offset in range(n):  # wraps around on purpose
    hashes = (hashes ^ word_hashes[offset : offset + size]) * np.uint64(
      0x9E3779B97F4A7C15
    )
    hashes ^= hashes >> np.uint64(32)
  return np.unique(hashes % np.uint64(_PRIME))


def _digest(word: str) -> bytes:
  return hashlib.blake2b(word.encode(), digest_size=8).digest()


def signature(cfg: MinHash, shingle_hashes: np.ndarray) -> np.ndarray:
  """Band keys of a document: one integer for each band.

  Args:
    cfg: bands, rows and seed.
    shingle_hashes: what `shingles` returned, not empty.

  Returns:
    n_bands unsigned 64-bit keys. Two documents of similarity s share at
    least one with probability 1 - (1 - s^n_rows)^n_bands.
  """
  generator = np.random.Generator(np.random.PCG64(cfg.seed))
  n_hashes = cfg.n_bands * cfg.n_rows
  factors = generator.integers(1, _PRIME, n_hashes, 'u8')
  offsets = generator.integers(0, _PRIME, n_hashes, 'u8')
  smallest = np.full(n_hashes, _PRIME, 'u8')
  for start in range(0, len(shingle_hashes), _BLOCK):
    block = shingle_hashes[start : start + _BLOCK, None]
    values = (block * factors + offsets) % np.uint64(_PRIME)
    smallest = np.minimum(smallest, values.min(axis=0))
  bands = smallest.reshape(cfg.n_bands, cfg.n_rows)
  digests = (
    hashlib.blake2b(band.tobytes(), digest_size=8).digest() for band in bands
  )
  return np.array([int.from_bytes(d, 'little') for d in digests], 'u8')


def candidate_pairs(bands: np.ndarray) -> Iterator[tuple[int, int]]:
  """Pairs of documents that share a band, each once, sorted.

  Args:
    bands: band keys, one row for each document.

  Returns:
    Pairs (earlier, later). Within a band each document is paired with the
    first one of its key and with the one before it, not with all: a page
    that stands a thousand times must not give half a million pairs.
  """
  pairs: set[tuple[int, int]] = set()
  for keys in bands.T:
    order = np.argsort(keys, kind='stable')
    for _, group in itertools.groupby(order.tolist(), keys.__getitem__):
      members = list(group)
      pairs.update((members[0], later) for later in members[1:])
      pairs.update(itertools.pairwise(members))
  return iter(sorted(pairs))


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
  """|a ∩ b| / |a ∪ b| of two sorted arrays without repetitions."""
  n_common = len(np.intersect1d(a, b, assume_unique=True))
  return n_common / max(len(a) + len(b) - n_common, 1)


def survivors(n: int, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
  """The first document of each group of copies, by union-find.

  Args:
    n: documents.
    pairs: copies of each other.

  Returns:
    For each document the first one of its group; its own number survives.
  """
  parent = np.arange(n)

  def root(i: int) -> int:
    while parent[i] != i:
      parent[i] = parent[parent[i]]  # halves the path
      i = int(parent[i])
    return i

  for a, b in pairs:
    low, high = sorted((root(a), root(b)))
    parent[high] = low
  return np.array([root(i) for i in range(n)], 'i8')


def resolve(
  cfg: MinHash,
  keys: list[bytes],
  bands: np.ndarray,
  shingles_of: Callable[[int], np.ndarray],
) -> list[str]:
  """Which documents are copies of an earlier one.

  Args:
    cfg: the least similarity of near copies.
    keys: `text_key` of each document, in document order.
    bands: band keys, one row for each document.
    shingles_of: shingles of a document, asked for candidates only.

  Returns:
    For each document `exact_copy`, `near_copy`, or '' if it survives.
  """
  first: dict[bytes, int] = {}
  exact = [(first.setdefault(key, i), i) for i, key in enumerate(keys)]
  near = []
  if cfg.enabled:
    # Exact copies have been settled: only first ones need a comparison.
    unique = np.array(sorted(first.values()), 'i8')
    for a, b in candidate_pairs(bands[unique]):
      a, b = int(unique[a]), int(unique[b])
      if jaccard(shingles_of(a), shingles_of(b)) >= cfg.min_similarity:
        near.append((a, b))
  groups = survivors(len(keys), near)
  verdicts = []
  for i, (original, _) in enumerate(exact):
    if original != i:
      verdicts.append('exact_copy')
    else:
      verdicts.append('near_copy' if groups[i] != i else '')
  return verdicts
