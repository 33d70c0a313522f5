"""A folder with a tokenizer of either kind, read as what it is."""

import pathlib

from llm_jax import files
from llm_jax.tokenizer import encoding, sentencepiece, text_tokenizer


def load(directory: files.Name) -> text_tokenizer.TextTokenizer:
  """Read what a tokenizer's `save` wrote.

  Raises:
    ValueError: if a file is missing or damaged.
  """
  if (pathlib.Path(directory) / sentencepiece.MODEL_FILE).is_file():
    return sentencepiece.SentencePieceTokenizer.load(directory)
  return encoding.Tokenizer.load(directory)
