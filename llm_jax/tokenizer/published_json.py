"""Published tokenizers (tokenizer.json), run by the library `tokenizers`.

Byte-level BPE, and BPE over characters with bytes for what no piece spells, as
of Llama 2 and Gemma. The ids are the library's, but that no text makes a
control token.
"""

import functools
import hashlib
import json
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from absl import logging

from llm_jax import files
from llm_jax.tokenizer import huggingface, published, text_tokenizer

FILE = 'tokenizer.json'
SPEC_FILE = 'spec.json'
_REPLACEMENT = '\ufffd'
_FLAGS = ('single_word', 'lstrip', 'rstrip', 'normalized')
_BYTE = re.compile('<0x([0-9A-F]{2})>')


class JsonTokenizer(text_tokenizer.TextTokenizer):
  """A published tokenizer.json; the fingerprint is over all of it."""

  def __init__(
    self,
    values: Mapping[str, Any],
    vocab_size: int,
    control_names: Iterable[str] = (),
    published: published.Published | None = None,
  ):
    """Build a tokenizer.

    Args:
      values: the contents of the file; see `read`.
      vocab_size: ids lie below it.
      control_names: added tokens that are control tokens whatever it says.
      published: what the files of a published model say of its tokens.

    Raises:
      ValueError: for another algorithm, or a token that cannot be kept, by
        name.
    """
    try:  # here, because vocabularies of our own need no such library
      import tokenizers
    except ImportError as error:
      raise ValueError(
        'a published tokenizer.json is run by the library `tokenizers`; pip '
        "install 'llm_jax[export]'"
      ) from error
    is_byte_level = _check_algorithm(values)
    self._values = _with_control_tokens(values, {*control_names})
    added, vocab = self._values['added_tokens'], self._values['model']['vocab']
    content = json.dumps(self._values, sort_keys=True)
    self.fingerprint = hashlib.sha256(
      f'{content}{vocab_size}'.encode()
    ).hexdigest()
    self._library = tokenizers.Tokenizer.from_str(content)
    self._library.encode_special_tokens = True  # as the text that they are
    spelled = _spelled_bytes if is_byte_level else _spelled_piece
    tokens = {token['id']: token['content'].encode() for token in added}
    tokens |= {i: spelled(n) for n, i in vocab.items() if i not in tokens}
    if len(tokens) < len(vocab):
      raise ValueError(
        'tokenizer.json has an id twice; give each token its own'
      )
    if max(tokens) >= vocab_size:
      raise ValueError(
        f'tokenizer.json has ids up to {max(tokens)}, but vocab_size is '
        f'{vocab_size}; raise it to {max(tokens) + 1}'
      )
    super().__init__(
      [tokens.get(i) for i in range(vocab_size)],
      {token['content']: token['id'] for token in added if token['special']},
      published,
      added=[
        text_tokenizer.AddedToken(
          token['content'],
          token['id'],
          is_special=token['special'],
          strips_left=token['lstrip'],
          strips_right=token['rstrip'],
        )
        for token in added
        if not token['special'] or token['lstrip'] or token['rstrip']
      ],
    )
    # What few texts hold, such as 0x04, may have no token; the library would
    # leave it out.
    self._missing = {
      value
      for character, value in _byte_of().items()
      if is_byte_level and character not in vocab
    }
    begin = next(iter(self.encode('a')), None)
    begins_with_blank = begin is not None and tokens[begin][:1] == b' '
    self._prefix = b' ' if begins_with_blank else b''
    strips = any(a.strips_left or a.strips_right for a in self.added)
    self.keeps_text = not (
      strips or begins_with_blank or values.get('normalizer')
    )
    made = [
      n for n in self.special_names if self.special_id(n) in self.encode(n)
    ]
    if made:
      raise ValueError(
        f'the text {made[0]!r} would make the control token of that name; '
        'rename it in tokenizer.json'
      )

  @classmethod
  def load(cls, directory: files.Name) -> 'JsonTokenizer':
    """Read what `save` wrote, and its tokenizer.json.

    Raises:
      ValueError: if a file is missing or damaged, or the parts do not have the
        saved fingerprint.
    """
    directory = pathlib.Path(directory)
    spec = files.read_checked_json(directory / SPEC_FILE)
    tokenizer = cls(
      read(directory),
      spec['vocab_size'],
      control_names=spec['special_ids'],
      published=published.load(directory),
    )
    if 'pattern' in spec:  # of a version that ran it by tiktoken
      tokenizer.fingerprint = spec['fingerprint']
    tokenizer.check_fingerprint(spec['fingerprint'], directory / FILE)
    return tokenizer

  def save(self, directory: files.Name) -> None:
    """Write what says how to read tokenizer.json, and that if it is missing."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / FILE).exists():
      files.write_json(directory / FILE, self._values)
    if self.published is not None:
      published.save(self.published, directory)
    spec = {'vocab_size': self.vocab_size, 'special_ids': self.special_names}
    spec['fingerprint'] = self.fingerprint
    files.write_checked_json(directory / SPEC_FILE, spec)

  def _encode(self, text: str) -> list[int]:
    odd = {c for c in text if not self._missing.isdisjoint(c.encode())}
    if odd:
      text = self._without(text, odd)
    return self._library.encode(text, add_special_tokens=False).ids

  def _without(self, text: str, odd: set[str]) -> str:
    # Readers do not agree on these: one drops them, another ends the text.
    if not self._missing.isdisjoint(_REPLACEMENT.encode()):
      raise ValueError(
        f'the vocabulary has no token for {min(odd)!r}, nor for U+FFFD in its '
        'place; take it out of the text'
      )
    logging.log_first_n(
      logging.WARNING,
      'a text holds %r, for which the vocabulary has no token; U+FFFD is read '
      'in place of such characters from now on',
      1,
      min(odd),
    )
    return text.translate({ord(c): _REPLACEMENT for c in odd})


def read(folder: files.Name) -> dict[str, Any]:
  """The tokenizer.json of a folder, all added tokens in it.

  That is those too that only the files beside it have. Where tokenizer.model
  has the others, it may be missing.
  """
  folder = pathlib.Path(folder)
  values: dict[str, Any] = {'model': {}}
  if (folder / FILE).is_file() or not (folder / 'tokenizer.model').is_file():
    values = files.read_object(folder / FILE)
  settings = published.read_object(folder, 'tokenizer_config.json')
  decoder = settings.get('added_tokens_decoder') or {}
  added = [*(values.get('added_tokens') or ())]
  added += [{**token, 'id': int(i)} for i, token in decoder.items()]
  for name, i in published.read_object(folder, 'added_tokens.json').items():
    added.append({'content': name, 'id': i})
  by_name: dict[str, dict[str, Any]] = {}
  for token in added:
    token = dict.fromkeys(_FLAGS, False) | {'special': True} | token
    by_name.setdefault(token['content'], token)
  words = [name for name, token in by_name.items() if token['single_word']]
  if words:
    raise ValueError(
      f'tokenizer.json takes {words[0]!r} only as a word of its own, which '
      'ours cannot; set "single_word": false there'
    )
  return values | {'added_tokens': [*by_name.values()]}


def _check_algorithm(values: Mapping[str, Any]) -> bool:
  """Whether its tokens are of bytes, not of characters."""
  model, cut = values['model'], values.get('pre_tokenizer') or {}
  keys = ('continuing_subword_prefix', 'end_of_word_suffix', 'dropout')
  odd = [f'{key} {model[key]!r}' for key in keys if model.get(key)]
  if model.get('type') != 'BPE':
    odd.append(f'the algorithm {model.get("type")!r}')
  steps = [step.get('type') for step in cut.get('pretokenizers', [cut])]
  is_byte_level = 'ByteLevel' in steps
  if is_byte_level == bool(model.get('byte_fallback')):
    odd.append(
      f'byte_fallback {model.get("byte_fallback")} and cuts by {steps}'
    )
  if odd:
    raise ValueError(
      f'tokenizer.json has {", ".join(odd)}, not BPE of bytes, or of '
      'characters with bytes; give a tokenizer of ours with its ids'
    )
  return is_byte_level


def _with_control_tokens(
  values: Mapping[str, Any], names: set[str]
) -> dict[str, Any]:
  """What decides the ids, with added tokens in the vocabulary too.

  `tokenizers` numbers them anew where the ids before them have gaps.
  """
  added = [
    {**token, 'special': token['special'] or token['content'] in names}
    for token in sorted(values['added_tokens'], key=lambda token: token['id'])
  ]
  vocab = values['model']['vocab'] | {x['content']: x['id'] for x in added}
  keys = ('normalizer', 'pre_tokenizer', 'decoder')
  return {
    'version': '1.0',
    **{key: values.get(key) for key in keys},
    'added_tokens': added,
    'model': {**values['model'], 'vocab': vocab},
  }


@functools.cache
def _byte_of() -> dict[str, int]:
  return {c: value for value, c in enumerate(huggingface.byte_characters())}


def _spelled_bytes(name: str) -> bytes:
  try:
    return bytes(map(_byte_of().__getitem__, name))
  except KeyError as error:
    raise ValueError(
      f'tokenizer.json has the token {name!r}, whose {error} is no byte; mark '
      'it as an added token there'
    ) from None


def _spelled_piece(name: str) -> bytes:
  match = _BYTE.fullmatch(name)
  if match:
    return bytes.fromhex(match[1])
  return name.replace('\u2581', ' ').encode()
