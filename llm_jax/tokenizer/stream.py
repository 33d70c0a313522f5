"""Token ids to text while they arrive, without breaking a character."""

import codecs

from llm_jax.tokenizer import text_tokenizer


class StreamDecoder:
  """Turns ids into text one at a time.

  The pieces put together are what `decode` gives for all ids at once. At most
  three bytes are held back, the beginning of a character.
  """

  def __init__(self, tokenizer: text_tokenizer.TextTokenizer):
    self._tokenizer = tokenizer
    self._decoder = codecs.getincrementaldecoder('utf-8')(errors='replace')

  def push(self, token_id: int) -> str:
    """Add a token.

    Returns:
      The text that is complete with it, often nothing.

    Raises:
      ValueError: if the id is not in the vocabulary.
    """
    return self._decoder.decode(self._tokenizer.token_bytes(token_id))

  def flush(self) -> str:
    """End the text, and be ready for another.

    Returns:
      U+FFFD for a character that was never completed, else nothing.
    """
    rest = self._decoder.decode(b'', final=True)
    self._decoder.reset()
    return rest
