"""Model folders of Hugging Face transformers: read and written.

Safetensors by its numpy interface, so no torch is needed. One tensor exists
beside the model while a folder is read, one file's tensors while it is
written. Only folders are read, nothing is fetched, and pickled weights are
not opened.
"""

import pathlib
import re
import shutil
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors
from absl import logging
from flax import traverse_util
from safetensors import numpy as safetensors_numpy

from llm_jax import files, types
from llm_jax.chat import template
from llm_jax.interop import families, tensors
from llm_jax.model import config, params
from llm_jax.tokenizer import encoding, published, specials
from llm_jax.tokenizer import huggingface as tokenizer_json

_INDEX = 'model.safetensors.index.json'
_OURS = published.Published()
_DTYPES = {
  'float32': np.float32,
  'bfloat16': jnp.bfloat16,
  'float16': np.float16,
}
# Buffers in old files that are computed anew: masks of GPT-2, frequencies.
_COMPUTED = re.compile(r'\.attn\.(masked_)?bias$|\.rotary_emb\.inv_freq$')


def read(folder: files.Name) -> tuple[config.ModelConfig, types.Params]:
  """Read a published model.

  Args:
    folder: with config.json and model.safetensors, or several files and
      their index.

  Returns:
    The model's configuration and its parameters as float32 numpy arrays.
    Rows that pad the vocabulary are 0.

  Raises:
    ValueError: if a file is missing, or a key, tensor or shape is not what
      the model's class has, by name.
  """
  folder = pathlib.Path(folder)
  values = _read_json(folder / 'config.json')
  cfg = families.from_json(values)
  wanted = tensors.of_model(cfg, values['model_type'])
  stored = _find_tensors(folder, values['model_type'])
  names = [tensor.name for tensor in wanted]
  _refuse_other_names(folder, stored, wanted=names, cfg=cfg)
  flat = {
    path: np.zeros(line.shape, np.float32)
    for path, line in params.table(cfg).items()
  }
  for file in sorted({path for path, _ in stored.values()}):
    with safetensors.safe_open(file, framework='numpy') as opened:
      for tensor in wanted:
        path, stored_name = stored[tensor.name]
        if path == file:
          _fill(flat, tensor, opened.get_tensor(stored_name))
      if cfg.tied_embeddings and stored.get('lm_head.weight', ('',))[0] == file:
        head_VD = opened.get_tensor(stored['lm_head.weight'][1])
        _refuse_other_head(folder, head_VD, flat['embedding'])
  return cfg, traverse_util.unflatten_dict(flat, sep='/')


def write(
  folder: files.Name,
  cfg: config.ModelConfig,
  params: types.Params,
  tokenizer_dir: files.Name | None = None,
  is_chat: bool = False,
  dtype: str = 'float32',
  max_shard_bytes: int = 4 << 30,
) -> None:
  """Write a model as a folder that transformers 4.57 and 5 load.

  The folder appears whole or not at all.

  Args:
    folder: where to; it must not exist.
    cfg: the model.
    params: its parameters.
    tokenizer_dir: a saved tokenizer of ours, to be written along; None: none.
    is_chat: whether the model answers messages; its turn then ends the text.
    dtype: of the tensors: float32, bfloat16 or float16.
    max_shard_bytes: bytes of tensors in a file, unless one is larger.

  Raises:
    FileExistsError: if the folder exists.
    ValueError: if no published class can express an option of the model, by
      name, or a value does not fit the dtype.
  """
  folder = pathlib.Path(folder)
  if folder.exists():
    raise FileExistsError(f'{folder} exists; give a new folder')
  if dtype not in _DTYPES:
    raise ValueError(f'dtype {dtype!r}; use one of {", ".join(_DTYPES)}')
  family = families.of_model(cfg)
  values = families.to_json(cfg, family, dtype)
  folder.parent.mkdir(parents=True, exist_ok=True)
  for leftover in folder.parent.glob(f'.{folder.name}.*.tmp'):
    shutil.rmtree(leftover)  # of an export that was killed
  unfinished = files.unfinished(folder)
  unfinished.mkdir()
  # Null where there is no tokenizer, or the class's own ids would count.
  ids: dict[str, Any] = dict.fromkeys(published.ID_KEYS)
  if tokenizer_dir is not None:
    ids |= _write_tokenizer(
      unfinished, cfg, tokenizer_dir=tokenizer_dir, is_chat=is_chat
    )
  files.write_json(unfinished / 'config.json', values | ids)
  path = unfinished / 'generation_config.json'
  if not path.exists():
    given = {key: value for key, value in ids.items() if value is not None}
    files.write_json(path, {'do_sample': True, **given})
  wanted = tensors.of_model(cfg, family.model_type)
  _write_tensors(
    unfinished,
    wanted,
    flat=traverse_util.flatten_dict(params, sep='/'),
    dtype=np.dtype(_DTYPES[dtype]),
    max_shard_bytes=max_shard_bytes,
  )
  files.put_in_place(unfinished, folder)


