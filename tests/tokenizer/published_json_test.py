"""A published tokenizer.json: the library's ids, and no control by text."""

import copy
import json
import sys

import hypothesis
import pytest
import tokenizers
from hypothesis import strategies as st

from llm_jax.tokenizer import huggingface, loading, published, published_json
from tests.chat import published_templates

RANKS = {bytes([i]): i for i in range(256)} | {b'ab': 256, b' a': 257}
BLANK = '\u2581'


def byte_level(pattern='qwen2', ranks=RANKS):
  """With control tokens behind a gap, and one that text makes."""
  values = huggingface.tokenizer_json(ranks, 'qwen2', {})
  values['pre_tokenizer'] = huggingface.empty_json(pattern)['pre_tokenizer']
  values = huggingface.with_added_tokens(values, {'</s>': 270, '[X]': 271})
  return huggingface.with_added_tokens(values, {'<think>': 300}, False)


def with_pieces():
  """As Llama 2 and Gemma: characters, bytes for others, blanks as U+2581."""
  values = huggingface.empty_json('gpt2') | {
    'normalizer': {
      'type': 'Replace', 'pattern': {'String': ' '}, 'content': BLANK
    },
    'pre_tokenizer': None, 'decoder': None,
  }  # fmt: skip
  names = ['<unk>', '<s>', *(f'<0x{i:02X}>' for i in range(256))]
  names += [BLANK, 'a', 'b', 'ab', BLANK + 'a', 'é']
  values['model'] |= {
    'unk_token': '<unk>', 'fuse_unk': True, 'byte_fallback': True,
    'vocab': {name: i for i, name in enumerate(names)},
    'merges': [['a', 'b'], [BLANK, 'a']],
  }  # fmt: skip
  values = huggingface.with_added_tokens(values, {'<unk>': 0, '<s>': 1})
  return huggingface.with_added_tokens(values, {'<think>': 300}, False)


def with_prefix():
  values = with_pieces()
  steps = [{'type': 'Prepend', 'prepend': BLANK}, values['normalizer']]
  return values | {'normalizer': {'type': 'Sequence', 'normalizers': steps}}


def make(values, **options):
  return published_json.JsonTokenizer(values, 310, **options)


def of_library(values):
  return tokenizers.Tokenizer.from_str(json.dumps(values))


MODELS = {
  'qwen2': byte_level(), 'smollm': byte_level('smollm'),
  'deepseek3': byte_level('deepseek3'), 'pieces': with_pieces(),
  'prefix': with_prefix(),
}  # fmt: skip
OURS = {name: make(values) for name, values in MODELS.items()}
THEIRS = {name: of_library(values) for name, values in MODELS.items()}
PIECES = (
  'ab',
  ' a',
  '  ',
  '12',
  '\n',
  'é',
  '日',
  '🙂',
  '<think>',
  '</s>',
  '<s>',
)
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=9)


@pytest.mark.parametrize('name', MODELS)
@hypothesis.settings(deadline=None, max_examples=40)
@hypothesis.given(text=TEXTS.map(''.join))
def test_ids_are_the_librarys_and_text_comes_back(name, text):
  """Wherever control tokens are wanted, too."""
  ours, theirs = OURS[name], THEIRS[name]
  theirs.encode_special_tokens = True
  assert ours.encode(text) == theirs.encode(text).ids
  assert not ours.special_ids.intersection(ours.encode(text))
  # A prefix stands behind each token that text makes, as published.
  if BLANK not in text and not (name == 'prefix' and '<think>' in text):
    assert ours.decode(ours.encode(text)) == text
  theirs.encode_special_tokens = False
  if name != 'prefix':  # which begins a text only
    written = published_templates.written(ours, text)
    assert written == theirs.encode(text).ids


def test_what_is_known_of_a_vocabulary():
  ours = OURS['qwen2']
  assert ours.special_names == ('</s>', '[X]')
  assert ours.unused_ranges == ((258, 269), (272, 299), (301, 309))
  assert (ours.token_bytes(257), ours.token_bytes(300)) == (b' a', b'<think>')
  assert ours.keeps_text
  assert not make(MODELS['qwen2'] | {'normalizer': {'type': 'NFC'}}).keeps_text
  named = make(MODELS['qwen2'], control_names=['<think>'])
  assert named.special_names == ('</s>', '[X]', '<think>')
  assert 300 not in named.encode('<think>')
  pieces = OURS['prefix']
  assert pieces.token_bytes(2 + 0x0A) == b'\n'
  assert pieces.token_bytes(262) == b' a'
  assert not pieces.keeps_text


