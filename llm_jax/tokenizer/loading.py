"""A folder with a tokenizer of any kind, read as what it is."""

import pathlib

from llm_jax import files
from llm_jax.tokenizer import (
  encoding,
  published,
  published_json,
  sentencepiece,
  text_tokenizer,
)


def load(directory: files.Name) -> text_tokenizer.TextTokenizer:
  """Read what a tokenizer's `save` wrote.

  Raises:
    ValueError: if a file is missing or damaged.
  """
  if (pathlib.Path(directory) / sentencepiece.MODEL_FILE).is_file():
    return sentencepiece.SentencePieceTokenizer.load(directory)
  if (pathlib.Path(directory) / published.FILE).is_file():
    return published_json.JsonTokenizer.load(directory)
  return encoding.Tokenizer.load(directory)
