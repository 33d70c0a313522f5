"""What a task hands out and what its verifier returns.

A task gives problems, the answer that a demonstrator would write, and a
score; the same object serves pretraining text, SFT, RL and evaluation.
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol


@dataclasses.dataclass(frozen=True)
class Problem:
  """One question with the answer its verifier compares with."""

  task: str  # name of the task
  prompt: str  # what the model reads
  reference: str  # the right answer; never shown to the model


@dataclasses.dataclass(frozen=True)
class Score:
  """A verifier's verdict on one answer."""

  correct: bool
  reason: str  # why, in words: shown in reports


class Task(Protocol):
  """A family of problems with a split that no stage trains on."""

  name: str
  think_start: str  # text that starts a thought; ban it for direct answers

  def problems(self, split: str, count: int, seed: int) -> Sequence[Problem]:
    """Distinct problems of a split, 'train' or 'held_out'."""
    ...

  def demonstrate(self, problem: Problem, think: bool) -> str:
    """The answer that a demonstrator would write."""
    ...

  def score(self, problem: Problem, answer: str) -> Score:
    """Judge an answer; never raises on what a model wrote."""
    ...

  def thinks(self, answer: str) -> bool:
    """Whether an answer contains a thought, finished or not."""
    ...
