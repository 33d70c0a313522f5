"""Quality rules against hand counts, and the fast scan against a slow one."""

import collections
import dataclasses
import random

import pytest

from llm_jax.web import (
  language_id,
  personal_data,
  quality,
  repetition,
)
from llm_jax.web import words as words_of

GOOD = (
  'The river rises in the hills to the north of the town. It is fed by many '
  'small streams, and floods in spring. People have lived with that danger '
  'for centuries, so every house of the old quarter stands on a mound. When '
  'the water comes, boats take the place of carts, and children think that '
  'it is the best week of the year.\nNobody remembers who built the first '
  'dam, but records of the work go back a long way.'
)


def gopher(text, **settings):
  cfg = quality.GopherQuality(**settings)
  return quality.reject_gopher(cfg, text, words_of.split(text))


def fineweb(text, **settings):
  cfg = quality.FineWeb(**settings)
  return quality.reject_fineweb(cfg, text, words_of.split(text))


def test_prose_passes_every_default():
  words = words_of.split(GOOD)
  assert (
    repetition.reject(repetition.GopherRepetition(), GOOD, words),
    gopher(GOOD),
    quality.clean_c4(quality.C4(), GOOD),
    fineweb(GOOD),
  ) == ('', '', (GOOD, ''), '')


@pytest.mark.parametrize(
  ('text', 'reason'),
  [
    ('the and that ' * 16, 'too_few_words'),  # 48 of 50
    ('the and that ' * 17, ''),
    ('of ' * 60 + 'the ', 'words_too_short'),  # (60 * 2 + 3) / 61
    ('the ' + 'international ' * 60, 'words_too_long'),
    (GOOD + ' #' * 11, 'too_many_hashes'),  # 11 of 107 words
    (GOOD + ' #' * 10, ''),  # 10 of 106
    (GOOD + ' ...' * 11, 'too_many_ellipses'),
    ('- the good and bad\n' * 30, 'too_many_bullets'),
    ('the with that ' * 20 + '1 ' * 16, 'too_few_alphabetic_words'),  # of 76
    ('the with that ' * 20 + '1 ' * 15, ''),  # 60 of 75
    ('cats like milk ' * 20, 'too_few_stop_words'),
  ],
)
def test_gopher_quality(text, reason):
  assert gopher(text) == reason
  assert gopher(text, enabled=False) == ''


def test_ellipsis_lines():
  line = 'the good and bad of it is so very long that it never did end'
  text = f'{line} ...\n{line}\n{line}\n' * 3  # 3 ellipses, 129 words
  assert gopher(text) == 'too_many_lines_end_in_ellipsis'
  assert gopher(text, max_ellipsis_lines=0.34) == ''


def test_c4_lines_and_pages():
  text = '\n'.join(
    [
      'One [1] two three.',
      'two words',
      'Enable JavaScript to see this.',
      'We use cookies on this site.',
      'x' * 1001 + ' a b c',
      'A full sentence here. Another one. And one more. The last!',
      'no end of a sentence',
    ]
  )
  kept, reason = quality.clean_c4(quality.C4(), text)
  assert reason == ''
  assert kept.split('\n') == [
    'One  two three.',
    'A full sentence here. Another one. And one more. The last!',
    'no end of a sentence',
  ]
  strict = quality.C4(require_line_end=True)
  assert quality.clean_c4(strict, text)[0].count('\n') == 1
  few = quality.C4(min_sentences=7)
  assert quality.clean_c4(few, text) == ('', 'too_few_sentences')
  assert quality.clean_c4(quality.C4(), text + ' {x}')[1] == 'curly_bracket'
  assert quality.clean_c4(quality.C4(), 'a Lorem Ipsum')[1] == 'lorem_ipsum'
  off = quality.C4(enabled=False)
  assert quality.clean_c4(off, text) == (text, '')


def test_fineweb():
  long = 'a line of more than thirty characters'
  assert fineweb(f'{long}\n' * 8 + long + '.') == 'too_few_punctuated_lines'
  lines = [f'{long} {i}.' for i in range(9)]
  assert fineweb('\n'.join(lines)) == ''
  short = [f'short {i}.' for i in range(19)]
  assert fineweb('\n'.join(lines + short)) == 'too_many_short_lines'  # 19/28
  assert fineweb('\n'.join(lines + short[:18])) != 'too_many_short_lines'
  twice = lines * 3 + [lines[0]]
  assert fineweb('\n'.join(twice)) == 'duplicate_line_chars'
  assert fineweb('\n'.join(twice), max_duplicate_line_chars=0.9) == ''
  words = '\n'.join(f'{"x" * 31}{i} {i}.' for i in range(9))  # 8 of 27
  assert fineweb(words) == ''
  assert fineweb(words, max_newlines_per_word=0.29) == 'too_many_lines'


