"""SentencePiece models behind the same interface."""

import argparse
import inspect

import hypothesis
import pytest
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2

from llm_jax.tokenizer import sentencepiece, stream

_Piece = sentencepiece_model_pb2.ModelProto.SentencePiece


@pytest.fixture(scope='module')
def model_path(tmp_path_factory):
  path = tmp_path_factory.mktemp('model') / 'own.model'
  lines = inspect.getsource(argparse).splitlines(keepends=True)
  sentencepiece.train(lines, path, 600)
  return path


@pytest.fixture(scope='module')
def own(model_path):
  return sentencepiece.SentencePieceTokenizer(model_path)


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
  # NUL ends a text, and U+2581 is how SentencePiece spells a blank.
  hypothesis.assume('\0' not in text and '\u2581' not in text)
  ids = own.encode(text)
  assert own.decode(ids) == text
  assert own.special_id('</s>') not in ids
  assert own.special_id('<s>') not in ids
  decoder = stream.StreamDecoder(own)
  assert ''.join([*map(decoder.push, ids), decoder.flush()]) == text


def test_vocabulary(own):
  assert own.vocab_size == 600
  assert own.token_bytes(own.special_id('</s>')) == b'</s>'
  with pytest.raises(ValueError, match='no token has id 600'):
    own.decode([600])
  with pytest.raises(ValueError, match="no control token '<x>'"):
    own.special_id('<x>')


def test_pieces_named_as_control_never_come_from_text(model_path, tmp_path):
  """A piece that users define, as Gemma's turns, is taken from any text."""
  model = sentencepiece_model_pb2.ModelProto()
  model.ParseFromString(model_path.read_bytes())
  model.pieces[-1].piece = '<start_of_turn>'
  model.pieces[-1].type = _Piece.USER_DEFINED
  path = tmp_path / 'turns.model'
  path.write_bytes(model.SerializeToString())
  plain = sentencepiece.SentencePieceTokenizer(path)
  safe = sentencepiece.SentencePieceTokenizer(path, ['<start_of_turn>'])
  last = plain.vocab_size - 1
  assert last in plain.encode('<start_of_turn>')
  assert last not in safe.encode('<start_of_turn>')
  assert safe.special_id('<start_of_turn>') == last
  assert safe.fingerprint != plain.fingerprint


def test_dummy_prefix(model_path, tmp_path):
  model = sentencepiece_model_pb2.ModelProto()
  model.ParseFromString(model_path.read_bytes())
  model.normalizer_spec.add_dummy_prefix = True
  path = tmp_path / 'prefix.model'
  path.write_bytes(model.SerializeToString())
  prefix = sentencepiece.SentencePieceTokenizer(path)
  assert prefix.token_bytes(prefix.encode('return')[0]).startswith(b' ')
  assert prefix.decode(prefix.encode('return x')) == 'return x'


def test_wrong_files(tmp_path):
  path = tmp_path / 'x.model'
  with pytest.raises(ValueError, match='is missing'):
    sentencepiece.SentencePieceTokenizer(path)
  path.write_bytes(b'no model')
  with pytest.raises(ValueError, match='is no SentencePiece model'):
    sentencepiece.SentencePieceTokenizer(path)


def test_unknown_control_piece(model_path):
  with pytest.raises(ValueError, match="no piece '<x>'"):
    sentencepiece.SentencePieceTokenizer(model_path, ['<x>'])
