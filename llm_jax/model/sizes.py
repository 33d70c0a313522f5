"""Named sizes, from a million parameters to 405 billion.

Only what makes a model the one of its name: dtype, remat and whether layers
are scanned stay at their defaults, for dataclasses.replace to set. Holds no
parameters; see interop/ for those that are published.
"""

from typing import Any

from llm_jax.model import config


def by_name(name: str) -> config.ModelConfig:
  """The configuration of a name.

  >>> by_name('llama3-8b').n_layers
  32

  Raises:
    ValueError: if there is none.
  """
  if name not in SIZES:
    raise ValueError(
      f'there is no size {name!r}; use one of {", ".join(SIZES)}'
    )
  return SIZES[name]


def _own(vocab_size, n_layers, d_model, n_heads, d_ff):
  """Qwen3's layout with a tied head, named by the rounded number."""
  return config.ModelConfig(
    vocab_size=vocab_size,
    n_layers=n_layers,
    d_model=d_model,
    n_heads=n_heads,
    n_kv_heads=n_heads,
    head_dim=d_model // n_heads,
    d_ff=d_ff,
    max_length=2048,
    tied_embeddings=True,
  )


def _gpt(n_layers, d_model, n_heads, max_length=1024):
  """arXiv:2005.14165 table 2.1; GPT-2 as in openai/gpt-2, hparams.json."""
  return config.ModelConfig(
    vocab_size=50_257,
    n_layers=n_layers,
    d_model=d_model,
    n_heads=n_heads,
    n_kv_heads=n_heads,
    head_dim=d_model // n_heads,
    d_ff=4 * d_model,
    max_length=max_length,
    activation='gelu',
    norm='layer',
    norm_eps=1e-5,
    qk_norm=False,
    bias='all',
    positions='learned',
    tied_embeddings=True,
  )


def _llama3(n_layers, d_model, n_heads, d_ff, head_dim=128, factor=8.0):
  """Version 3.1 (1b: 3.2), arXiv:2407.21783 table 3."""
  return config.ModelConfig(
    vocab_size=128_256,
    n_layers=n_layers,
    d_model=d_model,
    n_heads=n_heads,
    n_kv_heads=8,
    head_dim=head_dim,
    d_ff=d_ff,
    max_length=131_072,
    norm_eps=1e-5,
    qk_norm=False,
    rope_theta=500_000.0,
    rope_scaling=config.RopeScaling(factor=factor),
    tied_embeddings=head_dim == 64,
  )


def _qwen(n_layers, d_model, n_heads, n_kv_heads, d_ff, **options):
  sizes: dict[str, Any] = {'head_dim': 128, 'max_length': 40_960} | options
  return config.ModelConfig(
    vocab_size=151_936,
    n_layers=n_layers,
    d_model=d_model,
    n_heads=n_heads,
    n_kv_heads=n_kv_heads,
    d_ff=d_ff,
    rope_theta=1e6,
    **sizes,
  )


def _mixtral(n_layers, d_model, n_heads, d_ff):
  """Version 0.1, arXiv:2401.04088 table 1."""
  return config.ModelConfig(
    vocab_size=32_000,
    n_layers=n_layers,
    d_model=d_model,
    n_heads=n_heads,
    n_kv_heads=8,
    head_dim=128,
    d_ff=d_ff,
    n_experts=8,
    max_length=32_768,
    norm_eps=1e-5,
    qk_norm=False,
    rope_theta=1e6,
  )


def _gemma(n_layers, d_model, n_heads, n_kv_heads, d_ff, **options):
  return config.ModelConfig(
    n_layers=n_layers,
    d_model=d_model,
    n_heads=n_heads,
    n_kv_heads=n_kv_heads,
    head_dim=256,
    d_ff=d_ff,
    activation='gelu_gated',
    norm='rms_plus_one',
    post_norms=True,
    query_pre_attn_scalar=256.0,
    embedding_scale=True,
    tied_embeddings=True,
    **options,
  )


_GEMMA2 = {
  'vocab_size': 256_000,
  'max_length': 8192,
  'qk_norm': False,
  'layer_pattern': 'LG',
  'window': 4096,
  'attention_softcap': 50.0,
  'logit_softcap': 30.0,
}
_GEMMA3 = {
  'vocab_size': 262_144,
  'max_length': 32_768,
  'layer_pattern': 'LLLLLG',
  'window': 512,
  'rope_theta': 1e6,
  'local_rope_theta': 10_000.0,
}
_QWEN3_EXPERTS = {'n_experts': 128, 'n_experts_per_token': 8}
_QWEN2 = {'qk_norm': False, 'bias': 'qkv', 'max_length': 32_768}

SIZES = {
  '1m': _own(2048, 4, 128, 4, 344),
  '14m': _own(8192, 6, 384, 6, 1024),
  '124m': _own(32_768, 12, 768, 12, 2560),
  '350m': _own(32_768, 24, 1024, 16, 2816),
  '1.3b': _own(32_768, 24, 2048, 16, 5632),
  'gpt2-124m': _gpt(12, 768, 12),
  'gpt2-355m': _gpt(24, 1024, 16),
  'gpt2-774m': _gpt(36, 1280, 20),
  'gpt2-1.5b': _gpt(48, 1600, 25),
  'gpt3-175b': _gpt(96, 12_288, 96, max_length=2048),
  'llama3-1b': _llama3(16, 2048, 32, 8192, head_dim=64, factor=32.0),
  'llama3-8b': _llama3(32, 4096, 32, 14_336),
  'llama3-70b': _llama3(80, 8192, 64, 28_672),
  'llama3-405b': _llama3(126, 16_384, 128, 53_248),
  'qwen2-0.5b': _qwen(
    24, 896, 14, 2, 4864, head_dim=64, tied_embeddings=True, **_QWEN2
  ),
  'qwen3-0.6b': _qwen(28, 1024, 16, 8, 3072, tied_embeddings=True),
  'qwen3-8b': _qwen(36, 4096, 32, 8, 12_288),
  'qwen3-30b-a3b': _qwen(48, 2048, 32, 4, 768, **_QWEN3_EXPERTS),
  'qwen3-235b-a22b': _qwen(94, 4096, 64, 4, 1536, **_QWEN3_EXPERTS),
  'mixtral-8x7b': _mixtral(32, 4096, 32, 14_336),
  'gemma2-2b': _gemma(26, 2304, 8, 4, 9216, **_GEMMA2),
  'gemma3-1b': _gemma(26, 1152, 4, 1, 6912, **_GEMMA3),
}
