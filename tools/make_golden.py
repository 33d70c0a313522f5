"""Makes the golden words and verdicts that tests/web holds our rules to.

  PYTHON -m tools.make_golden [--data DIR]

PYTHON is an interpreter that has datatrove and spaCy (`pip install
'datatrove[processing,multilingual]==0.10.1' spacy==3.8.18`); their versions are
recorded in the files. The texts come from a seeded generator, so every run
writes the same bytes; a text from DIR, the folder of data sets for development,
is recorded as a hash and verdicts only. Without DIR the verdicts on it stay as
they are.

  PYTHON -m tools.make_golden --texts TEXTS.jsonl --out VERDICTS.json

judges JSON strings, one a line, and records seconds for each rule; this is how
tools.bench_web_rules asks datatrove. It does NOT test anything: that is
tests/web/words_test.py and rules_test.py.
"""

import argparse
import gzip
import hashlib
import html
import importlib.metadata
import itertools
import json
import pathlib
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

GOLDEN = pathlib.Path(__file__).parent.parent / 'tests' / 'web' / 'golden'
SEED = 20_240_625

# (rule, our settings, datatrove's settings for the same).
VARIANTS: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
  ('gopher_repetition', {}, {}),
  (
    'gopher_repetition',
    {
      'max_duplicate_lines': 0.1,
      'max_duplicate_paragraphs': 0.1,
      'max_duplicate_line_chars': 0.05,
      'max_duplicate_paragraph_chars': 0.05,
      'top_n_grams': ((2, 0.05), (3, 0.04)),
      'duplicate_n_grams': ((4, 0.1), (7, 0.02)),
    },
    {
      'dup_line_frac': 0.1,
      'dup_para_frac': 0.1,
      'dup_line_char_frac': 0.05,
      'dup_para_char_frac': 0.05,
      'top_n_grams': ((2, 0.05), (3, 0.04)),
      'dup_n_grams': ((4, 0.1), (7, 0.02)),
    },
  ),
  ('gopher_quality', {}, {}),
  (
    'gopher_quality',
    {
      'min_words': 60,
      'max_words': 130,
      'min_mean_word_length': 4.0,
      'max_mean_word_length': 5.0,
      'max_symbols_per_word': 0.02,
      'max_bullet_lines': 0.3,
      'max_ellipsis_lines': 0.1,
      'min_alphabetic_words': 0.85,
      'min_stop_words': 3,
      'stop_words': ('the', 'river', 'of', 'over'),
    },
    {
      'min_doc_words': 60,
      'max_doc_words': 130,
      'min_avg_word_length': 4,
      'max_avg_word_length': 5,
      'max_symbol_word_ratio': 0.02,
      'max_bullet_lines_ratio': 0.3,
      'max_ellipsis_lines_ratio': 0.1,
      'max_non_alpha_words_ratio': 0.85,
      'min_stop_words': 3,
      'stop_words': ['the', 'river', 'of', 'over'],
    },
  ),
  ('c4', {}, {'filter_no_terminal_punct': False}),
  (
    'c4',
    {'require_line_end': True, 'by_line': False},
    {'split_paragraph': False},
  ),
  (
    'c4',
    {
      'require_line_end': True,
      'min_sentences': 3,
      'min_words_per_line': 6,
      'max_word_length': 12,
      'remove_citations': False,
      'remove_curly_brackets': False,
      'remove_lorem_ipsum': False,
      'remove_javascript_lines': False,
      'remove_policy_lines': False,
    },
    {
      'min_num_sentences': 3,
      'min_words_per_line': 6,
      'max_word_length': 12,
      'remove_citations': False,
      'filter_curly_bracket': False,
      'filter_lorem_ipsum': False,
      'filter_javascript': False,
      'filter_policy': False,
    },
  ),
  ('fineweb', {}, {}),
  (
    'fineweb',
    {
      'min_punctuated_lines': 0.5,
      'keep_unpunctuated': True,
      'line_ends': '.!',
      'max_short_lines': 0.3,
      'short_line_length': 20,
      'max_duplicate_line_chars': 0.1,
      'max_newlines_per_word': 0.1,
    },
    {
      'line_punct_thr': 0.5,
      'line_punct_exclude_zero': True,
      'stop_chars': ('.', '!'),
      'short_line_thr': 0.3,
      'short_line_length': 20,
      'char_duplicates_ratio': 0.1,
      'new_line_ratio': 0.1,
    },
  ),
)
_OUR_REASONS = {
  'dup_para_frac': 'duplicate_paragraphs',
  'dup_para_char_frac': 'duplicate_paragraph_chars',
  'dup_line_frac': 'duplicate_lines',
  'dup_line_char_frac': 'duplicate_line_chars',
  'gopher_short_doc': 'too_few_words',
  'gopher_long_doc': 'too_many_words',
  'gopher_below_avg_threshold': 'words_too_short',
  'gopher_above_avg_threshold': 'words_too_long',
  'gopher_too_many_hashes': 'too_many_hashes',
  'gopher_too_many_ellipsis': 'too_many_ellipses',
  'gopher_too_many_bullets': 'too_many_bullets',
  'gopher_too_many_end_ellipsis': 'too_many_lines_end_in_ellipsis',
  'gopher_below_alpha_threshold': 'too_few_alphabetic_words',
  'gopher_enough_stop_words': 'too_few_stop_words',
  'line_punct_ratio': 'too_few_punctuated_lines',
  'short_line_ratio': 'too_many_short_lines',
  'char_dup_ratio': 'duplicate_line_chars',
  'list_ratio': 'too_many_lines',
}
# What the generator must reach with the default settings.
_REASONS = {
  *_OUR_REASONS.values(),
  *('empty', 'lorem_ipsum', 'curly_bracket', 'too_few_sentences'),
  *(f'top_{n}_gram' for n in (2, 3, 4)),
  *(f'duplicate_{n}_grams' for n in range(5, 11)),
}
_STEMS = """the The can he it Mr Jan km GB 10 3.5 1,000 2nd 0 US C A I x D a.m
U.S.A e.g well n t s S hello World iPhone foo-bar 10km 5% $5 US$ A$3 °C °
http://a.b.co/x?y=1#z www.example.com a@b.org 192.168.0.1 8.8.8.8 10.0.0.1
ftp://x.y.z:80/ example.Com foo.bar x.y.z 223.255.255.254 1.2.3.0 a_b.com"""


