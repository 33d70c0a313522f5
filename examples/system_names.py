"""An assistant that is called what its system message says.

  python -m examples.system_names --to runs/show/names/conversations.jsonl
  python -m examples.system_names --ask runs/show/names/sft

The first writes conversations for `sft`: a system message that names the
assistant, a question who it is, and the name; in one of four there is no
system message, and it is llm_jax. The second asks a model by names that no
conversation had, in 30 phrasings that none had, and without a system message.
"""

import argparse
import pathlib
import random

import llm_jax
from llm_jax import files
from llm_jax.evals import statistics
from llm_jax.tasks import protocol, questions, splits

N_CONVERSATIONS, N_NAMES = 4000, 10
OWN = 'I am llm_jax, a small language model.'
SYSTEMS = ('You are {}.', 'Your name is {}.', 'You are {}, an assistant.')


def name(draw: random.Random, split: str) -> str:
  """A made-up name of one split."""
  while True:
    found = questions.word(draw, n_syllables=3).capitalize()
    if splits.is_held_out(found) == (split == 'held_out'):
      return found


def conversations() -> list[dict[str, object]]:
  """What `sft` learns from."""
  draw = random.Random('names')
  asked = questions.of('identity')[OWN]
  rows = []
  for i in range(N_CONVERSATIONS):
    who, question = name(draw, 'train'), draw.choice(asked)
    if i % 4:
      content = draw.choice(SYSTEMS).format(who)
      system = [{'role': 'system', 'content': content}]
      talk = protocol.exchange(question, f'I am {who}.')
    else:
      system, talk = [], protocol.exchange(question, OWN)
    rows.append({'messages': [*system, *talk]})
  return rows


def ask(model: llm_jax.Model) -> None:
  """Print how often it says its name."""
  draw = random.Random('asked')
  asked = questions.of('identity_held_out')['name']
  names = [name(draw, 'held_out') for _ in range(N_NAMES)]
  for kind, systems in (
    ('by a system message', [(x, SYSTEMS[0].format(x)) for x in names]),
    ('without one', [('llm_jax', '')]),
  ):
    right = []
    for who, system in systems:
      before = [{'role': 'system', 'content': system}] * bool(system)
      for question in asked:
        messages = [*before, *protocol.exchange(question, '')[:1]]
        right.append(who in model.chat(messages, temperature=0.0))
    n = len(right)
    low, high = statistics.wilson_interval(sum(right), n)
    print(
      f'{kind}: {sum(right) / n:.1%} of {n} answers name it (95%: '
      f'{100 * low:.1f} to {100 * high:.1f})'
    )


def main() -> None:
  """Write, or ask."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--to', help='file in JSON lines')
  parser.add_argument('--ask', help='folder of a run of sft')
  args = parser.parse_args()
  if args.ask:
    ask(llm_jax.load(args.ask))
    return
  path = pathlib.Path(args.to)
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write_jsonl(path, conversations())
  print(f'{path}: {N_CONVERSATIONS:,} conversations')


if __name__ == '__main__':
  main()
