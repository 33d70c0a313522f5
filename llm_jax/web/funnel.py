"""Counts what each step was given, kept and removed, with samples.

Every document that enters a step leaves it as kept or as removed for one
reason, so the counts add up; `merge` checks it. It does NOT hold documents.
"""

from collections.abc import Iterable, Sequence

# English web text has 4.0 to 4.6 bytes for each of GPT-2's tokens.
BYTES_PER_TOKEN = 4
MAX_SAMPLES = 3
SAMPLE_CHARS = 300


class Step:
  """The counts of one step over one or more shards.

  Attributes:
    name: the step.
    documents_in: documents that entered.
    bytes_in: their bytes: the record's, the page's, then the text's.
    documents_kept: documents that went on.
    bytes_kept: their bytes as they went on.
    takes_text: whether its bytes in are text, of which tokens are estimated.
    gives_text: the same of the bytes that it kept.
    removed: by reason, documents, bytes and a few samples.
    replaced: placeholders put in, by kind.
    others: records that are no documents, by type.
  """

  def __init__(self, name: str, takes_text=True, gives_text=True):
    self.name = name
    self.takes_text, self.gives_text = takes_text, gives_text
    self.documents_in = self.bytes_in = 0
    self.documents_kept = self.bytes_kept = 0
    self.removed: dict[str, dict] = {}
    self.replaced: dict[str, int] = {}
    self.others: dict[str, int] = {}

  def keep(self, bytes_in: int, bytes_kept: int):
    """Counts a document that goes on."""
    self.documents_in += 1
    self.bytes_in += bytes_in
    self.documents_kept += 1
    self.bytes_kept += bytes_kept

  def remove(self, reason: str, bytes_in: int, url: str = '', text: str = ''):
    """Counts a document that goes no further.

    Args:
      reason: one word.
      bytes_in: its bytes.
      url: its address, for the sample.
      text: its text if it has one, for the sample.
    """
    self.documents_in += 1
    self.bytes_in += bytes_in
    sample = {'url': url, 'text': text[:SAMPLE_CHARS]}
    self._add_removed(
      reason, {'documents': 1, 'bytes': bytes_in, 'samples': [sample]}
    )

  def replace(self, counts: dict[str, int]):
    """Counts placeholders."""
    for kind, n in counts.items():
      self.replaced[kind] = self.replaced.get(kind, 0) + n

  def count_other(self, kind: str, n: int = 1):
    """Counts records that hold no document, such as a request."""
    self.others[kind] = self.others.get(kind, 0) + n

  def to_json(self) -> dict:
    """The counts as a JSON object, reasons by falling number."""
    reasons = sorted(
      self.removed, key=lambda r: (-self.removed[r]['documents'], r)
    )
    removed = {reason: dict(self.removed[reason]) for reason in reasons}
    step = {
      'name': self.name,
      'documents_in': self.documents_in,
      'bytes_in': self.bytes_in,
      'documents_kept': self.documents_kept,
      'bytes_kept': self.bytes_kept,
    }
    if self.takes_text:
      step['tokens_in'] = self.bytes_in // BYTES_PER_TOKEN
      for reason in removed.values():
        reason['tokens'] = reason['bytes'] // BYTES_PER_TOKEN
    if self.gives_text:
      step['tokens_kept'] = self.bytes_kept // BYTES_PER_TOKEN
    return {
      **step,
      'removed': removed,
      'replaced': dict(sorted(self.replaced.items())),
      'others': dict(sorted(self.others.items())),
    }

  def add(self, other: dict):
    """Adds another shard's counts, as `to_json` gave them."""
    self.documents_in += other['documents_in']
    self.bytes_in += other['bytes_in']
    self.documents_kept += other['documents_kept']
    self.bytes_kept += other['bytes_kept']
    for reason, removed in other['removed'].items():
      self._add_removed(reason, removed)
    self.replace(other['replaced'])
    for kind, n in other['others'].items():
      self.count_other(kind, n)

  def _add_removed(self, reason: str, removed: dict):
    mine = self.removed.setdefault(
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
        total.append(
          Step(step['name'], 'tokens_in' in step, 'tokens_kept' in step)
        )
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
