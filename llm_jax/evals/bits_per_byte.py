"""Bits per byte of held-out documents under a model.

Does not slide a window: a document longer than a row goes on in the next row
without what came before, as in training, so the figure is a little above what
the model could reach.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from llm_jax import types
from llm_jax.agent import turns
from llm_jax.data import mixture, shards
from llm_jax.evals import compression
from llm_jax.model import config as model_config
from llm_jax.model import likelihood
from llm_jax.tokenizer import infilling, text_tokenizer


@dataclasses.dataclass(frozen=True)
class HeldOut:
  """Rows of held-out documents, and the text that they code."""

  tokens_BT: np.ndarray  # inputs and the last target of each row
  lengths: np.ndarray  # targets of each row that are text, not padding
  starts: np.ndarray  # of them the first that is measured, in each row
  end_of_text_id: int
  documents: list[bytes]  # UTF-8 text of each document, or what is measured

  @property
  def n_bytes(self) -> int:
    """Bytes of text that all rows code together."""
    return sum(map(len, self.documents))


def read(
  source: shards.TokenSource,
  tokenizer: text_tokenizer.TextTokenizer,
  max_rows: int,
) -> HeldOut:
  """Read rows and recover the text, so that all are measured on equal bytes.

  Args:
    source: rows of held-out documents.
    tokenizer: the one that encoded them.
    max_rows: read the first so many rows; the last document may be cut.

  Returns:
    Rows and text.

  Raises:
    ValueError: all rows were read, and their text does not have the length
      that the manifest says, though the tokenizer changes no text.
  """
  n_rows = min(max_rows, len(source))
  tokens_BT = source.rows(range(n_rows))
  lengths = source.n_targets(range(n_rows))
  ids: list[list[int]] = [[]]
  for row, length in zip(tokens_BT[:, 1:].tolist(), lengths, strict=True):
    for token in row[:length]:
      if token == source.end_of_text_id:
        ids.append([])
      else:
        ids[-1].append(token)
  documents = [tokenizer.text_bytes(own) for own in ids if own]
  held_out = HeldOut(
    tokens_BT=tokens_BT,
    lengths=lengths,
    starts=np.zeros_like(lengths),
    end_of_text_id=source.end_of_text_id,
    documents=documents,
  )
  is_whole = n_rows == len(source) and tokenizer.keeps_text
  if is_whole and held_out.n_bytes != source.bytes:
    raise ValueError(
      f'the rows of {source.name} hold {held_out.n_bytes} bytes of text, the '
      f'manifest says {source.bytes}; tokenize again'
    )
  return held_out


def middles(
  held_out: HeldOut, tokenizer: text_tokenizer.TextTokenizer
) -> dict[str, HeldOut]:
  """Middles of held-out text to be measured, the same ones read in three ways.

  The longest piece of each row is cut as in training; see infilling.py.

  Returns:
    By `middle_prefix`, where only the prefix stands before, as in any text;
    and `middle_psm` and `middle_spm`, where the suffix does too.

  Raises:
    ValueError: if the vocabulary has no control tokens, or there is no middle.
  """
  random, end = np.random.RandomState(0), held_out.end_of_text_id
  size = held_out.tokens_BT.shape[1]
  rows: dict[str, list[list[int]]] = {'prefix': [], 'psm': [], 'spm': []}
  documents = []
  n_read: dict[str, list[int]] = {name: [] for name in rows}
  for row, n in zip(held_out.tokens_BT, held_out.lengths, strict=True):
    pieces = np.split(row[: n + 1], np.flatnonzero(row[: n + 1] == end))
    ids = max((piece[piece != end] for piece in pieces), key=len).tolist()
    parts = infilling.cut(tokenizer, ids, room=size - 1, random=random)
    if parts and parts[2]:
      documents.append(parts[2].encode())
      for name, prompt in (
        ('prefix', tokenizer.encode(parts[0])),
        ('psm', infilling.prompt(tokenizer, parts[:2])),
        ('spm', infilling.prompt(tokenizer, parts[:2], is_spm=True)),
      ):
        rows[name].append([end, *prompt, *tokenizer.encode(parts[2])])
        n_read[name].append(len(prompt))
  if not documents:
    raise ValueError('the held-out text has no middle; hold out more of it')
  return {
    f'middle_{name}': HeldOut(
      np.array([[*ids, *[end] * (size - len(ids))] for ids in own]),
      lengths=np.array([len(ids) - 1 for ids in own]),
      starts=np.array(n_read[name]),
      end_of_text_id=end,
      documents=documents,
    )
    for name, own in rows.items()
  }


def text_bytes(
  tokenizer: text_tokenizer.TextTokenizer, n_tokens: int
) -> np.ndarray:
  """Bytes of text of each of n_tokens ids: 0 of special and unused ones."""
  n_bytes_V = np.zeros(n_tokens, np.float32)
  no_text = tokenizer.special_ids | set(tokenizer.unused_ids)
  for token in set(range(tokenizer.vocab_size)) - no_text:
    n_bytes_V[token] = len(tokenizer.token_bytes(token))
  return n_bytes_V


def bits_per_byte(
  cfg: model_config.ModelConfig,
  params: types.Params,
  held_out: HeldOut,
  batch_size: int,
) -> float:
  """Code length of the rows in bits, over the bytes of their text.

  Σ -log2 p(token | earlier tokens of its document in the row) / bytes

  The end of each document is coded too, and adds no byte. Of middles only
  these are coded, without their end.

  Args:
    cfg: the model.
    params: its parameters.
    held_out: rows and their text.
    batch_size: rows run together.

  Returns:
    Bits per byte.
  """
  nats = 0.0
  for start in range(0, len(held_out.tokens_BT), batch_size):
    tokens_BT = held_out.tokens_BT[start : start + batch_size]
    lengths = held_out.lengths[start : start + batch_size]
    # The last batch keeps the shape of the others, so nothing is recompiled;
    # rows of zeros fill it up and have no targets.
    fill = (0, batch_size - len(tokens_BT))
    batch = mixture.arrays(
      np.pad(tokens_BT, (fill, (0, 0))),
      lengths=np.pad(lengths, fill),
      end_of_text_id=held_out.end_of_text_id,
      keep_documents=True,
    )
    starts = np.pad(held_out.starts[start : start + batch_size], fill)
    is_before = np.arange(tokens_BT.shape[1] - 1) < starts[:, None]
    batch['loss_mask_BT'] *= ~is_before
    nats -= float(_sum_logp(cfg, params, batch))
  return nats / math.log(2) / held_out.n_bytes


def measure(
  model: turns.Model, source: shards.TokenSource, max_rows: int, batch_size: int
) -> dict[str, Any]:
  """Bits per byte of a source, of the model and of compressors.

  Args:
    model: the checkpoint.
    source: rows of held-out documents.
    max_rows: read the first so many rows.
    batch_size: rows run together.

  Returns:
    JSON-able: bits_per_byte of the model; and held_out with source, documents,
    bytes and the bits per byte of compressors.
  """
  text = read(source, model.tokenizer, max_rows)
  bits = bits_per_byte(
    model.config, model.params, held_out=text, batch_size=batch_size
  )
  return {
    'bits_per_byte': bits,
    'held_out': {
      'source': source.name,
      'documents': len(text.documents),
      'bytes': text.n_bytes,
      'compressors': compression.bits_per_byte(text.documents),
    },
  }


@functools.partial(jax.jit, static_argnums=0)
def _sum_logp(
  cfg: model_config.ModelConfig, params: types.Params, batch: types.Batch
) -> jax.Array:
  """Sum of log p of the targets that the mask keeps, in nats."""
  logp_BT = likelihood.of_targets(cfg, params, batch).logp_BT
  return jnp.sum(logp_BT * batch['loss_mask_BT'])