def read_tokenizer(
  folder: files.Name, vocab_size: int, grows: bool = False
) -> encoding.Tokenizer:
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
  values = _read_json(folder / 'tokenizer.json')
  names = values['model']['vocab'] | {
    token['content']: token['id'] for token in values.get('added_tokens') or ()
  }
  facts = published.read(folder, names)
  parts = tokenizer_json.read_parts(values, set(facts.token_names.values()))
  special_ids = dict(parts.special_ids)
  added = {a.name: a.token_id for a in parts.rules.added}
  taken = {*parts.ranks.values(), *special_ids.values(), *added.values()}
  ours = [
    name
    for name in specials.NAMES
    if name not in special_ids and name not in added
    and not (name == specials.END_OF_TEXT and facts.eos_ids)
  ]  # fmt: skip
  unused = [i for i in range(vocab_size) if i not in taken]
  if grows:
    unused += range(vocab_size, vocab_size + len(ours))
  if grows or (facts.chat_template is None and len(unused) >= len(ours)):
    special_ids |= dict(zip(ours, unused, strict=False))
    ours = []
  logging.info(
    '%d ordinary and %d control tokens; %s; of our control tokens it lacks %s',
    len(parts.ranks),
    len(special_ids),
    'a chat template' if facts.chat_template else 'no chat template',
    ours or 'none',
  )
  return encoding.Tokenizer(
    parts.ranks,
    parts.pattern,
    special_ids=special_ids,
    vocab_size=max([vocab_size, *(i + 1 for i in special_ids.values())]),
    rules=parts.rules,
    published=facts,
  )


def save_tokenizer(
  folder: files.Name, tokenizer: encoding.Tokenizer, target: files.Name
) -> None:
  """Save a tokenizer from `read_tokenizer` with the files that it came from.

  An export gives these back as they are, but for control tokens of ours.

  Args:
    folder: that it was read from.
    tokenizer: from `read_tokenizer`.
    target: folder to write.
  """
  published.keep(folder, target)
  path = pathlib.Path(target) / encoding.HUGGING_FACE_FILE
  ids = {name: tokenizer.special_id(name) for name in tokenizer.special_names}
  values = _read_json(path)
  grown = tokenizer_json.with_control_tokens(values, ids)
  if grown['added_tokens'] != values.get('added_tokens'):
    files.write_json(path, grown)
  tokenizer.save(target)


def _read_json(path: pathlib.Path) -> dict[str, Any]:
  if not path.is_file():
    raise ValueError(
      f'{path} is missing; give a folder that save_pretrained wrote'
    )
  values = files.read_json(path)
  if not isinstance(values, dict):
    raise ValueError(f'{path} holds no object')
  return values


def _find_tensors(
  folder: pathlib.Path, model_type: str
) -> dict[str, tuple[str, str]]:
  """The file of each tensor and its name there, by the name that it has now."""
  paths = [folder / 'model.safetensors']
  if (folder / _INDEX).is_file():
    weight_map = _read_json(folder / _INDEX).get('weight_map', {})
    names = sorted(set(weight_map.values()))
    outside = [n for n in names if pathlib.PurePath(n).name != n]
    if outside:
      raise ValueError(f'{folder / _INDEX} names {outside[0]!r}, no file of it')
    paths = [folder / name for name in names]
  found = {}
  for path in paths:
    if not path.is_file():
      raise ValueError(
        f'{path} is missing; fetch it, or convert the checkpoint to safetensors'
      )
    try:
      with safetensors.safe_open(path, framework='numpy') as opened:
        names = list(opened.keys())
    except safetensors.SafetensorError as error:
      raise ValueError(f'{path} is damaged: {error}; fetch it again') from None
    for name in names:
      # The first GPT-2 files were saved without the prefix.
      is_old = model_type == 'gpt2' and re.match(r'(h|wte|wpe|ln_f)\.', name)
      found[f'transformer.{name}' if is_old else name] = (str(path), name)
  return {k: v for k, v in found.items() if not _COMPUTED.search(k)}


