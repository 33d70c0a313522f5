"""Streaming gives the text of the whole, and never half a character."""

import hypothesis
from hypothesis import strategies as st

from llm_jax.tokenizer import encoding, stream

# Bytes and control tokens only: every broken UTF-8 sequence can come.
BYTES = encoding.Tokenizer.from_merges([], 'qwen2')


def stream_all(ids):
  decoder = stream.StreamDecoder(BYTES)
  return [*[decoder.push(token_id) for token_id in ids], decoder.flush()]


@hypothesis.settings(deadline=None, max_examples=500)
@hypothesis.given(
  st.lists(
    st.sampled_from([*'韬é🙂'.encode(), 0x80, 0xFF, 0xE9, 0xF0, 0x41, 256])
    | st.integers(0, BYTES.vocab_size - 1)
  )
)
def test_equals_whole_decode(ids):
  assert ''.join(stream_all(ids)) == BYTES.decode(ids)


@hypothesis.settings(deadline=None)
@hypothesis.given(st.text(alphabet='a韬é🙂\n'))
def test_no_piece_is_broken(text):
  pieces = stream_all(BYTES.encode(text))
  assert ''.join(pieces) == text
  assert all('\ufffd' not in piece for piece in pieces)


def test_flush_ends_a_text():
  decoder = stream.StreamDecoder(BYTES)
  assert [decoder.push(0xE9), decoder.flush()] == ['', '\ufffd']
  assert [decoder.push(0x41), decoder.flush()] == ['A', '']
