"""Published model classes: config.json to ModelConfig and back.

A class fixes some options of ModelConfig and holds the others in its
config.json. Both spellings of rotary positions and of the dtype are written,
because transformers 4 reads one of each, without an error where it is missing,
and transformers 5 the other. Does not touch arrays.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from absl import logging

from llm_jax import dataclass_json, files
from llm_jax.model import config

_KINDS = {'full_attention': 'G', 'sliding_attention': 'L'}
# Keys of fine-tuning tools and of converters, whatever they say.
_TOOLS = re.compile(r'unsloth|axolotl|llamafactory|peft|transformers\.js|mlx')
# Their values are no part of ModelConfig's layout, nor are those of all keys.
_ANY_VALUE = ('unused_ids', 'dtype', 'unroll_layers', 'remat')


Json = dict[str, Any]  # an object


class Family(NamedTuple):
  """A published class, as families.toml explains it."""

  model_type: str
  architecture: str
  fixed: Mapping[str, Any]
  free: Sequence[str]
  constants: Mapping[str, Any]
  keys: Mapping[str, str]
  tied: bool


_tables = functools.partial(files.tables_of, __file__)


@functools.cache
def _families() -> dict[str, Family]:
  found = {}
  for name, row in _tables()['classes'].items():
    row = {'fixed': {}, 'tied': False, 'null': (), **row}
    row['constants'] = row['constants'] | dict.fromkeys(row.pop('null'))
    keys = _tables()['keys'] | row.get('keys', {})
    row['keys'] = {option: key for option, key in keys.items() if key}
    found[name] = Family(name, **row)
  return found


def of_model(cfg: config.ModelConfig) -> Family:
  """Find the class that expresses a model.

  Args:
    cfg: the model.

  Returns:
    The first class without a blocking option.

  Raises:
    ValueError: if there is none, with the options that block the nearest.
  """
  found = [(family, _blockers(family, cfg)) for family in _families().values()]
  nearest, blockers = min(found, key=lambda each: len(each[1]))
  if blockers:
    raise ValueError(
      'no published class can express this model; the nearest, '
      f'{nearest.architecture}, needs {"; ".join(blockers)}'
    )
  return nearest


def _blockers(family: Family, cfg: config.ModelConfig) -> list[str]:
  default, blockers = config.ModelConfig(), []
  # Options without effect while another one is 0.
  of_experts = ('n_experts_per_token', 'normalize_router')
  needs = dict.fromkeys(of_experts, 'n_experts') | {'layer_pattern': 'window'}
  free = {*_ANY_VALUE, *_tables()['keys'], *family.free, *family.keys}
  free |= {name for name, other in needs.items() if not getattr(cfg, other)}
  for name, has in vars(cfg).items():
    wanted = family.fixed.get(name, getattr(default, name))
    if has != wanted and name not in free:
      blockers.append(f'{name} = {wanted!r} instead of {has!r}')
  if 'n_experts' in family.keys and not cfg.n_experts:
    blockers.append('n_experts above 0')
  if cfg.window and cfg.rope_scaling and 'local_rope_theta' not in family.free:
    blockers.append('no rope_scaling, as it would scale its local layers too')
  if not float(cfg.query_pre_attn_scalar).is_integer():
    blockers.append(
      f'a whole query_pre_attn_scalar instead of {cfg.query_pre_attn_scalar}'
    )
  if family.model_type == 'gpt2':
    if cfg.n_kv_heads != cfg.n_heads:
      blockers.append(f'n_kv_heads = {cfg.n_heads}, like n_heads')
    if cfg.n_heads * cfg.head_dim != cfg.d_model:
      blockers.append(f'n_heads * head_dim = {cfg.d_model}, like d_model')
  return blockers


def to_json(cfg: config.ModelConfig, family: Family, dtype: str) -> Json:
  """The config.json of a model.

  Args:
    cfg: the model.
    family: from `of_model`.
    dtype: of the tensors that are written.

  Returns:
    What json.dump writes, for transformers 4.57 and 5.
  """
  values: dict[str, Any] = {
    'architectures': [family.architecture], 'model_type': family.model_type,
    'dtype': dtype, 'torch_dtype': dtype, 'use_cache': True,
  }  # fmt: skip
  for name, key in family.keys.items():
    value = getattr(cfg, name)
    values[key] = None if name.endswith('softcap') and not value else value
  values |= family.constants
  if family.model_type == 'qwen3_moe':
    values['num_local_experts'] = cfg.n_experts
  if cfg.positions == 'rotary':
    values |= _rope_to_json(cfg, family)
  if 'window' in family.free:
    names = {kind: name for name, kind in _KINDS.items()}
    values['layer_types'] = [names[kind] for kind in cfg.layer_kinds]
    values['sliding_window'] = cfg.window or None
    if family.model_type.startswith('qwen'):
      values['use_sliding_window'] = cfg.window > 0
  if 'query_pre_attn_scalar' in family.keys:
    scalar = int(cfg.query_pre_attn_scalar)
    values['query_pre_attn_scalar'] = scalar or cfg.head_dim
  return values


def from_json(values: Mapping[str, Any]) -> config.ModelConfig:
  """The model that a config.json describes.

  Args:
    values: the contents, of transformers 4 or 5.

  Returns:
    The model; it computes in bfloat16 if its tensors are of that type.

  Raises:
    ValueError: for a class, key or value that would change the logits and is
      not supported, by name.
  """
  model_type, left = values.get('model_type'), dict(values)
  if model_type not in _families():
    raise ValueError(
      f'config.json has model_type {model_type!r}, which cannot be read; use a '
      f'checkpoint of {", ".join(_families())}'
    )
  family = _families()[model_type]
  options: dict[str, Any] = dict(family.fixed)
  for key, supported in family.constants.items():
    has = left.pop(key, supported)
    if has != supported and not (has is None and not supported):
      raise ValueError(
        f'config.json has {key} = {has!r}; only {supported!r} is supported'
      )
  if family.model_type == 'qwen3_moe':
    # Transformers 5 has Mixtral's name; the others are of layers without
    # experts, and of windows.
    left.setdefault('num_experts', left.pop('num_local_experts', None))
    for key in ('intermediate_size', 'sliding_window', 'max_window_layers'):
      left.pop(key, None)
  options |= _sizes(family, left)
  if family.fixed.get('positions') != 'learned':
    options |= _rope_from_json(family, left)
  if 'window' in family.free:
    options |= _window_from_json(family, left, options['n_layers'])
  if 'query_pre_attn_scalar' in family.keys:
    left.pop('hidden_act', None)  # in old files; hidden_activation counts
  dtype = left.get('dtype') or left.get('torch_dtype')
  options['dtype'] = 'bfloat16' if dtype == 'bfloat16' else 'float32'
  ignored = _without_effect('ignored')
  rest = [k for k in sorted(left) if k not in ignored and left[k] is not None]
  neutral = [key for key in rest if _is_neutral(key, left[key])]
  unknown = [f'{k} = {left[k]!r}' for k in rest if k not in neutral]
  if unknown:
    raise ValueError(
      f'config.json has {", ".join(unknown)}, unknown for '
      f'{family.architecture}; delete what does not change its logits'
    )
  if neutral:
    names = ', '.join(neutral)
    logging.info('config.json: read past %s, which change no logits', names)
  # Checks the types, and makes floats of the ints that JSON may hold.
  cfg = dataclass_json.from_dict(
    config.ModelConfig, dataclass_json.to_dict(config.ModelConfig(**options))
  )
  if blockers := _blockers(family, cfg):
    raise ValueError(f'config.json: ours needs {"; ".join(blockers)}')
  return cfg


def _without_effect(kind: str) -> list[str]:
  return _tables()['without_effect'][kind].split()


def _is_neutral(key: str, value: Any) -> bool:
  """Whether a key that no class knows changes nothing at its value."""
  if key in _without_effect('any') or _TOOLS.match(key.lstrip('_')):
    return True
  neutral: dict[str, Any] = dict.fromkeys(_without_effect('off'), False)
  neutral |= dict.fromkeys(_without_effect('one'), 1.0)
  neutral |= _tables()['without_effect']['at']
  # In Python False == 0 and True == 1.0; a switch is no number.
  same_kind = isinstance(neutral.get(key), bool) == isinstance(value, bool)
  return key in neutral and same_kind and neutral[key] == value


def _sizes(family: Family, left: Json) -> Json:
  """The sizes, with the classes' own values where they may be absent."""
  given: dict[str, Any] = {'tie_word_embeddings': family.tied}
  given |= {'rms_norm_eps': 1e-6, 'layer_norm_epsilon': 1e-5}
  given |= dict.fromkeys(('n_inner', 'head_dim', 'num_key_value_heads'))
  given |= left
  sizes = {}
  for name, key in family.keys.items():
    left.pop(key, None)
    if key not in given:
      raise ValueError(
        f'config.json has no {key}; add it, or save it by transformers'
      )
    is_cap = name.endswith('softcap')
    sizes[name] = given[key] or 0.0 if is_cap else given[key]
  heads, width = sizes['n_heads'], sizes['d_model']
  sizes['n_kv_heads'] = sizes.get('n_kv_heads') or heads
  sizes['head_dim'] = sizes.get('head_dim') or width // heads
  sizes['d_ff'] = sizes['d_ff'] or 4 * width
  return sizes


