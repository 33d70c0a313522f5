"""Removes documents that hold a piece of an evaluation set.

A document goes when it shares a run of `n_gram` words with a text of a set.
Words are compared without case and punctuation; characters of scripts that
write no spaces are words of their own. The runs are 64-bit hashes in one file
that all workers map.

It does NOT find paraphrases, translations or items shorter than `min_words`,
and does not cut: one shared run removes the whole document.

Source: Brown et al., arXiv:2005.14165, appendix C: 13-grams, frequent ones
ignored, at least 8 words; datatrove's filter uses 12-grams.
"""

import dataclasses
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from llm_jax import files
from llm_jax.web.dedup import hashes

_WORD = re.compile(r'[^\W_]+')
# Thai to Khmer, kana, ideographs, Hangul is spaced.
_UNSPACED = re.compile(
  '[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff'
  '\U00020000-\U0003ffff]'
)
_FEW_ITEMS = 10


@dataclasses.dataclass(frozen=True)
class Decontamination:
  """What counts as a piece of an evaluation set.

  Attributes:
    enabled: whether documents are compared.
    n_gram: words of a run; shorter runs are phrases that everybody writes.
    min_words: an item all of whose texts are shorter than `n_gram` is found
      by its longest one, as a whole, from this many words on; below, it is
      counted as not covered.
    fields: fields of an item that are compared, at any depth; empty for all.
    max_item_share: a run that more of a set's items share, and more than ten,
      is the wording of the prompt and no piece of an item. Passages that
      several items ask about stay, as they are a small share.
  """

  enabled: bool = True
  n_gram: int = 13
  min_words: int = 8
  fields: tuple[str, ...] = ()
  max_item_share: float = 0.1

  def __post_init__(self):
    if not 1 <= self.min_words <= self.n_gram:
      raise ValueError(
        f'min_words {self.min_words} must be 1 to n_gram {self.n_gram}'
      )


def build(
  cfg: Decontamination, jsonl_paths: Sequence[pathlib.Path], path: files.Path
) -> dict[str, dict[str, int]]:
  """Writes one file from evaluation sets.

  Args:
    cfg: the runs.
    jsonl_paths: one set each, `<name>.jsonl` or `<name>.jsonl.gz`: one object
      a line, whose strings at any depth are its texts, so lists of choices
      and OpenAI's messages too. Of a run in two sets the first counts.
    path: the file for `hashes.read`.

  Returns:
    By set: `items`, `not_covered` (items without a run that is looked for),
    `n_grams`, and `common_n_grams`, which are left out.

  Raises:
    ValueError: a line is no JSON object, or two sets have one name.
  """
  counts: dict[str, dict[str, int]] = {}
  parts, lengths = [], {cfg.n_gram}
  for code, set_path in enumerate(jsonl_paths):
    name = set_path.name.removesuffix('.gz').removesuffix('.jsonl')
    if name in counts:
      raise ValueError(f'two evaluation sets are named {name}; rename one')
    runs = []
    for item in files.read_jsonl(set_path, dict):
      n, texts = _comparable(cfg, _strings(item, cfg.fields))
      words = map(hashes.of_strings, texts)
      found = [np.zeros(0, 'u8'), *(hashes.of_runs(w, [n]) for w in words)]
      runs.append(np.unique(np.concatenate(found)))
      lengths.update([n] if texts else [])
    joined = np.concatenate([np.zeros(0, 'u8'), *runs])
    values, places, n_items = np.unique(
      joined, return_inverse=True, return_counts=True
    )
    is_kept = n_items <= max(_FEW_ITEMS, cfg.max_item_share * len(runs))
    parts.append((values[is_kept], code))
    by_item = np.split(is_kept[places], np.cumsum([len(r) for r in runs]))
    counts[name] = {
      'items': len(runs),
      'not_covered': len(runs) - sum(bool(kept.any()) for kept in by_item),
      'n_grams': int(is_kept.sum()),
      'common_n_grams': int((~is_kept).sum()),
    }
  metadata = {'names': list(counts), 'lengths': sorted(lengths)}
  hashes.write(path, metadata, parts)
  return counts


def reject(cfg: Decontamination, index: hashes.Table, text: str) -> str:
  """Reason to remove a document, '' to keep it.

  Args:
    cfg: whether it is used; the rest is what `index` was built with.
    index: the sets.
    text: the document.

  Returns:
    `evaluation_<set name>`, of several sets the first.
  """
  names = index.metadata['names']
  if not cfg.enabled or not names:
    return ''
  words = hashes.of_strings(words_of(text))
  keys = hashes.of_runs(words, index.metadata['lengths'])
  # Sorted keys meet the cache lines that the last one has read.
  codes = index.find(np.sort(keys))
  return f'evaluation_{names[int(codes.min())]}' if len(codes) else ''


def words_of(text: str) -> list[str]:
  """The words as they are compared.

  >>> words_of("It's 3.5 m, she said")
  ['it', 's', '3', '5', 'm', 'she', 'said']
  """
  if not text.isascii():
    text = _UNSPACED.sub(r' \g<0> ', text)
  return _WORD.findall(text.lower())


def _strings(value: Any, fields: Sequence[str]) -> Iterator[str]:
  """Strings of an item, at any depth; with fields, only those below them."""
  if isinstance(value, str):
    if not fields:
      yield value
  elif isinstance(value, dict):
    for key, child in value.items():
      yield from _strings(child, () if key in fields else fields)
  elif isinstance(value, list):
    for child in value:
      yield from _strings(child, fields)


def _comparable(
  cfg: Decontamination, texts: Iterable[str]
) -> tuple[int, list[list[str]]]:
  """The length of an item's runs, and the words they are taken from."""
  words = [words_of(text) for text in texts]
  longest = max(words, key=len, default=[])
  if len(longest) >= cfg.n_gram:
    return cfg.n_gram, [w for w in words if len(w) >= cfg.n_gram]
  return len(longest), [longest] if len(longest) >= cfg.min_words else []