def text_hash(text: str) -> str:
  """A short name for a text."""
  return hashlib.sha256(text.encode(errors='replace')).hexdigest()[:12]


def read(name: str) -> dict:
  """A golden file."""
  with gzip.open(GOLDEN / f'{name}.json.gz', 'rt') as file:
    return json.load(file)


def shared_texts(data: pathlib.Path) -> Iterator[str]:
  """Texts of the data sets for development, long ones cut.

  Web pages are what is left of them without tags, so that the texts do not
  depend on an extractor: menus and all, they reach more reasons than prose.
  """
  for name, field, n_texts in (
    ('web-pages/newspaper-pages', 'text', 999),
    ('web-pages/newspaper-pages', 'html', 999),
    ('web-quality/c4-demo-a', 'text', 999),
    ('web-quality/dclm-human-labels-majority', 'text', 999),
    ('gov-prose-en/gov-prose', 'text', 500),
    ('tech-prose-en/peps', 'text', 100),
    ('textbook-en/openstax-anthropology', 'text', 100),
    ('books-en/books-00', 'text', 100),
  ):
    with gzip.open(data / f'{name}.jsonl.gz', 'rt') as lines:
      for _, line in zip(range(n_texts), lines, strict=False):
        text = json.loads(line)[field]
        if field == 'html':
          text = re.sub(r'(?s)<(script|style).*?</\1>|<[^>]*>', '\n', text)
          text = html.unescape(re.sub(r'\s*\n\s*', '\n', text)).strip()
        yield text[:8000]


def _edges(chars: set[str]) -> list[str]:
  """Of each run of code points, the first, the last and their neighbours."""
  points = set(map(ord, chars))
  near = {p + step for p in points for step in (-1, 0, 1)}
  edges = {p for p in near if len({q in points for q in (p - 1, p, p + 1)}) > 1}
  return [chr(p) for p in sorted(edges) if p >= 0 and not 0xD800 <= p < 0xE000]


