"""Counts what each step was given, kept and removed, with samples.

Every document that enters a step leaves it as kept or as removed for one
reason, so the counts add up; `merge` checks it. It does NOT hold documents.
"""

from collections.abc import Iterable, Sequence

# English web text has 4.0 to 4.6 bytes for each of GPT-2's tokens.
BYTES_PER_TOKEN = 4
MAX_SAMPLES = 3
SAMPLE_CHARS = 300
_COUNTS = ('documents_in', 'bytes_in', 'documents_kept', 'bytes_kept')


class Step:
  """The counts of one step over one or more shards.

  Bytes are the record's, the page's, then the text's.
  """

  def __init__(self, name: str, gives_text: bool = True):
    """An empty step.

    Args:
      name: the step.
      gives_text: whether the bytes that it keeps are text, of which tokens are
        estimated.
    """
    self._name, self._gives_text = name, gives_text
    self._counts: dict = dict.fromkeys(_COUNTS, 0)

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
    counts: dict = {'documents_in': 1, 'bytes_in': sizes[0]}
    if not reason:
      counts |= {'documents_kept': 1, 'bytes_kept': sizes[1]}
    else:
      sample = {'url': url, 'text': text[:SAMPLE_CHARS]}
      removed = {'documents': 1, 'bytes': sizes[0], 'samples': [sample]}
      counts['removed'] = {reason: removed}
    self.add(counts)
    return not reason

  def to_json(self) -> dict:
    """The counts as a JSON object, reasons by falling number."""
    counts = {name: self._counts[name] for name in _COUNTS}
    if self._gives_text:
      counts['tokens_kept'] = counts['bytes_kept'] // BYTES_PER_TOKEN
    reasons = sorted(
      self._counts.get('removed', {}).items(),
      key=lambda item: (-item[1]['documents'], item[0]),
    )
    return {
      'name': self._name,
      **counts,
      'removed': dict(reasons),
      'replaced': dict(sorted(self._counts.get('replaced', {}).items())),
      'others': dict(sorted(self._counts.get('others', {}).items())),
    }

  def add(self, counts: dict):
    """Adds counts in the form of `to_json`, or some of them.

    Args:
      counts: `replaced` are placeholders by kind, `others` records that hold
        no document, such as a request, by type.
    """
    _add(self._counts, counts)


def _add(total: dict, part: dict):
  """Adds numbers, at any depth, and what lists have room for."""
  for name, value in part.items():
    if isinstance(value, dict):
      _add(total.setdefault(name, {}), value)
    elif isinstance(value, list):
      total[name] = (total.get(name, []) + value)[:MAX_SAMPLES]
    elif isinstance(value, int):
      total[name] = total.get(name, 0) + value


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
