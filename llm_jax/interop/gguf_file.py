"""Model files of llama.cpp (GGUF): read as the folder that they came from.

The metadata becomes a config.json, and the tensors are dequantised to float32
and brought back into the order of Hugging Face: llama.cpp keeps the rows of
queries and keys of the Llama class in pairs, and Gemma's norms as 1 + weight.
What the metadata says of tokens is in gguf_tokenizer.py. Such files are written
by `tools.export_gguf`.
"""

import functools
import pathlib
from typing import Any

import gguf
import numpy as np

from llm_jax import files
from llm_jax.interop import families, tensors
from llm_jax.model import config

TYPES = ('F32', 'F16', 'BF16', 'Q8_0', 'Q4_0', 'Q4_1', 'Q5_0', 'Q4_K', 'Q6_K')
Json = families.Json
FREQUENCIES = 'rope_freqs.weight'
# Llama 3.1 to 3.3 and Llama 3.2, of whose scaling only its result is stored.
_LLAMA3_FACTORS = (8.0, 32.0)
# What is known of such files.
tables = functools.partial(files.tables_of, __file__)


def find(source: files.Name) -> pathlib.Path | None:
  """The GGUF file that is meant by a path to it or to its folder, if one is.

  Raises:
    ValueError: if the folder has several.
  """
  path = pathlib.Path(source)
  if path.suffix == '.gguf':
    return path
  found = sorted(path.glob('*.gguf'))
  if not found or (path / 'config.json').is_file():
    return None
  if len(found) > 1:
    raise ValueError(
      f'{path} has {len(found)} GGUF files; give the path of one'
    )
  return found[0]


def read(path: files.Name) -> tuple[config.ModelConfig, tensors.Flat, Json]:
  """Read a model.

  Args:
    path: of the file.

  Returns:
    The model's configuration; its parameters by path, as float32 arrays, in
    which rows that pad the vocabulary are 0; and the file's metadata.

  Raises:
    ValueError: if it is no GGUF file, or an architecture, key, type or tensor
      is not one that can be read, by name.
  """
  stored, known = opened(path)
  architecture = str(known.get('general.architecture'))
  values = config_values(known, stored)
  cfg = families.from_json(values)
  names = gguf.get_tensor_name_map(
    getattr(gguf.MODEL_ARCH, architecture.upper()), cfg.n_layers
  )
  flat = tensors.zeros(cfg)
  left = stored.keys() - {FREQUENCIES}
  for tensor in tensors.of_model(cfg, values['model_type']):
    name = names.get_name(tensor.name, try_suffixes=('.weight', '.bias'))
    if name not in stored:
      raise ValueError(
        f'{path} has no tensor {name} of {architecture}; fetch it again'
      )
    left -= {name}
    array = _array(path, stored[name])
    if architecture == 'llama' and 'self_attn.' in tensor.name:
      array = _unpaired(array, tensor.name, cfg)
    if architecture.startswith('gemma') and 'norm.weight' in tensor.name:
      array = array - 1
    tensors.fill(flat, tensor, array)
  if left:
    raise ValueError(
      f'{path} has tensors that {architecture} has not: {sorted(left)[:3]}'
    )
  return cfg, flat, known


def opened(path: files.Name) -> tuple[Json, Json]:
  """The tensors of a file by name, not yet read, and its metadata.

  Raises:
    ValueError: if it is no GGUF file.
  """
  try:
    reader = gguf.GGUFReader(path)
  except (OSError, ValueError, LookupError) as error:
    raise ValueError(
      f'{path} is missing, damaged or no GGUF file: {error}; fetch it again'
    ) from error
  stored = {tensor.name: tensor for tensor in reader.tensors}
  known = {key: field.contents() for key, field in reader.fields.items()}
  return stored, known


