"""Trains SentencePiece models that give back every text."""

import sentencepiece


def train(texts, path, vocab_size):
  """Write a BPE model of one digit a piece, with bytes for unseen characters.

  Args:
    texts: lines or documents.
    path: of the .model file.
    vocab_size: pieces in all.
  """
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(texts),
    model_prefix=str(path.with_suffix('')),
    vocab_size=vocab_size,
    model_type='bpe',
    byte_fallback=True,
    split_digits=True,
    normalization_rule_name='identity',
    remove_extra_whitespaces=False,
    add_dummy_prefix=False,
    allow_whitespace_only_pieces=True,
    character_coverage=1.0,
    num_threads=1,
    minloglevel=2,
  )
