"""The configuration of a Transformer: sizes, layout and how it is computed.

Does not build anything and does not derive sizes from a depth.
"""

import dataclasses

VOCABULARY_MULTIPLE = 128  # rows of the embedding, for sharding and matmuls


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Sizes of a decoder-only Transformer in Qwen3's layout.

  RMSNorm before each sub-layer, RMSNorm of queries and keys before rotary
  positions, SwiGLU, grouped key and value heads, no biases.
  """

  vocab_size: int = 2048  # tokens of the tokenizer; rows are padded to 128
  n_layers: int = 3
  d_model: int = 96
  n_heads: int = 3
  n_kv_heads: int = 3
  head_dim: int = 32
  d_ff: int = 256
  max_length: int = 256  # longest sequence the model is trained or run on
  rope_theta: float = 10_000.0
  norm_eps: float = 1e-6
  tied_embeddings: bool = False
  dtype: str = 'float32'  # of activations; parameters stay float32
  unroll_layers: bool = True  # faster on CPU; scan compiles faster when deep
  remat: bool = False  # recompute each layer in the backward pass

  def __post_init__(self):
    for name in (
      'vocab_size',
      'n_layers',
      'd_model',
      'n_heads',
      'n_kv_heads',
      'head_dim',
      'd_ff',
      'max_length',
    ):
      if getattr(self, name) < 1:
        raise ValueError(
          f'ModelConfig.{name} = {getattr(self, name)}; use 1 or more'
        )
    if self.n_heads % self.n_kv_heads:
      raise ValueError(
        f'n_heads {self.n_heads} is not a multiple of n_kv_heads '
        f'{self.n_kv_heads}; use a divisor of {self.n_heads}'
      )
    if self.head_dim % 2:
      raise ValueError(
        f'head_dim {self.head_dim} is odd; rotary positions need pairs, '
        f'use {self.head_dim + 1}'
      )
    if self.dtype not in ('float32', 'bfloat16'):
      raise ValueError(
        f'dtype {self.dtype!r} is not known; use float32 or bfloat16'
      )

  @property
  def padded_vocab_size(self) -> int:
    """Rows of the embedding: vocab_size rounded up to a multiple of 128."""
    return -(-self.vocab_size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE


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


def n_params(cfg: ModelConfig) -> dict[str, int]:
  """Count the parameters by part.

  Args:
    cfg: the model.

  Returns:
    Counts under embedding, attention, mlp, norms, head and total. A tied head
    counts once, as embedding; padding rows count.
  """
  head_sizes = 2 * cfg.n_heads + 2 * cfg.n_kv_heads
  embedding = cfg.padded_vocab_size * cfg.d_model
  parts = {
    'embedding': embedding,
    'attention': cfg.n_layers * cfg.d_model * cfg.head_dim * head_sizes,
    'mlp': cfg.n_layers * 3 * cfg.d_model * cfg.d_ff,
    'norms': cfg.n_layers * 2 * (cfg.d_model + cfg.head_dim) + cfg.d_model,
    'head': 0 if cfg.tied_embeddings else embedding,
  }
  return parts | {'total': sum(parts.values())}


def train_flops_per_token(cfg: ModelConfig, length: int) -> float:
  """Floating-point operations of one forward and backward pass, per token.

  6 * (matmul parameters) + 6 * N * H * K * T, the second term being causal
  attention scores and values at half the square.

  Args:
    cfg: the model.
    length: tokens of a sequence.

  Returns:
    Operations per token, a multiply and an add counted as two.

  Source: PaLM, arXiv:2204.02311 appendix B, halved for causal attention.
  """
  parts = n_params(cfg)
  matmul = parts['attention'] + parts['mlp']
  matmul += cfg.padded_vocab_size * cfg.d_model
  attention = cfg.n_layers * cfg.n_heads * cfg.head_dim * length
  return 6.0 * matmul + 6.0 * attention
