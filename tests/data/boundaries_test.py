"""Documents that share a row, under a model: apart, or read in a row."""

import functools

import jax
import numpy as np
import pytest

from llm_jax.data import mixture, shards
from llm_jax.model import likelihood
from tests.data import shards_test
from tests.model import transformer_test

CFG = transformer_test.CFG
PARAMS = transformer_test.make_params
LENGTH = 24


def batch_of(folder, documents, keep_documents):
  """The one row of a source with these documents."""
  shards_test.write(folder, {'web': {'train': [documents]}}, LENGTH, 60)
  source = shards.TokenSource(folder, 'web', 'train', shards_test.FINGERPRINT)
  return mixture.make_batch_fn([(source, 1)], 0, keep_documents)(0)


of_targets = jax.jit(functools.partial(likelihood.of_targets, CFG))


def logp(batch):
  """Log-probability of the row's targets, padding as 0."""
  logp_BT = of_targets(PARAMS(CFG), batch).logp_BT
  return np.asarray(logp_BT * batch['loss_mask_BT'])[0]


def alone(document):
  """A document between its separators, and behind it only padding."""
  tokens = np.full((1, LENGTH + 1), shards_test.END, np.int32)
  tokens[0, 1 : 1 + len(document)] = document
  index_BT = np.arange(LENGTH, dtype=np.int32)[None]
  return {
    'inputs_BT': tokens[:, :-1],
    'targets_BT': tokens[:, 1:],
    'positions_BT': index_BT,
    'segment_ids_BT': np.ones_like(index_BT),
    'loss_mask_BT': (index_BT <= len(document)).astype(np.float32),
  }


DOCUMENTS = shards_test.make_documents(3, 1, 4, 9, vocab_size=60)


def test_kept_a_row_is_its_documents_alone(tmp_path):
  row = logp(batch_of(tmp_path, DOCUMENTS, True))
  apart = np.concatenate(
    [logp(alone(document))[: len(document) + 1] for document in DOCUMENTS]
  )
  n = len(apart)
  np.testing.assert_allclose(row[:n], apart, atol=1e-5)
  assert (row[n:] == 0).all()
  assert row.sum() == pytest.approx(apart.sum(), abs=1e-4)


def test_not_kept_another_first_document_is_seen_by_all_others(tmp_path):
  first, *rest = DOCUMENTS
  other = [token % 58 + 1 for token in first]
  one = logp(batch_of(tmp_path / 'one', [first, *rest], False))
  two = logp(batch_of(tmp_path / 'two', [other, *rest], False))
  n_targets = sum(len(document) + 1 for document in rest)
  assert (one != two)[len(first) + 1 :].sum() == n_targets
