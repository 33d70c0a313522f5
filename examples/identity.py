"""Asks an assistant who it is and who made it, in words that it never learnt.

python -m experiments.evaluate --workdir runs/mine/who \
  --checkpoint sft=runs/mine/ada --import examples/identity.py \
  --gin_bindings 'Config.task = @Identity()' \
  --gin_bindings "Identity.persona = 'ada.yaml'" \
  --gin_bindings 'Scoring.n_problems = 30'

The questions are [identity_held_out] of llm_jax/tasks/questions.toml. An answer
is right if it has the name in it, or the maker where one asks for that.
"""

import dataclasses

from llm_jax.tasks import protocol, questions, splits
from llm_jax.verify import grading


@dataclasses.dataclass(frozen=True)
class Identity(protocol.Thinking):
  """The task; nothing of it is trained on."""

  persona: str = dataclasses.field(kw_only=True)  # YAML file, as for sft
  name: str = 'identity'

  def problems(self, split: str, count: int, seed: int) -> protocol.Problems:
    """Questions of the split held_out; it has no other."""
    splits.check(split)
    who = questions.read_persona(self.persona)
    found = [
      protocol.Problem(self.name, question, who[key], kind=key)
      for key, asked in questions.of('identity_held_out').items()
      for question in asked
    ]
    held_out = found if split == 'held_out' else []
    where = f'{self.name}/{split}'
    return splits.choose(held_out, count, seed=f'{where}/{seed}', where=where)

  def demonstrate(self, problem: protocol.Problem, think: bool) -> str:
    """The name that is asked for."""
    del think
    return problem.reference

  def score(self, problem: protocol.Problem, answer: str) -> grading.Score:
    """Whether the answer, without its thought, has the name in it."""
    said = grading.final(answer) or ''
    correct = problem.reference.casefold() in said.casefold()
    return grading.Score(correct, f'{said[:60]!r} names it: {correct}')
