"""Published model classes: config.json to ModelConfig and back.

A class fixes some options of ModelConfig and holds the others in its
config.json. Both spellings of rotary positions and of the dtype are written,
because transformers 4 reads one of each, without an error where it is missing,
and transformers 5 the other. Does not touch arrays.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from absl import logging

from llm_jax import dataclass_json
from llm_jax.interop import config_keys
from llm_jax.model import config

_KEYS = {
  'vocab_size': 'vocab_size', 'n_layers': 'num_hidden_layers',
  'd_model': 'hidden_size', 'n_heads': 'num_attention_heads',
  'n_kv_heads': 'num_key_value_heads', 'head_dim': 'head_dim',
  'd_ff': 'intermediate_size', 'max_length': 'max_position_embeddings',
  'norm_eps': 'rms_norm_eps', 'tied_embeddings': 'tie_word_embeddings',
}  # fmt: skip
_GPT2_KEYS = {
  'vocab_size': 'vocab_size', 'n_layers': 'n_layer', 'd_model': 'n_embd',
  'n_heads': 'n_head', 'd_ff': 'n_inner', 'max_length': 'n_positions',
  'norm_eps': 'layer_norm_epsilon', 'tied_embeddings': 'tie_word_embeddings',
}  # fmt: skip
_QWEN3_MOE_KEYS = _KEYS | {
  'd_ff': 'moe_intermediate_size', 'n_experts': 'num_experts',
  'n_experts_per_token': 'num_experts_per_tok',
  'normalize_router': 'norm_topk_prob',
}  # fmt: skip
_MIXTRAL_KEYS = _KEYS | {
  'n_experts': 'num_local_experts',
  'n_experts_per_token': 'num_experts_per_tok',
}
_GEMMA3_KEYS = _KEYS | {
  'query_pre_attn_scalar': 'query_pre_attn_scalar',
  'logit_softcap': 'final_logit_softcapping',
}
_GEMMA2_KEYS = _GEMMA3_KEYS | {'attention_softcap': 'attn_logit_softcapping'}
# The keys of each kind of rotary scaling, and our names of them.
_SCALINGS: dict[str, dict[str, str]] = {
  'default': {},
  'linear': {'factor': 'factor'},
  'llama3': {
    'factor': 'factor',
    'low_freq_factor': 'low_freq_factor',
    'high_freq_factor': 'high_freq_factor',
    'original_max_position_embeddings': 'original_max_length',
  },
}
_KINDS = {'full_attention': 'G', 'sliding_attention': 'L'}
_ROPE = ('rope_theta', 'rope_scaling')
_WINDOW = ('layer_pattern', 'window')
# Their values are no part of ModelConfig's layout.
_ANY_VALUE = {*_KEYS, 'unused_ids', 'dtype', 'unroll_layers', 'remat'}


@dataclasses.dataclass(frozen=True)
class Family:
  """A published class.

  Attributes:
    model_type: its name in config.json.
    architecture: the class in transformers.
    fixed: options whose value differs from ModelConfig's default.
    free: options that config.json holds in a form of their own.
    constants: keys of config.json with the one value that is supported.
    keys: the key of each other option.
    tied: what an absent tie_word_embeddings means.
  """

  model_type: str
  architecture: str
  fixed: Mapping[str, Any]
  free: tuple[str, ...]
  constants: Mapping[str, Any]
  keys: Mapping[str, str] = dataclasses.field(default_factory=lambda: _KEYS)
  tied: bool = False


_GEMMA = {
  'activation': 'gelu_gated', 'norm': 'rms_plus_one', 'post_norms': True,
  'embedding_scale': True,
}  # fmt: skip
_GEMMA_CONSTANTS = {
  'hidden_activation': 'gelu_pytorch_tanh', 'attention_bias': False,
  'use_bidirectional_attention': False,
}  # fmt: skip
_ALL_SPARSE = {
  'decoder_sparse_step': 1, 'mlp_only_layers': [], 'use_sliding_window': False,
}  # fmt: skip
_GPT2 = {
  'activation': 'gelu', 'norm': 'layer', 'qk_norm': False, 'bias': 'all',
  'positions': 'learned',
}  # fmt: skip
_GPT2_CONSTANTS = {
  'activation_function': 'gelu_new', 'scale_attn_weights': True,
  'scale_attn_by_inverse_layer_idx': False, 'add_cross_attention': False,
}  # fmt: skip
_SILU = {'hidden_act': 'silu', 'attention_bias': False}
_GPT2_FREE = (*_ROPE, 'local_rope_theta')  # without effect on learned positions
# Behind each model_type the other attributes of its class; the rows are in the
# order in which they are tried for writing.
_TABLE: dict[str, tuple] = {
  'qwen3': ('Qwen3ForCausalLM', {}, (*_ROPE, *_WINDOW), _SILU),
  'llama': (
    'LlamaForCausalLM', {'qk_norm': False}, _ROPE, _SILU | {'mlp_bias': False},
  ),
  'mistral': (
    'MistralForCausalLM', {'qk_norm': False}, _ROPE,
    _SILU | {'sliding_window': None},
  ),
  'qwen2': (
    'Qwen2ForCausalLM', {'qk_norm': False, 'bias': 'qkv'}, (*_ROPE, *_WINDOW),
    {'hidden_act': 'silu'},
  ),
  'qwen3_moe': (
    'Qwen3MoeForCausalLM', {}, _ROPE, _SILU | _ALL_SPARSE, _QWEN3_MOE_KEYS,
  ),
  'mixtral': (
    'MixtralForCausalLM', {'qk_norm': False}, _ROPE,
    {'hidden_act': 'silu', 'sliding_window': None}, _MIXTRAL_KEYS,
  ),
  'gemma3_text': (
    'Gemma3ForCausalLM', _GEMMA, (*_ROPE, 'local_rope_theta', *_WINDOW),
    {**_GEMMA_CONSTANTS, 'attn_logit_softcapping': None}, _GEMMA3_KEYS, True,
  ),
  'gemma2': (
    'Gemma2ForCausalLM', {**_GEMMA, 'qk_norm': False},
    ('rope_theta', *_WINDOW), _GEMMA_CONSTANTS, _GEMMA2_KEYS, True,
  ),
  'gpt2': (
    'GPT2LMHeadModel', _GPT2, _GPT2_FREE, _GPT2_CONSTANTS, _GPT2_KEYS, True,
  ),
}  # fmt: skip
_FAMILIES = {name: Family(name, *rest) for name, rest in _TABLE.items()}


def of_model(cfg: config.ModelConfig) -> Family:
  """Find the class that expresses a model.

  Args:
    cfg: the model.

  Returns:
    The first class without a blocking option.

  Raises:
    ValueError: if there is none, with the options that block the nearest.
  """
  found = [(family, _blockers(family, cfg)) for family in _FAMILIES.values()]
  nearest, blockers = min(found, key=lambda each: len(each[1]))
  if blockers:
    raise ValueError(
      'no published class can express this model; the nearest, '
      f'{nearest.architecture}, needs {"; ".join(blockers)}'
    )
  return nearest


def of_json(values: Mapping[str, Any]) -> Family:
  """The class that a config.json names.

  Raises:
    ValueError: if it is none of ours.
  """
  model_type = values.get('model_type')
  if model_type not in _FAMILIES:
    raise ValueError(
      f'config.json has model_type {model_type!r}, which cannot be read; use a '
      f'checkpoint of {", ".join(_FAMILIES)}'
    )
  return _FAMILIES[model_type]


def _blockers(family: Family, cfg: config.ModelConfig) -> list[str]:
  default, blockers = config.ModelConfig(), []
  # Options without effect while another one is 0.
  of_experts = ('n_experts_per_token', 'normalize_router')
  needs = dict.fromkeys(of_experts, 'n_experts') | {'layer_pattern': 'window'}
  free = {*_ANY_VALUE, *family.free, *family.keys}
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


def to_json(
  cfg: config.ModelConfig, family: Family, dtype: str
) -> dict[str, Any]:
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
  family, left = of_json(values), dict(values)
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
  given = {key for key, value in left.items() if value is not None}
  rest = sorted(given.difference(config_keys.IGNORED.split()))
  neutral = [key for key in rest if config_keys.is_neutral(key, left[key])]
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


def _sizes(family: Family, left: dict[str, Any]) -> dict[str, Any]:
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
        f'config.json has no {key}; add it, or read a folder that transformers '
        'saved'
      )
    is_cap = name.endswith('softcap')
    sizes[name] = given[key] or 0.0 if is_cap else given[key]
  heads, width = sizes['n_heads'], sizes['d_model']
  sizes['n_kv_heads'] = sizes.get('n_kv_heads') or heads
  sizes['head_dim'] = sizes.get('head_dim') or width // heads
  sizes['d_ff'] = sizes['d_ff'] or 4 * width
  return sizes


def _rope_to_json(cfg: config.ModelConfig, family: Family) -> dict[str, Any]:
  scaling = cfg.rope_scaling
  given = None
  if scaling is not None:
    keys = _SCALINGS[scaling.kind].items()
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


def _rope_from_json(family: Family, left: dict[str, Any]) -> dict[str, Any]:
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
      f'config.json has both {old} and rope_parameters {new}; delete the wrong '
      'ones'
    )
  theta = thetas.pop() if thetas else absent
  return float(theta), scalings.pop() if scalings else None


def _scaling(values: Mapping[str, Any]) -> config.RopeScaling | None:
  kind = values.get('rope_type', values.get('type', 'default'))
  if str(kind) not in _SCALINGS:
    raise ValueError(
      f'config.json has the rope type {kind!r}; only default, linear and '
      'llama3 are supported'
    )
  names, others = _SCALINGS[kind], ('rope_type', 'type', 'rope_theta')
  left = {k: v for k, v in values.items() if k not in others and v is not None}
  if left.keys() != names.keys():
    raise ValueError(
      f'config.json has {sorted(left)} for the rope type {kind!r}, which takes '
      f'{sorted(names)}'
    )
  if not names:
    return None
  return config.RopeScaling(kind, **{names[k]: v for k, v in left.items()})


def _window_from_json(
  family: Family, left: dict[str, Any], n_layers: int
) -> dict[str, Any]:
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
