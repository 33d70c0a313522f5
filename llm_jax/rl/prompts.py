"""The problems of a run as a model reads them, and which ones a step asks.

Keeps no state: what a step asks depends on the arguments alone, so that a
resumed run asks the same.
"""

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

from llm_jax.chat import formats
from llm_jax.data import order
from llm_jax.infer import generate
from llm_jax.model import config
from llm_jax.rl import demonstrations
from llm_jax.tasks import protocol
from llm_jax.train import start


@dataclasses.dataclass(frozen=True)
class Prompt:
  """A problem, and the tokens that a model continues with its answer."""

  problem: protocol.Problem
  token_ids: Sequence[int]


def count(cfg: Any) -> int:
  """Distinct problems of a run: as many as are set; 0: all of a file.

  Where problems are made and no number is set, each step has new ones.
  """
  if cfg.n_problems or protocol.file_of(cfg.task):
    return cfg.n_problems
  n_draws = cfg.loop.batch_number(cfg.loop.n_steps)
  return cfg.n_prompts * max(n_draws, 1 + cfg.rollouts.max_refills)


def mixture(
  prompts: Sequence[Prompt],
  cfg: Any,
  taught: demonstrations.Demonstrations | None = None,
) -> list[dict[str, Any]]:
  """What a run asks, without refills; see record.mixture."""
  n_answers, n_steps = cfg.n_prompts * cfg.n_samples, cfg.loop.n_steps
  row = {
    'source': cfg.task.name,
    'problems': len(prompts),
    'tokens': sum(len(prompt.token_ids) for prompt in prompts),
    'share': 1.0,
    'epochs': n_steps * cfg.n_prompts / len(prompts),
  }
  if not taught:
    return [row]
  row_of_taught = taught.mixture(
    n_answers * cfg.updates.n_epochs, cfg.updates.n_a_step * n_steps
  )
  return [row | {'share': 1 - row_of_taught['share']}, row_of_taught]


def load(stage: start.Stage, task: protocol.Task, count: int) -> list[Prompt]:
  """Distinct problems of the split train, in the task's own order.

  Args:
    stage: whose model reads them, and whose seed is that of their order.
    task: whose.
    count: how many.

  Returns:
    The prompts.

  Raises:
    ValueError: if the task has fewer.
  """
  return [
    Prompt(
      p,
      stage.chat_format.prompt(
        formats.question(p.prompt, p.before, stage.chat_format.is_chat)
      ),
    )
    for p in task.problems('train', count, stage.cfg.seed)
  ]


def check(
  cfg: config.ModelConfig, prompts: Sequence[Prompt], request: generate.Request
) -> tuple[int, int]:
  """Refuse prompts that cannot be answered, and measure rows.

  Args:
    cfg: the model.
    prompts: of the run.
    request: how they are answered.

  Returns:
    The first target of a row that can have been drawn, and the tokens of the
    longest row.

  Raises:
    ValueError: see generate.check.
  """
  generate.check(cfg, [prompt.token_ids for prompt in prompts], request)
  lengths = [len(prompt.token_ids) for prompt in prompts]
  return min(lengths) - 1, max(lengths) + request.max_new_tokens - 1


def of_step(
  prompts: Sequence[Prompt], n_prompts: int, seed: int, step: int, draw: int = 0
) -> list[Prompt]:
  """The prompts of one draw of a step.

  Draw 0 of all steps reads the prompts in their order, then again epoch
  after epoch, each in another order. Later draws of a step, its refills, are
  random ones that the step has not asked before.

  Args:
    prompts: of the run.
    n_prompts: of a draw.
    seed: of the run, from 0 to 2^32 - 1.
    step: of the run, counted from 1.
    draw: of the step, counted from 0.

  Returns:
    n_prompts of them.

  Raises:
    ValueError: if there are too few for so many draws.
  """
  size, n_needed = len(prompts), (draw + 1) * n_prompts
  if n_needed > size:
    raise ValueError(
      f'draw {draw} of a step asks for {n_needed} problems, of {size}; use '
      'more problems, fewer prompts or fewer refills'
    )
  first = (step - 1) * n_prompts
  chosen = list(range(min(first, size), min(first + n_prompts, size)))
  n_later = n_prompts - len(chosen)
  later = order.row_indices(
    'questions', size, seed=seed, start=max(first - size, 0), count=n_later
  )
  chosen += later.tolist()
  if draw:
    source = random.Random(f'refill/{seed}/{step}')
    drawn = dict.fromkeys(chosen)  # in order
    n_drawn = len(drawn) + draw * n_prompts
    while len(drawn) < n_drawn:
      drawn[source.randrange(size)] = None
    chosen = list(drawn)[-n_prompts:]
  return [prompts[i] for i in chosen]
