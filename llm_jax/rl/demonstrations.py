"""Demonstrations beside rewards, so that a policy keeps what it was taught.

Every update has some rows of conversations, whose loss is that of SFT, beside
its answers.

Source: PTX, arXiv:2203.02155 eq. 2.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llm_jax import dataclass_json
from llm_jax.chat import template
from llm_jax.data import order
from llm_jax.tasks import given
from llm_jax.train import start

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Ptx:
  """How much is learnt from conversations, where some are given."""

  n_rows: int = 32  # conversations of each update
  coefficient: float = 1.0  # of their loss, a mean over tokens as the policy's

  def __post_init__(self):
    dataclass_json.require_at_least(self, 'n_rows', 1)
    dataclass_json.require_at_least(self, 'coefficient', 0)


@dataclasses.dataclass(frozen=True)
class Demonstrations:
  """Conversations that are learnt beside answers."""

  cfg: Ptx
  rows: Sequence[template.Rendered]
  seed: int  # of their order

  @property
  def first(self) -> int:
    """The first target of a row that is learnt."""
    return min([*row.loss_mask].index(1) for row in self.rows) - 1

  def mixture(self, n_answers: int, n_updates: int) -> dict[str, Any]:
    """What so many updates read, each beside answers; see prompts.mixture."""
    return {
      'source': 'demonstrations',
      'problems': len(self.rows),
      'tokens': sum(len(row.token_ids) for row in self.rows),
      'share': self.cfg.n_rows / (n_answers + self.cfg.n_rows),
      'epochs': n_updates * self.cfg.n_rows / len(self.rows),
    }

  def beside(self, batch: Arrays, number: int) -> Arrays:
    """A minibatch with rows of demonstrations behind its own.

    Args:
      batch: of answers, for algorithms.loss.
      number: of the update in its run, from 0; says which rows come.

    Returns:
      The batch with ptx_weight_BT: of each token of a demonstration that is
      learnt, 0 of all others. Of answers the new rows have nothing.
    """
    n_old, length = batch['inputs_BT'].shape
    tokens_BT = np.zeros((self.cfg.n_rows, length + 1), np.int32)
    weight_BT = np.zeros((n_old + self.cfg.n_rows, length), np.float32)
    chosen = order.row_indices(
      'demonstrations',
      len(self.rows),
      self.seed,
      start=number * self.cfg.n_rows,
      count=self.cfg.n_rows,
    )
    for row, index in enumerate(chosen):
      ids, mask = self.rows[index]
      tokens_BT[row, : len(ids)] = ids
      weight_BT[n_old + row, : len(ids) - 1] = mask[1:]
    # The loss is divided by the tokens of answers.
    n_tokens = batch['loss_mask_BT'].sum()
    weight_BT *= self.cfg.coefficient * n_tokens / weight_BT.sum()
    new = {
      'inputs_BT': tokens_BT[:, :-1],
      'targets_BT': tokens_BT[:, 1:],
      'positions_BT': np.broadcast_to(
        np.arange(length), tokens_BT[:, 1:].shape
      ),
    }
    joined = {}
    for name, old in batch.items():
      rows = new.get(name, np.zeros((self.cfg.n_rows, *old.shape[1:])))
      joined[name] = np.concatenate([old, rows.astype(old.dtype)])
    return joined | {'ptx_weight_BT': weight_BT}


def load(
  stage: start.Stage, sources: Mapping[str, str], length: int
) -> Demonstrations | None:
  """Read what is given; None if nothing is.

  Args:
    stage: whose model reads it.
    sources: files by the source's name.
    length: tokens of a row; longer conversations are left out.

  Returns:
    The demonstrations.

  Raises:
    ValueError: if a file is damaged, or nothing of a source is left.
  """
  if not sources:
    return None
  items = given.read(sources)
  laid_out, _ = given.lay_out(
    items, stage.chat_format.rows, length=length, too_long='drop'
  )
  rows = [row.rendered for row in laid_out]
  return Demonstrations(stage.cfg.ptx, rows, stage.cfg.seed)
