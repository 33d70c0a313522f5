"""How a prompt is to be continued, checked before anything is computed."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from llm_jax.infer import slots
from llm_jax.model import config

# Least and largest value, and one that is right besides. Beyond these a float32
# overflows, or a token that is masked gets a probability.
_RANGES = {
  'max_new_tokens': (1, math.inf, None),
  'temperature': (1e-6, 1e6, 0),
  'top_k': (0, 2**31 - 1, None),
  'top_p': (1e-6, 1, None),
  'min_p': (0, 1, None),
  'repetition_penalty': (1e-6, 1e6, None),
}


@dataclasses.dataclass(frozen=True)
class Request:
  """How to continue a prompt."""

  max_new_tokens: int
  stop_ids: tuple[int, ...]  # any of them ends an answer, and is kept in it
  temperature: float = 1.0  # 0: always the most likely token
  banned_ids: tuple[int, ...] = ()  # never drawn
  top_k: int = 0  # most likely tokens that are kept; 0: all
  top_p: float = 1.0  # mass of the most likely of these that are kept
  min_p: float = 0.0  # least probability, as a share of the most likely one's
  repetition_penalty: float = 1.0  # of tokens that were there before
  stop_strings: tuple[bytes, ...] = ()  # UTF-8; the token that ends it is kept
  # What does not fit the rows any more: the answer goes on from its last half.
  slides: bool = False

  def __post_init__(self):
    for name, (least, most, other) in _RANGES.items():
      value = getattr(self, name)
      if not (least <= value <= most or value == other):
        also = '' if other is None else f', or {other}'
        raise ValueError(f'{name} {value}; use {least:g} to {most:g}{also}')
    for name in ('max_new_tokens', 'top_k'):
      if not _is_integer(getattr(self, name)):
        raise ValueError(f'{name} {getattr(self, name)}; use an integer')
    if len(self.stop_ids) > slots.MAX_STOP_IDS:
      raise ValueError(
        f'stop_ids {self.stop_ids}; use at most {slots.MAX_STOP_IDS}'
      )
    if not all(isinstance(x, bytes) and x for x in self.stop_strings):
      raise ValueError(
        f'stop_strings {self.stop_strings}; use bytes that are not empty'
      )

  @property
  def features(self) -> set[str]:
    """What has to be compiled in for it."""
    wanted = {
      'truncation': self.top_k or self.top_p < 1 or self.min_p,
      'repetition_penalty': self.repetition_penalty != 1,
      'banned': self.banned_ids,
    }
    return {name for name, is_wanted in wanted.items() if is_wanted}


def check(
  cfg: config.ModelConfig,
  prompt: Sequence[int],
  request: Request,
  n_slots: int,
  seed: int = 0,
  name: str = 'the prompt',
) -> None:
  """Refuse what cannot be answered; what `Request` refuses it never holds.

  Args:
    cfg: the model.
    prompt: token ids.
    request: how to continue it.
    n_slots: tokens of a prompt and its answer, at most.
    seed: of the answer.
    name: of the prompt, for the messages.

  Raises:
    ValueError: for an empty prompt or one that leaves no room, a seed or a
      token id that there is not, and where every token is banned.
  """
  if not len(prompt):
    raise ValueError(f'{name} is empty; start it with an end-of-text id')
  n_new = 1 if request.slides else request.max_new_tokens
  if len(prompt) + n_new > n_slots:
    raise ValueError(
      f'{name} has {len(prompt)} tokens; with max_new_tokens '
      f'{request.max_new_tokens} it exceeds the {n_slots} tokens of a row; '
      'shorten the prompt or ask for fewer tokens'
    )
  if not (_is_integer(seed) and 0 <= seed < 2**32):
    raise ValueError(f'seed {seed}; use an integer from 0 to {2**32 - 1}')
  for what, ids in (
    (name, prompt),
    ('stop_ids', request.stop_ids),
    ('banned_ids', request.banned_ids),
  ):
    for token in ids:
      if not (_is_integer(token) and 0 <= token < cfg.vocab_size):
        raise ValueError(
          f'{what}: {token} is no token; ids are integers from 0 to '
          f'{cfg.vocab_size - 1}'
        )
  if len(set(request.banned_ids)) == cfg.vocab_size:
    raise ValueError(
      f'banned_ids are all {cfg.vocab_size} tokens; leave one that can be drawn'
    )


def _is_integer(value: object) -> bool:
  return isinstance(value, (int, np.integer))