def _rope_to_json(cfg: config.ModelConfig, family: Family) -> Json:
  scaling = cfg.rope_scaling
  given = None
  if scaling is not None:
    keys = _tables()['scalings'][scaling.kind].items()
    given = {'rope_type': scaling.kind}
    given |= {key: getattr(scaling, name) for key, name in keys}
  flat = {'rope_type': 'default', **(given or {}), 'rope_theta': cfg.rope_theta}
  values = {'rope_theta': cfg.rope_theta, 'rope_scaling': given}
  if 'local_rope_theta' not in family.free:
    return values | {'rope_parameters': flat}
  local = cfg.local_rope_theta or cfg.rope_theta
  values['rope_local_base_freq'] = local
  values['rope_parameters'] = {
    'full_attention': flat,
    'sliding_attention': {'rope_type': 'default', 'rope_theta': local},
  }
  return values


def _rope_from_json(family: Family, left: Json) -> Json:
  """Rotary positions from either spelling, or from both if they agree."""
  new = left.pop('rope_parameters', None) or {}
  old = {'rope_theta': left.pop('rope_theta', None)}
  old |= left.pop('rope_scaling', None) or {}
  local = {'rope_theta': left.pop('rope_local_base_freq', None)}
  full = new.get('full_attention', {} if 'sliding_attention' in new else new)
  is_local = 'local_rope_theta' in family.free
  theta, scaling = _rope(old, full, absent=1e6 if is_local else 10_000.0)
  options = {'rope_theta': theta, 'rope_scaling': scaling}
  if is_local:
    sliding = new.get('sliding_attention', {})
    theta, scaling = _rope(local, sliding, absent=10_000.0)
    if scaling is not None:
      raise ValueError(
        f'config.json scales local layers: {sliding}; only global layers can be'
      )
    options['local_rope_theta'] = theta
  return options


