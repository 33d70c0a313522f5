"""Rules against datatrove's verdicts and a slow plain scan."""

import collections
import dataclasses
import random

from llm_jax.web.filter import measures, quality, repetition
from tools import make_golden

RENEW = 'renew: PYTHON -m tools.make_golden, PYTHON with spaCy and datatrove'
CONFIGS = {
  'gopher_repetition': repetition.GopherRepetition,
  'gopher_quality': quality.GopherQuality,
  'c4': quality.C4,
  'fineweb': quality.FineWeb,
}

GOOD = (
  'The river rises in the hills to the north of the town. It is fed by many '
  'small streams, and floods in spring. People have lived with that danger '
  'for centuries, so every house of the old quarter stands on a mound. When '
  'the water comes, boats take the place of carts, and children think that '
  'it is the best week of the year.\nNobody remembers who built the first '
  'dam, but records of the work go back a long way.'
)


def verdict(cfg, text, words):
  """Reason, and the text's hash if C4's rules kept and changed it."""
  if isinstance(cfg, repetition.GopherRepetition):
    return repetition.reject(cfg, text, words)
  if isinstance(cfg, quality.GopherQuality):
    return quality.reject_gopher(cfg, text, words)
  if isinstance(cfg, quality.FineWeb):
    reason = quality.reject_fineweb(cfg, text, words)
    assert quality.reject_fineweb(cfg, text) == reason
    return reason
  cleaned, reason = quality.clean_c4(cfg, text)
  if reason or cleaned == text:
    return reason
  return [reason, make_golden.text_hash(cleaned)]


def verdicts(golden, texts):
  """(variant, recorded, ours, text) for every text that is recorded."""
  configs = [CONFIGS[rule](**settings) for rule, settings in golden['variants']]
  for text, recorded in texts:
    words = measures.of_text(text)
    for i, (cfg, expected) in enumerate(zip(configs, recorded, strict=True)):
      yield i, expected, verdict(cfg, text, words), text


def test_verdicts_on_generated_texts_are_datatroves():
  golden = make_golden.read('verdicts')
  reached = collections.Counter()
  for i, expected, ours, text in verdicts(golden, golden['documents']):
    assert ours == expected, (golden['variants'][i], text[:500], RENEW)
    reached[i] += expected != ''
  assert min(reached[i] for i in range(len(golden['variants']))) > 100


def test_every_threshold_has_a_variant():
  """A setting that no golden variant changes could be ignored unnoticed."""
  for rule, config in CONFIGS.items():
    fields = {field.name for field in dataclasses.fields(config)}
    changed = {
      name
      for variant, settings, _ in make_golden.VARIANTS
      for name in settings
      if variant == rule
    }
    assert fields - changed == {'enabled'}


def test_verdicts_on_real_texts_are_datatroves(data):
  golden = make_golden.read('shared_verdicts')
  texts = make_golden.shared_texts(data)
  known = [
    (text, golden['documents'][key])
    for text in texts
    if (key := make_golden.text_hash(text)) in golden['documents']
  ]
  assert len(known) > 1000, RENEW
  for i, expected, ours, text in verdicts(golden, known):
    assert ours == expected, (golden['variants'][i], text[:500], RENEW)


def test_bad_words():
  cfg = quality.BadWords(words=('darn', 'heck off', 'c++'))
  for text in ('Oh DARN!', 'darn', 'the heck off.', 'in c++ it'):
    assert quality.reject_bad_words(cfg, text) == 'bad_word'
  for text in ('darned', 'heck', 'c+', ''):
    assert quality.reject_bad_words(cfg, text) == ''
  assert quality.reject_bad_words(quality.BadWords(), 'darn') == ''
  inner = dataclasses.replace(cfg, whole=False)
  assert quality.reject_bad_words(inner, 'darned') == 'bad_word'


def test_prose_passes_and_each_rule_can_be_off():
  words = measures.of_text(GOOD)
  assert not any(verdict(config(), GOOD, words) for config in CONFIGS.values())
  bad = 'bad\n' * 99
  words = measures.of_text(bad)
  for config in CONFIGS.values():
    assert verdict(config(), bad, words)
    assert not verdict(config(enabled=False), bad, words)


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
      gram = ''.join(words[i : i + n])
      if gram in seen:
        n_chars += len(gram)
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
    reason = repetition.reject(cfg, text, measures.of_words(words))
    assert reason == slow_reject(cfg, words, len(text))
    reasons[reason] += 1
  assert len(reasons) >= 8  # the cases reach the rules, and '' too
  assert reasons['']


def test_n_grams_are_compared_without_spaces():
  """`e fgh` and `ef gh` are the same."""
  others = [f'{"other" * 4}{i}' for i in range(5)]
  words = [*'abcde', 'f' + 'gh' * 30, *others, *'abcd', 'ef', 'gh' * 30]
  cfg = repetition.GopherRepetition(top_n_grams=())
  text = ' '.join(words)
  verdict = repetition.reject(cfg, text, measures.of_words(words))
  assert verdict == slow_reject(cfg, words, len(text)) == 'duplicate_5_grams'
