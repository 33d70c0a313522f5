"""The configuration of a Transformer: sizes, layout and how it is computed.

Every published layout is a choice of the same few options; the defaults are
Qwen3's. Does not build anything and does not derive sizes from a depth.
"""

import dataclasses
import itertools

from llm_jax import dataclass_json

VOCABULARY_MULTIPLE = 128  # rows of the embedding, for sharding and matmuls
# Say how a model is computed, and not which one it is.
_COMPUTATION = ('dtype', 'unroll_layers', 'attention', 'remat')
_CHOICES = {
  'norm': ('rms', 'rms_plus_one', 'layer'),
  'bias': ('none', 'qkv', 'all'),
  'positions': ('rotary', 'learned'),
  'activation': ('silu_gated', 'gelu_gated', 'gelu', 'relu_squared'),
  'dtype': ('float32', 'bfloat16'),
  'remat': ('none', 'dots', 'full'),
  'attention': ('auto', 'splash', 'cudnn', 'blocks', 'masked'),
}
_LEAST = {
  1: 'vocab_size n_layers d_model n_heads n_kv_heads head_dim d_ff max_length',
  0: 'local_rope_theta window query_pre_attn_scalar attention_softcap '
  'logit_softcap',
}


@dataclasses.dataclass(frozen=True)
class RopeScaling:
  """Longer wavelengths of rotary positions, for longer texts.

  `linear` multiplies every wavelength by the factor. `llama3` does so with
  those longer than original_max_length / low_freq_factor tokens, leaves those
  shorter than original_max_length / high_freq_factor, and blends in between.
  """

  kind: str = 'llama3'  # or linear
  factor: float = 8.0  # of the wavelengths, > 0
  low_freq_factor: float = 1.0  # of llama3; see above
  high_freq_factor: float = 4.0  # likewise
  original_max_length: int = 8192  # tokens of a text in pretraining

  def __post_init__(self):
    if self.kind not in ('linear', 'llama3'):
      raise ValueError(
        f'RopeScaling.kind = {self.kind!r}; use linear or llama3'
      )
    if self.factor <= 0 or self.low_freq_factor >= self.high_freq_factor:
      raise ValueError(
        f'RopeScaling.factor = {self.factor} must be above 0, and '
        f'low_freq_factor = {self.low_freq_factor} below high_freq_factor = '
        f'{self.high_freq_factor}'
      )


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Sizes and layout of a decoder-only Transformer.

  The defaults are Qwen3's layout: RMSNorm before each sub-layer, RMSNorm of
  queries and keys before rotary positions, SwiGLU, no biases. See sizes.py
  for the other published ones.

  For the backward pass, remat `none` keeps all that it reads, `dots` of each
  layer only the products with weights and what attention gives, and `full`
  only the layer's input; the rest is computed again, which changes no gradient.
  """

  vocab_size: int = 2048  # tokens of the tokenizer; rows are padded to 128
  # First and last id of runs below vocab_size that are no tokens of a published
  # vocabulary; they are never drawn.
  unused_ids: tuple[tuple[int, int], ...] = ()
  n_layers: int = 3  # Transformer layers
  d_model: int = 96  # width of the residual stream
  n_heads: int = 3  # of queries
  n_kv_heads: int = 3  # of keys and values; divides n_heads
  head_dim: int = 32  # width of a head; even, for rotary positions
  d_ff: int = 256  # width of the feed-forward, or of one expert
  n_experts: int = 0  # of each layer; 0: one feed-forward for all tokens
  n_experts_per_token: int = 2  # that the router chooses
  normalize_router: bool = True  # the weights of a token's experts add up to 1
  d_shared: int = 0  # width of a shared expert, which all tokens take; 0: none
  max_length: int = 256  # longest sequence the model is trained or run on
  activation: str = 'silu_gated'  # gelu_gated, gelu (both tanh), relu_squared
  norm: str = 'rms'  # rms_plus_one: times 1 + scale; layer: LayerNorm
  norm_eps: float = 1e-6  # under the root of a norm
  post_norms: bool = False  # another norm behind each sub-layer
  qk_norm: bool = True  # norm of queries and keys, before positions
  bias: str = 'none'  # none, qkv, or all: of every matrix of a layer
  positions: str = 'rotary'  # or learned: a row of a table is added
  rope_theta: float = 10_000.0  # base of the rotary wavelengths
  local_rope_theta: float = 0.0  # of local layers; 0: rope_theta
  rope_scaling: RopeScaling | None = None  # of global layers
  layer_pattern: str = 'G'  # repeated; G: global; L: local, sees `window`
  window: int = 0  # tokens that a local layer sees, its own with them
  query_pre_attn_scalar: float = 0.0  # scores are over its root; 0: head_dim
  attention_softcap: float = 0.0  # scores: cap * tanh(x / cap); 0: no cap
  logit_softcap: float = 0.0  # the same of the logits
  value_embeddings: bool = False  # in every second layer, the last with them
  embedding_scale: bool = False  # embeddings times sqrt(d_model)
  tied_embeddings: bool = False  # the output matrix is the embedding's
  dtype: str = 'float32'  # of activations; parameters stay float32
  unroll_layers: bool = True  # a step is faster; a scan compiles faster
  attention: str = 'auto'  # form without a cache, see packed_attention.py
  remat: str = 'none'  # what is computed again: none, dots or full; see above

  def __post_init__(self):
    for least, names in _LEAST.items():
      dataclass_json.require_at_least(self, names, least)
    for name, choices in _CHOICES.items():
      if getattr(self, name) not in choices:
        raise ValueError(
          f'{name} {getattr(self, name)!r} is not known; use '
          f'{" or ".join(choices)}'
        )
    _check_experts(self)
    if self.n_heads % self.n_kv_heads:
      raise ValueError(
        f'n_heads {self.n_heads} is not a multiple of n_kv_heads '
        f'{self.n_kv_heads}; use a divisor of {self.n_heads}'
      )
    if self.head_dim % 2 and self.positions == 'rotary':
      raise ValueError(
        f'head_dim {self.head_dim} is odd; rotary positions need pairs, '
        f'use {self.head_dim + 1}'
      )
    if not self.layer_pattern or set(self.layer_pattern) - {'G', 'L'}:
      raise ValueError(
        f'layer_pattern {self.layer_pattern!r}; use G for global and L for '
        'local layers, as in LLLLLG'
      )
    if ('L' in self.layer_kinds) != (self.window > 0):
      raise ValueError(
        f'window {self.window} with layer_pattern {self.layer_pattern!r}: '
        'local layers L need a window, and a window needs local layers'
      )

  @property
  def layer_kinds(self) -> str:
    """G or L for each layer: the pattern, repeated."""
    pattern = itertools.cycle(self.layer_pattern)
    return ''.join(itertools.islice(pattern, self.n_layers))

  @property
  def has_values(self) -> tuple[bool, ...]:
    """Whether each layer adds value embeddings; the i-th uses table i // 2."""
    n = self.n_layers
    return tuple(self.value_embeddings and (n - i) % 2 == 1 for i in range(n))

  @property
  def padded_vocab_size(self) -> int:
    """Rows of the embedding: vocab_size rounded up to a multiple of 128."""
    return -(-self.vocab_size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE


def _check_experts(cfg: ModelConfig) -> None:
  n, chosen = cfg.n_experts, cfg.n_experts_per_token
  if min(n, cfg.d_shared) < 0 or (n and not 1 <= chosen <= n):
    raise ValueError(
      f'n_experts {n} with n_experts_per_token {chosen} and d_shared '
      f'{cfg.d_shared}; use 1 to n_experts a token, and no negative number'
    )
  if cfg.d_shared and not n:
    raise ValueError(
      f'd_shared {cfg.d_shared} without experts; set n_experts, or d_shared = 0'
    )
  if n and cfg.bias == 'all':
    raise ValueError('experts have no biases; use bias none or qkv')


def check_fits(cfg: ModelConfig, vocab_size: int, length: int) -> None:
  """Refuse a model that does not fit its tokenizer or its rows.

  Args:
    cfg: the model.
    vocab_size: tokens of the tokenizer.
    length: tokens of a row of training data.

  Raises:
    ValueError: with the value to set.
  """
  if cfg.vocab_size != vocab_size:
    raise ValueError(
      f'ModelConfig.vocab_size = {cfg.vocab_size}, but the tokenizer has '
      f'{vocab_size} tokens; set ModelConfig.vocab_size = {vocab_size}'
    )
  if cfg.max_length < length:
    raise ValueError(
      f'ModelConfig.max_length = {cfg.max_length} is less than the {length} '
      f'tokens of a row; set ModelConfig.max_length = {length}'
    )


def computed_as(asked: ModelConfig, saved: ModelConfig) -> ModelConfig:
  """A saved model, computed as settings ask for.

  Args:
    asked: the settings; those with their default are taken for not given.
    saved: the model.

  Returns:
    The model with the settings of its computation. One with rotary positions
    may be trained on longer texts than it was.

  Raises:
    ValueError: if another setting is not that of the model; each is named.
  """
  usual, changed, wrong = ModelConfig(), {}, []
  for field in dataclasses.fields(saved):
    name = field.name
    value, own = getattr(asked, name), getattr(saved, name)
    is_longer = name == 'max_length' and saved.positions == 'rotary'
    if value in (own, getattr(usual, name)):
      continue
    if name in _COMPUTATION or (is_longer and value > own):
      changed[name] = value
    else:
      wrong.append(f'ModelConfig.{name} = {value!r}, but it has {own!r}')
  if wrong:
    raise ValueError(
      f'the model of --restore_from is another one: {"; ".join(wrong)}; leave '
      'these settings out'
    )
  return dataclasses.replace(saved, **changed)
