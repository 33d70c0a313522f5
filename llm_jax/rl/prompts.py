"""The problems of a run as a model reads them, and which ones a step asks.

Keeps no state: what a step asks depends on the arguments alone, so that a
resumed run asks the same. Does not make problems; see tasks/.
"""

import dataclasses
import random
from collections.abc import Sequence

from llm_jax.chat import prompting
from llm_jax.data import order
from llm_jax.tasks import protocol
from llm_jax.tokenizer import encoding


@dataclasses.dataclass(frozen=True)
class Question:
  """A problem, and the tokens that a model continues with its answer."""

  problem: protocol.Problem
  token_ids: Sequence[int]


def load(
  task: protocol.Task,
  count: int,
  seed: int,
  tokenizer: encoding.Tokenizer,
  is_chat: bool,
) -> list[Question]:
  """Distinct problems of the split train, in the task's own order.

  Args:
    task: whose.
    count: how many.
    seed: of their order.
    tokenizer: the model's.
    is_chat: whether they are put as a user's message.

  Returns:
    The questions.

  Raises:
    ValueError: if the task has fewer.
  """
  return [
    Question(p, prompting.token_ids(tokenizer, p.prompt, is_chat))
    for p in task.problems('train', count, seed)
  ]


def of_step(
  questions: Sequence[Question],
  n_prompts: int,
  seed: int,
  step: int,
  draw: int = 0,
) -> list[Question]:
  """The questions of one draw of a step.

  Draw 0 of all steps reads the questions in their order, then again epoch
  after epoch, each in another order. Later draws of a step, its refills, are
  random ones that the step has not asked before.

  Args:
    questions: of the run.
    n_prompts: questions of a draw.
    seed: of the run, from 0 to 2^32 - 1.
    step: of the run, counted from 1.
    draw: of the step, counted from 0.

  Returns:
    n_prompts questions.

  Raises:
    ValueError: if there are too few for so many draws.
  """
  size, n_asked = len(questions), (draw + 1) * n_prompts
  if n_asked > size:
    raise ValueError(
      f'draw {draw} of a step asks for {n_asked} problems, of {size}; use more '
      'problems, fewer prompts or fewer refills'
    )
  start = (step - 1) * n_prompts
  chosen = list(range(min(start, size), min(start + n_prompts, size)))
  n_later = n_prompts - len(chosen)
  chosen += order.row_indices(
    'questions', size, seed, max(start - size, 0), n_later
  ).tolist()
  if draw:
    source = random.Random(f'refill/{seed}/{step}')
    asked = dict.fromkeys(chosen)  # in order
    n_asked = len(asked) + draw * n_prompts
    while len(asked) < n_asked:
      asked[source.randrange(size)] = None
    chosen = list(asked)[-n_prompts:]
  return [questions[i] for i in chosen]
