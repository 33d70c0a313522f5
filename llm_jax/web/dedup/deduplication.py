"""Finds documents that are copies of others: exact ones, and near ones.

Each document gets keys: one of its normalised text, and MinHash's, 14 bands of
8 hashes over 5-grams of words as FineWeb used them. Documents that share a key
are candidates, and each pair is then verified by its texts: equal once
normalised, or of enough true Jaccard similarity, since a shared band alone is
wrong in most cases on some corpora. Of each group the document survives that
FineWeb's union by size would keep: the first one of the pairs joined first, or
of a larger group that took them in. The result depends on the order of the
documents and on nothing else.

A document is named by one integer, its file's number and its row. Only keys
and these integers are compared between files. It does NOT find copied passages
inside different documents.

Source: Penedo et al., arXiv:2406.17557, section 3.4; Broder, "On the
resemblance and containment of documents", 1997. The hash functions are those
of datatrove 0.10.1, so that the same pairs meet by chance as in FineWeb.
"""

import dataclasses
import functools
import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import regex

from llm_jax.web.dedup import hashes

_MARKS = regex.compile(r'\p{Mn}+')
_NUMBERS, _SIGNS = re.compile(r'\d+'), re.compile(r'[\W_]+')
_PRIME = (1 << 61) - 1
_BLOCK = 1024  # shingles hashed at a time; 112 x 1024 x 8 bytes stay in cache
# Neighbours in a group that are compared, beside the group's first document:
# a page that stands a thousand times must not give half a million pairs.
_WINDOW = 4
_MAX_ROWS = 1 << 32  # of a file


@dataclasses.dataclass(frozen=True)
class MinHash:
  """How copies are found.

  Attributes:
    enabled: whether near copies are removed; exact copies always are.
    n_gram: words of a shingle.
    n_bands: a pair that agrees in one whole band is a candidate.
    n_rows: hashes of a band.
    min_similarity: least true Jaccard similarity of a near copy; 0 takes
      every candidate for one, as FineWeb did. Below the default a pair is a
      candidate in less than one case of a hundred, by chance; 0.7 and more
      keeps what only resembles an earlier document.
    seed: draws the hash functions.
  """

  enabled: bool = True
  n_gram: int = 5
  n_bands: int = 14
  n_rows: int = 8
  min_similarity: float = 0.4
  seed: int = 1


def normalize(text: str) -> str:
  """The text as copies are compared: what does not change the meaning goes.

  Lower case, no marks over letters, no punctuation, every number as 0,
  single spaces.

  >>> normalize('Café,  No. 12!')
  'cafe no 0'
  """
  text = _MARKS.sub('', unicodedata.normalize('NFD', text.lower()))
  return _SIGNS.sub(' ', _NUMBERS.sub('0', text)).strip()


def document_id(file_number: int, row: int) -> int:
  """The integer that names a document; the order of documents is theirs."""
  return file_number * _MAX_ROWS + row


def file_and_row(ids):
  """File number and row of a document id, or of each of an array."""
  return divmod(ids, _MAX_ROWS)


def n_keys(cfg: MinHash) -> int:
  """How many keys a document has."""
  return 1 + (cfg.n_bands if cfg.enabled else 0)


def keys(cfg: MinHash, text: str) -> np.ndarray:
  """A document's keys: of its normalised text, then one for each band.

  Args:
    cfg: shingles, bands, rows and seed.
    text: the document.

  Returns:
    `n_keys` unsigned 64-bit integers. Two documents whose shingles have
    similarity s share a band with probability 1 - (1 - s^n_rows)^n_bands. A
    text without words shares its keys with equal texts only.
  """
  normal = normalize(text)
  exact = hashes.of_strings([normal])
  if not cfg.enabled:
    return exact
  values = _shingles(cfg, normal) if normal else exact
  return np.concatenate([exact, _bands(cfg, values)])


def _shingles(cfg: MinHash, normal: str) -> np.ndarray:
  """Hashes of the n-grams of words, in order; a shorter text is one n-gram."""
  words = normal.split()
  n = min(cfg.n_gram, len(words))
  runs = zip(*(words[i:] for i in range(n)), strict=False)
  return hashes.of_strings(map(' '.join, runs))


def _bands(cfg: MinHash, shingles: np.ndarray) -> np.ndarray:
  """One key for each band: the smallest values of its hash functions."""
  rows = _smallest(cfg, shingles).reshape(cfg.n_bands, cfg.n_rows)
  band_keys = np.arange(1, cfg.n_bands + 1, dtype='u8')
  for row in rows.T:
    band_keys = (band_keys ^ row) * np.uint64(0x9E3779B97F4A7C15)
    band_keys ^= band_keys >> np.uint64(29)
  return band_keys


def _smallest(cfg: MinHash, shingles: np.ndarray) -> np.ndarray:
  """The smallest value of each hash function (a x + b mod 2^64) mod p."""
  factors, offsets = _hash_functions(cfg)
  smallest = np.full(len(factors), np.iinfo('u8').max, 'u8')
  for start in range(0, len(shingles), _BLOCK):
    values = factors * shingles[start : start + _BLOCK]  # wraps around
    values += offsets
    # Modulo 2^61 - 1 without a division, but for one value of 2^58.
    high = values >> np.uint64(61)
    values &= np.uint64(_PRIME)
    values += high
    np.minimum(smallest, values.min(axis=1), out=smallest)
  return smallest


