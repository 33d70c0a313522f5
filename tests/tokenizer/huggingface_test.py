"""tokenizer.json read back: the same ids as `tokenizers`, or a refusal."""

import copy
import itertools
import json
import unicodedata

import hypothesis
import pytest
import tokenizers
from hypothesis import strategies as st

from llm_jax.tokenizer import encoding, huggingface, patterns
from tests.chat import published_templates

TEXTS = [
  'the cat sat on the mat, the cats sat', 'abab 12345 caféǅ 日本語 🙂',
  "it's I'LL  two\r\n\r\nlines\t x ", '<|endoftext|> is text', '',
]  # fmt: skip


@pytest.fixture(scope='module', params=list(patterns.PATTERNS))
def ours(request):
  return encoding.Tokenizer.train(TEXTS * 3, 340, request.param)


@pytest.fixture
def values(ours, tmp_path):
  ours.save(tmp_path)
  return json.loads((tmp_path / encoding.HUGGING_FACE_FILE).read_text())


def rebuilt(values):
  parts = huggingface.read_parts(values)
  added = [token.token_id for token in parts.rules.added]
  n = 1 + max([*parts.ranks.values(), *parts.special_ids.values(), *added])
  return encoding.Tokenizer(
    parts.ranks, parts.pattern, parts.special_ids, n, parts.rules
  )


def test_own_file_gives_the_same_tokenizer(ours, values):
  assert rebuilt(values).fingerprint == ours.fingerprint


def test_merges_as_pairs_and_every_way_to_a_token(ours, values):
  """Llama's list holds all pairs that make a token, not only the first."""
  vocab = values['model']['vocab']
  values['model']['merges'] = [
    [token[:cut], token[cut:]]
    for token in vocab
    for cut in range(1, len(token))
    if token[:cut] in vocab and token[cut:] in vocab
  ]
  assert rebuilt(values).fingerprint == ours.fingerprint
  theirs = tokenizers.Tokenizer.from_str(json.dumps(values))
  theirs.encode_special_tokens = True
  for text in TEXTS:
    assert theirs.encode(text).ids == ours.encode(text)


def test_every_byte_and_ids_with_gaps_are_kept(tmp_path):
  alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
  assert sorted(huggingface.byte_characters()) == sorted(alphabet)
  ranks = {bytes([i]): i for i in range(256)}
  names = {'<|im_start|>': 256, '<|im_end|>': 305}
  encoding.Tokenizer(ranks, 'qwen2', names, 310).save(tmp_path)
  saved = str(tmp_path / encoding.HUGGING_FACE_FILE)
  theirs = tokenizers.Tokenizer.from_file(saved)
  assert {name: theirs.token_to_id(name) for name in names} == names
  theirs.encode_special_tokens = True
  text = ''.join(map(chr, range(0x800))) + '韬🙂<|im_end|>'
  assert theirs.encode(text).ids == [*text.encode()]


def test_token_that_no_merge_reaches_is_looked_up(tmp_path):
  """b'abcd' is never made of two tokens: it is one only as a whole word."""
  ranks = {bytes([i]): i for i in range(256)} | {b'bc': 256, b'abcd': 257}
  ranks |= {b'ab': 258}
  ours = encoding.Tokenizer(ranks, 'qwen2', {'<|endoftext|>': 259}, 260)
  ours.save(tmp_path)
  text = (tmp_path / encoding.HUGGING_FACE_FILE).read_text()
  theirs = tokenizers.Tokenizer.from_str(text)
  for word in ('abcd', 'abcde', 'xabcd', 'abc', 'ab', 'abcabcd'):
    assert theirs.encode(word).ids == ours.encode(word)
  assert ours.encode('abcd') == [257]
  assert 257 not in ours.encode('xabcd')
  values = json.loads(text)
  assert values['model']['ignore_merges']
  assert rebuilt(values).fingerprint == ours.fingerprint
  values['model']['ignore_merges'] = False
  with pytest.raises(ValueError, match='do not follow from the ids'):
    huggingface.read_parts(values)


def changed(values, *keys, to):
  """A copy of nested values with one of them replaced."""
  values = copy.deepcopy(values)
  at = values
  for key in keys[:-1]:
    at = at[key]
  at[keys[-1]] = to
  return values


