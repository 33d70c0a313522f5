"""Rules that tell prose from menus, lists, templates and broken text.

Gopher's quality rules, C4's line and page rules and list of words, and
FineWeb's own, each a pure function from text to a reason. They look at form
only: they do NOT judge whether a text is true, useful or polite.

Source: Rae et al., arXiv:2112.11446, appendix A1.1; Raffel et al.,
arXiv:1910.10683, section 2.2; Penedo et al., arXiv:2406.17557, section 3.6.
Defaults, order of the tests and verdicts are those of datatrove 0.10.1, with
which FineWeb is made.
"""

import dataclasses
import functools
import re
from collections.abc import Iterator

from llm_jax.web.filter import english_words, measures, repetition
from llm_jax.web.filter import words as words_of

_CITATION = re.compile(r'\[\d*]|\[edit]|\[citation needed]')
_C4_LINE_ENDS = ('.', '?', '!', '"', "'")
_STOP_WORDS = ('the', 'be', 'to', 'of', 'and', 'that', 'have', 'with')
_POLICY_PHRASES = (
  *('terms of use', 'privacy policy', 'cookie policy', 'uses cookies'),
  *('use of cookies', 'use cookies'),
)


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
    min_stop_words: fewest different ones of the stop words.
    stop_words: words that prose has.
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
  stop_words: tuple[str, ...] = _STOP_WORDS


@dataclasses.dataclass(frozen=True)
class C4:
  """C4's rules, which remove lines and then pages.

  Attributes:
    enabled: whether the rules are used.
    by_line: apply the rules for lines to lines; else to sentences.
    require_line_end: remove lines that do not end a sentence. C4 did; FineWeb
      did not, as it costs 30% of the tokens, and neither do we by default.
    min_sentences: fewest sentences of a page after its lines were removed.
    min_words_per_line: shorter lines are removed.
    max_word_length: a line with a longer word is removed; 0 for no limit.
    remove_citations: take out '[1]', '[edit]', '[citation needed]'.
    remove_curly_brackets: remove pages with '{', which are often code.
    remove_lorem_ipsum: remove pages with placeholder text.
    remove_javascript_lines: remove lines that mention it.
    remove_policy_lines: remove lines on cookies and terms of use.
  """

  enabled: bool = True
  by_line: bool = True
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
class BadWords:
  """C4's list of words that a page must not hold; FineWeb has none.

  Attributes:
    words: lower-case words and phrases; none turns the rule off.
    whole: match between characters that belong to no word; False for
      languages that write without spaces.
  """

  words: tuple[str, ...] = ()
  whole: bool = True


@dataclasses.dataclass(frozen=True)
class FineWeb:
  """Thresholds of FineWeb's own rules, on lines that are not blank.

  Attributes:
    enabled: whether the rules are used.
    min_punctuated_lines: smallest fraction of lines that end a sentence.
    keep_unpunctuated: keep pages where no line does.
    line_ends: characters that end a sentence; '' for those of every script.
    max_short_lines: largest fraction of short lines.
    short_line_length: most characters of a short line.
    max_duplicate_line_chars: largest fraction of characters in lines that
      stood before. The paper says 0.1; its data was made with 0.01.
    max_newlines_per_word: line breaks for each word.
  """

  enabled: bool = True
  min_punctuated_lines: float = 0.12
  keep_unpunctuated: bool = False
  line_ends: str = ''
  max_short_lines: float = 0.67
  short_line_length: int = 30
  max_duplicate_line_chars: float = 0.01
  max_newlines_per_word: float = 0.3


def reject_gopher(cfg: GopherQuality, text: str, words: measures.Words) -> str:
  """Reason to remove a document by Gopher's quality rules, '' to keep it.

  Args:
    cfg: the thresholds.
    text: the document.
    words: its words, punctuation included, measured.

  Returns:
    The first rule that it breaks.
  """
  rules = _gopher_rules(cfg, text, words)
  return repetition.first_broken(rules) if cfg.enabled else ''


