"""Every layout of the Transformer, slowly: numpy float64, loops over heads."""

import math

import jax
import numpy as np

from llm_jax.model import config

SIZE = {
  'vocab_size': 60, 'n_layers': 3, 'd_model': 24, 'n_heads': 4,
  'n_kv_heads': 2, 'head_dim': 8, 'd_ff': 40, 'max_length': 16,
}  # fmt: skip
# Wavelengths are 6, 33, 170 and 890 tokens: kept, blended, stretched twice.
_LLAMA3 = config.RopeScaling('llama3', 4.0, 1.0, 5.0, 64)
_GEMMA = {
  'activation': 'gelu_gated', 'norm': 'rms_plus_one', 'post_norms': True,
  'query_pre_attn_scalar': 6.0, 'embedding_scale': True, 'window': 4,
}  # fmt: skip
_OPTIONS = {
  'qwen3': {},
  'llama': {'qk_norm': False, 'rope_theta': 733.0, 'rope_scaling': _LLAMA3},
  'qwen2': {'qk_norm': False, 'bias': 'qkv', 'tied_embeddings': True},
  'gemma2': _GEMMA
  | {'qk_norm': False, 'layer_pattern': 'LG', 'attention_softcap': 1.5,
     'logit_softcap': 2.0, 'tied_embeddings': True},
  'gemma3': _GEMMA
  | {'layer_pattern': 'LLG', 'rope_theta': 999.0, 'local_rope_theta': 77.0,
     'rope_scaling': config.RopeScaling('linear', 3.0)},
  'gpt2': {'activation': 'gelu', 'norm': 'layer', 'norm_eps': 1e-5,
           'qk_norm': False, 'bias': 'all', 'positions': 'learned'},
  'relu_squared': {'activation': 'relu_squared', 'layer_pattern': 'LGL',
                   'window': 1, 'logit_softcap': 3.0},
  'value_embeddings': {'value_embeddings': True, 'layer_pattern': 'LLG',
                       'window': 5, 'logit_softcap': 15.0,
                       'activation': 'relu_squared'},
  'experts': {'n_experts': 8, 'n_experts_per_token': 3, 'd_shared': 12,
                    'normalize_router': False, 'activation': 'relu_squared'},
  'gated_biases': {'bias': 'all', 'head_dim': 5, 'positions': 'learned'},
}  # fmt: skip
LAYOUTS = {
  name: config.ModelConfig(**{**SIZE, **options})
  for name, options in _OPTIONS.items()
}


