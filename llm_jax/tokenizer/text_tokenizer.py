"""What every tokenizer can do, whatever its algorithm."""

import abc
import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping, Sequence

from llm_jax import visible_text
from llm_jax.tokenizer import patterns, published, specials


@dataclasses.dataclass(frozen=True)
class AddedToken:
  """A token that is found in text before the text is cut.

  Attributes:
    name: its text.
    token_id: its id.
    is_special: whether it controls the model, so that no user's text makes it.
    strips_left: whether white space before it goes with it.
    strips_right: the same of white space behind it.
  """

  name: str
  token_id: int
  is_special: bool = True
  strips_left: bool = False
  strips_right: bool = False

  @property
  def search(self) -> str:
    """A regular expression that finds it in text, its name in a group."""
    blanks = f'[{patterns.WHITE_SPACE}]*'
    left = blanks if self.strips_left else ''
    right = blanks if self.strips_right else ''
    return f'{left}({re.escape(self.name)}){right}'


class TextTokenizer(abc.ABC):
  """Text to token ids and back.

  Attributes:
    vocab_size: ids lie below it; some may be unused, see `unused_ids`.
    special_ids: ids of the control tokens.
    special_names: their names, in the order of the ids.
    added: tokens that text makes, such as <think>, and control tokens that
      take white space along. Other control tokens need no entry.
    published: what the files of a published model say of its tokens; None for
      a vocabulary of our own.
    keeps_text: whether every text comes back as it was, byte by byte.
    fingerprint: equal for two tokenizers only if they give the same ids.
  """

  fingerprint: str
  keeps_text = True
  _prefix = b''  # of every text's tokens, but not of the text

  def __init__(
    self,
    tokens: Sequence[bytes | None],
    special_ids: Mapping[str, int],
    published: published.Published | None = None,
    added: Sequence[AddedToken] = (),
  ):
    """Build the part of a tokenizer that needs no algorithm.

    Args:
      tokens: the bytes of each id, of a control token its name; None where
        an id is unused.
      special_ids: ids of the control tokens by name.
      published: what the files of a published model say of its tokens.
      added: see the attribute.
    """
    self.added = tuple(added)
    self.published = published
    self.vocab_size = len(tokens)
    self.special_ids = frozenset(special_ids.values())
    self.special_names = tuple(sorted(special_ids, key=special_ids.__getitem__))
    self._special_ids = {name: special_ids[name] for name in self.special_names}
    self._tokens = tokens

  @property
  def prefix_ids(self) -> tuple[int, ...]:
    """What stands before a text that a model continues; often nothing.

    A published model's is what its own tokenizer puts there. Ours begin every
    document with <|endoftext|>.
    """
    if self.published is not None:
      return self.published.prefix_ids
    return (self.special_id(specials.END_OF_TEXT),)

  @property
  def eos_ids(self) -> tuple[int, ...]:
    """Every id that ends a text, the most usual first.

    Those of a published chat model end its answers too; where a conversation
    of our own format ends is up to llm_jax.chat.
    """
    if self.published is not None:
      return self.published.eos_ids
    return (self.special_id(specials.END_OF_TEXT),)

  @property
  def chat_template(self) -> str | None:
    """The template of conversations that a published model brings, if any."""
    return self.published.chat_template if self.published is not None else None

  @property
  def separator_id(self) -> int:
    """The id that begins every document in rows of training, and fills rows.

    Raises:
      ValueError: if the vocabulary has none.
    """
    if specials.END_OF_TEXT in self._special_ids and not self.prefix_ids:
      return self.special_id(specials.END_OF_TEXT)
    candidates = (*self.prefix_ids, *reversed(self.eos_ids))
    if not candidates:
      raise ValueError(
        'the tokenizer has no token that begins or ends a text; set eos_token '
        'in tokenizer_config.json and import the model again'
      )
    return candidates[0]

  @functools.cached_property
  def unused_ids(self) -> tuple[int, ...]:
    """Ids below vocab_size without a token; a model must not draw them."""
    return tuple(i for i, token in enumerate(self._tokens) if token is None)

  @property
  def unused_ranges(self) -> tuple[tuple[int, int], ...]:
    """`unused_ids` as the first and last of each run."""
    unused = set(self.unused_ids)
    first = [i for i in self.unused_ids if i - 1 not in unused]
    last = [i for i in self.unused_ids if i + 1 not in unused]
    return tuple(zip(first, last, strict=True))

  def check_fingerprint(self, saved: str, path: object) -> None:
    """Raise ValueError where the file of a saved tokenizer has changed."""
    if self.fingerprint != saved:
      raise ValueError(
        f'{path} has fingerprint {self.fingerprint}, not {saved}; restore it, '
        'or import the model again'
      )

  def encode(self, text: str) -> list[int]:
    """Ids of a text; what looks like a control token is ordinary text.

    Raises:
      ValueError: if the text holds half of a surrogate pair, which no UTF-8
        text can, or what the vocabulary has no token for.
    """
    try:
      text.encode()
    except UnicodeEncodeError as error:
      raise ValueError(
        f'character {error.start} of the text is the lone surrogate '
        f"U+{ord(text[error.start]):04X}; decode bytes with errors='replace'"
      ) from error
    return self._encode(text)

  @abc.abstractmethod
  def _encode(self, text: str) -> list[int]:
    """Ids of a text that UTF-8 can hold."""

  def decode(self, ids: Iterable[int]) -> str:
    """The text of ids, with U+FFFD where their bytes are not UTF-8.

    Raises:
      ValueError: if an id is not in the vocabulary.
    """
    return self.text_bytes(ids).decode('utf-8', errors='replace')

  def text_bytes(self, ids: Iterable[int]) -> bytes:
    """The bytes of the text of ids, without the blank of a dummy prefix.

    StreamDecoder keeps that blank: it cannot know whether a text begins.

    Raises:
      ValueError: if an id is not in the vocabulary.
    """
    text = b''.join([self.token_bytes(token_id) for token_id in ids])
    return text.removeprefix(self._prefix)

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

  def shown(self, token_id: int) -> str:
    """One token for people: what is no text, or unseen, is escaped."""
    data = self.token_bytes(token_id)
    return visible_text.visible(data.decode('utf-8', errors='backslashreplace'))

  def special_id(self, name: str) -> int:
    """The id of a control token.

    Raises:
      ValueError: if the vocabulary has none of that name.
    """
    if name not in self._special_ids:
      raise ValueError(
        f'there is no control token {name!r}, only {self.special_names}'
      )
    return self._special_ids[name]
