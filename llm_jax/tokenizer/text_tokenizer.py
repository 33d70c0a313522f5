"""What every tokenizer can do, whatever its algorithm."""

import abc
from collections.abc import Iterable, Mapping, Sequence


class TextTokenizer(abc.ABC):
  """Text to token ids and back.

  Attributes:
    vocab_size: ids lie below it; some may be unused.
    special_ids: ids of the control tokens.
    special_names: their names, in the order of the ids.
    fingerprint: equal for two tokenizers only if they give the same ids.
  """

  fingerprint: str

  def __init__(
    self, tokens: Sequence[bytes | None], special_ids: Mapping[str, int]
  ):
    """Build the part of a tokenizer that needs no algorithm.

    Args:
      tokens: the bytes of each id, of a control token its name; None where
        an id is unused.
      special_ids: ids of the control tokens by name.
    """
    self.vocab_size = len(tokens)
    self.special_ids = frozenset(special_ids.values())
    self.special_names = tuple(sorted(special_ids, key=special_ids.__getitem__))
    self._special_ids = {name: special_ids[name] for name in self.special_names}
    self._tokens = tokens

  @abc.abstractmethod
  def encode(self, text: str) -> list[int]:
    """Ids of a text; what looks like a control token is ordinary text.

    Raises:
      ValueError: if the text holds half of a surrogate pair, which no UTF-8
        text can.
    """

  def decode(self, ids: Iterable[int]) -> str:
    """The text of ids, with U+FFFD where their bytes are not UTF-8.

    Raises:
      ValueError: if an id is not in the vocabulary.
    """
    text = b''.join([self.token_bytes(token_id) for token_id in ids])
    return text.decode('utf-8', errors='replace')

  def token_bytes(self, token_id: int) -> bytes:
    """The bytes of one token; of a control token, its name.

    Raises:
      ValueError: if the id is not in the vocabulary.
    """
    is_known = 0 <= token_id < self.vocab_size
    token = self._tokens[token_id] if is_known else None
    if token is None:
      raise ValueError(
        f'no token has id {token_id} in this vocabulary of {self.vocab_size}; '
        f'decode with the tokenizer that the ids come from'
      )
    return token

  def special_id(self, name: str) -> int:
    """The id of a control token.

    Raises:
      ValueError: if the vocabulary has none of that name.
    """
    if name not in self._special_ids:
      raise ValueError(
        f'the tokenizer has no control token {name!r}; it has '
        f'{", ".join(self.special_names)}'
      )
    return self._special_ids[name]


def check_utf8(text: str) -> None:
  """Refuses half of a surrogate pair, with its position."""
  try:
    text.encode()
  except UnicodeEncodeError as error:
    raise ValueError(
      f'character {error.start} of the text is the lone surrogate '
      f'U+{ord(text[error.start]):04X}, which is not Unicode text; decode its '
      f"bytes with errors='replace' first"
    ) from error
