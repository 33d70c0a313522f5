"""The tokenizer files of a published model: read, kept and given back.

A checkpoint holds the files that the tokenizer came from beside ours, so that
an export gives them back byte for byte. What is written for a vocabulary of our
own makes transformers read and write the ids that our models were trained on.
"""

import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

from absl import logging

from llm_jax import files
from llm_jax.chat import template
from llm_jax.tokenizer import (
  encoding,
  huggingface,
  loading,
  published,
  published_json,
  sentencepiece,
  specials,
  text_tokenizer,
)

_MODEL = 'tokenizer.model'  # SentencePiece, as published
Tokenizer = published_json.JsonTokenizer | sentencepiece.SentencePieceTokenizer


def read(folder: files.Name, vocab_size: int, grows: bool = False) -> Tokenizer:
  """Convert the tokenizer of a published model.

  Every token keeps its name. A model without a chat template gets the control
  tokens of our conversations, in ids that its vocabulary leaves unused; if
  they are too few it gets none, unless it `grows`.

  Args:
    folder: with tokenizer.json, and what else says how tokens are used.
    vocab_size: of the model.
    grows: whether our control tokens are wanted in any case, behind the
      vocabulary where ids are missing; vocab_size is then larger.

  Returns:
    A tokenizer with the same ids for text.

  Raises:
    ValueError: if ours cannot represent it, with the reason.
  """
  model = pathlib.Path(folder) / _MODEL
  values = published_json.read(folder)
  added = values['added_tokens']
  plain = None
  if model.is_file():
    plain = sentencepiece.SentencePieceTokenizer(model)
  vocabulary = plain.piece_ids if plain else values['model']['vocab']
  added_ids = {token['content']: token['id'] for token in added}
  names = vocabulary | added_ids
  facts = published.read(folder, names)
  controls = {*facts.token_names.values()}
  taken = {*names.values()}.difference(plain.unused_ids if plain else ())
  free = [i for i in range(vocab_size) if i not in taken]
  if grows:
    free += range(vocab_size, vocab_size + len(specials.NAMES))
  new = _new_control_tokens(facts, names, free=free, grows=grows)
  if plain:
    controls |= {token['content'] for token in added if token['special']}
    controls |= new.keys()
    return sentencepiece.SentencePieceTokenizer(
      model,
      control_pieces=controls,
      new_pieces=[
        text_tokenizer.AddedToken(name, i, name in controls)
        for name, i in (added_ids | new).items()
        if name not in plain.piece_ids
      ],
      vocab_size=vocab_size,
      published=facts,
    )
  return published_json.JsonTokenizer(
    huggingface.with_added_tokens(values, new),
    vocab_size=max([vocab_size, *(i + 1 for i in new.values())]),
    control_names=controls,
    published=facts,
  )


def _new_control_tokens(
  facts: published.Published, names: Mapping[str, int], free: list[int], grows
) -> dict[str, int]:
  """The ids that our control tokens get, of those that are not there."""
  ours = [name for name in specials.NAMES if name not in names]
  if facts.eos_ids:
    ours = [name for name in ours if name != specials.END_OF_TEXT]
  gets = grows or (facts.chat_template is None and len(free) >= len(ours))
  logging.info(
    'the tokenizer has %s; our control tokens %s',
    'a chat template' if facts.chat_template else 'no chat template',
    'are in it' if gets else f'are not: {ours}',
  )
  return dict(zip(ours, free, strict=False)) if gets else {}


def save(folder: files.Name, tokenizer: Tokenizer, target: files.Name) -> None:
  """Save a tokenizer from `read` with the files that it came from.

  An export gives these back as they are, but for control tokens of ours.

  Args:
    folder: that it was read from.
    tokenizer: from `read`.
    target: folder to write.
  """
  published.keep(folder, target)
  tokenizer.save(target)
  target = pathlib.Path(target)
  ours = [name for name in specials.NAMES if name in tokenizer.special_names]
  new = {name: tokenizer.special_id(name) for name in ours}
  path = target / encoding.HUGGING_FACE_FILE
  if path.is_file():
    values = files.read_object(path)
    grown = huggingface.with_added_tokens(values, new)
    if grown['added_tokens'] != values.get('added_tokens'):
      files.write_json(path, grown)
  elif new:
    shutil.copyfile(target / sentencepiece.MODEL_FILE, target / _MODEL)


def write(folder, cfg, tokenizer_dir, is_chat) -> dict[str, Any]:
  """Write the tokenizer's files; returns the ids that config.json holds."""
  tokenizer = loading.load(tokenizer_dir)
  if tokenizer.vocab_size != cfg.vocab_size:
    raise ValueError(
      f'the tokenizer in {tokenizer_dir} has {tokenizer.vocab_size} tokens, '
      f'the model {cfg.vocab_size}; give the tokenizer of the model'
    )
  if tokenizer.published is not None:
    published.keep(tokenizer_dir, folder)
    ids = dict(tokenizer.published.config_ids)
  else:
    ids = _write_own_tokenizer(
      folder, cfg, tokenizer_dir=tokenizer_dir, is_chat=is_chat
    )
  if not is_chat or tokenizer.chat_template is not None:
    return ids
  # The turn ends with our token, whatever ends a text of the model.
  path = folder / 'chat_template.jinja'
  path.write_text(template.JINJA, encoding='utf-8')
  eos_ids = [tokenizer.special_id(specials.IM_END), *tokenizer.eos_ids]
  for name, change in (
    ('tokenizer_config.json', {'eos_token': specials.IM_END}),
    ('generation_config.json', {'eos_token_id': eos_ids}),
  ):
    path = folder / name
    if path.exists():
      files.write_json(path, files.read_object(path) | change)
  return ids | {'eos_token_id': eos_ids}


def _write_own_tokenizer(folder, cfg, tokenizer_dir, is_chat) -> dict[str, Any]:
  """Write a vocabulary of our own; returns the ids that config.json holds."""
  end = specials.END_OF_TEXT
  source = pathlib.Path(tokenizer_dir) / encoding.HUGGING_FACE_FILE
  values = files.read_object(source)
  end_id = values['model']['vocab'][end]
  if not is_chat:  # a conversation begins with its first message
    values = huggingface.begins_with(values, end)
  files.write_json(folder / source.name, values)
  files.write_json(
    folder / 'tokenizer_config.json',
    {
      'tokenizer_class': 'PreTrainedTokenizerFast',
      **dict.fromkeys(('bos_token', 'eos_token', 'pad_token'), end),
      'model_max_length': cfg.max_length,
      # Or transformers 4 adds token_type_ids, which generate() refuses.
      'model_input_names': ['input_ids', 'attention_mask'],
      'clean_up_tokenization_spaces': False,
    },
  )
  return dict.fromkeys(published.ID_KEYS, end_id)
