"""One dial: from a number of layers to the settings of a pretraining run.

Everything else follows from a run that is known to be good, by laws of how its
settings change with width, tokens and batch. Does not check that a run fits a
device, and a law is only as good as the distance from its reference is short.
"""

import dataclasses
import math

from llm_jax.model import config, params
from llm_jax.optim import optimizers


@dataclasses.dataclass(frozen=True)
class Reference:
  """A good run, and the shape of the models around it."""

  layer_width: int  # d_model for each layer
  head_dim: int  # d_model is rounded up to a multiple of it
  d_model: int
  tokens: float  # of its whole run
  batch_tokens: int
  matrix_lr: float  # peak, of Muon
  peak_lr: float  # peak, of AdamW
  weight_decay: float
  dtype: str


REFERENCES = {
  # gin_configs/pretrain_tiny.gin, for CPUs. Its rate of 0.02, times sqrt(1/4),
  # was the best of five at a quarter of its batch (LOG.md); its batch and
  # peak_lr were not searched.
  'small': Reference(
    layer_width=32,
    head_dim=32,
    d_model=96,
    tokens=1.23e6,
    batch_tokens=4096,
    matrix_lr=0.02,
    peak_lr=0.003,
    weight_decay=0.0,
    dtype='float32',
  ),
  # nanochat's depth 12, scripts/base_train.py: 2^19 tokens a batch, 12 tokens
  # for each of 110 million parameters. Its tables have rates of their own; ours
  # are tied, and the head's is the one for both. Its decay is 0.28, but fades
  # to 0 and spares what moves against it; 0.1 is arXiv:2502.16982's.
  'large': Reference(
    layer_width=64,
    head_dim=128,
    d_model=768,
    tokens=1.32e9,
    batch_tokens=2**19,
    matrix_lr=0.02,
    peak_lr=0.008,
    weight_decay=0.1,
    dtype='bfloat16',
  ),
}


@dataclasses.dataclass(frozen=True)
class Run:
  """What the dial sets."""

  model: config.ModelConfig
  optimizer: optimizers.Optimizer
  batch_size: int  # rows
  n_steps: int


def derive(
  n_layers: int,
  ref: Reference,
  vocab_size: int,
  length: int,
  tokens_per_parameter: float = 12.0,
) -> Run:
  """The settings of a depth.

  Args:
    n_layers: the depth.
    ref: the run to derive from.
    vocab_size: tokens of the tokenizer.
    length: tokens of a row.
    tokens_per_parameter: length of the run; 12 is nanochat's, 20 Chinchilla's
      (arXiv:2203.15556), which counts the embedding too.

  Returns:
    The settings.

  Raises:
    ValueError: if a row is longer than the batch would be.
  """
  # Width grows with depth; heads are all of one size, each with its own keys.
  d_model = _round_up(n_layers * ref.layer_width, ref.head_dim)
  n_heads = d_model // ref.head_dim
  model = config.ModelConfig(
    vocab_size=vocab_size,
    n_layers=n_layers,
    d_model=d_model,
    n_heads=n_heads,
    n_kv_heads=n_heads,
    head_dim=ref.head_dim,
    # Three matrices as large as the two of width 4 D: arXiv:2002.05202.
    d_ff=_round_up(8 * d_model / 3, ref.head_dim),
    max_length=length,
    tied_embeddings=True,
    dtype=ref.dtype,
  )

  # Tokens D = ratio * N, where N are the parameters of matrix products: those
  # of the layers and the head.
  parts = params.count(model)
  n_parameters = parts['attention'] + parts['mlp'] + vocab_size * d_model
  tokens = tokens_per_parameter * n_parameters
  more_tokens = tokens / ref.tokens

  # The best batch grows as D^0.383 (arXiv:2505.13738); a power of two of rows.
  batch_tokens = ref.batch_tokens * more_tokens**0.383
  if length > batch_tokens:
    raise ValueError(
      f'a row of {length} tokens is longer than the batch of '
      f'{batch_tokens:.0f} tokens for depth {n_layers}; use shorter rows'
    )
  batch_size = 2 ** round(math.log2(batch_tokens / length))
  larger_batch = batch_size * length / ref.batch_tokens

  # A gradient over more tokens is less noisy: rates grow as sqrt(B), for AdamW
  # arXiv:2405.14578, for Muon taken over. Muon's update keeps its spectral norm
  # at any width, so its rate stays; AdamW's for the tables falls as D^-1/2.
  matrix_lr = ref.matrix_lr * larger_batch**0.5
  peak_lr = ref.peak_lr * (larger_batch * ref.d_model / d_model) ** 0.5

  # An update is forgotten after B / (rate * decay) tokens; that this stays the
  # same share of the run (arXiv:2405.13698), decay = sqrt(B) / D.
  weight_decay = ref.weight_decay * larger_batch**0.5 / more_tokens

  n_steps = round(tokens / (batch_size * length))
  return Run(
    model=model,
    optimizer=optimizers.Optimizer(
      matrix_lr=_three_digits(matrix_lr),
      peak_lr=_three_digits(peak_lr),
      weight_decay=_three_digits(weight_decay),
      warmup_steps=min(40, n_steps // 10),
      schedule='wsd',
      final_share=0.05,
    ),
    batch_size=batch_size,
    n_steps=n_steps,
  )


def _round_up(x: float, multiple: int) -> int:
  return math.ceil(x / multiple) * multiple


def _three_digits(x: float) -> float:
  return float(f'{x:.3g}')
