"""SentencePiece models (Llama, Gemma, T5) as a tokenizer like our own.

Text never makes a control token, for every control piece of the model and
those named at loading. Two properties differ from byte-level BPE, and are the
models' own: a model with a dummy prefix begins every text with a blank, so
encode(a) + encode(b) is not encode(a + b); and U+2581 in text becomes a blank.
"""

import hashlib
import io
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import sentencepiece
from google.protobuf import message
from sentencepiece import sentencepiece_model_pb2

from llm_jax import files
from llm_jax.tokenizer import text_tokenizer

_BLANK = '\u2581'  # how pieces spell a blank
# protobuf makes its classes at import, where pyright cannot see them.
_Model: Any = sentencepiece_model_pb2.ModelProto  # pyright: ignore
_Piece = _Model.SentencePiece


class SentencePieceTokenizer(text_tokenizer.TextTokenizer):
  """A SentencePiece model.

  Attributes:
    fingerprint: sha256 over the model and the names of its control pieces.
  """

  def __init__(self, path: files.Name, control_pieces: Sequence[str] = ()):
    """Load a model.

    Args:
      path: of the .model file.
      control_pieces: pieces that the model would take from text, though they
        control it, as Gemma's <start_of_turn>; they become control pieces.

    Raises:
      ValueError: if the file is no model, or has no such pieces.
    """
    path = pathlib.Path(path)
    if not path.is_file():
      raise ValueError(f'{path} is missing; give a SentencePiece .model file')
    model = _parse(path)
    by_name = {piece.piece: piece for piece in model.pieces}
    for name in control_pieces:
      if name not in by_name:
        raise ValueError(
          f'{path} has no piece {name!r} to make a control piece'
        )
      by_name[name].type = _Piece.CONTROL
    self._processor = sentencepiece.SentencePieceProcessor(
      model_proto=model.SerializeToString()
    )
    unknown = model.trainer_spec.unk_surface
    super().__init__(
      [_piece_bytes(piece, unknown) for piece in model.pieces],
      {
        piece.piece: token_id
        for token_id, piece in enumerate(model.pieces)
        if piece.type == _Piece.CONTROL
      },
    )
    normalizer = model.normalizer_spec
    begins_with_blank = (
      normalizer.add_dummy_prefix or normalizer.remove_extra_whitespaces
    )
    self._prefix = ' ' if begins_with_blank else ''
    spec = json.dumps(sorted(self._special_ids.items())).encode()
    self.fingerprint = hashlib.sha256(path.read_bytes() + spec).hexdigest()

  def encode(self, text: str) -> list[int]:
    """Ids of a text; what looks like a control token is ordinary text."""
    text_tokenizer.check_utf8(text)
    return self._processor.encode(text)

  def decode(self, ids: Iterable[int]) -> str:
    """The text of ids, without the blank of a dummy prefix.

    StreamDecoder keeps that blank: it cannot know whether a text begins.

    Raises:
      ValueError: if an id is not in the vocabulary.
    """
    return super().decode(ids).removeprefix(self._prefix)


def train(texts: Iterable[str], path: files.Name, vocab_size: int) -> None:
  """Learn a BPE model that gives back every text, and write it.

  Without normalization, without a dummy prefix, with one digit a token and
  bytes for unseen characters. SentencePiece itself leaves out lines of more
  than 4192 bytes when it learns; split longer ones before.

  Args:
    texts: lines or documents.
    path: of the .model file to write.
    vocab_size: pieces in all.
  """
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(texts),
    model_writer=model,
    vocab_size=vocab_size,
    model_type='bpe',
    byte_fallback=True,
    split_digits=True,
    normalization_rule_name='identity',
    remove_extra_whitespaces=False,
    add_dummy_prefix=False,
    allow_whitespace_only_pieces=True,
    character_coverage=1.0,
    num_threads=1,
    minloglevel=2,
  )
  with files.replacing(pathlib.Path(path)) as file:
    file.write(model.getvalue())


def _parse(path: pathlib.Path) -> Any:
  model = _Model()
  try:
    model.ParseFromString(path.read_bytes())
  except message.DecodeError as error:
    raise ValueError(f'{path} is no SentencePiece model: {error}') from error
  if not model.pieces:
    raise ValueError(f'{path} is no SentencePiece model: it has no pieces')
  return model


def _piece_bytes(piece: Any, unknown: str) -> bytes:
  """What SentencePiece shows of a piece; `unknown` is its sign for any text."""
  if piece.type == _Piece.UNKNOWN:
    return unknown.encode()
  if piece.type == _Piece.BYTE:
    return bytes([int(piece.piece[3:-1], 16)])  # spelled <0x0A>
  if piece.type == _Piece.CONTROL:
    return piece.piece.encode()
  return piece.piece.replace(_BLANK, ' ').encode()
