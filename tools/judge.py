"""Measures a judge against people, on answers that people ranked.

  python -m tools.judge --preferences pairs.jsonl --replies judged.jsonl \
    --endpoint http://localhost:8000/v1 --model NAME
  python -m tools.judge --preferences pairs.jsonl --replies judged.jsonl \
    --checkpoint runs/smol

Of each ranking the best and the worst answer are compared in both orders. It
prints, each as a share of the pairs with its interval (95%): how often it
agrees with people, whose verdict is a tie because the order decided it
(flipped), how often what came first won, and how often the longer answer won,
for it and for people. With --self_preference the judge answers each question
itself; how often its own answer wins over the one that people prefer is
printed too. With the same --replies, `evaluate` and `rl` write all this beside
every figure that the judge makes. Called again, it asks nothing that it has
asked.
"""

import itertools
import json
from collections.abc import Sequence
from typing import Any

from absl import app, flags

from experiments import process
from llm_jax.agent import judge
from llm_jax.chat import conversation, rankings
from llm_jax.evals import statistics
from llm_jax.tasks import given

_FORMS = 'pairs or rankings; see how-to/preferences.md'


def _define_flags() -> None:
  """When it is the program: another tool may have flags of the same names."""
  flags.DEFINE_string('preferences', None, 'File of rankings.', required=True)
  flags.DEFINE_string('replies', None, 'Where replies are kept.', required=True)
  flags.DEFINE_string('endpoint', '', 'Address of a server, up to /v1.')
  flags.DEFINE_string('model', '', 'As the server calls it.')
  flags.DEFINE_string('checkpoint', '', 'Folder of a stage, in its place.')
  flags.DEFINE_string('criterion', judge.Asked.criterion, 'What counts.')
  flags.DEFINE_integer('n', 100, 'Rankings that are read.', lower_bound=1)
  flags.DEFINE_bool('self_preference', False, 'Let it answer too.')


def measure(
  asked: judge.Asked, ranked: Sequence[rankings.Ranked], answers_too: bool
) -> dict[str, Any]:
  """Compare the judge with people.

  Args:
    asked: the judge.
    ranked: by people.
    answers_too: let it compare its own answers with theirs.

  Returns:
    pairs; and of each share its number, share and interval.

  Raises:
    OSError, ValueError: see judge.Asked.
  """
  found: dict[str, list[bool]] = {
    name: []
    for name in (
      'agrees', 'ties', 'flipped', 'first wins', 'longer wins',
      'longer wins for people', 'own answer wins',
    )
  }  # fmt: skip
  for one in ranked:
    question = one.prompt[-1]['content']
    texts = [
      messages[-1]['content']
      for _, messages in sorted(
        zip(one.ranks, one.answers, strict=True), key=lambda pair: pair[0]
      )
    ]
    best, worst = texts[0], texts[-1]
    compared = judge.compare(asked, question, (best, worst))
    found['agrees'].append(compared.winner == 0)
    found['ties'].append(compared.winner is None)
    found['flipped'].append(compared.is_flipped)
    found['first wins'] += [i < compared.first_wins for i in range(2)]
    if len(best) != len(worst):
      is_longer = len(best) > len(worst)
      found['longer wins for people'].append(is_longer)
      if compared.winner is not None:
        found['longer wins'].append((compared.winner == 0) == is_longer)
    if answers_too:
      own = asked.ask(question).text
      said = judge.compare(asked, question, (own, best))
      if said.winner is not None:
        found['own answer wins'].append(said.winner == 0)
  shares = {
    name: {
      'n': len(values),
      'share': sum(values) / len(values),
      'interval': statistics.wilson_interval(sum(values), len(values)),
    }
    for name, values in found.items()
    if values
  }
  return {'pairs': len(ranked), **shares}


def lines(found: dict[str, Any]) -> list[str]:
  """What was measured, for people."""
  rows = [f'{found["pairs"]} pairs']
  for name, row in found.items():
    if name != 'pairs':
      low, high = (f'{100 * x:.1f}' for x in row['interval'])
      rows.append(
        f'{name:24}{row["share"]:7.1%}  ({low} to {high})  of {row["n"]}'
      )
  return rows


def main(argv: Sequence[str]) -> None:
  """Measure, and print."""
  process.set_up_logging(0)
  args = flags.FLAGS
  if len(argv) > 1:
    raise app.UsageError(f'{argv[1:]} is not understood; see --help')
  try:
    asked = judge.Asked(
      url=args.endpoint,
      model=args.model,
      checkpoint=args.checkpoint,
      replies=args.replies,
      criterion=args.criterion,
    )
    read = given.read_sources(
      given.named([args.preferences], ()),
      rankings.read_rows,
      what='preferences',
      known=_FORMS,
    )
    asked_about = (
      one for _, one in read if one.prompt[-1]['role'] == conversation.USER
    )
    ranked = list(itertools.islice(asked_about, args.n))
    found = measure(asked, ranked, args.self_preference)
  except (OSError, ValueError) as error:
    raise SystemExit(f'error: {error}') from None
  said = lines(found)
  asked.keep_measured('; '.join(' '.join(line.split()) for line in said))
  print('\n'.join(said))
  print(json.dumps(found))


if __name__ == '__main__':
  _define_flags()
  app.run(main)
