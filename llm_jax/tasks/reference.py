"""Reads what a reference page documents: name, signature, summary.

The page is the cleaned text of a pydoc page, where all indentation is gone, so
a line of a docstring can look like a signature. pydoc lists the members of a
class or module by name; of the lines that could be signatures those that keep
this order are taken. It does NOT import anything, and does not read inherited
members, which stand with their own class.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Sequence

_TITLE = re.compile(r'([A-Za-z_][\w.]*)(?: \(version .*\))?\t+index')
# 'Name = class Other(Base)' is how pydoc shows a second name of a class.
_CLASS = re.compile(r'(?:(\w+) = )?class (\w+)(?:\(.*\))?')
_SIGNATURE = re.compile(
  r'(?P<name>[A-Za-z_]\w*)(?: = \w+)?'
  r'(?P<rest>\(.*\)(?: -> [\w.\[\], |\'"]+)?)(?: from [\w.]+)?'
)
_MEMBERS = re.compile(r'(?:Methods|Class methods|Static methods) defined here:')
_OTHER_PART = re.compile(
  r'(?:Method resolution order:'
  r'|[A-Z][a-z][\w ]* (?:defined here|inherited from [\w.]+):)'
)
_SECTION = re.compile(
  'Author|Classes|Credits|Data|Functions|Modules|Package Contents'
)
_OPENS_PART = (_SECTION, _CLASS, _MEMBERS, _OTHER_PART)
_MAX_SUMMARY_LINES = 3


@dataclasses.dataclass(frozen=True)
class Entry:
  """One documented function, class or method.

  Attributes:
    qualified_name: module, class if any, and name, joined by dots.
    signature: the name with its arguments, as the page has it.
    summary: the first sentence, or the first lines where none ends.
  """

  qualified_name: str
  signature: str
  summary: str


def entries(document_text: str) -> list[Entry]:
  """What a page documents, in the order of the page.

  Private names and members without a summary are left out.

  Args:
    document_text: cleaned text of a page of pydoc.

  Returns:
    The entries; none for a text that is no such page.
  """
  first, *lines = [line.strip() for line in document_text.split('\n')]
  title = _TITLE.fullmatch(first)
  if not title:
    return []
  module, owner = title.group(1), ''
  found: list[Entry | None] = []
  for marker, block in _parts(lines):
    heading = _CLASS.fullmatch(marker)
    if heading:
      owner = heading.group(1) or heading.group(2)
      # The class itself: its own signature opens the part.
      if block and block[0].startswith(f'{owner}('):
        found.append(_entry(module, block))
    elif _SECTION.fullmatch(marker):
      owner = ''
    if marker == 'Functions' or _MEMBERS.fullmatch(marker):
      prefix = f'{module}.{owner}' if owner else module
      found += [_entry(prefix, member) for member in _members(block)]
  return [entry for entry in found if entry]


def _parts(lines: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
  """Each line that opens a part of the page, with the lines below it."""
  marker, block = '', []
  for line in lines:
    if any(pattern.fullmatch(line) for pattern in _OPENS_PART):
      yield marker, block
      marker, block = line, []
    else:
      block.append(line)
  yield marker, block


def _members(block: Sequence[str]) -> Iterator[Sequence[str]]:
  """The lines of each member: its signature and its docstring."""
  matches = [_SIGNATURE.fullmatch(line) for line in block]
  candidates = [i for i, match in enumerate(matches) if match]
  names = [match.group('name') for match in matches if match]
  starts = [candidates[i] for i in _longest_increasing(names)]
  for start, end in itertools.pairwise([*starts, len(block)]):
    yield block[start:end]


def _longest_increasing(values: Sequence[str]) -> list[int]:
  """Positions of the longest strictly increasing subsequence.

  Of several the one that takes its members first: a docstring comes below
  its signature.

  >>> _longest_increasing(['b', 'a', 'd', 'c', 'c', 'e'])
  [0, 2, 5]
  """
  # lengths[i]: of the longest one that starts at i.
  lengths = [1] * len(values)
  for i in range(len(values) - 2, -1, -1):
    later = range(i + 1, len(values))
    best = max((lengths[j] for j in later if values[j] > values[i]), default=0)
    lengths[i] = 1 + best
  chain: list[int] = []
  wanted = max(lengths, default=0)
  for i, length in enumerate(lengths):
    if length == wanted and (not chain or values[i] > values[chain[-1]]):
      chain.append(i)
      wanted -= 1
  return chain


def _entry(prefix: str, member: Sequence[str]) -> Entry | None:
  match = _SIGNATURE.fullmatch(member[0])
  if not match or match.group('name').startswith('_'):
    return None
  name = match.group('name')
  text = []
  for line in member[1:]:
    if text and not line:
      break
    if line and not line.startswith(f'{name}('):  # its own signature again
      text.append(line)
      if line.endswith(('.', '!', '?')) or len(text) == _MAX_SUMMARY_LINES:
        break
  if not text:
    return None
  return Entry(f'{prefix}.{name}', name + match.group('rest'), ' '.join(text))
