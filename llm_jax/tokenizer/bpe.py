"""Byte-pair encoding: counting pre-tokens, and learning merges from counts.

Counts of several shards of text add up, so counting can be spread over
processes; learning needs one.
"""

import collections
import heapq
from collections.abc import Iterable, Mapping

import numpy as np
import regex

Pair = tuple[int, int]  # two ids that become one token
N_BYTES = 256
_NONE = -1  # no neighbour: the edge of a pre-token
_KEY_SHIFT = 32  # a pair as one integer, in the order of (left, right)


def count_pretokens(
  texts: Iterable[str], split_pattern: str
) -> collections.Counter[str]:
  """Count the pre-tokens of texts.

  Args:
    texts: the documents.
    split_pattern: matches one pre-token after the other.

  Returns:
    Occurrences of each distinct pre-token.
  """
  find = regex.compile(split_pattern).findall
  counts: collections.Counter[str] = collections.Counter()
  for text in texts:
    counts.update(find(text))
  return counts


def learn_merges(counts: Mapping[str, int], n_merges: int) -> list[Pair]:
  """Learn the merges of byte-level BPE.

  Again and again the most frequent pair of neighbouring tokens becomes a new
  token. Among equally frequent pairs the smallest (left id, right id) wins.
  Ids 0 to 255 are the bytes; merge i makes id 256 + i. Slowly, and equal by
  tests/tokenizer/bpe_test.py:

    words = [([*word.encode()], count) for word, count in counts.items()]
    for new in range(256, 256 + n_merges):
      pairs = collections.Counter()
      for ids, count in words:
        for pair in itertools.pairwise(ids):
          pairs[pair] += count
      best = min(pairs, key=lambda pair: (-pairs[pair], pair))
      for ids, _ in words:
        for i in range(len(ids) - 1):  # from the left, without overlaps
          if (*ids[i : i + 2],) == best:
            ids[i : i + 2] = [new]
      merges.append(best)

  Here each pair knows where it stands, so that a merge touches those places
  alone.

  Args:
    counts: occurrences of each pre-token; no merge crosses their borders.
    n_merges: how many merges to learn. Fewer merges are a prefix of more.

  Returns:
    The pairs in the order in which they are merged.

  Raises:
    ValueError: if the text has no pair left to merge before that.

  Source: arXiv:1508.07909, algorithm 1; ties as in rustbpe.
  """
  corpus = _Corpus(counts)
  merges: list[Pair] = []
  while len(merges) < n_merges:
    pair = corpus.most_frequent_pair()
    if pair is None:
      raise ValueError(
        f'the text has pairs for {len(merges)} merges only, not {n_merges}; '
        f'use more text or a Config.vocab_size {n_merges - len(merges)} less'
      )
    corpus.merge(*pair, new=N_BYTES + len(merges))
    merges.append(pair)
  return merges


def token_ranks(merges: Iterable[Pair]) -> dict[bytes, int]:
  """The bytes of every token, with its id.

  >>> ranks = token_ranks([(104, 105), (256, 33)])
  >>> ranks[b'hi'], ranks[b'hi!']
  (256, 257)

  Args:
    merges: the pairs in their order.

  Returns:
    Ids by bytes, in the order of the ids. No two ids have the same bytes, as
    each was made where its bytes stood as one pair of older tokens.
  """
  tokens = [bytes([value]) for value in range(N_BYTES)]
  for left, right in merges:
    tokens.append(tokens[left] + tokens[right])
  return {token: rank for rank, token in enumerate(tokens)}


