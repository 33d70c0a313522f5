"""Bits per byte of the compressors against the compressors themselves."""

import gzip
import random

import pytest

from llm_jax.evals import compression


def test_gzip_agrees_with_decompressable_length():
  text = b'the quick brown fox ' * 50
  found = compression.bits_per_byte([text])
  assert found['gzip -9'] == 8 * len(gzip.compress(text, 9, mtime=0)) / 1000
  assert found['gzip -9'] < 1  # repetition compresses
  assert found['xz -9'] < 1.2


def test_random_bytes_cost_eight_bits():
  text = random.Random(1).randbytes(20_000)
  for bits in compression.bits_per_byte([text]).values():
    assert 8 <= bits < 8.1


def test_documents_share_one_stream():
  page = random.Random(2).randbytes(2000)
  alone = compression.bits_per_byte([page])['gzip -9']
  assert compression.bits_per_byte([page] * 10)['gzip -9'] < alone / 5


def test_no_text_is_refused():
  with pytest.raises(ValueError, match='0 bytes'):
    compression.bits_per_byte([b'', b''])
