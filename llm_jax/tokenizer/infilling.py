"""Fill in the middle: texts as prefix, suffix and middle by control tokens.

A text is cut at two places, drawn over its characters, and its parts come as
`<prefix> PREFIX <suffix> SUFFIX <middle> MIDDLE` (PSM) or as
`<prefix> <suffix> SUFFIX <middle> PREFIX MIDDLE` (SPM), each part encoded by
itself, as it is when a model is asked. The token that ends a document ends the
middle. Does NOT change what a model is evaluated on.

Source: Bavarian et al. 2022, arXiv:2207.14255, with context-level cuts.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from llm_jax.tokenizer import specials, text_tokenizer

MARK = '<FILL>'  # stands for the middle in a text that a model is to complete
_SALT = 1  # no other draw has the same seeds
Parts = tuple[str, str, str, int]  # prefix, suffix, middle; tokens of the three


def controls(tokenizer: text_tokenizer.TextTokenizer) -> tuple[int, ...]:
  """Ids of the control tokens of prefix, suffix and middle.

  Raises:
    ValueError: if the vocabulary has none.
  """
  ids = {token.name: token.token_id for token in tokenizer.added}
  ids |= {name: tokenizer.special_id(name) for name in tokenizer.special_names}
  for names in specials.FIM_NAMES:
    if ids.keys() >= {*names}:
      return tuple(ids[name] for name in names)
  raise ValueError(
    'the vocabulary has no control tokens to fill in a middle, such as '
    f'{", ".join(specials.FIM_NAMES[0])}; leave Config.fim_rate at 0 and --fim '
    'out, or train a tokenizer with experiments.train_tokenizer'
  )


def prompt(
  tokenizer: text_tokenizer.TextTokenizer,
  around: Sequence[str],
  is_spm: bool = False,
) -> list[int]:
  """The ids behind which the middle stands, of its prefix and its suffix."""
  prefix_id, suffix_id, middle_id = controls(tokenizer)
  prefix, suffix = map(tokenizer.encode, around)
  if is_spm:
    return [prefix_id, suffix_id, *suffix, middle_id, *prefix]
  return [prefix_id, *prefix, suffix_id, *suffix, middle_id]


def cut(
  tokenizer: text_tokenizer.TextTokenizer,
  ids: Sequence[int],
  room: int,
  random: np.random.RandomState,
) -> Parts | None:
  """Cut the text of tokens at two places, its end left off if it must fit.

  Args:
    tokenizer: of the ids.
    ids: tokens of a document, or of a piece of one.
    room: tokens for prompt, middle, and the token that ends it.
    random: draws the places.

  Returns:
    The parts, and how many of the tokens they are; None if no text fits, the
    piece begins within a character, or a control token stands in it already.
  """
  places = np.sort(random.random_sample(2))
  if {*controls(tokenizer)} & {*ids}:
    return None
  n = min(len(ids), room - 4)
  while n > 0:
    try:
      text = tokenizer.text_bytes(ids[:n]).decode()
    except UnicodeDecodeError as error:
      n = n - 1 if error.start else 0  # may end within a character, not begin
      continue
    i, j = (places * (len(text) + 1)).astype(int)
    parts = text[:i], text[j:], text[i:j]
    # Parts take more tokens than their text where a cut parts a token.
    excess = 4 + sum(map(len, map(tokenizer.encode, parts))) - room
    if excess <= 0:
      return *parts, n
    n -= excess
  return None


@dataclasses.dataclass(frozen=True)
class Infilling:
  """Which pieces of rows are cut, and how: by seed, source and visit alone.

  Each document's piece of a row is cut with probability `rate`, PSM and SPM
  half each. A cut piece grows by control tokens and parted tokens, and a row
  does not, so that what no longer fits is left out at the row's end; it is
  counted. Pieces that `cut` refuses stay as they are.
  """

  tokenizer: text_tokenizer.TextTokenizer
  rate: float  # share of pieces that are cut
  seed: int  # from 0 to 2^32 - 1

  def __post_init__(self):
    controls(self.tokenizer)
    if not 0 < self.rate <= 1:
      raise ValueError(f'Config.fim_rate = {self.rate} is no share; use 0 to 1')

  def rows(
    self, tokens_BT: np.ndarray, lengths: np.ndarray, key: int, start: int
  ) -> list[int]:
    """Lay rows out anew, in place.

    Args:
      tokens_BT: inputs and the last target of each row.
      lengths: how many targets of each row are text.
      key: of the source, from 0 to 2^32 - 1.
      start: rows of the source that were read before.

    Returns:
      How many tokens each row lost.
    """
    n_lost = []
    for b, tokens in enumerate(tokens_BT):
      random = np.random.RandomState([self.seed, key, start + b, _SALT])
      row = self._row(tokens[: lengths[b] + 1].tolist(), len(tokens), random)
      n_lost.append(row.pop())
      tokens_BT[b] = self.tokenizer.separator_id
      tokens_BT[b, : len(row)] = row
      lengths[b] = len(row) - 1
    return n_lost

  def _row(self, tokens: list[int], size: int, random) -> list[int]:
    """At most `size` tokens, and behind them how many are lost."""
    row: list[int] = []
    n_lost, start, end_id = 0, 0, self.tokenizer.separator_id
    ends = [i for i, token in enumerate(tokens) if token == end_id]
    for end in [*ends, len(tokens)]:
      piece, room = tokens[start:end], size - len(row)
      is_cut, is_spm = random.random_sample(2) < (self.rate, 0.5)
      if is_cut and (
        parts := cut(self.tokenizer, piece, room=room, random=random)
      ):
        n_lost += len(piece) - parts[3]
        row += prompt(self.tokenizer, parts[:2], is_spm)
        row += [*self.tokenizer.encode(parts[2]), end_id]
      else:
        row += tokens[start : end + 1]
      start = end + 1
    return [*row[:size], n_lost + max(len(row) - size, 0)]
