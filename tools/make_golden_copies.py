"""Makes the golden copies that tests/web holds our deduplication to.

  PYTHON -m tools.make_golden_copies

PYTHON is an interpreter that has datatrove, as tools.make_golden wants it. The
texts come from a seeded generator: groups that grew by edits of edits, so that
their members find each other late and in parts. It does NOT test anything:
that is tests/web/deduplication_test.py.
"""

import pathlib
import random
import struct
import tempfile
from collections.abc import Iterator, Sequence

from tools import make_golden

_N_FILES = 3
_N_GROUPS = 120
_N_WORDS = 100
# Words that an edit replaces; each changes up to five shingles.
_MAX_EDITS = 4


def files() -> list[list[str]]:
  """The texts of each file."""
  rng = random.Random(make_golden.SEED)
  texts = []
  for _ in range(_N_GROUPS):
    group = [[_word(rng) for _ in range(_N_WORDS)]]
    for _ in range(rng.randrange(12)):
      words = list(rng.choice(group))
      for place in rng.sample(range(_N_WORDS), rng.randrange(_MAX_EDITS + 1)):
        words[place] = _word(rng)
      group.append(words)
    texts += [' '.join(words) for words in group]
  rng.shuffle(texts)
  return [texts[i::_N_FILES] for i in range(_N_FILES)]


def _word(rng: random.Random) -> str:
  return ''.join(rng.choices('abdeiklmnoprstu', k=4))


def _removed(texts_of: Sequence[Sequence[str]]) -> Iterator[list[int]]:
  """For each file the places of the texts that datatrove removes."""
  from datatrove.data import Document
  from datatrove.pipeline import dedup

  with tempfile.TemporaryDirectory() as name:
    signatures, buckets, remove = (
      f'{name}/{step}' for step in ('signatures', 'buckets', 'remove')
    )
    for rank, texts in enumerate(texts_of):
      documents = [Document(text=text, id='') for text in texts]
      dedup.MinhashDedupSignature(signatures).run(iter(documents), rank)
    step = dedup.MinhashDedupBuckets(signatures, buckets)
    n_buckets = step.config.num_buckets
    for rank in range(n_buckets):
      step.run(None, rank, n_buckets)
    dedup.MinhashDedupCluster(buckets, remove).run()
    for rank in range(len(texts_of)):
      data = (pathlib.Path(remove) / f'{rank:06d}.remove').read_bytes()
      yield [place for (place,) in struct.iter_unpack('<I', data)]


if __name__ == '__main__':
  make_golden.write('copies', {'removed': list(_removed(files()))})
