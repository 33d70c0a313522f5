"""The tokenizer files of a published model: read, kept and given back.

A checkpoint holds the files that the tokenizer came from beside ours, so that
an export gives them back byte for byte. What is written for a vocabulary of our
own makes transformers read and write the ids that our models were trained on.
"""

import pathlib
import shutil
import tempfile
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
  sentencepiece,
  sentencepiece_json,
  specials,
  text_tokenizer,
)

_MODEL = 'tokenizer.model'  # SentencePiece, as published
_OURS = published.Published()
Tokenizer = encoding.Tokenizer | sentencepiece.SentencePieceTokenizer


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
  folder = pathlib.Path(folder)
  path = folder / encoding.HUGGING_FACE_FILE
  is_model = (folder / _MODEL).is_file()
  values: dict[str, Any] = {'model': {}}
  if path.is_file() or not is_model:
    values = files.read_object(path)
  values['added_tokens'] = _added_tokens(folder, values)
  if not is_model and not sentencepiece_json.is_of_this_kind(values):
    return _read_byte_level(folder, values, vocab_size=vocab_size, grows=grows)
  with tempfile.TemporaryDirectory() as scratch:
    model = folder / _MODEL
    if not is_model:
      model = pathlib.Path(scratch) / _MODEL
      sentencepiece_json.write(values, model)
    return _read_sentencepiece(
      folder, values, model=model, vocab_size=vocab_size, grows=grows
    )


def _added_tokens(
  folder: pathlib.Path, values: Mapping[str, Any]
) -> list[dict[str, Any]]:
  """Those of tokenizer.json, and those that only the files beside it have."""
  added: list[dict[str, Any]] = [*(values.get('added_tokens') or ())]
  names = {token['content'] for token in added}
  path = folder / 'tokenizer_config.json'
  settings = files.read_object(path) if path.is_file() else {}
  for token_id, token in (settings.get('added_tokens_decoder') or {}).items():
    if token['content'] not in names:
      added.append({**token, 'id': int(token_id)})
      names.add(token['content'])
  path = folder / 'added_tokens.json'
  for name, token_id in (
    files.read_object(path) if path.is_file() else {}
  ).items():
    if name not in names:
      added.append({'content': name, 'id': token_id, 'special': True})
  return added


def _read_byte_level(folder, values, vocab_size, grows) -> encoding.Tokenizer:
  added = huggingface.added_tokens(values)
  names = values['model']['vocab'] | {a.name: a.token_id for a in added}
  facts = published.read(folder, names)
  parts = huggingface.read_parts(values, set(facts.token_names.values()))
  text_ids = {a.name: a.token_id for a in parts.rules.added}
  taken = {*parts.ranks.values(), *parts.special_ids.values()}
  new = _new_control_tokens(
    facts,
    {*parts.special_ids, *text_ids},
    taken={*taken, *text_ids.values()},
    vocab_size=vocab_size,
    grows=grows,
  )
  return encoding.Tokenizer(
    parts.ranks,
    parts.pattern,
    special_ids=parts.special_ids | new,
    vocab_size=max([vocab_size, *(i + 1 for i in new.values())]),
    rules=parts.rules,
    published=facts,
  )


def _read_sentencepiece(
  folder, values, model, vocab_size, grows
) -> sentencepiece.SentencePieceTokenizer:
  plain = sentencepiece.SentencePieceTokenizer(model)
  names = dict(plain.piece_ids)
  added = huggingface.added_tokens(values)
  names |= {token.name: token.token_id for token in added}
  facts = published.read(folder, names)
  controls = {*facts.token_names.values()}
  controls |= {token.name for token in added if token.is_special}
  new = _new_control_tokens(
    facts,
    names.keys(),
    taken={*names.values()} - {*plain.unused_ids},
    vocab_size=vocab_size,
    grows=grows,
  )
  return sentencepiece.SentencePieceTokenizer(
    model,
    control_pieces=sorted(controls & plain.piece_ids.keys()),
    new_pieces=[
      *(token for token in added if token.name not in plain.piece_ids),
      *(text_tokenizer.AddedToken(name, i) for name, i in new.items()),
    ],
    vocab_size=vocab_size,
    published=facts,
  )


def _new_control_tokens(
  facts, names, taken, vocab_size, grows
) -> dict[str, int]:
  """The ids that our control tokens get, of those that are not there."""
  ours = [
    name
    for name in specials.NAMES
    if name not in names
    and not (name == specials.END_OF_TEXT and facts.eos_ids)
  ]  # fmt: skip
  free = [i for i in range(vocab_size) if i not in taken]
  if grows:
    free += range(vocab_size, vocab_size + len(ours))
  gets = grows or (facts.chat_template is None and len(free) >= len(ours))
  logging.info(
    'the tokenizer has %s; our control tokens %s',
    'a chat template' if facts.chat_template else 'no chat template',
    'are in it' if gets else f'are not: {ours}',
  )
  return dict(zip(ours, free, strict=False)) if gets else {}


def save(
  folder: files.Name,
  tokenizer: Tokenizer,
  target: files.Name,
) -> None:
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
  ids = {name: tokenizer.special_id(name) for name in tokenizer.special_names}
  new = {name: i for name, i in ids.items() if name in specials.NAMES}
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
  if not is_chat or (tokenizer.published or _OURS).chat_template is not None:
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
      'bos_token': end,
      'eos_token': end,
      'pad_token': end,
      'model_max_length': cfg.max_length,
      # Or transformers 4 adds token_type_ids, which generate() refuses.
      'model_input_names': ['input_ids', 'attention_mask'],
      'clean_up_tokenization_spaces': False,
    },
  )
  return dict.fromkeys(published.ID_KEYS, end_id)
