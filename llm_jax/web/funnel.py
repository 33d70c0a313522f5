"""Counts what each step was given, kept and removed, with samples.

Every document that enters a step leaves it as kept or as removed for one
reason, so the counts add up; `merge` checks it. It does NOT hold documents.
"""

import collections
from collections.abc import Iterable, Sequence

# English web text has 4.0 to 4.6 bytes for each of GPT-2's tokens.
BYTES_PER_TOKEN = 4
MAX_SAMPLES = 3
SAMPLE_CHARS = 300
_COUNTS = ('documents_in', 'bytes_in', 'documents_kept', 'bytes_kept')


class Step:
  """The counts of one step over one or more shards.

  Bytes are the record's, the page's, then the text's.

  Attributes:
    replaced: placeholders by kind.
    others: records that hold no document, such as a request, by type.
  """

  def __init__(self, name: str, gives_text: bool = True):
    """An empty step.

    Args:
      name: the step.
      gives_text: whether the bytes that it keeps are text, of which tokens are
        estimated.
    """
    self._name, self._gives_text = name, gives_text
    self._counts = collections.Counter(dict.fromkeys(_COUNTS, 0))
    self._removed: dict[str, dict] = {}
    self.replaced = collections.Counter[str]()
    self.others = collections.Counter[str]()

  def take(
    self, reason: str, sizes: tuple[int, int], url: str, text: str = ''
  ) -> bool:
    """Counts a document.

    Args:
      reason: why it goes no further, one word; '' if it goes on.
      sizes: its bytes before the step, and behind it if it goes on.
      url: its address, for the sample.
      text: its text if it has one, for the sample.

    Returns:
      Whether it goes on.
    """
    self._counts.update(documents_in=1, bytes_in=sizes[0])
    if not reason:
      self._counts.update(documents_kept=1, bytes_kept=sizes[1])
    else:
      sample = {'url': url, 'text': text[:SAMPLE_CHARS]}
      removed = {'documents': 1, 'bytes': sizes[0], 'samples': [sample]}
      self._add_removed(reason, removed)
    return not reason

  def to_json(self) -> dict:
    """The counts as a JSON object, reasons by falling number."""
    counts: dict[str, int] = {**self._counts}
    if self._gives_text:
      counts['tokens_kept'] = counts['bytes_kept'] // BYTES_PER_TOKEN
    reasons = sorted(
      self._removed.items(), key=lambda item: (-item[1]['documents'], item[0])
    )
    return {
      'name': self._name,
      **counts,
      'removed': dict(reasons),
      'replaced': dict(sorted(self.replaced.items())),
      'others': dict(sorted(self.others.items())),
    }

  def add(self, other: dict):
    """Adds another shard's counts, as `to_json` gave them."""
    self._counts.update({name: other[name] for name in _COUNTS})
    for reason, removed in other['removed'].items():
      self._add_removed(reason, removed)
    self.replaced.update(other['replaced'])
    self.others.update(other['others'])

  def _add_removed(self, reason: str, removed: dict):
    mine = self._removed.setdefault(
      reason, {'documents': 0, 'bytes': 0, 'samples': []}
    )
    mine['documents'] += removed['documents']
    mine['bytes'] += removed['bytes']
    room = MAX_SAMPLES - len(mine['samples'])
    mine['samples'] += removed['samples'][:room]


def merge(shards: Iterable[Sequence[dict]]) -> list[dict]:
  """Adds the steps of shards, by position.

  Args:
    shards: the steps of each shard in their order, as `to_json` gave them.

  Returns:
    The steps of all shards together.

  Raises:
    ValueError: documents got lost between or inside steps.
  """
  total: list[Step] = []
  for steps in shards:
    for i, step in enumerate(steps):
      if i == len(total):
        total.append(Step(step['name'], 'tokens_kept' in step))
      total[i].add(step)
  merged = [step.to_json() for step in total]
  for step in merged:
    n_removed = sum(r['documents'] for r in step['removed'].values())
    if step['documents_in'] != step['documents_kept'] + n_removed:
      raise ValueError(
        f'step {step["name"]}: {step["documents_in"]} documents in, but '
        f'{step["documents_kept"]} kept and {n_removed} removed; the shards '
        'do not belong together, delete their folder'
      )
  return merged
