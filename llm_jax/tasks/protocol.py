"""What a task hands out and what its verifier returns.

A task gives problems, the answer that a demonstrator would write, and a
score; the same object serves pretraining text, SFT, RL and evaluation.
"""

import dataclasses
import inspect
import random
from collections.abc import Sequence
from typing import Any, Protocol

from llm_jax import files
from llm_jax.verify import grading

Message = dict[str, Any]  # in OpenAI's form


@dataclasses.dataclass(frozen=True)
class Problem:
  """One question with the answer its verifier compares with."""

  task: str  # name of the task
  prompt: str  # what the model reads
  reference: str  # the right answer; never shown to the model
  question: str = ''  # the prompt without choices, where there are some
  choices: tuple[str, ...] = ()  # what an answer is chosen from
  kind: str = ''  # of its task, where accuracy is also counted by kinds
  before: tuple[tuple[str, str], ...] = ()  # earlier questions and answers


Problems = list[Problem]


class Thinking:
  """What tasks share whose thoughts stand between <think> and </think>."""

  think_start = grading.THINK_START
  thinks = staticmethod(grading.thinks)


class Task(Protocol):
  """A family of problems with a split that no stage trains on."""

  name: str
  think_start: str  # text that starts a thought; ban it for direct answers

  def problems(self, split: str, count: int, seed: int) -> Sequence[Problem]:
    """Distinct problems of a split, 'train' or 'held_out'.

    A task that reads them from its `path` also takes the split 'all', and the
    count 0 for all of a split.
    """
    ...

  def demonstrate(self, problem: Problem, think: bool) -> str:
    """The answer that a demonstrator would write.

    A task whose demonstrator calls tools has a method `conversation` of the
    same arguments in its place, which gives all messages from the prompt on.
    """
    ...

  def score(self, problem: Problem, answer: str) -> grading.Score:
    """Judge an answer; never raises on what a model wrote."""
    ...

  def thinks(self, answer: str) -> bool:
    """Whether an answer contains a thought, finished or not."""
    ...


def about(task: Task) -> str:
  """What a task asks for, in a sentence: the first of its module."""
  module = inspect.getmodule(type(task))
  said = (inspect.getdoc(module) or task.name).partition('\n\n')[0]
  return ' '.join(filter(None, [said, note(task)]))


def note(task: Task) -> str:
  """What has to stand beside every figure of a task; mostly nothing."""
  return getattr(task, 'note', str)()


def exchange(question: str, answer: str) -> list[Message]:
  """A conversation of one question and one answer in OpenAI's message form."""
  return [
    {'role': 'user', 'content': question},
    {'role': 'assistant', 'content': answer},
  ]


def conversations(
  task: Task, count: int, seed: int, think_share: float, draw: random.Random
) -> list[list[Message]]:
  """Draw problems of the split train, with a demonstrator's answers.

  Args:
    task: whose.
    count: conversations.
    seed: of the problems.
    think_share: share of the answers that hold a thought.
    draw: says which.

  Returns:
    Conversations that end with its answer, in OpenAI's message form.
  """
  own = getattr(task, 'conversation', None)
  result = []
  for problem in task.problems('train', count, seed):
    think = draw.random() < think_share
    before = [m for turn in problem.before for m in exchange(*turn)]
    if own:
      shown = own(problem, think)
    else:
      shown = exchange(problem.prompt, task.demonstrate(problem, think))
    result.append([*before, *shown])
  return result


def has_verifier(task: Task) -> bool:
  """Whether its score says what is right; else only a model can reward."""
  return getattr(task, 'has_verifier', True)


def file_of(task: Task) -> str:
  """The file whose questions an evaluation asks; empty: they are made."""
  return getattr(task, 'held_out_path', '') or getattr(task, 'path', '')


def file_sums(task: Task | None) -> dict[str, str]:
  """sha256 of each file that a task reads, by the setting that names it."""
  paths = {name: getattr(task, name, '') for name in ('path', 'held_out_path')}
  return {
    f'task.{name}': files.sha256(path) for name, path in paths.items() if path
  }
