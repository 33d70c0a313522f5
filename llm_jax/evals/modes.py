"""The ways in which a checkpoint is asked, and one row of figures for each.

`free`: it answers as it likes. `direct`: it may not think. `likelihood`: of the
choices of a problem, where it has some, the likeliest is its answer.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from absl import logging

from llm_jax.agent import turns
from llm_jax.evals import choices, scoring
from llm_jax.tasks import protocol

MODES = ('free', 'direct', 'likelihood')


def rows(
  model: turns.Model,
  task: protocol.Task,
  cfg: scoring.Scoring,
  modes: Sequence[str],
  split: str,
) -> Iterator[dict[str, Any]]:
  """Measure a checkpoint.

  Args:
    model: the checkpoint.
    task: what it is asked.
    cfg: how many problems, how often.
    modes: some of MODES.
    split: of the problems; see scoring.problems.

  Yields:
    What scoring.evaluate and choices.evaluate return, for each mode that the
    problems have.

  Raises:
    ValueError: if the problems have none of the modes.
  """
  asked = scoring.problems(task, cfg, split)
  if tuple(modes) == ('likelihood',) and not asked[0].choices:
    raise ValueError(
      f'the problems of {task.name} have no choices, so that their likelihood '
      "is not measured; use Config.modes = ('free', 'direct')"
    )
  for mode in modes:
    if mode == 'likelihood' and asked[0].choices:
      found = choices.evaluate(model, asked, cfg.batch_size)
      shares = [f'{k} {x:.1%}' for k, x in found['accuracy'].items()]
      logging.info('%d by likelihood: %s', found['n'], ', '.join(shares))
      yield found
    elif mode != 'likelihood':
      found = scoring.evaluate(
        model, task, cfg, direct=mode == 'direct', split=split
      )
      logging.info('%s', scoring.sentence(found))
      yield found
