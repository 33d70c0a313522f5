"""Rate models by votes on pairs of their answers.

  python -m experiments.arena --votes runs/votes.jsonl

The votes are those of the arena of experiments.serve, or lines of JSON with
`a` and `b`, names of models, and `vote`: a, b, tie or both_bad.
"""

import dataclasses
import os

from experiments import command_line
from llm_jax import visible_text
from llm_jax.evals import arena


@dataclasses.dataclass(frozen=True)
class Config:
  """Nothing can be set."""


def run(cfg: Config, votes: str) -> None:
  """Print the ratings.

  Args:
    cfg: nothing.
    votes: file of the votes.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: for a line that is no vote, or none at all.
  """
  del cfg
  if not os.path.exists(votes):
    raise FileNotFoundError(f'{votes} is no file; give one of votes')
  found = arena.ratings(arena.read(votes))
  if not found.models:
    raise ValueError(f'{votes} holds no votes')
  print('rating  95% interval  battles  model')
  for one in found.models:
    points = f'{"-":>6}  {"unranked":>12}'
    if one.rating is not None:
      interval = f'{one.low:.0f} to {one.high:.0f}'
      points = f'{one.rating:>6.0f}  {interval:>12}'
    print(f'{points}  {one.battles:>7}  {visible_text.visible(one.model)}')
  if any(one.rating is None for one in found.models):
    print('No battles connect the unranked models with the others.')
  if found.n_named:
    print(f'{found.n_named} battles do not count: a model said its name.')


if __name__ == '__main__':
  command_line.main(Config, run, votes='file of the votes')