def _refuse_other_names(folder, files, wanted, cfg):
  spare = {'lm_head.weight'} if cfg.tied_embeddings else set()
  missing = [name for name in wanted if name not in files]
  unknown = sorted(files.keys() - set(wanted) - spare)
  if missing or unknown:
    raise ValueError(
      f'the tensors in {folder} are not those of its config.json: '
      f'{len(missing)} missing {missing[:3]}, {len(unknown)} unknown '
      f'{unknown[:3]}; is it another class, or a quantised model?'
    )


def _fill(flat, tensor: tensors.Tensor, array: np.ndarray) -> None:
  """Copy a tensor into its place in our arrays."""
  if array.shape != tensor.shape or array.dtype.name not in _DTYPES:
    raise ValueError(
      f'{tensor.name} is {array.dtype.name} {list(array.shape)}, but by '
      f'config.json it is {list(tensor.shape)} of {" or ".join(_DTYPES)}'
    )
  for path, part in tensor.split(array):
    into = flat[path][tensor.index]
    into[: len(part)] = part  # rows that pad the vocabulary stay 0


def _refuse_other_head(folder, head_VD, embedding_VD):
  if not np.array_equal(head_VD, embedding_VD[: len(head_VD)]):
    raise ValueError(
      f'{folder} has a lm_head.weight unlike its embedding, but config.json '
      'ties them; set "tie_word_embeddings": false there'
    )


def _write_tensors(folder, wanted, flat, dtype, max_shard_bytes):
  """Write all tensors, one file after the other."""
  shards, n_bytes = [[]], 0
  for tensor in wanted:
    size = int(np.prod(tensor.shape)) * dtype.itemsize
    if shards[-1] and n_bytes + size > max_shard_bytes:
      shards.append([])
      n_bytes = 0
    shards[-1].append(tensor)
    n_bytes += size
  weight_map = {}
  for i, shard in enumerate(shards):
    name = 'model.safetensors'
    if len(shards) > 1:
      name = f'model-{i + 1:05d}-of-{len(shards):05d}.safetensors'
    arrays = {t.name: _published(t, flat, dtype) for t in shard}
    safetensors_numpy.save_file(arrays, folder / name, {'format': 'pt'})
    weight_map |= dict.fromkeys(arrays, name)
  if len(shards) > 1:
    total = sum(int(np.prod(t.shape)) for t in wanted) * dtype.itemsize
    index = {'metadata': {'total_size': total}, 'weight_map': weight_map}
    files.write_json(folder / _INDEX, index)


def _published(tensor: tensors.Tensor, flat, dtype) -> np.ndarray:
  array = tensor.join(flat)
  if dtype == np.float16 and np.abs(array).max() > np.finfo(np.float16).max:
    raise ValueError(
      f'{tensor.name} has values beyond float16; use float32 or bfloat16'
    )
  return array.astype(dtype)


def _write_tokenizer(folder, cfg, tokenizer_dir, is_chat) -> dict[str, Any]:
  """Write the tokenizer's files; returns the ids that config.json holds."""
  tokenizer = encoding.Tokenizer.load(tokenizer_dir)
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
      files.write_json(path, _read_json(path) | change)
  return ids | {'eos_token_id': eos_ids}


def _write_own_tokenizer(folder, cfg, tokenizer_dir, is_chat) -> dict[str, Any]:
  """Write a vocabulary of our own; returns the ids that config.json holds."""
  end = specials.END_OF_TEXT
  source = pathlib.Path(tokenizer_dir) / encoding.HUGGING_FACE_FILE
  values = _read_json(source)
  end_id = values['model']['vocab'][end]
  if not is_chat:  # a conversation begins with its first message
    values = tokenizer_json.begins_with(values, end)
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
