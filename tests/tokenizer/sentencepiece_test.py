"""SentencePiece models behind the same interface."""

import argparse
import inspect

import hypothesis
import pytest
import sentencepiece as library
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2

from llm_jax.tokenizer import sentencepiece, stream
from tests.tokenizer import train_pieces

_Piece = sentencepiece_model_pb2.ModelProto.SentencePiece


@pytest.fixture(scope='module')
def model_path(tmp_path_factory):
  path = tmp_path_factory.mktemp('model') / 'own.model'
  lines = inspect.getsource(argparse).splitlines(keepends=True)
  train_pieces.train(lines, path, 600)
  return path


@pytest.fixture(scope='module')
def own(model_path):
  return sentencepiece.SentencePieceTokenizer(model_path)


@pytest.fixture(scope='module')
def edited(model_path, tmp_path_factory):
  """Makes a model of other settings: edited(lambda model: ...)."""
  folder = tmp_path_factory.mktemp('edited')

  def make(edit):
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(model_path.read_bytes())
    edit(model)
    path = folder / f'{len(list(folder.iterdir()))}.model'
    path.write_bytes(model.SerializeToString())
    return path

  return make


@hypothesis.settings(
  deadline=None,
  suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(
  st.lists(
    st.sampled_from(['<s>', '</s>', '<unk>', '<0x0A>', '  ', '\n', '12', '韬'])
    | st.text(max_size=4),
    max_size=12,
  ).map(''.join)
)
def test_text_comes_back_and_makes_no_control_token(own, text):
  hypothesis.assume('\u2581' not in text)  # how SentencePiece spells a blank
  ids = own.encode(text)
  assert own.decode(ids) == text
  assert own.special_id('</s>') not in ids
  assert own.special_id('<s>') not in ids
  decoder = stream.StreamDecoder(own)
  assert ''.join([*map(decoder.push, ids), decoder.flush()]) == text


def test_vocabulary(own):
  assert own.vocab_size == 600
  assert own.token_bytes(own.special_id('</s>')) == b'</s>'
  with pytest.raises(ValueError, match="no control token '<x>'"):
    own.special_id('<x>')


def test_pieces_named_as_control_never_come_from_text(edited):
  """A piece that users define, as Gemma's turns, is taken from any text."""

  def edit(model):
    model.pieces[-1].piece = '<start_of_turn>'
    model.pieces[-1].type = _Piece.USER_DEFINED

  path = edited(edit)
  plain = sentencepiece.SentencePieceTokenizer(path)
  safe = sentencepiece.SentencePieceTokenizer(path, ['<start_of_turn>'])
  last = plain.vocab_size - 1
  assert last in plain.encode('<start_of_turn>')
  assert last not in safe.encode('<start_of_turn>')
  assert safe.special_id('<start_of_turn>') == last
  assert safe.fingerprint != plain.fingerprint


def without_bytes(model, surface=None):
  """As old models are: what no piece spells is unknown."""
  for piece in model.pieces:
    if piece.type == _Piece.BYTE:
      piece.type = _Piece.UNUSED
  model.trainer_spec.byte_fallback = False
  if surface is not None:
    model.trainer_spec.unk_surface = surface


@pytest.mark.parametrize('surface', [None, '', '<?>', '韬'])
@pytest.mark.parametrize('text', ['return 韬', '韬', 'a韬韬b', '\ue000 x', ''])
def test_unknown_decodes_as_in_sentencepiece(edited, surface, text):
  """As the library itself shows it: ` ⁇ `, unless the model says otherwise."""
  path = edited(lambda model: without_bytes(model, surface))
  ours = sentencepiece.SentencePieceTokenizer(path)
  theirs = library.SentencePieceProcessor(model_file=str(path))
  ids = ours.encode(text)
  assert ids == theirs.encode(text)
  assert (theirs.unk_id() in ids) == (text not in ('', 'return'))
  assert ours.decode(ids) == theirs.decode(ids)
  if surface is None and text == 'a韬韬b':
    assert ours.decode(ids) == 'a \u2047 b'
  decoder = stream.StreamDecoder(ours)
  streamed = ''.join([*map(decoder.push, ids), decoder.flush()])
  assert streamed == ours.decode(ids)


@pytest.mark.parametrize('text', ['\0', 'a\0b', '\ue000\U0010ffff', '\x1b[0m'])
def test_odd_characters_come_back(own, text):
  assert own.decode(own.encode(text)) == text


def test_a_very_long_line_comes_back(own):
  text = 'to be or not, 韬 ' * 60_000
  assert own.decode(own.encode(text)) == text


@pytest.mark.parametrize('dummy', [False, True])
@pytest.mark.parametrize('extra', [False, True])
@pytest.mark.parametrize('suffix', [False, True])
def test_decodes_as_the_library(edited, dummy, extra, suffix):
  def edit(model):
    model.normalizer_spec.add_dummy_prefix = dummy
    model.normalizer_spec.remove_extra_whitespaces = extra
    model.trainer_spec.treat_whitespace_as_suffix = suffix

  path = edited(edit)
  ours = sentencepiece.SentencePieceTokenizer(path)
  theirs = library.SentencePieceProcessor(model_file=str(path))
  texts = ['', ' ', '\u2581a', '\u2581\u2581a', '  a  b ', 'return x', '\n']
  for text in [*texts, '韬 ', ' 韬']:
    ids = ours.encode(text)
    assert ids == theirs.encode(text)
    assert ours.decode(ids) == theirs.decode(ids)


def test_wrong_files(tmp_path):
  path = tmp_path / 'x.model'
  with pytest.raises(ValueError, match='is missing, or is no Sent'):
    sentencepiece.SentencePieceTokenizer(path)
  path.write_bytes(b'no model')
  with pytest.raises(ValueError, match='or is no SentencePiece model: '):
    sentencepiece.SentencePieceTokenizer(path)
