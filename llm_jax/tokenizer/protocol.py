"""What every tokenizer can do, whatever its algorithm.

Holds no code; tokenizer.py and sentencepiece.py implement it.
"""

from collections.abc import Iterable
from typing import Protocol


class TextTokenizer(Protocol):
  """Text to token ids and back.

  Attributes:
    vocab_size: ids lie below it; some may be unused.
    fingerprint: equal for two tokenizers only if they give the same ids.
  """

  vocab_size: int
  fingerprint: str

  def encode(self, text: str) -> list[int]:
    """Ids of a text; never a control token's, whatever the text holds."""
    ...

  def decode(self, ids: Iterable[int]) -> str:
    """The text of ids, with U+FFFD where their bytes are not UTF-8."""
    ...

  def token_bytes(self, token_id: int) -> bytes:
    """The bytes of one token; of a control token, its name."""
    ...

  def special_id(self, name: str) -> int:
    """The id of a control token."""
    ...