def logits(cfg, params, tokens):
  """Logits of one row of tokens, padding rows of the vocabulary with them."""
  p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  x = p['embedding'][tokens]
  if cfg.embedding_scale:
    x = x * math.sqrt(cfg.d_model)
  if cfg.positions == 'learned':
    x = x + p['position_embedding'][: len(tokens)]
  for i in range(cfg.n_layers):
    w = jax.tree.map(lambda a, i=i: a[i], p['layers'])
    is_local = cfg.layer_pattern[i % len(cfg.layer_pattern)] == 'L'
    y, values = _norm(cfg, x, w['attention_norm']), np.zeros((1, 9, 1))
    if cfg.value_embeddings and i in (0, 2):  # the tables of three layers
      gate = 2 / (1 + np.exp(-(y @ p['value_gate'][i // 2])))
      values = gate[:, :, None] * p['value_embedding'][i // 2][tokens]
    y = _attention(cfg, w, y, values, is_local)
    x = x + (_norm(cfg, y, w['post_attention_norm']) if cfg.post_norms else y)
    y = _norm(cfg, x, w['mlp_norm'])
    y = _experts(cfg, w, y) if cfg.n_experts else _mlp(cfg, w, y)
    x = x + (_norm(cfg, y, w['post_mlp_norm']) if cfg.post_norms else y)
  head = p['embedding'] if cfg.tied_embeddings else p['head']
  return _cap(_norm(cfg, x, p['final_norm']) @ head.T, cfg.logit_softcap)


def _cap(x, cap):
  return cap * np.tanh(x / cap) if cap else x


def _norm(cfg, x, w):
  if cfg.norm == 'layer':
    x = x - x.mean(-1, keepdims=True)
    return (
      x / np.sqrt(x.var(-1, keepdims=True) + cfg.norm_eps) * w['scale']
      + w['bias']
    )
  x = x / np.sqrt((x**2).mean(-1, keepdims=True) + cfg.norm_eps)
  return x * (w['scale'] + (cfg.norm == 'rms_plus_one'))


def _frequency(cfg, i, is_local):
  """Of pair i; llama3 by its wavelength, in Meta's three cases."""
  theta, scaling = cfg.rope_theta, cfg.rope_scaling
  if is_local:
    theta, scaling = cfg.local_rope_theta or theta, None
  frequency = theta ** (-2 * i / cfg.head_dim)
  if scaling is None:
    return frequency
  wavelength, length = 2 * math.pi / frequency, scaling.original_max_length
  low, high = scaling.low_freq_factor, scaling.high_freq_factor
  if scaling.kind == 'linear' or wavelength > length / low:
    return frequency / scaling.factor
  if wavelength < length / high:
    return frequency
  smooth = (length / wavelength - low) / (high - low)
  return (1 - smooth) * frequency / scaling.factor + smooth * frequency


def _turn(cfg, x, is_local):
  out, half = np.empty_like(x), cfg.head_dim // 2
  for t in range(len(x)):
    for i in range(half):
      angle = t * _frequency(cfg, i, is_local)
      z = complex(x[t, i], x[t, i + half]) * np.exp(1j * angle)
      out[t, i], out[t, i + half] = z.real, z.imag
  return out


def _attention(cfg, w, y, values, is_local):
  assert all((f'b{x}' in w) == (cfg.bias != 'none') for x in 'qkv')
  assert all((f'b{x}' in w) == (cfg.bias == 'all') for x in ('o', '_up'))
  total = w.get('bo', 0)
  for head in range(cfg.n_heads):
    group = head * cfg.n_kv_heads // cfg.n_heads
    q, k, v = (
      y @ w[f'w{name}'][:, h] + (w[f'b{name}'][h] if f'b{name}' in w else 0)
      for name, h in (('q', head), ('k', group), ('v', group))
    )
    v = v + values[:, group]
    if cfg.qk_norm:
      q, k = _norm(cfg, q, w['q_norm']), _norm(cfg, k, w['k_norm'])
    if cfg.positions == 'rotary':
      q, k = _turn(cfg, q, is_local), _turn(cfg, k, is_local)
    scores = q @ k.T / math.sqrt(cfg.query_pre_attn_scalar or cfg.head_dim)
    scores = _cap(scores, cfg.attention_softcap)
    for t in range(len(y)):
      first = max(0, t - cfg.window + 1) if is_local else 0
      seen = np.exp(scores[t, first : t + 1] - scores[t, first : t + 1].max())
      row = np.zeros((len(y), cfg.d_model))
      row[t] = seen @ v[first : t + 1] / seen.sum() @ w['wo'][head]
      total = total + row
  return total


def _experts(cfg, w, y):
  out = _mlp(cfg, w, y) if cfg.d_shared else np.zeros_like(y)
  p = np.exp(y @ w['router'])
  p = p / p.sum(-1, keepdims=True)
  for t in range(len(y)):
    chosen = np.argsort(-p[t])[: cfg.n_experts_per_token]
    total = p[t, chosen].sum() if cfg.normalize_router else 1.0
    for e in chosen:
      names = [n for n in ('gate', 'up', 'down') if f'expert_{n}' in w]
      own = {n: w[f'expert_{n}'][e] for n in names}
      out[t] = out[t] + p[t, e] / total * _mlp(cfg, own, y[t])
  return out


def _mlp(cfg, w, y):
  up = y @ w['up'] + w.get('b_up', 0)
  x = y @ w['gate'] + w.get('b_gate', 0) if 'gate' in w else up
  cubic = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
  x = {
    'silu_gated': x / (1 + np.exp(-x)) * up,
    'gelu_gated': x * (1 + np.tanh(cubic)) / 2 * up,
    'gelu': x * (1 + np.tanh(cubic)) / 2,
    'relu_squared': np.maximum(x, 0) ** 2,
  }[cfg.activation]
  return x @ w['down'] + w.get('b_down', 0)