def test_other_tokenizers_are_refused_by_what_is_other(values):
  steps = ('pre_tokenizer', 'pretokenizers')
  merges = values['model']['merges']
  split = {'type': 'Split', 'behavior': 'Isolated', 'invert': False,
           'pattern': {'Regex': patterns.PATTERNS['qwen2'].split}}  # fmt: skip
  last = {'type': 'ByteLevel', 'add_prefix_space': False, 'use_regex': False}
  huggingface.read_parts(changed(values, *steps, to=[split, last]))
  gpt2 = changed(values, 'pre_tokenizer', to=last | {'use_regex': True})
  assert huggingface.read_parts(gpt2).pattern == 'gpt2'
  for keys, to, message in [
    (('model', 'type'), 'Unigram', "the algorithm 'Unigram'"),
    (('model', 'byte_fallback'), True, 'byte_fallback True'),
    (('normalizer',), {'type': 'Lowercase'}, "the normalizer 'Lowercase'"),
    (('pre_tokenizer',), None, 'a split pattern that is not ours'),
    (steps, [split | {'pattern': {'Regex': r'\s+'}}, last], 'a split pattern'),
    (steps, [split | {'behavior': 'Removed'}, last], 'a split pattern'),
    (steps, [split, last | {'add_prefix_space': True}], 'a split pattern'),
    (('model', 'merges'), merges[::-1], 'do not follow from the ids'),
    (('model', 'merges'), merges[:-1], 'do not follow from the ids'),
  ]:
    with pytest.raises(ValueError, match=message):
      huggingface.read_parts(changed(values, *keys, to=to))


# Parts that are hard to cut, to be put together at random.
PIECES = (
  "'s", "'LL", 'ab', 'AB', 'Ab', ' ', '  ', '\t', '\n', '\r\n', '1', '1234',
  '½', '!', '/', '-a', '。', 'é', 'e\u0301', '\u0301', '日本', 'ー', '・',
  'ǅ', 'ª', '\u200b', '\u3000', '<think>', '<|endoftext|>', '🙂', '\x1c',
)  # fmt: skip
HARD = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12)


@pytest.fixture(scope='module')
def detectors():
  """Vocabularies in which pairs of bytes are tokens, so that cuts show."""
  ranks = {bytes([i]): i for i in range(256)}
  met = sorted(set(''.join(PIECES).encode()))
  ranks |= {
    bytes(pair): len(ranks) + i
    for i, pair in enumerate(itertools.product(met, repeat=2))
  }
  ours, theirs = {}, {}
  for pattern in patterns.PATTERNS:
    values = huggingface.tokenizer_json(
      ranks, patterns.PATTERNS[pattern], {'<|endoftext|>': len(ranks)}
    )
    think = {'id': len(ranks) + 1, 'content': '<think>', 'special': False}
    flags = 'single_word lstrip rstrip normalized'
    think |= dict.fromkeys(flags.split(), False) | {'lstrip': True}
    values['added_tokens'].append(think)
    values['normalizer'] = {'type': 'NFC'}
    ours[pattern] = rebuilt(values)
    theirs[pattern] = tokenizers.Tokenizer.from_str(json.dumps(values))
  return ours, theirs


@pytest.mark.parametrize('pattern', patterns.PATTERNS)
@hypothesis.settings(
  deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
)
@hypothesis.given(text=HARD.map(''.join))
def test_text_is_cut_as_published(detectors, pattern, text):
  """With text tokens, form NFC, and control tokens where they are wanted."""
  hypothesis.assume(all(unicodedata.category(c) != 'Cn' for c in text))
  ours, theirs = (each[pattern] for each in detectors)
  theirs.encode_special_tokens = True
  assert ours.encode(text) == theirs.encode(text).ids
  theirs.encode_special_tokens = False
  assert published_templates.written(ours, text) == theirs.encode(text).ids


def test_flags_of_added_tokens(values):
  first, second = values['added_tokens'][:2]
  first |= {'lstrip': True, 'rstrip': True}
  second |= {'special': False, 'normalized': True}
  got = rebuilt(values)
  theirs = tokenizers.Tokenizer.from_str(json.dumps(values))
  text = f'ab \n{first["content"]}  x{second["content"]} y'
  # Python calls the last four white space, Unicode does not.
  for blank in ['', '\x85', '\u3000', '\u200b', *'\x1c\x1d\x1e\x1f']:
    spaced = text.replace(first['content'], blank + first['content'] + blank)
    ids = published_templates.written(got, spaced)
    assert ids == theirs.encode(spaced).ids, blank
  assert got.encode(second['content']) == [second['id']]
  assert first['id'] not in got.encode(text)
  assert second['id'] not in got.special_ids
  assert huggingface.read_parts(values, [second['content']]).special_ids
  second['single_word'] = True
  with pytest.raises(ValueError, match='only as a word of its own'):
    rebuilt(values)


@pytest.mark.parametrize(
  ('normalizer', 'form'),
  [
    (None, ''), ({'type': 'NFC'}, 'NFC'),
    ({'type': 'Sequence', 'normalizers': []}, ''),
    ({'type': 'Sequence', 'normalizers': [{'type': 'NFKC'}]}, 'NFKC'),
  ],
)  # fmt: skip
def test_normal_form(values, normalizer, form):
  got = huggingface.read_parts(changed(values, 'normalizer', to=normalizer))
  assert got.rules.normal_form == form