def _gopher_rules(
  cfg: GopherQuality, text: str, words: measures.Words
) -> Iterator[tuple[str, bool]]:
  """Each rule, and whether the text breaks it; asked for one by one."""
  n_plain, n_words = int(words.is_plain.sum()), len(words)
  yield 'too_few_words', n_plain < max(cfg.min_words, 1)
  yield 'too_many_words', n_plain > cfg.max_words
  mean_length = int(words.lengths[words.is_plain].sum()) / n_plain
  yield 'words_too_short', mean_length < cfg.min_mean_word_length
  yield 'words_too_long', mean_length > cfg.max_mean_word_length
  n_hashes = text.count('#')
  yield 'too_many_hashes', n_hashes / n_words > cfg.max_symbols_per_word
  n_ellipses = text.count('...') + text.count('…')
  yield 'too_many_ellipses', n_ellipses / n_words > cfg.max_symbols_per_word
  lines = text.splitlines()
  n_bullets = sum(line.lstrip().startswith(('•', '-')) for line in lines)
  yield 'too_many_bullets', n_bullets / len(lines) > cfg.max_bullet_lines
  if n_ellipses:
    n_ends = sum(line.rstrip().endswith(('...', '…')) for line in lines)
    too_many = n_ends / len(lines) > cfg.max_ellipsis_lines
    yield 'too_many_lines_end_in_ellipsis', too_many
  share = int(words.has_letter.sum()) / n_words
  yield 'too_few_alphabetic_words', share < cfg.min_alphabetic_words
  stop_words = measures.of_words(set(cfg.stop_words)).hashes
  n_found = sum((words.hashes == h).any() for h in stop_words)
  yield 'too_few_stop_words', n_found < cfg.min_stop_words


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
  for line in text.splitlines() if cfg.by_line else words_of.sentences(text):
    line = line.strip()
    chunks = line.split()
    if 0 < cfg.max_word_length < len(line):
      if any(len(chunk) > cfg.max_word_length for chunk in chunks):
        continue
    if cfg.remove_citations and '[' in line:
      line = _CITATION.sub('', line)
    ends = line.endswith(_C4_LINE_ENDS) and not line.endswith('...')
    if cfg.require_line_end and not ends:
      continue
    if len(chunks) < cfg.min_words_per_line:
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
    if n_sentences < cfg.min_sentences:  # more need not be counted
      n_sentences += len(words_of.sentences(line)) if cfg.by_line else 1
    kept.append(line)
  if n_sentences < cfg.min_sentences:
    return '', 'too_few_sentences'
  text = ('\n' if cfg.by_line else ' ').join(kept).strip()
  return text, '' if text else 'empty'


def reject_bad_words(cfg: BadWords, text: str) -> str:
  """Reason to remove a document by C4's list of words, '' to keep it.

  Args:
    cfg: the list.
    text: the document.

  Returns:
    'bad_word' or ''.
  """
  is_bad = cfg.words and _bad_words(cfg).search(text.lower())
  return 'bad_word' if is_bad else ''


@functools.lru_cache(maxsize=4)
def _bad_words(cfg: BadWords) -> re.Pattern:
  words = '|'.join(map(re.escape, cfg.words))
  return re.compile(rf'(?:\W|^)(?:{words})(?:\W|$)' if cfg.whole else words)


def reject_fineweb(
  cfg: FineWeb, text: str, words: measures.Words | None = None
) -> str:
  """Reason to remove a document by FineWeb's rules, '' to keep it.

  Args:
    cfg: the thresholds.
    text: the document.
    words: its words, punctuation included, if they are known; else they are
      counted where the verdict needs them.

  Returns:
    The first rule that it breaks.
  """
  if not cfg.enabled:
    return ''
  lines = [line for line in text.split('\n') if line and not line.isspace()]
  if not lines:
    return 'empty'
  ends = cfg.line_ends or english_words.line_ends()
  n_punctuated = sum(line[-1] in ends for line in lines)
  if n_punctuated / len(lines) < cfg.min_punctuated_lines:
    if n_punctuated or not cfg.keep_unpunctuated:
      return 'too_few_punctuated_lines'
  n_short = sum(len(line) <= cfg.short_line_length for line in lines)
  if n_short / len(lines) > cfg.max_short_lines:
    return 'too_many_short_lines'
  n_newlines = text.count('\n')
  _, n_chars = repetition.duplicates(lines)
  if n_chars / (len(text) - n_newlines) > cfg.max_duplicate_line_chars:
    return 'duplicate_line_chars'
  if words is None and n_newlines:
    n_chunks = len(text.split())  # each is a word or more
    if n_newlines / n_chunks <= cfg.max_newlines_per_word:
      return ''
    words = measures.of_text(text)
  if words and n_newlines / len(words) > cfg.max_newlines_per_word:
    return 'too_many_lines'
  return ''
