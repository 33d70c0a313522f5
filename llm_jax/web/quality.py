"""Rules that tell prose from menus, lists, templates and broken text.

Gopher's quality rules, C4's line and page rules, and FineWeb's own, each a
pure function from text to a reason. They look at form only: they do NOT judge
whether a text is true, useful or polite.

Source: Rae et al., arXiv:2112.11446, appendix A1.1; Raffel et al.,
arXiv:1910.10683, section 2.2; Penedo et al., arXiv:2406.17557, section 3.6.
Defaults and order of the tests are datatrove's, as FineWeb was made with them.
"""

import dataclasses
import re
from collections.abc import Sequence

from llm_jax.web import repetition
from llm_jax.web import words as words_of

_STOP_WORDS = frozenset(
  {'the', 'be', 'to', 'of', 'and', 'that', 'have', 'with'}
)
_HAS_LETTER_OR_DIGIT = re.compile(r'[^\W_]')
_CITATION = re.compile(r'\[\d*]|\[edit]|\[citation needed]')
_C4_LINE_ENDS = ('.', '?', '!', '"', "'")
_POLICY_PHRASES = (
  'terms of use',
  'privacy policy',
  'cookie policy',
  'uses cookies',
  'use of cookies',
  'use cookies',
)
_FINEWEB_LINE_ENDS = ('.', "'", '"', '!', '?')


@dataclasses.dataclass(frozen=True)
class GopherQuality:
  """Thresholds of Gopher's quality rules.

  Attributes:
    enabled: whether the rules are used.
    min_words: fewest words, punctuation not counted.
    max_words: most words, punctuation not counted.
    min_mean_word_length: characters, punctuation not counted.
    max_mean_word_length: characters, punctuation not counted.
    max_symbols_per_word: '#', and likewise ellipses, for each word.
    max_bullet_lines: fraction of lines that start with a bullet.
    max_ellipsis_lines: fraction of lines that end with an ellipsis.
    min_alphabetic_words: fraction of words, punctuation counted, with a
      letter.
    min_stop_words: occurrences of the, be, to, of, and, that, have, with.
  """

  enabled: bool = True
  min_words: int = 50
  max_words: int = 100_000
  min_mean_word_length: float = 3.0
  max_mean_word_length: float = 10.0
  max_symbols_per_word: float = 0.1
  max_bullet_lines: float = 0.9
  max_ellipsis_lines: float = 0.3
  min_alphabetic_words: float = 0.8
  min_stop_words: int = 2


@dataclasses.dataclass(frozen=True)
class C4:
  """C4's rules, which remove lines and then pages.

  Attributes:
    enabled: whether the rules are used.
    require_line_end: remove lines that do not end a sentence. C4 did; FineWeb
      did not, as it costs 30% of the tokens, and neither do we by default.
    min_sentences: fewest sentences of a page after its lines were removed.
    min_words_per_line: shorter lines are removed.
    max_word_length: a line with a longer word is removed.
    remove_citations: take out '[1]', '[edit]', '[citation needed]'.
    remove_curly_brackets: remove pages with '{', which are often code.
    remove_lorem_ipsum: remove pages with placeholder text.
    remove_javascript_lines: remove lines that mention it.
    remove_policy_lines: remove lines on cookies and terms of use.
  """

  enabled: bool = True
  require_line_end: bool = False
  min_sentences: int = 5
  min_words_per_line: int = 3
  max_word_length: int = 1000
  remove_citations: bool = True
  remove_curly_brackets: bool = True
  remove_lorem_ipsum: bool = True
  remove_javascript_lines: bool = True
  remove_policy_lines: bool = True


@dataclasses.dataclass(frozen=True)
class FineWeb:
  """Thresholds of FineWeb's own rules.

  Attributes:
    enabled: whether the rules are used.
    min_punctuated_lines: fraction of lines that end a sentence must be above.
    max_short_lines: fraction of short lines must be below.
    short_line_length: characters of a short line.
    max_duplicate_line_chars: characters in duplicate lines over all must be
      below. The paper says 0.1; its data was made with 0.01.
    max_newlines_per_word: line breaks for each word.
  """

  enabled: bool = True
  min_punctuated_lines: float = 0.12
  max_short_lines: float = 0.67
  short_line_length: int = 30
  max_duplicate_line_chars: float = 0.01
  max_newlines_per_word: float = 0.3


