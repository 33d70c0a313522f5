"""SentencePiece models (Llama, Gemma, T5) as a tokenizer like our own.

Text never makes a control token, for every control piece of the model and
those named at loading. Two properties differ from byte-level BPE, and are the
models' own: a model with a dummy prefix begins every text with a blank, so
encode(a) + encode(b) is not encode(a + b); and U+2581 in text becomes a blank.
"""

import hashlib
import pathlib
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import sentencepiece
from google.protobuf import message
from sentencepiece import sentencepiece_model_pb2

from llm_jax import files
from llm_jax.tokenizer import published, text_tokenizer

MODEL_FILE = 'sentencepiece.model'
SPEC_FILE = 'spec.json'
ALGORITHM = 'sentencepiece'
Piece = tuple[str, float, int]  # its text, score and kind
_BLANK = '\u2581'  # how pieces spell a blank
# protobuf makes its classes at import, where pyright cannot see them.
_Model: Any = sentencepiece_model_pb2.ModelProto  # pyright: ignore
_Piece = _Model.SentencePiece
# Kinds of pieces.
NORMAL, UNKNOWN, CONTROL = _Piece.NORMAL, _Piece.UNKNOWN, _Piece.CONTROL
USER_DEFINED, UNUSED, BYTE = _Piece.USER_DEFINED, _Piece.UNUSED, _Piece.BYTE


class SentencePieceTokenizer(text_tokenizer.TextTokenizer):
  """A SentencePiece model.

  Attributes:
    pieces: of the model, as it spells them.
    piece_ids: ids of all pieces by name.
    begins_with_blank: whether a blank is put before every text.
    fingerprint: sha256 over the model and vocab_size.
  """

  keeps_text = False  # the model normalizes as its own file says

  def __init__(
    self,
    path: files.Name,
    control_pieces: Collection[str] = (),
    new_pieces: Sequence[text_tokenizer.AddedToken] = (),
    vocab_size: int = 0,
    published: published.Published | None = None,
  ):
    """Load a model.

    Args:
      path: of the .model file.
      control_pieces: pieces that the model would take from text, though they
        control it, as Gemma's <start_of_turn>; they become control pieces.
        Names of no piece are passed over.
      new_pieces: to add, in ids of no piece; of control or found in text.
      vocab_size: ids lie below it, where that is more than there are pieces.
      published: what the files of a published model say of its tokens.

    Raises:
      ValueError: if the file is no model.
    """
    model = _parse(pathlib.Path(path))
    for piece in model.pieces:
      # What unknown text becomes stays that.
      if piece.piece in control_pieces and piece.type != UNKNOWN:
        piece.type = CONTROL
    for token in new_pieces:
      while len(model.pieces) <= token.token_id:
        gap = f'<gap_{len(model.pieces)}>'
        model.pieces.add(piece=gap, score=0.0, type=UNUSED)
      piece = model.pieces[token.token_id]
      piece.piece = token.name
      piece.type = CONTROL if token.is_special else USER_DEFINED
    self._serialized: bytes = model.SerializeToString()
    self._processor = sentencepiece.SentencePieceProcessor(
      model_proto=self._serialized
    )
    unknown = model.trainer_spec.unk_surface
    tokens = [_piece_bytes(piece, unknown) for piece in model.pieces]
    tokens += [None] * (vocab_size - len(tokens))
    self.pieces: list[Piece] = [
      (p.piece, p.score, p.type) for p in model.pieces
    ]
    self.piece_ids = {piece.piece: i for i, piece in enumerate(model.pieces)}
    controls = [piece.piece for piece in model.pieces if piece.type == CONTROL]
    special_ids = {name: self.piece_ids[name] for name in controls}
    super().__init__(tokens, special_ids, published=published)
    normalizer = model.normalizer_spec
    blank = normalizer.add_dummy_prefix or normalizer.remove_extra_whitespaces
    self.begins_with_blank: bool = normalizer.add_dummy_prefix
    self._prefix = b' ' if blank else b''
    content = self._serialized + b'%d' % self.vocab_size
    self.fingerprint = hashlib.sha256(content).hexdigest()

  @classmethod
  def load(cls, directory: files.Name) -> 'SentencePieceTokenizer':
    """Read what `save` wrote.

    Raises:
      ValueError: if a file is missing, or the parts do not have the saved
        fingerprint.
    """
    directory = pathlib.Path(directory)
    spec = files.read_checked_json(directory / SPEC_FILE)
    tokenizer = cls(
      directory / MODEL_FILE,
      vocab_size=spec['vocab_size'],
      published=published.load(directory),
    )
    tokenizer.check_fingerprint(spec['fingerprint'], directory / MODEL_FILE)
    return tokenizer

  def save(self, directory: files.Name) -> None:
    """Write the model and what says how to read it, spec.json last."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with files.replacing(directory / MODEL_FILE) as file:
      file.write(self._serialized)
    if self.published is not None:
      published.save(self.published, directory)
    spec = {'algorithm': ALGORITHM, 'vocab_size': self.vocab_size}
    spec['fingerprint'] = self.fingerprint
    files.write_checked_json(directory / SPEC_FILE, spec)

  def _encode(self, text: str) -> list[int]:
    return self._processor.encode(text)


def write(
  path: files.Name, pieces: Iterable[Piece], begins_with_blank: bool
) -> None:
  """Write a BPE model of given pieces, with bytes for unseen characters.

  Args:
    path: of the .model file.
    pieces: by rising id.
    begins_with_blank: whether a blank is put before every text.
  """
  model = _Model()
  for name, score, kind in pieces:
    model.pieces.add(
      piece=name.replace(' ', _BLANK), score=float(score), type=int(kind)
    )
  model.trainer_spec.model_type = type(model.trainer_spec).BPE
  model.trainer_spec.byte_fallback = True
  model.trainer_spec.vocab_size = len(model.pieces)
  model.normalizer_spec.name = 'identity'
  model.normalizer_spec.add_dummy_prefix = begins_with_blank
  model.normalizer_spec.remove_extra_whitespaces = False
  with files.replacing(pathlib.Path(path)) as file:
    file.write(model.SerializeToString())


def _parse(path: pathlib.Path) -> Any:
  model = _Model()
  try:
    model.ParseFromString(path.read_bytes())
  except (OSError, message.DecodeError) as error:
    raise ValueError(
      f'{path} is missing, or is no SentencePiece model: {error}'
    ) from error
  if not model.pieces:
    raise ValueError(f'{path} is no SentencePiece model: it has no pieces')
  return model


def _piece_bytes(piece: Any, unknown: str) -> bytes | None:
  """What SentencePiece shows of a piece; `unknown` is its sign for any text."""
  if piece.type == UNUSED:
    return None
  if piece.type == UNKNOWN:
    return unknown.encode()
  if piece.type == BYTE:
    return bytes([int(piece.piece[3:-1], 16)])  # spelled <0x0A>
  if piece.type == CONTROL:
    return piece.piece.encode()
  return piece.piece.replace(_BLANK, ' ').encode()
