"""Bits per byte against a plain loop over documents, and against the text."""

import functools
import math
import unicodedata

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llm_jax.data import shards
from llm_jax.evals import bits_per_byte
from llm_jax.model import transformer
from llm_jax.tokenizer import (
  huggingface,
  infilling,
  published,
  published_json,
  sentencepiece,
)
from tests.evals import tiny_checkpoint
from tests.model import start_params

TOKENIZER = tiny_checkpoint.tokenizer()
TEXTS = ['short', 'a document of more than one row: ' + 'x' * 40, '你好 ' * 9]


@pytest.fixture(name='source')
def _source(tmp_path):
  folder = tiny_checkpoint.write_tokens(
    tmp_path / 'tokens', {'documents': {'valid': TEXTS}}
  )
  return shards.TokenSource(folder, 'documents', 'valid', TOKENIZER.fingerprint)


def test_text_is_recovered(source):
  text = bits_per_byte.read(source, TOKENIZER, max_rows=10**6)
  assert text.documents == [t.encode() for t in TEXTS]
  assert text.n_bytes == source.bytes


def test_first_rows_only(source):
  text = bits_per_byte.read(source, TOKENIZER, max_rows=1)
  joined = '\n'.join(TEXTS).encode()
  # 32 targets, of which one is the end of the first document.
  assert text.n_bytes == 31
  assert b'\n'.join(text.documents) == joined[:32]


def normalizing(folder):
  del folder
  ranks = {bytes([i]): i for i in range(256)}
  values = huggingface.tokenizer_json(ranks, 'qwen2', {'<s>': 256})
  return published_json.JsonTokenizer(
    values | {'normalizer': {'type': 'NFC'}},
    vocab_size=257,
    published=published.Published(prefix_ids=(256,), eos_ids=(256,)),
  )


def with_dummy_prefix(folder):
  """As Llama 2: a blank before every text, and bytes for what is unknown."""
  kinds = sentencepiece
  pieces = [('<unk>', 0, kinds.UNKNOWN), ('<s>', 0, kinds.CONTROL)]
  pieces += [(f'<0x{i:02X}>', 0, kinds.BYTE) for i in range(256)]
  pieces += [(letter, 0, kinds.NORMAL) for letter in ' abcdefo']
  sentencepiece.write(folder / 'a.model', pieces, begins_with_blank=True)
  return sentencepiece.SentencePieceTokenizer(
    folder / 'a.model',
    published=published.Published(prefix_ids=(1,), eos_ids=(1,)),
  )


@pytest.mark.parametrize('make', [normalizing, with_dummy_prefix])
def test_vocabularies_that_change_text_are_measured(make, tmp_path):
  """On the text that they code, which need not have the manifest's length."""
  vocabulary = make(tmp_path)
  texts = ['e\u0301 a', ' b']
  folder = tiny_checkpoint.write_tokens(
    tmp_path / 'tokens', {'d': {'valid': texts}}, vocabulary=vocabulary
  )
  source = shards.TokenSource(folder, 'd', 'valid', vocabulary.fingerprint)
  found = bits_per_byte.read(source, vocabulary, max_rows=9).documents
  form = 'NFC' if make is normalizing else 'NFD'
  assert found == [unicodedata.normalize(form, t).encode() for t in texts]


def test_wrong_length_is_refused(source):
  source.bytes += 1
  with pytest.raises(ValueError, match='tokenize again'):
    bits_per_byte.read(source, TOKENIZER, max_rows=10**6)


@functools.partial(jax.jit, static_argnums=0)
def _logp(cfg, params, inputs_BT):
  positions_BT = jnp.arange(inputs_BT.shape[1])[None]
  hidden_BTD, *_ = transformer.apply(cfg, params, inputs_BT, positions_BT)
  return jax.nn.log_softmax(transformer.unembed(cfg, params, hidden_BTD))


def _plain(cfg, params, row, n_targets, end_of_text_id):
  """Bits of one row, one document at a time, without segments."""
  length = len(row) - 1
  bits, start = 0.0, 0
  ends = [i for i in range(1, length) if row[i] == end_of_text_id]
  for stop in [*ends, length]:
    # The document alone at the row's beginning; what follows it is unseen.
    alone_BT = np.zeros((1, length), np.int32)
    alone_BT[0, : stop - start] = row[start:stop]
    logp_BTV = np.asarray(_logp(cfg, params, alone_BT))
    for t in range(start, stop):
      if t < n_targets:
        bits -= float(logp_BTV[0, t - start, row[t + 1]]) / math.log(2)
    start = stop
  return bits


def test_equals_one_document_at_a_time(source):
  cfg = tiny_checkpoint.MODEL
  params = start_params.init(cfg, 1)
  text = bits_per_byte.read(source, TOKENIZER, max_rows=10**6)
  expected = sum(
    _plain(cfg, params, row, n_targets, text.end_of_text_id)
    for row, n_targets in zip(text.tokens_BT, text.lengths, strict=True)
  )
  # Batch sizes that do not divide the rows, and that exceed them; the sums
  # differ in order only.
  for batch_size in (3, 8):
    found = bits_per_byte.bits_per_byte(cfg, params, text, batch_size)
    assert found == pytest.approx(expected / text.n_bytes, rel=1e-5)


def test_uniform_model_costs_its_vocabulary(source):
  """With equal logits every token costs log2 of the vocabulary's size."""
  cfg = tiny_checkpoint.MODEL
  params = dict(start_params.init(cfg, 1))
  params['head'] = np.zeros_like(params['head'])
  text = bits_per_byte.read(source, TOKENIZER, max_rows=10**6)
  n_targets = sum(len(t.encode()) + 1 for t in TEXTS)
  assert bits_per_byte.bits_per_byte(cfg, params, text, 4) == pytest.approx(
    math.log2(320) * n_targets / text.n_bytes, rel=1e-6
  )


def test_middles_cost_what_they_cost_one_by_one(source):
  """Bits of the middle alone, behind each way to write what stands around."""
  cfg = tiny_checkpoint.MODEL
  params = start_params.init(cfg, 1)
  text = bits_per_byte.read(source, TOKENIZER, max_rows=10**6)
  end, size = text.end_of_text_id, text.tokens_BT.shape[1]
  random, bits, n_bytes = np.random.RandomState(0), np.zeros(3), 0
  for row, n_targets in zip(text.tokens_BT, text.lengths, strict=True):
    documents: list[list[int]] = [[]]
    for token in row[: n_targets + 1].tolist():
      documents += [[]] if token == end else []
      documents[-1] += [] if token == end else [token]
    ids = max(documents, key=len)
    parts = infilling.cut(TOKENIZER, ids, size - 1, random)
    if parts is None:
      continue
    prefix, suffix, middle = map(TOKENIZER.encode, parts[:3])
    n_bytes += len(middle)
    a, b, c = infilling.controls(TOKENIZER)
    for i, before in enumerate(
      (prefix, [a, *prefix, b, *suffix, c], [a, b, *suffix, c, *prefix])
    ):
      alone = [end, *before, *middle, *[end] * (size + 1)][:size]
      costs = [
        _plain(cfg, params, alone, n, end)
        for n in (len(before), len(before) + len(middle))
      ]
      bits[i] += costs[1] - costs[0]
  found = bits_per_byte.middles(text, TOKENIZER)
  assert list(found) == ['middle_prefix', 'middle_psm', 'middle_spm']
  assert [
    bits_per_byte.bits_per_byte(cfg, params, middles, batch_size=3)
    for middles in found.values()
  ] == pytest.approx(bits / n_bytes, rel=1e-4)
