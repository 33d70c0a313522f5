"""Tokens of one answer as pieces of text, ready to be sent."""

from collections.abc import Sequence

from llm_jax.chat import calls, template
from llm_jax.tokenizer import stream, text_tokenizer


class Pieces:
  """Never half a character, a part of a stop string, or of a call."""

  def __init__(
    self,
    tokenizer: text_tokenizer.TextTokenizer,
    chat_format: template.Format,
    stops: Sequence[str] = (),
    may_call: bool = False,
  ):
    """Begin an answer.

    Args:
      tokenizer: of the model.
      chat_format: of the answer.
      stops: strings that end it, and are left out.
      may_call: whether it is searched for calls of tools.
    """
    self._decoder = stream.StreamDecoder(tokenizer)
    self._format = chat_format
    self._stops = stops
    self._openings, self._mark = (
      chat_format.openings() if may_call else (frozenset(), '')
    )
    # What may yet become one of these, and no more, waits.
    theirs = {*chat_format.thought} - {*template.THOUGHT}
    self._waits = [*stops, self._mark, *theirs]
    self._held = chat_format.opening
    self._begin()
    self.is_stopped = False  # by a string

  def _begin(self) -> None:
    self._ids: list[int] = []  # of the present turn
    self._sent = ''
    self._is_call = False

  def push(self, token: int) -> str:
    """The text that a token makes certain."""
    self._ids.append(token)
    if token in self._openings and not self._is_call:
      text = self._add(self._decoder.flush()) + self._release()
      self._is_call = True
      return text
    if token in self._format.hidden_ids or self._is_call:
      return ''
    return self._add(self._decoder.push(token))

  def turn(self) -> None:
    """Begin the turn behind results of tools; what called them is not text."""
    self._decoder.flush()
    self._held = self._format.opening
    self._begin()

  def finish(self) -> tuple[str, list[calls.Call]]:
    """The rest, once the answer has ended, and its calls of tools."""
    if not self._is_call:
      return self._add(self._decoder.flush()) + self._release(), []
    content, found = self._format.split_calls(self._ids)
    rest = content[len(self._sent) :]
    return rest if content.startswith(self._sent) else '', found

  def _release(self) -> str:
    text, self._held = self._held, ''
    self._sent += text
    return text

  def _add(self, new: str) -> str:
    if self.is_stopped or self._is_call:
      return ''
    text, self._held = self._held + new, ''
    for theirs, ours in zip(
      self._format.thought, template.THOUGHT, strict=True
    ):
      text = text.replace(theirs, ours)
    places = [at for stop in self._stops if (at := text.find(stop)) >= 0]
    if places:
      self.is_stopped = True
      text = text[: min(places)]
    elif self._mark and self._mark in text:
      self._is_call = True
      text = text[: text.index(self._mark)]
    else:
      n_held = max(
        (
          n
          for wait in self._waits
          for n in range(1, len(wait))
          if text.endswith(wait[:n])
        ),
        default=0,
      )
      self._held = text[len(text) - n_held :]
      text = text[: len(text) - n_held]
    self._sent += text
    return text
