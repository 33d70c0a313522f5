"""Tokens of one answer as pieces of text, ready to be sent."""

from collections.abc import Sequence

from llm_jax.agent import turns
from llm_jax.tokenizer import stream


class Pieces:
  """Never half a character, never a part of a stop string."""

  def __init__(
    self, model: turns.Model, stops: Sequence[str] = (), opening: str = ''
  ):
    """Begin an answer.

    Args:
      model: that gives it.
      stops: strings that end it, and are left out.
      opening: what the prompt holds of it already.
    """
    self._decoder = stream.StreamDecoder(model.tokenizer)
    self._hidden = model.chat_format.hidden_ids
    self._stops = stops
    self._held = opening
    self.is_stopped = False  # by a string

  def push(self, token: int) -> str:
    """The text that a token makes certain."""
    return '' if token in self._hidden else self._add(self._decoder.push(token))

  def flush(self) -> str:
    """The rest, once the answer has ended."""
    text = self._add(self._decoder.flush()) + self._held
    self._held = ''
    return text

  def _add(self, new: str) -> str:
    if self.is_stopped:
      return ''
    text, self._held = self._held + new, ''
    places = [at for stop in self._stops if (at := text.find(stop)) >= 0]
    if places:
      self.is_stopped = True
      return text[: min(places)]
    # What may yet become a stop string, and no more, waits.
    n_held = max(
      (
        n
        for stop in self._stops
        for n in range(1, len(stop))
        if text.endswith(stop[:n])
      ),
      default=0,
    )
    self._held = text[len(text) - n_held :]
    return text[: len(text) - n_held]
