"""tokenizer.json of SentencePiece's kind against `tokenizers` itself."""

import copy
import json

import hypothesis
import pytest
import tokenizers
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2

from llm_jax.tokenizer import (
  huggingface,
  patterns,
  sentencepiece,
  sentencepiece_json,
)
from tests.chat import published_templates
from tests.tokenizer import train_pieces

LINES = ['the cat sat on the mat\n', 'cats and mats, 12 3\n'] * 30
BLANK = '\u2581'


@pytest.fixture(scope='module')
def values(tmp_path_factory):
  """As converters write it: every pair that makes a piece, by its score."""
  path = tmp_path_factory.mktemp('m') / 'm.model'
  train_pieces.train(LINES, path, 304)
  model = sentencepiece_model_pb2.ModelProto()
  model.ParseFromString(path.read_bytes())
  vocab = {piece.piece: i for i, piece in enumerate(model.pieces)}
  normal = [p for p in model.pieces if p.type == 1 and len(p.piece) > 1]
  merges = [
    [p.piece[:cut], p.piece[cut:]]
    for p in sorted(normal, key=lambda p: -p.score)
    for cut in range(1, len(p.piece))
    if p.piece[:cut] in vocab and p.piece[cut:] in vocab
  ]
  values = huggingface.empty_json(patterns.by_name('gpt2')) | {
    'normalizer': {'type': 'Replace', 'pattern': {'String': ' '},
                   'content': BLANK},
    'pre_tokenizer': None, 'decoder': None,
  }  # fmt: skip
  values['model'] |= {
    'unk_token': '<unk>', 'fuse_unk': True, 'byte_fallback': True,
    'vocab': vocab, 'merges': merges,
  }  # fmt: skip
  n = len(vocab)
  # `tokenizers` numbers added tokens anew where it can.
  ids = {'<unk>': 0, '<s>': 1, '</s>': 2, '<gap>': n, '<gap2>': n + 1}
  values = huggingface.with_added_tokens(values, ids)
  return huggingface.with_added_tokens(values, {'<think>': n + 2}, False)


def with_prefix(values):
  steps = [{'type': 'Prepend', 'prepend': BLANK}, values['normalizer']]
  return values | {'normalizer': {'type': 'Sequence', 'normalizers': steps}}


@pytest.mark.parametrize('edit', [lambda values: values, with_prefix])
def test_ids_are_those_of_tokenizers(edit, values, tmp_path):
  values = edit(values)
  theirs = tokenizers.Tokenizer.from_str(json.dumps(values))
  sentencepiece_json.write(values, tmp_path / 'out.model')
  ours = sentencepiece.SentencePieceTokenizer(tmp_path / 'out.model')
  assert ours.special_names == ('<s>', '</s>', '<gap>', '<gap2>')
  words = 'the cat| mats|s| |  |\n|12|é|日|🙂|on|at'
  pieces = st.sampled_from(words.split('|'))

  @hypothesis.settings(deadline=None, max_examples=60)
  @hypothesis.given(
    st.lists(pieces | st.text(max_size=2), max_size=10).map(''.join)
  )
  def check(text):
    hypothesis.assume(not text.startswith(BLANK))
    assert ours.encode(text) == theirs.encode(text).ids

  check()
  if edit is not with_prefix:
    text = 'a<think>the cat</s>'
    assert published_templates.written(ours, text) == theirs.encode(text).ids


def test_what_sentencepiece_has_not_is_refused(values, tmp_path):
  model = values['model']
  merges = model['merges']
  flagged = copy.deepcopy(values['added_tokens'])
  flagged[-1]['lstrip'] = True
  for change, message in [
    ({'normalizer': {'type': 'NFKC'}}, r"the steps \['NFKC'\] beside bytes"),
    ({'pre_tokenizer': {'type': 'Digits'}}, r"\['Digits'\] beside bytes"),
    ({'model': model | {'type': 'Unigram'}}, "the algorithm 'Unigram' with"),
    ({'model': model | {'merges': merges[1:]}}, 'which no merge makes'),
    ({'model': model | {'merges': [*merges, merges[0]]}}, 'not stand together'),
    ({'added_tokens': flagged}, 'lets .* take white space along'),
  ]:
    with pytest.raises(ValueError, match=message):
      sentencepiece_json.write(values | change, tmp_path / 'x.model')


def test_a_saved_folder_is_read_and_damage_is_seen(tmp_path):
  train_pieces.train(LINES, tmp_path / 'm.model', 300)
  ours = sentencepiece.SentencePieceTokenizer(
    tmp_path / 'm.model', vocab_size=320
  )
  ours.save(tmp_path / 'saved')
  loaded = sentencepiece.SentencePieceTokenizer.load(tmp_path / 'saved')
  assert (loaded.fingerprint, loaded.vocab_size) == (ours.fingerprint, 320)
  assert loaded.unused_ranges == ((300, 319),)
  path = tmp_path / 'saved' / sentencepiece.MODEL_FILE
  path.write_bytes(path.read_bytes().replace(b'cat', b'cut', 1))
  with pytest.raises(ValueError, match='restore it, or import'):
    sentencepiece.SentencePieceTokenizer.load(tmp_path / 'saved')
