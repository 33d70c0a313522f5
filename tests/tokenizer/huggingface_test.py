"""tokenizer.json as we write it: the same ids from `tokenizers`."""

import json

import pytest
import tokenizers

from llm_jax.tokenizer import encoding, huggingface, patterns

TEXTS = [
  'the cat sat on the mat, the cats sat', 'abab 12345 caféǅ 日本語 🙂',
  "it's I'LL  two\r\n\r\nlines\t x ", '<|endoftext|> is text', '',
]  # fmt: skip


@pytest.mark.parametrize('pattern', patterns.PATTERNS)
def test_own_file_gives_the_same_ids(pattern, tmp_path):
  ours = encoding.Tokenizer.train(TEXTS * 3, 340, pattern)
  ours.save(tmp_path)
  path = tmp_path / encoding.HUGGING_FACE_FILE
  theirs = tokenizers.Tokenizer.from_file(str(path))
  theirs.encode_special_tokens = True
  for text in TEXTS:
    assert theirs.encode(text).ids == ours.encode(text)


def test_every_byte_and_ids_with_gaps_are_kept(tmp_path):
  alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
  assert sorted(huggingface.byte_characters()) == sorted(alphabet)
  ranks = {bytes([i]): i for i in range(256)}
  names = {'<|im_start|>': 256, '<|im_end|>': 305}
  encoding.Tokenizer(ranks, 'qwen2', names, 310).save(tmp_path)
  saved = str(tmp_path / encoding.HUGGING_FACE_FILE)
  theirs = tokenizers.Tokenizer.from_file(saved)
  assert {name: theirs.token_to_id(name) for name in names} == names
  theirs.encode_special_tokens = True
  text = ''.join(map(chr, range(0x800))) + '韬🙂<|im_end|>'
  assert theirs.encode(text).ids == [*text.encode()]


def test_token_that_no_merge_reaches_is_looked_up(tmp_path):
  """b'abcd' is never made of two tokens: it is one only as a whole word."""
  ranks = {bytes([i]): i for i in range(256)} | {b'bc': 256, b'abcd': 257}
  ranks |= {b'ab': 258}
  ours = encoding.Tokenizer(ranks, 'qwen2', {'<|endoftext|>': 259}, 260)
  ours.save(tmp_path)
  text = (tmp_path / encoding.HUGGING_FACE_FILE).read_text()
  theirs = tokenizers.Tokenizer.from_str(text)
  for word in ('abcd', 'abcde', 'xabcd', 'abc', 'ab', 'abcabcd'):
    assert theirs.encode(word).ids == ours.encode(word)
  assert ours.encode('abcd') == [257]
  assert 257 not in ours.encode('xabcd')
  assert json.loads(text)['model']['ignore_merges']
