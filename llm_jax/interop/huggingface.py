"""Model folders of Hugging Face transformers: read and written.

Safetensors by its numpy interface, so no torch is needed. One tensor exists
beside the model while a folder is read, one file's tensors while it is
written. Only folders are read, nothing is fetched, and pickled weights are
not opened.
"""

import dataclasses
import math
import pathlib
import re
import shutil
from typing import Any

import huggingface_hub
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
from flax import traverse_util
from jax.sharding import Mesh
from safetensors import numpy as safetensors_numpy

from llm_jax import files, types
from llm_jax.interop import families, tensors, tokenizer_files
from llm_jax.model import config, params
from llm_jax.tokenizer import published

Model = tuple[config.ModelConfig, tensors.Flat]
_INDEX = 'model.safetensors.index.json'
_MAX_SHARD_BYTES = 4 << 30  # of tensors in a file, unless one is larger
# Buffers in old files that are computed anew: masks of GPT-2, frequencies.
_COMPUTED = re.compile(r'\.attn\.(masked_)?bias$|\.rotary_emb\.inv_freq$')


def read(folder: files.Name) -> Model:
  """Read a published model.

  Args:
    folder: with config.json and model.safetensors, or several files and
      their index.

  Returns:
    The model's configuration and its parameters by path, as float32 arrays.
    Rows that pad the vocabulary are 0.

  Raises:
    ValueError: if a file is missing, or a key, tensor or shape is not what
      the model's class has, by name.
  """
  folder = pathlib.Path(folder)
  values = files.read_object(folder / 'config.json')
  cfg = families.from_json(values)
  wanted = tensors.of_model(cfg, values['model_type'])
  stored = _find_tensors(folder, values['model_type'])
  names = [tensor.name for tensor in wanted]
  _refuse_other_names(folder, stored, wanted=names, cfg=cfg)
  flat = tensors.zeros(cfg)
  for file in sorted({path for path, _ in stored.values()}):
    with safetensors.safe_open(file, framework='numpy') as opened:
      for tensor in wanted:
        path, stored_name = stored[tensor.name]
        if path == file:
          tensors.fill(flat, tensor, opened.get_tensor(stored_name))
      if cfg.tied_embeddings and stored.get('lm_head.weight', ('',))[0] == file:
        head_VD = opened.get_tensor(stored['lm_head.weight'][1])
        if not np.array_equal(head_VD, flat['embedding'][: len(head_VD)]):
          raise ValueError(
            f'{folder} has a lm_head.weight unlike its embedding, but '
            'config.json ties them; set "tie_word_embeddings": false there'
          )
  return cfg, flat


def grow(cfg: config.ModelConfig, flat: tensors.Flat, vocab_size: int) -> Model:
  """The model with more tokens; a new one is the mean of all others.

  So it is neither drawn often nor far from where training moves it.

  Args:
    cfg: the model.
    flat: its parameters by path.
    vocab_size: of the model that is wanted, no smaller.
  """
  if vocab_size == cfg.vocab_size:
    return cfg, flat
  grown = dataclasses.replace(cfg, vocab_size=vocab_size)
  flat = dict(flat)
  for path, param in params.table(grown).items():
    if param.axes == 'VD':
      old_VD = flat[path][: cfg.vocab_size]
      new_VD = np.zeros(param.shape, np.float32)
      new_VD[: cfg.vocab_size] = old_VD
      new_VD[cfg.vocab_size : vocab_size] = old_VD.mean(axis=0)
      flat[path] = new_VD
  return grown, flat


def place(
  cfg: config.ModelConfig, flat: tensors.Flat, mesh: Mesh
) -> types.Params:
  """The parameters on a mesh, each part only where the mesh wants it.

  Args:
    cfg: the model.
    flat: its parameters by path; emptied, so that none lies in memory twice.
    mesh: the mesh.
  """
  wanted = traverse_util.flatten_dict(
    params.shardings(params.table(cfg), mesh), sep='/'
  )
  placed = {
    path: jax.device_put(flat.pop(path), sharding)
    for path, sharding in wanted.items()
  }
  return traverse_util.unflatten_dict(placed, sep='/')


def write(
  folder: files.Name,
  cfg: config.ModelConfig,
  params: types.Params,
  tokenizer_dir: files.Name | None = None,
  is_chat: bool = False,
  dtype: str = 'float32',
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

  Raises:
    FileExistsError: if the folder exists.
    ValueError: if no published class can express an option of the model, by
      name, or a value does not fit the dtype.
  """
  folder = pathlib.Path(folder)
  if folder.exists():
    raise FileExistsError(f'{folder} exists; give a new folder')
  if dtype not in tensors.DTYPES:
    raise ValueError(f'dtype {dtype!r}; use one of {", ".join(tensors.DTYPES)}')
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
    ids |= tokenizer_files.write(
      unfinished, cfg, tokenizer_dir=tokenizer_dir, is_chat=is_chat
    )
  files.write_json(unfinished / 'config.json', values | ids)
  path = unfinished / 'generation_config.json'
  if not path.exists():
    given = {key: value for key, value in ids.items() if value is not None}
    files.write_json(path, {'do_sample': True, **given})
  _write_tensors(
    unfinished,
    tensors.of_model(cfg, family.model_type),
    flat=traverse_util.flatten_dict(params, sep='/'),
    dtype=jnp.dtype(dtype),
  )
  files.put_in_place(unfinished, folder)


def _find_tensors(
  folder: pathlib.Path, model_type: str
) -> dict[str, tuple[str, str]]:
  """The file of each tensor and its name there, by the name that it has now."""
  paths = [folder / 'model.safetensors']
  if (folder / _INDEX).is_file():
    weight_map = files.read_object(folder / _INDEX).get('weight_map', {})
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
      f'the tensors in {folder} are not those of its config.json; is it '
      f'quantised? {len(missing)} missing {missing[:3]}, {len(unknown)} '
      f'unknown {unknown[:3]}'
    )


def _write_tensors(folder, wanted, flat, dtype):
  """Write all tensors, one file after the other."""
  by_name = {tensor.name: tensor for tensor in wanted}
  split = huggingface_hub.split_state_dict_into_shards_factory(
    by_name,
    get_storage_size=lambda t: math.prod(t.shape) * dtype.itemsize,
    filename_pattern='model{suffix}.safetensors',
    max_shard_size=_MAX_SHARD_BYTES,
  )
  for file, names in split.filename_to_tensors.items():
    arrays = {name: _published(by_name[name], flat, dtype) for name in names}
    safetensors_numpy.save_file(arrays, folder / file, {'format': 'pt'})
    (folder / file).chmod(0o644)  # as other files; it makes them private
  if split.is_sharded:
    index = {'metadata': split.metadata, 'weight_map': split.tensor_to_filename}
    files.write_json(folder / _INDEX, index)


def _published(tensor: tensors.Tensor, flat, dtype) -> np.ndarray:
  array = tensor.join(flat)
  if dtype == np.float16 and np.abs(array).max() > np.finfo(np.float16).max:
    raise ValueError(
      f'{tensor.name} has values beyond float16; use float32 or bfloat16'
    )
  return array.astype(dtype)
