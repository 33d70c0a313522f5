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


# Qwen3's layout with a tied head, named by the rounded number.
_OWN: dict[str, Any] = {'max_length': 2048, 'tied_embeddings': True}
# arXiv:2005.14165 table 2.1; GPT-2 as in openai/gpt-2, hparams.json.
_GPT: dict[str, Any] = {
  'vocab_size': 50_257, 'max_length': 1024, 'activation': 'gelu',
  'norm': 'layer', 'norm_eps': 1e-5, 'qk_norm': False, 'bias': 'all',
  'positions': 'learned', 'tied_embeddings': True,
}  # fmt: skip
# Version 3.1 (1b: 3.2), arXiv:2407.21783 table 3.
_LLAMA3: dict[str, Any] = {
  'vocab_size': 128_256, 'max_length': 131_072, 'norm_eps': 1e-5,
  'qk_norm': False, 'rope_theta': 500_000.0,
  'rope_scaling': config.RopeScaling(factor=8.0),
}  # fmt: skip
_LLAMA3_SMALL = _LLAMA3 | {
  'rope_scaling': config.RopeScaling(factor=32.0),
  'tied_embeddings': True,
}
_QWEN3: dict[str, Any] = {
  'vocab_size': 151_936, 'max_length': 40_960, 'rope_theta': 1e6,
}  # fmt: skip
_QWEN3_SMALL = _QWEN3 | {'tied_embeddings': True}
_QWEN3_EXPERTS = _QWEN3 | {'n_experts': 128, 'n_experts_per_token': 8}
_QWEN2 = _QWEN3_SMALL | {'qk_norm': False, 'bias': 'qkv', 'max_length': 32_768}
# Version 0.1, arXiv:2401.04088 table 1.
_MIXTRAL: dict[str, Any] = {
  'vocab_size': 32_000, 'n_experts': 8, 'max_length': 32_768, 'norm_eps': 1e-5,
  'qk_norm': False, 'rope_theta': 1e6,
}  # fmt: skip
_GEMMA: dict[str, Any] = {
  'activation': 'gelu_gated', 'norm': 'rms_plus_one', 'post_norms': True,
  'query_pre_attn_scalar': 256.0, 'embedding_scale': True,
  'tied_embeddings': True,
}  # fmt: skip
_GEMMA2 = _GEMMA | {
  'vocab_size': 256_000, 'max_length': 8192, 'qk_norm': False,
  'layer_pattern': 'LG', 'window': 4096, 'attention_softcap': 50.0,
  'logit_softcap': 30.0,
}  # fmt: skip
_GEMMA3 = _GEMMA | {
  'vocab_size': 262_144, 'max_length': 32_768, 'layer_pattern': 'LLLLLG',
  'window': 512, 'rope_theta': 1e6, 'local_rope_theta': 10_000.0,
}  # fmt: skip

_AXES = 'n_layers', 'd_model', 'n_heads', 'n_kv_heads', 'head_dim', 'd_ff'
_TABLE = {  # in the order of _AXES
  '1m': (_OWN | {'vocab_size': 2048}, 4, 128, 4, 4, 32, 344),
  '14m': (_OWN | {'vocab_size': 8192}, 6, 384, 6, 6, 64, 1024),
  '124m': (_OWN | {'vocab_size': 32_768}, 12, 768, 12, 12, 64, 2560),
  '350m': (_OWN | {'vocab_size': 32_768}, 24, 1024, 16, 16, 64, 2816),
  '1.3b': (_OWN | {'vocab_size': 32_768}, 24, 2048, 16, 16, 128, 5632),
  'gpt2-124m': (_GPT, 12, 768, 12, 12, 64, 3072),
  'gpt2-355m': (_GPT, 24, 1024, 16, 16, 64, 4096),
  'gpt2-774m': (_GPT, 36, 1280, 20, 20, 64, 5120),
  'gpt2-1.5b': (_GPT, 48, 1600, 25, 25, 64, 6400),
  'gpt3-175b': (_GPT | {'max_length': 2048}, 96, 12_288, 96, 96, 128, 49_152),
  'llama3-1b': (_LLAMA3_SMALL, 16, 2048, 32, 8, 64, 8192),
  'llama3-8b': (_LLAMA3, 32, 4096, 32, 8, 128, 14_336),
  'llama3-70b': (_LLAMA3, 80, 8192, 64, 8, 128, 28_672),
  'llama3-405b': (_LLAMA3, 126, 16_384, 128, 8, 128, 53_248),
  'qwen2-0.5b': (_QWEN2, 24, 896, 14, 2, 64, 4864),
  'qwen3-0.6b': (_QWEN3_SMALL, 28, 1024, 16, 8, 128, 3072),
  'qwen3-8b': (_QWEN3, 36, 4096, 32, 8, 128, 12_288),
  'qwen3-30b-a3b': (_QWEN3_EXPERTS, 48, 2048, 32, 4, 128, 768),
  'qwen3-235b-a22b': (_QWEN3_EXPERTS, 94, 4096, 64, 4, 128, 1536),
  'mixtral-8x7b': (_MIXTRAL, 32, 4096, 32, 8, 128, 14_336),
  'gemma2-2b': (_GEMMA2, 26, 2304, 8, 4, 256, 9216),
  'gemma3-1b': (_GEMMA3, 26, 1152, 4, 1, 256, 6912),
}
SIZES = {
  name: config.ModelConfig(**layout, **dict(zip(_AXES, axes, strict=True)))
  for name, (layout, *axes) in _TABLE.items()
}