def reject_gopher(cfg: GopherQuality, text: str, words: Sequence[str]) -> str:
  """Reason to remove a document by Gopher's quality rules, '' to keep it.

  Args:
    cfg: the thresholds.
    text: the document, not empty.
    words: its words, punctuation included.

  Returns:
    The first rule that it breaks.
  """
  if not cfg.enabled:
    return ''
  plain = [w for w in words if _HAS_LETTER_OR_DIGIT.search(w)]
  if len(plain) < max(cfg.min_words, 1):
    return 'too_few_words'
  if len(plain) > cfg.max_words:
    return 'too_many_words'
  mean_length = sum(map(len, plain)) / len(plain)
  if mean_length < cfg.min_mean_word_length:
    return 'words_too_short'
  if mean_length > cfg.max_mean_word_length:
    return 'words_too_long'
  if text.count('#') / len(words) > cfg.max_symbols_per_word:
    return 'too_many_hashes'
  n_ellipses = text.count('...') + text.count('…')
  if n_ellipses / len(words) > cfg.max_symbols_per_word:
    return 'too_many_ellipses'
  lines = text.splitlines()
  n_bullets = sum(line.lstrip().startswith(('•', '-')) for line in lines)
  if n_bullets / len(lines) > cfg.max_bullet_lines:
    return 'too_many_bullets'
  n_ellipses = sum(line.rstrip().endswith(('...', '…')) for line in lines)
  if n_ellipses / len(lines) > cfg.max_ellipsis_lines:
    return 'too_many_lines_end_in_ellipsis'
  n_alphabetic = sum(any(c.isalpha() for c in w) for w in words)
  if n_alphabetic / len(words) < cfg.min_alphabetic_words:
    return 'too_few_alphabetic_words'
  if sum(w in _STOP_WORDS for w in words) < cfg.min_stop_words:
    return 'too_few_stop_words'
  return ''


def clean_c4(cfg: C4, text: str) -> tuple[str, str]:
  """Removes lines, and then the page if too little of it is left.

  Args:
    cfg: the rules.
    text: the document.

  Returns:
    The lines that are kept, and the reason to remove the page or ''.
  """
  if not cfg.enabled:
    return text, ''
  kept, n_sentences = [], 0
  for line in text.splitlines():
    line = line.strip()
    line_words = line.split()
    if any(len(w) > cfg.max_word_length for w in line_words):
      continue
    if cfg.remove_citations:
      line = _CITATION.sub('', line)
    ends = line.endswith(_C4_LINE_ENDS) and not line.endswith('...')
    if cfg.require_line_end and not ends:
      continue
    if len(line_words) < cfg.min_words_per_line:
      continue
    lower = line.lower()
    if cfg.remove_lorem_ipsum and 'lorem ipsum' in lower:
      return '', 'lorem_ipsum'
    if cfg.remove_javascript_lines and 'javascript' in lower:
      continue
    if cfg.remove_curly_brackets and '{' in line:
      return '', 'curly_bracket'
    if cfg.remove_policy_lines and any(p in lower for p in _POLICY_PHRASES):
      continue
    n_sentences += words_of.count_sentences(line)
    kept.append(line)
  if n_sentences < cfg.min_sentences or not kept:
    return '', 'too_few_sentences'
  return '\n'.join(kept).strip(), ''


def reject_fineweb(cfg: FineWeb, text: str, words: Sequence[str]) -> str:
  """Reason to remove a document by FineWeb's rules, '' to keep it.

  Args:
    cfg: the thresholds.
    text: the document, with at least one word.
    words: its words, punctuation included.

  Returns:
    The first rule that it breaks.
  """
  if not cfg.enabled:
    return ''
  lines = text.split('\n')
  n_punctuated = sum(line.endswith(_FINEWEB_LINE_ENDS) for line in lines)
  if n_punctuated / len(lines) <= cfg.min_punctuated_lines:
    return 'too_few_punctuated_lines'
  n_short = sum(len(line) <= cfg.short_line_length for line in lines)
  if n_short / len(lines) >= cfg.max_short_lines:
    return 'too_many_short_lines'
  _, n_chars = repetition.duplicates(line for line in lines if line.strip())
  n_all = len(text.replace('\n', ''))
  if n_chars / n_all >= cfg.max_duplicate_line_chars:
    return 'duplicate_line_chars'
  if text.count('\n') / len(words) > cfg.max_newlines_per_word:
    return 'too_many_lines'
  return ''