class _Corpus:
  """All distinct pre-tokens as one array of tokens with links.

  A token lives at the position of its first byte. A pair is known by the
  position of its left token, and counted as often as its pre-token occurs. The
  counts are int64: they pass 2^31 in less text than one machine cleans.
  """

  def __init__(self, counts: Mapping[str, int]):
    words = [word.encode() for word in counts]
    lengths = np.array([len(word) for word in words], np.int64)
    self.tokens = np.frombuffer(b''.join(words), np.uint8).astype(np.int32)
    self.weights = np.repeat(
      np.fromiter(counts.values(), np.int64, len(words)), lengths
    )
    n = len(self.tokens)
    self.following = np.arange(1, n + 1)
    self.preceding = np.arange(-1, n - 1)
    self.is_second = np.zeros(n, bool)  # marks, all cleared after each merge
    ends = np.cumsum(lengths)
    self.following[ends - 1] = _NONE
    self.preceding[ends - lengths] = _NONE
    self.pair_counts: dict[int, int] = {}
    self.pair_positions: dict[int, np.ndarray] = {}
    # The most frequent pair is on top. Counts in the heap may be too high,
    # never too low: a pair can only gain in the merge that makes it.
    self.heap: list[tuple[int, int]] = []
    self._add_pairs(np.flatnonzero(self.following != _NONE))

  def most_frequent_pair(self) -> Pair | None:
    """The pair to merge next; None if there is no pair at all."""
    while self.heap:
      count, key = self.heap[0]
      actual = -self.pair_counts[key]
      if actual == count:
        return divmod(key, 1 << _KEY_SHIFT)
      if actual:
        heapq.heapreplace(self.heap, (actual, key))
      else:
        heapq.heappop(self.heap)
    return None

  def merge(self, left: int, right: int, new: int) -> None:
    """Put the token `new` in the place of every pair (left, right)."""
    first = self._occurrences(left, right)
    second = self.following[first]
    before, after = self.preceding[first], self.following[second]
    has_before, has_after = before != _NONE, after != _NONE

    # Every pair that touches an occurrence goes, once: the pair between two
    # adjoining occurrences is the one after the first, not before the second.
    self.is_second[second] = True
    apart = has_before & ~self.is_second[before]
    self.is_second[second] = False
    self._remove_pairs(
      np.concatenate([before[apart], first, second[has_after]])
    )

    self.tokens[first] = new
    self.tokens[second] = _NONE
    self.following[first] = after
    self.preceding[after[has_after]] = first[has_after]

    before = self.preceding[first]
    apart = has_before & (self.tokens[before] != new)
    self._add_pairs(np.concatenate([before[apart], first[has_after]]))

  def _occurrences(self, left: int, right: int) -> np.ndarray:
    """Positions of the pair, without overlaps, from the left."""
    positions = np.sort(self.pair_positions.pop(_key(left, right)))
    following = self.following[positions]
    here = (self.tokens[positions] == left) & (following != _NONE)
    here &= self.tokens[following] == right
    positions = positions[here]
    if left != right or not len(positions):
      return positions
    # In a run x x x of one token, every other pair is an occurrence.
    starts_run = np.ones(len(positions), bool)
    starts_run[1:] = self.following[positions[:-1]] != positions[1:]
    index = np.arange(len(positions))
    run_start = np.maximum.accumulate(np.where(starts_run, index, 0))
    return positions[(index - run_start) % 2 == 0]

  def _pairs(self, positions: np.ndarray):
    """The distinct pairs at some positions, their counts, and where each is."""
    keys = _key(
      self.tokens[positions].astype(np.int64),
      self.tokens[self.following[positions]].astype(np.int64),
    )
    by_key = np.argsort(keys, kind='stable')
    keys, positions = keys[by_key], positions[by_key]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    # reduceat adds in int64; bincount would add in float64.
    counts = np.add.reduceat(self.weights[positions], starts)
    return keys[starts].tolist(), counts.tolist(), positions, starts

  def _add_pairs(self, positions: np.ndarray) -> None:
    if not len(positions):
      return
    keys, counts, positions, starts = self._pairs(positions)
    of_pairs = np.split(positions, starts[1:])
    for key, count, where in zip(keys, counts, of_pairs, strict=True):
      self.pair_counts[key] = count
      self.pair_positions[key] = where
      heapq.heappush(self.heap, (-count, key))

  def _remove_pairs(self, positions: np.ndarray) -> None:
    keys, counts, _, _ = self._pairs(positions)
    for key, count in zip(keys, counts, strict=True):
      self.pair_counts[key] -= count


def _key(left, right):
  return (left << _KEY_SHIFT) + right