def _rope(
  old: Mapping[str, Any], new: Mapping[str, Any], absent: float
) -> tuple[float, config.RopeScaling | None]:
  given = [values.get('rope_theta') for values in (old, new)]
  thetas = {theta for theta in given if theta is not None}
  scalings = {_scaling(new)} if new else set()
  if old.keys() - {'rope_theta'}:
    scalings.add(_scaling(old))
  if len(thetas) > 1 or len(scalings) > 1:
    raise ValueError(
      f'config.json has both {old} and rope_parameters {new}; delete one'
    )
  theta = thetas.pop() if thetas else absent
  return float(theta), scalings.pop() if scalings else None


def _scaling(values: Mapping[str, Any]) -> config.RopeScaling | None:
  kind = values.get('rope_type', values.get('type', 'default'))
  known = _tables()['scalings']
  if str(kind) not in known:
    raise ValueError(
      f'config.json has the rope type {kind!r}; only '
      f'{", ".join(known)} are supported'
    )
  names, others = known[kind], ('rope_type', 'type', 'rope_theta')
  left = {k: v for k, v in values.items() if k not in others and v is not None}
  if left.keys() != names.keys():
    raise ValueError(
      f'config.json has {sorted(left)} for the rope type {kind!r}, which takes '
      f'{sorted(names)}'
    )
  if not names:
    return None
  return config.RopeScaling(kind, **{names[k]: v for k, v in left.items()})


def _window_from_json(family: Family, left: Json, n_layers: int) -> Json:
  """layer_pattern and window; older files say every how many are global."""
  window = left.pop('sliding_window', None)
  types = left.pop('layer_types', None)
  first_local = left.pop('max_window_layers', 0)
  every = {'gemma2': 2}.get(family.model_type, 6)
  every = left.pop('sliding_window_pattern', None) or every
  if family.model_type.startswith('qwen'):
    if not left.pop('use_sliding_window', False):
      return {}
    kinds = ['GL'[i >= first_local] for i in range(n_layers)]
  else:
    kinds = ['L' if (i + 1) % every else 'G' for i in range(n_layers)]
  if types is not None:
    unknown = sorted(set(types) - _KINDS.keys())
    if unknown or len(types) != n_layers:
      raise ValueError(
        f'config.json has layer_types of {len(types)} layers, {unknown} among '
        f'them; use {n_layers} of {" and ".join(_KINDS)}'
      )
    kinds = [_KINDS[name] for name in types]
  if 'L' not in kinds:
    return {}
  n = next(
    n
    for n in range(1, n_layers + 1)
    if all(kind == kinds[i % n] for i, kind in enumerate(kinds))
  )
  return {'layer_pattern': ''.join(kinds[:n]), 'window': window or 0}