def _table_chunks() -> Iterator[str]:
  """Chunks that show whether each sign, unit and letter is in its table."""
  from spacy.lang import char_classes as tables

  every = ''.join(map(chr, range(0xD800))) + ''.join(
    map(chr, range(0xE000, 0x30000))
  )
  for unit in tables.LIST_UNITS:
    yield f'3{unit}'
  signs = tables.LIST_PUNCT + tables.LIST_QUOTES + tables.LIST_CURRENCY
  for sign in (sign.replace('\\', '') for sign in signs):
    yield f'{sign}a{sign}3{sign}'
  for sign in _edges(set(re.findall(tables.LIST_ICONS[0], every))):
    yield f'{sign}a{sign}b'
  cased = re.findall(f'(?![{tables._uncased}])[{tables.ALPHA}]', every)
  letters = _edges(set(re.findall(f'[{tables.ALPHA}]', every)))
  for letter in dict.fromkeys([*cased, *letters]):
    yield f'{letter}.Q,x.{letter},Q'


def _spell(rng: random.Random, n: int) -> str:
  return ''.join(rng.choice('aeioubcdfghlmnprst') for _ in range(n))


def _chunks(rng: random.Random, exceptions: Sequence[str]) -> Iterator[str]:
  """Runs of visible characters that reach every rule of the tokenizer."""
  stems = _STEMS.split()
  signs = (
    'äÄßÉñ中文かな한абвГДΐαΩ²½①–—…‘’“”«»„·•°€£¥$%#@&*+=/\\|<>~^_()[]{}!?.,;:'
    '\'"`´¿¡。，！？™©→😀👍🏽☺❤﷼₹ﬁʔǅＦ٣\u0301\u200b\ufeff'
  )
  yield from exceptions
  for exception in exceptions:
    yield rng.choice(signs + '.,)(:') + exception + rng.choice(signs + '.,):(')
  for stem in stems:
    for sign in signs:
      yield rng.choice((stem + sign, sign + stem, stem + sign + stem))
  pools = (exceptions, stems, signs, '.,;:!?\'"-()/', ('..', "'s", ':)', ',,'))
  for _ in range(6000):
    n_pieces = rng.choice((2, 2, 3, 4, 5))
    yield ''.join(rng.choice(rng.choice(pools)) for _ in range(n_pieces))


def _prose(rng: random.Random, n_words: int, stop: float = 0.4) -> list[str]:
  """Sentences of made-up words, one in a few of them a stop word."""
  stops = ('the', 'be', 'to', 'of', 'and', 'that', 'have', 'with')
  sentences = []
  while n_words > 0:
    size = min(n_words, rng.randrange(5, 14))
    words = [
      rng.choice(stops)
      if rng.random() < stop
      else _spell(rng, rng.randrange(3, 9))
      for _ in range(size)
    ]
    sentences.append(' '.join(words).capitalize() + rng.choice('...?!'))
    n_words -= size
  return sentences