def test_flags_of_added_tokens():
  values = copy.deepcopy(MODELS['qwen2'])
  first, second = values['added_tokens'][:2]
  first |= {'lstrip': True, 'rstrip': True}
  second |= {'special': False, 'normalized': True}
  ours, theirs = make(values), of_library(values)
  text = f'ab \n{first["content"]}  x{second["content"]} y'
  # Python calls the last four white space, Unicode does not.
  for blank in ['', '\x85', '\u3000', '\u200b', *'\x1c\x1d\x1e\x1f']:
    spaced = text.replace(first['content'], blank + first['content'] + blank)
    ids = published_templates.written(ours, spaced)
    assert ids == theirs.encode(spaced).ids, blank
  assert ours.encode(second['content']) == [second['id']]
  assert first['id'] not in ours.encode(text)


def test_vocabulary_without_some_bytes():
  """Characters of such a byte are read as U+FFFD; without that, refused."""
  ranks = {token: i for token, i in RANKS.items() if i != 4}
  lacks = make(byte_level(ranks=ranks))
  assert lacks.encode('a\x04b') == [97, 0xEF, 0xBF, 0xBD, 98]
  assert lacks.unused_ids[0] == 4
  del ranks[b'\xbf']
  with pytest.raises(
    ValueError, match=r"no token for '\\x04', nor for U\+FFFD"
  ):
    make(byte_level(ranks=ranks)).encode('a\x04')


def test_saved_and_loaded(tmp_path):
  facts = published.Published(eos_ids=(270,))
  ours = make(MODELS['qwen2'], published=facts)
  ours.save(tmp_path)
  again = loading.load(tmp_path)
  assert isinstance(again, published_json.JsonTokenizer)
  assert (again.fingerprint, again.published) == (ours.fingerprint, facts)
  path = tmp_path / 'tokenizer.json'
  path.write_text(path.read_text().replace('<think>', '<thank>'))
  with pytest.raises(ValueError, match='restore it, or import'):
    loading.load(tmp_path)
  # A version that read such files by tiktoken had other fingerprints, which
  # the tokens on disk hold.
  spec = {'pattern': 'qwen2', 'vocab_size': 310, 'fingerprint': 'f',
          'special_ids': {'</s>': 270, '[X]': 271}}  # fmt: skip
  (tmp_path / 'spec.json').write_text(json.dumps(spec))
  assert loading.load(tmp_path).fingerprint == 'f'


def test_without_the_library_it_says_so(monkeypatch):
  monkeypatch.setitem(sys.modules, 'tokenizers', None)
  with pytest.raises(ValueError, match=r"install 'llm_jax\[export\]'"):
    make(MODELS['qwen2'])


def test_what_cannot_be_kept_is_refused(tmp_path):
  values = MODELS['qwen2']
  model = values['model']
  for change, message in [
    ({'model': model | {'type': 'Unigram'}}, "the algorithm 'Unigram'"),
    ({'model': model | {'byte_fallback': True}}, 'byte_fallback True and cuts'),
    ({'pre_tokenizer': None}, 'byte_fallback False and cuts'),
    ({'model': model | {'end_of_word_suffix': '</w>'}}, "_suffix '</w>'"),
    ({'model': model | {'vocab': {**model['vocab'], 'a b': 9}}}, 'is no byte'),
    ({'model': model | {'vocab': {**model['vocab'], 'aa': 310}}}, 'to 311'),
    ({'model': model | {'vocab': {**model['vocab'], 'aa': 97}}}, 'an id twice'),
  ]:
    with pytest.raises(ValueError, match=message):
      make(values | change)
  made = huggingface.with_added_tokens(values, {'ab': 256})  # a merge's
  with pytest.raises(ValueError, match="the text 'ab' would make the control"):
    make(made)
  words = copy.deepcopy(values)
  words['added_tokens'][0]['single_word'] = True
  (tmp_path / 'tokenizer.json').write_text(json.dumps(words))
  with pytest.raises(ValueError, match='only as a word of its own'):
    published_json.read(tmp_path)