def config_values(known: Json, stored: Json) -> Json:
  """The config.json of the model that the metadata describes."""
  architecture = str(known.get('general.architecture'))
  architectures = tables()['architectures']
  if architecture not in architectures:
    raise ValueError(
      f'the GGUF file has the architecture {architecture!r}, which cannot be '
      f'read; use one of {", ".join(architectures)}'
    )
  row, prefix = architectures[architecture], f'{architecture}.'
  keys, ignored = tables()['keys'] | row.get('keys', {}), tables()['ignored']
  own = {
    key.removeprefix(prefix): _plain(value)
    for key, value in known.items()
    if key.startswith(prefix) and key.removeprefix(prefix) not in ignored
  }
  values = {'model_type': row['model_type']}
  values |= {keys[key]: own.pop(key) for key in [*own] if key in keys}
  values['rope_scaling'] = _scaling(own, values, stored)
  if own := {key: value for key, value in own.items() if value}:
    raise ValueError(
      f'the GGUF file has {", ".join(f"{k} = {v!r}" for k, v in own.items())}, '
      f'unknown for {architecture}'
    )
  values['vocab_size'] = int(stored['token_embd.weight'].shape[1])
  values['tie_word_embeddings'] = 'output.weight' not in stored
  n_heads, width = values['num_attention_heads'], values['hidden_size']
  values.setdefault('head_dim', width // n_heads)
  if architecture.startswith('gemma'):
    values.setdefault('final_logit_softcapping', None)
    is_odd = values['num_hidden_layers'] == row['odd_layers']
    scalar = width // n_heads if is_odd else values['head_dim']
    values['query_pre_attn_scalar'] = scalar
  if stored['blk.0.attn_q.weight'].tensor_type.name == 'BF16':
    values['dtype'] = 'bfloat16'
  return values


def _plain(value: Any) -> Any:
  """A value with the digits that its float32 has."""
  return float(str(np.float32(value))) if isinstance(value, float) else value


def _scaling(own: Json, values: Json, stored: Json) -> Json | None:
  """rope_scaling; takes its keys out of `own`."""
  kind = own.pop('rope.scaling.type', 'none')
  factor = own.pop('rope.scaling.factor', None)
  if kind not in ('none', 'linear'):
    raise ValueError(
      f'the GGUF file has the rope scaling {kind!r}; only linear is supported'
    )
  if kind == 'linear':
    return {'rope_type': 'linear', 'factor': factor}
  if FREQUENCIES not in stored:
    return None
  given = np.asarray(stored[FREQUENCIES].data, np.float32)
  for factor in _LLAMA3_FACTORS:
    wanted = llama3_factors(values['rope_theta'], given.size, factor)
    if np.allclose(given, wanted, rtol=1e-3):
      return {
        'rope_type': 'llama3', 'factor': factor, 'low_freq_factor': 1.0,
        'high_freq_factor': 4.0, 'original_max_position_embeddings': 8192,
      }  # fmt: skip
  raise ValueError(
    f'{FREQUENCIES} is not of a published Llama 3; read its safetensors'
  )


def llama3_factors(theta: float, n: int, factor: float) -> np.ndarray:
  """What each of n frequencies is divided by, as config.RopeScaling says."""
  wavelengths = 2 * np.pi * theta ** (np.arange(n) / n)
  smooth = np.clip((8192 / wavelengths - 1) / (4 - 1), 0, 1)
  return 1 / ((1 - smooth) / factor + smooth)


def _array(path: files.Name, tensor: Any) -> np.ndarray:
  if tensor.tensor_type.name not in TYPES:
    raise ValueError(
      f'{tensor.name} in {path} is {tensor.tensor_type.name}; use a file of '
      f'{", ".join(TYPES)}'
    )
  array = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
  return np.asarray(array, np.float32)


def _unpaired(
  array: np.ndarray, name: str, cfg: config.ModelConfig
) -> np.ndarray:
  """Rows of q or k with a head's two halves behind each other."""
  if (n := _n_heads(name, cfg)) is None:
    return array
  pairs = array.reshape(n, -1, 2, *array.shape[1:])
  return pairs.swapaxes(1, 2).reshape(array.shape)


def in_pairs(
  array: np.ndarray, name: str, cfg: config.ModelConfig
) -> np.ndarray:
  """Rows of q or k of the Llama class as llama.cpp keeps them, of HF's."""
  if (n := _n_heads(name, cfg)) is None:
    return array
  halves = array.reshape(n, 2, -1, *array.shape[1:])
  return halves.swapaxes(1, 2).reshape(array.shape)


def _n_heads(name: str, cfg: config.ModelConfig) -> int | None:
  heads = {'q_proj': cfg.n_heads, 'k_proj': cfg.n_kv_heads}
  return heads.get(name.split('.')[-2])
