"""The regular expressions that cut text into pre-tokens before merging.

The forms without possessive quantifiers: the same cuts as tiktoken's own
spelling, faster in its engine, and read alike by `regex`, by Oniguruma (which
would take `{1,3}+` for a repeated group) and by llama.cpp.
"""

from typing import NamedTuple


class Pattern(NamedTuple):
  """How text is cut.

  Attributes:
    split: matches one pre-token after the other, and leaves nothing out.
    blanks: the inside of a character class: the white space of which a run
      becomes one pre-token, save its last character where text follows.
  """

  split: str
  blanks: str


_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r'[^\r\n\p{L}\p{N}]?\p{L}+'
_REST = r' ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
# Unicode's White_Space, of which Python's \s is a superset.
_BLANKS = r' \t\x0b\x0c\x85\xa0\u1680\u2000-\u200a\u2028\u2029'
_BLANKS += r'\u202f\u205f\u3000'
WHITE_SPACE = _BLANKS + r'\r\n'  # inside a character class
_SYMBOLS = r' ?[^\s\p{L}\p{N}]+'
# o200k's words: one that begins with capitals ends where small letters end.
_UPPER = r'[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]'
_LOWER = r'[\p{Ll}\p{Lm}\p{Lo}\p{M}]'
_START = r'[^\r\n\p{L}\p{N}]?'
_O200K_WORDS = (
  f'{_START}{_UPPER}*{_LOWER}+{_CONTRACTIONS}?'
  f'|{_START}{_UPPER}+{_LOWER}*{_CONTRACTIONS}?'
)
_SPACES = r'\s*[\r\n]+|\s+(?!\S)|\s+'
# DeepSeek V3 sets apart digits, then runs of Chinese and Japanese.
_CJK = '一-龥぀-ゟ゠-ヿ'
_DEEPSEEK3_LAST = (
  r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
  r'|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|' + _SPACES
)
DIGITS = 'Digits'  # the step that sets each digit apart
BYTE_LEVEL = 'ByteLevel'  # the step that cuts as GPT-2 does

PATTERNS = {
  # One digit a token, so that numbers are always cut the same way.
  'qwen2': Pattern(f'{_CONTRACTIONS}|{_WORDS}|\\p{{N}}|{_REST}', _BLANKS),
  'cl100k': Pattern(
    f'{_CONTRACTIONS}|{_WORDS}|\\p{{N}}{{1,3}}|{_REST}', _BLANKS
  ),
  'gpt2': Pattern(
    rf"'s|'t|'re|'ve|'m|'ll|'d| ?\p{{L}}+| ?\p{{N}}+|{_SYMBOLS}|\s+(?!\S)|\s+",
    WHITE_SPACE,
  ),
  'o200k': Pattern(
    rf'{_O200K_WORDS}|\p{{N}}{{1,3}}|{_SYMBOLS}[\r\n/]*|{_SPACES}', _BLANKS
  ),
}
# What publishers cut in several steps: expressions whose matches are set
# apart, one after the other, and steps of `tokenizers` by name.
_STEPS = {
  'gpt2': (BYTE_LEVEL,),
  'smollm': (DIGITS, BYTE_LEVEL),
  'deepseek3': (r'\p{N}{1,3}', f'[{_CJK}]+', _DEEPSEEK3_LAST),
}


def steps(name: str) -> tuple[str, ...]:
  """How text is cut for `tokenizers`, also by patterns that are not here."""
  return _STEPS.get(name) or (by_name(name).split,)


def by_name(name: str) -> Pattern:
  """The pattern of a name.

  Raises:
    ValueError: if there is none.
  """
  if name not in PATTERNS:
    raise ValueError(
      f'there is no split pattern {name!r}; use one of {", ".join(PATTERNS)}'
    )
  return PATTERNS[name]