@functools.lru_cache(maxsize=4)
def _hash_functions(cfg: MinHash) -> tuple[np.ndarray, np.ndarray]:
  """Factors a and offsets b, as columns."""
  generator = np.random.RandomState(cfg.seed)
  size = (cfg.n_bands * cfg.n_rows, 1)
  factors = generator.randint(1, _PRIME, size, 'u8')
  return factors, generator.randint(0, _PRIME, size, 'u8')


def pairs(key_values: np.ndarray, ids: np.ndarray, place: int) -> np.ndarray:
  """Pairs of documents that share a key.

  Args:
    key_values: one key for each document.
    ids: the documents.
    place: of the key among a document's `keys`.

  Returns:
    3 rows, (later, earlier, band), each pair once, ascending. In a group each
    document is paired with the first one and with the few before it. Equal
    texts share every band, so that theirs is the first.
  """
  order = np.lexsort((ids, key_values))
  key_values, ids = key_values[order], ids[order]
  equal = key_values[1:] == key_values[:-1]
  starts = np.flatnonzero(np.concatenate([[True], ~equal]))
  first = np.repeat(starts, np.diff(np.append(starts, len(ids))))
  places = np.arange(len(ids))
  found = [np.stack([ids, ids[first]])[:, first < places]]
  for back in range(1, _WINDOW + 1):
    later = places[back:][first[back:] < places[:-back]]
    found.append(np.stack([ids[later], ids[later - back]]))
  found = np.concatenate(found, axis=1)
  band = np.full((1, found.shape[1]), max(place - 1, 0), 'u8')
  return unique_pairs(np.concatenate([found, band]))


def unique_pairs(all_pairs: np.ndarray) -> np.ndarray:
  """Pairs of two documents in ascending order, each once: in its first band."""
  all_pairs = all_pairs[:, all_pairs[0] != all_pairs[1]]
  all_pairs = all_pairs[:, np.lexsort(all_pairs[::-1])]
  is_new = np.ones(all_pairs.shape[1], bool)
  is_new[1:] = (all_pairs[:2, 1:] != all_pairs[:2, :-1]).any(axis=0)
  return all_pairs[:, is_new]


def verify(
  cfg: MinHash,
  candidates: np.ndarray,
  texts_of: Callable[[Sequence[int]], Mapping[int, str]],
  block: int = 250,
) -> np.ndarray:
  """Pairs that are copies, of those that share a key.

  Args:
    cfg: the least similarity.
    candidates: 3 rows, (later, earlier, band), ascending.
    texts_of: the texts of documents; asked for those of `block` pairs.
    block: bounds the memory.

  Returns:
    4 rows: later, earlier, band, and 1 where the normalised texts are equal.
  """
  kept = [np.zeros((4, 0), 'u8')]
  for start in range(0, candidates.shape[1], block):
    part = candidates[:, start : start + block]
    wanted = np.unique(part[:2]).tolist()
    texts = texts_of(wanted)
    normal = {i: normalize(texts[i]) or texts[i] for i in wanted}
    shingles: dict[int, np.ndarray] = {}
    for later, earlier, band in part.T.tolist():
      is_exact = normal[later] == normal[earlier]
      if not is_exact:
        for i in (later, earlier):
          if i not in shingles:
            shingles[i] = np.unique(_shingles(cfg, normal[i]))
        similarity = jaccard(shingles[later], shingles[earlier])
        if similarity < cfg.min_similarity:
          continue
      kept.append(np.array([[later], [earlier], [band], [is_exact]], 'u8'))
  return np.concatenate(kept, axis=1)


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
  """|a ∩ b| / |a ∪ b| of two sorted arrays without repetitions."""
  n_common = len(np.intersect1d(a, b, assume_unique=True))
  return n_common / max(len(a) + len(b) - n_common, 1)


def copies(
  verified: np.ndarray, first: int = 0
) -> tuple[np.ndarray, np.ndarray]:
  """The documents that go: all but the root of each group, by union by size.

  Pairs are joined band by band, in a band by their documents. A group takes in
  one that is no larger than it, where sizes are equal the earlier document's
  takes in the other.

  Args:
    verified: 4 rows, as `verify` gives them, of all files.
    first: the first document that may go; those before it are an index.

  Returns:
    Their ids, ascending, and for each whether it equals an earlier document
    once normalised, which a document that survives never does.

  Source: MinhashDedupCluster of datatrove 0.10.1, which joins the pairs of a
  band in the order of its hashes: another root in one removal of 500 at most,
  for eight more integers a pair.
  """
  ids = np.unique(verified[:2])
  verified = verified[:, np.lexsort((verified[1], verified[0], verified[2]))]
  later, earlier = (np.searchsorted(ids, row) for row in verified[:2])
  parent = list(range(len(ids)))
  size = np.where(ids < first, math.inf, 1.0).tolist()

  def root(i: int) -> int:
    while parent[i] != i:
      parent[i] = parent[parent[i]]  # halves the path
      i = parent[i]
    return i

  for a, b in zip(earlier.tolist(), later.tolist(), strict=True):
    large, small = root(a), root(b)
    if large != small:
      if size[large] < size[small]:
        large, small = small, large
      parent[small] = large
      size[large] += size[small]
  goes = np.array([root(i) != i for i in range(len(ids))], bool)
  goes &= ids >= first
  is_exact = np.zeros(len(ids), bool)
  is_exact[later[verified[3] == 1]] = True
  return ids[goes], is_exact[goes]
