"""Byte-level BPE: text to token ids and back, saved in three forms.

tiktoken does the merging, and knows no control token: those exist only
through `special_id`, so no text can ever make one. Does not learn merges
(see bpe.py) and does not lay out conversations (see llm_jax.chat).
"""

import base64
import functools
import gzip
import hashlib
import itertools
import json
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import tiktoken

from llm_jax import files
from llm_jax.tokenizer import (
  bpe,
  huggingface,
  patterns,
  specials,
  text_tokenizer,
)

RANKS_FILE = 'ranks.tiktoken'
SPEC_FILE = 'spec.json'
HUGGING_FACE_FILE = 'tokenizer.json'
# tiktoken's regular expression overflows its stack, and ends the process, on
# a run of a million blanks. Longer runs than this are cut off before it; the
# ids stay what they would be (tests/tokenizer/encoding_test.py).
_LONG_RUN = 1 << 16


class Tokenizer(text_tokenizer.TextTokenizer):
  """A byte-level BPE vocabulary with control tokens.

  Attributes:
    pattern: name of the split pattern.
    fingerprint: sha256 over everything that decides ids.
  """

  def __init__(
    self,
    ranks: Mapping[bytes, int],
    pattern: str,
    special_ids: Mapping[str, int],
    vocab_size: int,
  ):
    """Build a tokenizer from its parts.

    Args:
      ranks: ids of ordinary tokens by their bytes; a lower id merges earlier.
      pattern: name of the split pattern.
      special_ids: ids of the control tokens by name.
      vocab_size: ids lie below it.

    Raises:
      ValueError: if a byte has no token, two tokens share an id or a name, or
        an id is not below vocab_size.
    """
    _check_vocabulary(ranks, special_ids, vocab_size)
    tokens: list[bytes | None] = [None] * vocab_size
    for token, rank in ranks.items():
      tokens[rank] = token
    for name, token_id in special_ids.items():
      tokens[token_id] = name.encode()
    super().__init__(tokens, special_ids)
    self.pattern = pattern
    self._ranks = dict(ranks)
    form = patterns.by_name(pattern)
    self._engine = _make_engine(form.split, self._ranks)
    # The look-behind keeps the search from starting again inside a run.
    blank = f'[{form.blanks}]'
    self._long_run = re.compile(f'(?<!{blank}){blank}{{{_LONG_RUN},}}+')
    content = json.dumps(self._spec()).encode() + b'\n' + self._ranks_file()
    self.fingerprint = hashlib.sha256(content).hexdigest()

  @classmethod
  def from_merges(cls, merges: Iterable[bpe.Pair], pattern: str) -> 'Tokenizer':
    """A vocabulary of our own: bytes, merges, then the control tokens."""
    ranks = bpe.token_ranks(merges)
    special_ids = specials.own_special_ids(len(ranks))
    n = len(ranks) + specials.N_SLOTS
    return cls(ranks, pattern, special_ids=special_ids, vocab_size=n)

  @classmethod
  def train(
    cls, texts: Iterable[str], vocab_size: int, pattern: str = 'qwen2'
  ) -> 'Tokenizer':
    """Learn a vocabulary of exactly vocab_size ids from texts.

    Args:
      texts: the documents, read once.
      vocab_size: bytes, merges and control tokens together.
      pattern: name of the split pattern.

    Raises:
      ValueError: if vocab_size leaves no room for merges, or the texts do not
        have enough pairs for it.
    """
    n_merges = vocab_size - bpe.N_BYTES - specials.N_SLOTS
    if n_merges < 1:
      raise ValueError(
        f'vocab_size {vocab_size} leaves no room for merges beside '
        f'{bpe.N_BYTES} bytes and {specials.N_SLOTS} control tokens; use at '
        f'least {bpe.N_BYTES + specials.N_SLOTS + 1}'
      )
    split = patterns.by_name(pattern).split
    merges = bpe.learn_merges(bpe.count_pretokens(texts, split), n_merges)
    return cls.from_merges(merges, pattern)

  @classmethod
  def from_ranks(cls, path: files.Name, preset: str = 'cl100k') -> 'Tokenizer':
    """The published vocabulary whose ranks file lies at a path.

    Args:
      path: of OpenAI's file, such as cl100k_base.tiktoken; `.gz` is unpacked.
      preset: 'cl100k', 'o200k' or 'gpt2' (r50k_base.tiktoken).

    Raises:
      ValueError: if the file is missing or is not the published one.
    """
    content = _read(pathlib.Path(path))
    sha256 = hashlib.sha256(content).hexdigest()
    known = specials.published()['sha256'][preset]
    if sha256 != known:
      raise ValueError(
        f'{path} has sha256 {sha256}, but the ranks of {preset} have {known}; '
        'fetch the file again'
      )
    ids = specials.published()['ids'][preset]
    n = max(ids.values()) + 1
    return cls(_parse_ranks(content), preset, special_ids=ids, vocab_size=n)

  @classmethod
  def load(cls, directory: files.Name) -> 'Tokenizer':
    """Read what `save` wrote.

    Raises:
      ValueError: if a file is missing or damaged, or the parts do not have
        the saved fingerprint, also because a pattern was changed since.
    """
    directory = pathlib.Path(directory)
    content = _read(directory / RANKS_FILE)
    try:
      spec = json.loads(_read(directory / SPEC_FILE))
      tokenizer = cls(
        _parse_ranks(content),
        spec['pattern'],
        special_ids=spec['special_ids'],
        vocab_size=spec['vocab_size'],
      )
      if (saved := spec['fingerprint']) != tokenizer.fingerprint:
        raise ValueError(
          f'{tokenizer.fingerprint}, but {SPEC_FILE} says {saved}'
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
      raise ValueError(
        f'the files in {directory} do not make the tokenizer that was saved '
        f'({error}); restore them, or train the tokenizer again'
      ) from error
    return tokenizer

  def save(self, directory: files.Name) -> None:
    """Write ranks.tiktoken, tokenizer.json (Hugging Face) and spec.json.

    Each file appears whole or not at all, spec.json last.
    """
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with files.replacing(directory / RANKS_FILE) as file:
      file.write(self._ranks_file())
    values = huggingface.tokenizer_json(
      self._ranks, self.pattern, self._special_ids
    )
    files.write_json(directory / HUGGING_FACE_FILE, values)
    spec = {**self._spec(), 'fingerprint': self.fingerprint}
    files.write_json(directory / SPEC_FILE, spec)

  def _encode(self, text: str) -> list[int]:
    if len(text) < _LONG_RUN:
      return self._engine.encode_ordinary(text)
    ids: list[int] = []
    start = 0
    for run in self._long_run.finditer(text):
      followed_by = text[run.end() : run.end() + 1]
      if followed_by in ('\r', '\n'):
        continue  # the whole run and its line ends are one match, found fast
      # The last blank goes with the word after the run, or stands alone.
      end = run.end() - 1 if followed_by else run.end()
      ids += self._engine.encode_ordinary(text[start : run.start()])
      ids += self._unsplit_engine.encode_ordinary(text[run.start() : end])
      start = end
    return ids + self._engine.encode_ordinary(text[start:])

  @functools.cached_property
  def _unsplit_engine(self) -> tiktoken.Encoding:
    return _make_engine('(?s:.+)', self._ranks)

  def _ranks_file(self) -> bytes:
    return b''.join(
      base64.b64encode(token) + b' %d\n' % rank
      for token, rank in sorted(self._ranks.items(), key=lambda item: item[1])
    )

  def _spec(self) -> dict[str, Any]:
    return {
      'pattern': self.pattern,
      'split': patterns.by_name(self.pattern).split,
      'vocab_size': self.vocab_size,
      'special_ids': self._special_ids,
    }


def _make_engine(split: str, ranks: dict[bytes, int]) -> tiktoken.Encoding:
  return tiktoken.Encoding(
    'llm_jax', pat_str=split, mergeable_ranks=ranks, special_tokens={}
  )


def _check_vocabulary(ranks, special_ids, vocab_size):
  missing = [i for i in range(bpe.N_BYTES) if bytes([i]) not in ranks]
  if missing:  # the engine would panic
    raise ValueError(
      f'the vocabulary has no token for byte {missing[0]:#04x}; add the '
      f'{len(missing)} missing bytes'
    )
  taken = sorted([*ranks.values(), *special_ids.values()])
  twice = [a for a, b in itertools.pairwise(taken) if a == b]
  if twice:
    raise ValueError(f'two tokens have id {twice[0]}; give each its own')
  if taken[0] < 0 or taken[-1] >= vocab_size:
    raise ValueError(
      f'ids reach from {taken[0]} to {taken[-1]}, but must lie from 0 to below '
      f'vocab_size {vocab_size}; raise it to {taken[-1] + 1}'
    )
  both = [name for name in special_ids if name.encode() in ranks]
  if both:
    raise ValueError(
      f'{both[0]!r} is both a control token and ordinary text; rename the one'
    )


def _read(path: pathlib.Path) -> bytes:
  if not path.is_file():
    raise ValueError(
      f'{path} is missing; give the path of a tokenizer, or train one there'
    )
  content = path.read_bytes()
  return gzip.decompress(content) if path.suffix == '.gz' else content


def _parse_ranks(content: bytes) -> dict[bytes, int]:
  lines = (line.split() for line in content.splitlines())
  return {base64.b64decode(token): int(rank) for token, rank in lines}