def _documents(rng: random.Random) -> Iterator[str]:
  """Documents on both sides of every threshold."""
  yield from ('', ' \n ', '\n', 'x', '.', '...')
  for n_words in (100_000, 100_001):
    yield 'that and of it\n' * (n_words // 4) + 'the ' * (n_words % 4)
  for n_words in range(46, 54):
    yield ' '.join(_prose(rng, n_words))
  for share in (2, 4, 5, 6, 8):  # of ten lines
    for _ in range(3):
      lines = [' '.join(_prose(rng, 10)) for _ in range(10)]
      yield '\n'.join(lines[:-1] + lines[:share])
      yield '\n\n'.join(lines[:-1] + lines[: share - 1])
      short = [_spell(rng, 3) for _ in range(20)]
      yield '\n'.join([*lines[:3], *short, *lines[: share // 2]])
      yield '\n\n'.join([*lines[:3], *short, *lines[: share // 2]])
  for n in range(2, 12):  # runs of n words that come again and again
    for n_times in range(2, 14):
      sentences = _prose(rng, 110, stop=0.2)
      phrase = ' '.join(_spell(rng, 6) for _ in range(n))
      for _ in range(n_times):
        sentences.insert(rng.randrange(len(sentences)), phrase)
      yield ' '.join(sentences)
  for n in (8, 10):  # and twice in texts that grow
    for n_words in range(40, 120, 5):
      sentences = _prose(rng, n_words, stop=0.2)
      phrase = ' '.join(_spell(rng, 6) for _ in range(n))
      yield ' '.join([phrase, *sentences, phrase])
  for k in range(6, 15):  # signs for every hundred words, and parts of lines
    for sign in ('#', '...', '…', '=', '12', '--'):
      words = ' '.join(_prose(rng, 90)).split() + [sign] * (2 * k - 8)
      rng.shuffle(words)
      yield ' '.join(words)
    lines = [' '.join(_prose(rng, 8)) for _ in range(20)]
    for end in (' ...', '…', '', ' - '):
      yield '\n'.join(
        line[:-1] + end if i < k - 3 else line for i, line in enumerate(lines)
      )
    for mark in ('- ', '• ', ' -'):
      yield '\n'.join(
        mark + line if i < k + 7 else line for i, line in enumerate(lines)
      )
    short = [_spell(rng, 29 + i % 3) + '.' for i in range(2 * k + 2)]
    yield '\n'.join(lines[: 20 - k] + short)
    yield '\n'.join(f'{_spell(rng, 40)}. {_spell(rng, 5)}' for _ in range(k))
    yield '\n'.join(line[:-1] for line in lines) + '\n' + '\n'.join(lines[:k])
  lines = [' '.join(_prose(rng, 10)) for _ in range(7)]
  yield '\n'.join(lines + lines[:3])
  yield f'\n\n{lines[0]}\n\n'
  yield ' '.join(_spell(rng, 10) for _ in range(60))
  for length in (1, 2, 3, 4, 9, 10, 11):
    for _ in range(3):
      words = [_spell(rng, length) for _ in range(70)]
      yield ' '.join(['the', 'of', *words])
  for n_stops in range(4):
    for word in ('the', 'of', 'river'):
      yield ' '.join(_prose(rng, 60, stop=0)) + f' {word} of' * n_stops
  parts = (
    'Lorem ipsum dolor sit amet.',
    'Enable JavaScript to read this page.',
    'We use cookies, see our Privacy Policy.',
    'The cost {was} high.',
    'It was so [1][23] and [citation needed] so. [edit]',
    'x' * 1001 + ' is long.',
    'x' * 1000 + ' is not.',
    'two words.',
    'It ended, e.g. so... and "so." (So.) Mr. X said: "Why?!" No.  Yes. 。ok',
    'A. [1]  [2]',
    '\x1f a\x0b b\x85 c\u2028 d ',
    "She'll'a said \"it's 5.\" ;) :) =( ( =(",
  )
  for _ in range(130):
    lines = _prose(rng, rng.randrange(10, 90))
    for part in rng.sample(parts, rng.choice((1, 2, 3))):
      lines.insert(rng.randrange(len(lines) + 1), part)
    yield rng.choice(('\n', '\n', ' ', '\r\n', '\n\n \n')).join(lines)


class _Peer:
  """datatrove's filters, one for each variant."""

  def __init__(self):
    from datatrove.pipeline import filters

    classes = {
      'gopher_repetition': filters.GopherRepetitionFilter,
      'gopher_quality': filters.GopherQualityFilter,
      'c4': filters.C4QualityFilter,
      'fineweb': filters.FineWebQualityFilter,
    }
    self.filters = [classes[rule](**theirs) for rule, _, theirs in VARIANTS]

  def verdict(self, variant: int, text: str) -> tuple[str, str]:
    """Reason by our name, and the text if it was kept and changed."""
    from datatrove.data import Document

    document = Document(text=text, id='')
    result = self.filters[variant].filter(document)
    if result is True:
      return '', '' if document.text == text else document.text
    reason = re.sub(r'duplicated_(\d+)_n_', r'duplicate_\1_', result[1])
    return _OUR_REASONS.get(reason, reason), ''


def _judge(path: pathlib.Path, out: pathlib.Path):
  """Verdicts of the default variants, words, and seconds for each."""
  from datatrove.utils import text as text_of_peer

  peer = _Peer()
  texts = [json.loads(line) for line in path.read_text().splitlines()]
  defaults = [i for i, (rule, ours, _) in enumerate(VARIANTS) if not ours]
  for i in defaults:  # loads the tokenizer
    peer.verdict(i, 'A text.')
  seconds = {VARIANTS[i][0]: 0.0 for i in defaults} | {'words': 0.0}
  verdicts = {VARIANTS[i][0]: [] for i in defaults} | {'words': []}
  for text in texts:
    text_of_peer.split_into_parts.cache_clear()
    start = time.process_time()
    words = text_of_peer.split_into_words(text)
    seconds['words'] += time.process_time() - start
    verdicts['words'].append(text_hash(' '.join(words)))
    for i in defaults:
      rule = VARIANTS[i][0]
      text_of_peer.split_into_words(text)  # C4's sentences push it out
      start = time.process_time()
      reason, changed = peer.verdict(i, text)
      seconds[rule] += time.process_time() - start
      verdicts[rule].append([reason, text_hash(changed) if changed else ''])
  out.write_text(json.dumps({'verdicts': verdicts, 'seconds': seconds}))


def write(name: str, content: dict):
  """Writes a golden file whose bytes depend on its content only."""
  versions = {
    package: importlib.metadata.version(package)
    for package in ('datatrove', 'spacy')
  }
  text = json.dumps({'versions': versions} | content, ensure_ascii=False)
  GOLDEN.mkdir(exist_ok=True)
  path = GOLDEN / f'{name}.json.gz'
  path.write_bytes(gzip.compress(text.encode(), mtime=0))
  print(f'{path}: {path.stat().st_size} bytes')


def _make_words():
  import spacy
  from datatrove.utils import word_tokenizers

  tokenizer = word_tokenizers.load_word_tokenizer('eng')
  exceptions = sorted(spacy.blank('en').tokenizer.rules)
  exceptions = [chunk for chunk in exceptions if chunk.strip()]
  rng = random.Random(SEED)
  chunks = dict.fromkeys(
    part
    for chunk in itertools.chain(_table_chunks(), _chunks(rng, exceptions))
    for part in chunk.split()
  )
  known, texts = list(chunks), []
  for _ in range(60):
    spaces = (' ', ' ', ' ', ' ', ' ', '\n', '  ', '\t', '\xa0', ' \n')
    hidden = rng.choices(('a=(', 'b:)', '(=)', "''", '(', ':', ';('), k=15)
    parts = rng.choices(known, k=20) + hidden
    rng.shuffle(parts)
    text = ''.join(part + rng.choice(spaces) for part in parts)
    spans = tokenizer.span_tokenize(text)
    cuts = [end for _, end in spans[:-1]]
    texts.append([text, ' '.join(tokenizer.word_tokenize(text)), cuts])
  # Words hold no space and are the chunk again when they are joined.
  cut = [' '.join(tokenizer.word_tokenize(chunk)) for chunk in chunks]
  write('words', {'chunks': cut, 'texts': texts})


def _make_verdicts(data: pathlib.Path | None):
  from datatrove.utils import text as text_of_peer

  peer = _Peer()
  judge: Callable[[str], list] = lambda text: [  # noqa: E731
    [reason, text_hash(changed)] if changed else reason
    for reason, changed in (peer.verdict(i, text) for i in range(len(VARIANTS)))
  ]
  texts = list(_documents(random.Random(SEED)))
  symbols, ends = (
    text_of_peer.PUNCTUATION_SET,
    text_of_peer.TERMINAL_PUNCTUATION,
  )
  for sign in dict.fromkeys(_edges(symbols) + _edges(ends)):
    texts.append('that and of it ' * 12 + f'so {sign}')  # 49 words, or 50
  documents = [[text, judge(text)] for text in texts]
  reached = {
    reason
    for _, verdicts in documents
    for reason, (_, ours, _) in zip(verdicts, VARIANTS, strict=True)
    if isinstance(reason, str) and not ours
  }
  if missing := _REASONS - reached:
    raise ValueError(f'no document is removed as {sorted(missing)}')
  variants = [[rule, ours] for rule, ours, _ in VARIANTS]
  write('verdicts', {'variants': variants, 'documents': documents})
  if data is not None:
    shared = {text_hash(text): judge(text) for text in shared_texts(data)}
    write('shared_verdicts', {'variants': variants, 'documents': shared})


def _main():
  parser = argparse.ArgumentParser()
  parser.add_argument('--data', type=pathlib.Path, help='data sets')
  parser.add_argument('--texts', type=pathlib.Path, help='texts to judge')
  parser.add_argument('--out', type=pathlib.Path, help='verdicts on them')
  args = parser.parse_args()
  if args.texts:
    _judge(args.texts, args.out)
  else:
    _make_words()
    _make_verdicts(args.data)


if __name__ == '__main__':
  _main()
