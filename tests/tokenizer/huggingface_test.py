"""tokenizer.json read back: the same ids as `tokenizers`, or a refusal."""

import copy
import json

import pytest
import tokenizers

from llm_jax.tokenizer import encoding, huggingface, patterns

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
  n = 1 + max([*parts.ranks.values(), *parts.special_ids.values()])
  return encoding.Tokenizer(parts.ranks, parts.pattern, parts.special_ids, n)


def test_own_file_gives_the_same_tokenizer(ours, values):
  assert rebuilt(values).fingerprint == ours.fingerprint


def test_merges_as_pairs_and_every_way_to_a_token(ours, values):
  """Llama's list holds all pairs that make a token, not only the first."""
  spelled = huggingface.byte_characters()
  ranks = {
    ''.join(spelled[b] for b in ours.token_bytes(i)): i
    for i in range(340)
    if i not in ours.special_ids
  }
  values['model']['merges'] = [
    [token[:cut], token[cut:]]
    for token in sorted(ranks, key=ranks.__getitem__)
    for cut in range(1, len(token))
    if token[:cut] in ranks and token[cut:] in ranks
  ]
  assert rebuilt(values).fingerprint == ours.fingerprint
  theirs = tokenizers.Tokenizer.from_str(json.dumps(values))
  theirs.encode_special_tokens = True
  for text in TEXTS:
    assert theirs.encode(text).ids == ours.encode(text)


def test_gpt2_cuts_in_its_byte_level_step(values):
  step = {'type': 'ByteLevel', 'add_prefix_space': False, 'use_regex': True,
          'trim_offsets': True}  # fmt: skip
  values['pre_tokenizer'] = step
  got = rebuilt(values)
  assert got.pattern == 'gpt2'
  theirs = tokenizers.Tokenizer.from_str(json.dumps(values))
  theirs.encode_special_tokens = True
  for text in TEXTS:
    assert theirs.encode(text).ids == got.encode(text)


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
  for keys, to, message in [
    (('model', 'type'), 'Unigram', "the algorithm 'Unigram'"),
    (('model', 'byte_fallback'), True, 'byte_fallback True'),
    (('normalizer',), {'type': 'Lowercase'}, "the normalizer 'Lowercase'"),
    (('pre_tokenizer',), None, 'a split pattern that is not ours'),
    ((*steps, 0, 'pattern', 'Regex'), r'\s+', 'a split pattern'),
    ((*steps, 0, 'behavior'), 'Removed', 'a split pattern'),
    ((*steps, 1, 'add_prefix_space'), True, 'a split pattern'),
    (('model', 'merges'), merges[::-1], 'do not follow from the ids'),
    (('model', 'merges'), merges[:-1], 'do not follow from the ids'),
  ]:
    with pytest.raises(ValueError, match=message):
      huggingface.read_parts(changed(values, *keys, to=to))


def test_normal_form_is_told(values):
  assert not huggingface.read_parts(values).is_nfc
  nfc = changed(values, 'normalizer', to={'type': 'NFC'})
  assert huggingface.read_parts(nfc).is_nfc