def slow_reject(cfg: repetition.GopherRepetition, words: list[str], n_text):
  """The rules on n-grams as the paper and datatrove state them."""
  for n, limit in cfg.top_n_grams:
    grams = [' '.join(words[i : i + n]) for i in range(len(words) - n + 1)]
    if grams:
      gram, count = collections.Counter(grams).most_common(1)[0]
      if len(gram) * count / n_text > limit:
        return f'top_{n}_gram'
  for n, limit in cfg.duplicate_n_grams:
    seen, n_chars, i = set(), 0, 0
    while i < len(words) - n + 1:
      gram = '\0'.join(words[i : i + n])
      if gram in seen:
        n_chars += len(gram) - n + 1
        i += n
      else:
        seen.add(gram)
        i += 1
    if n_chars / n_text > limit:
      return f'duplicate_{n}_grams'
  return ''


def test_repetition_equals_the_slow_scan():
  generator = random.Random(0)
  cfg = dataclasses.replace(
    repetition.GopherRepetition(),
    max_duplicate_lines=1.0,
    max_duplicate_paragraphs=1.0,
    max_duplicate_line_chars=1.0,
    max_duplicate_paragraph_chars=1.0,
  )
  reasons = collections.Counter()
  for _ in range(400):
    n_known = generator.choice([3, 30, 300, 3000])
    known = [f'w{generator.randrange(10**6)}' for _ in range(n_known)]
    words = generator.choices(known, k=generator.randrange(1, 400))
    for _ in range(generator.randrange(4)):  # a passage that stands twice
      start = generator.randrange(len(words))
      words += words[start : start + generator.randrange(1, 30)]
    text = ' '.join(words)
    reason = repetition.reject(cfg, text, words)
    assert reason == slow_reject(cfg, words, len(text))
    reasons[reason] += 1
  assert len(reasons) >= 8  # the cases reach the rules, and '' too
  assert reasons['']


def test_repeated_lines_and_paragraphs():
  cfg = repetition.GopherRepetition()
  check = lambda text: repetition.reject(cfg, text, [])  # noqa: E731
  assert check('a\n\nb\n\na\n\na') == 'duplicate_paragraphs'
  long = 'x' * 30
  others = '\n\n'.join('abcd')
  assert check(f'{long}\n\n{others}\n\n{long}') == 'duplicate_paragraph_chars'
  assert check('a\nb\na\na') == 'duplicate_lines'
  assert check('\n'.join([long, *'abcd', long])) == 'duplicate_line_chars'
  assert check('a\nb\nc') == ''


def test_language():
  german = 'Der Fluss entspringt in den Bergen nördlich der alten Stadt.'
  assert language_id.identify(GOOD)[0] == 'en'
  assert language_id.identify(german)[0] == 'de'
  cfg = language_id.Language()
  assert language_id.reject(cfg, *language_id.identify(GOOD)) == ''
  assert language_id.reject(cfg, *language_id.identify(german)) == 'language_de'
  assert language_id.reject(cfg, 'en', 0.64) == 'low_score'
  off = language_id.Language(enabled=False)
  assert language_id.reject(off, 'de', 0.1) == ''


@pytest.mark.parametrize(
  ('text', 'expected', 'counts'),
  [
    ('Mail Bob.Smith+x@mail.example.org.', 'Mail {e}.', {'email': 1}),
    ('<a@b.io>, c_d@e-f.co.uk', '<{e}>, {e}', {'email': 2}),
    ('@decorator a@b user@host x@y.1', None, {}),
    ('at 8.8.8.8, or 1.1.1.1:53', 'at {i}, or {i}:53', {'ip_address': 2}),
    ('127.0.0.1 10.1.2.3 192.168.0.1 192.0.2.7', None, {}),
    ('version 1.9.7.1.2, v8.8.8.8a, 256.8.8.8, 8.8.8.8.8', None, {}),
  ],
)
def test_personal_data(text, expected, counts):
  placeholders = {
    'e': personal_data.EMAIL_PLACEHOLDER,
    'i': personal_data.IP_PLACEHOLDER,
  }
  expected = text if expected is None else expected.format(**placeholders)
  replaced = personal_data.replace(personal_data.Pii(), text)
  assert replaced == (expected, counts)
  off = personal_data.Pii(emails=False, ip_addresses=False)
  assert personal_data.replace(off, text) == (text, {})
