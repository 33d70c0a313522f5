"""Facts that a model is taught, and others that it is not.

  python -m examples.known_facts --to runs/show/knows

writes the conversations that teach them, and all questions for the task
ClosedBook: what is seen once, twice or four times as often in training, what
is never seen, and what nobody can know, as it is made up. A third of the
questions is held out: they are taught like the others, but no training of
refusals sees them. `searched.jsonl` holds conversations that search for what is
made up, and refuse where the search finds something else; `documents` what is
to be searched.
"""

import argparse
import json
import pathlib
import random
import zlib
from typing import Any

from examples import facts
from llm_jax import files
from llm_jax.agent import search
from llm_jax.chat import calls
from llm_jax.tasks import protocol

# Most values of these cannot be guessed from the name.
RELATIONS = {
  'code point': 500, 'coordinates': 300, 'codec': 200, 'country': 120,
  'MIME type': 80,
}  # fmt: skip
COPIES = (0, 0, 0, 1, 2, 4)  # of a fact among the conversations
N_MADE_UP = 200
NEVER = 'never seen'
N_COPIES_OF_NEVER = 4  # among the refusals, of those that are not held out
REFUSAL = 'I do not know.'


def searched(unknown: list[facts.Fact]) -> list[dict[str, Any]]:
  """Conversations that search for each; one in four is not to be found."""
  found = [fact for i, fact in enumerate(unknown) if i % 4]
  tool = search.make(facts.index([*facts.known(), *found]), 1)
  rows = []
  for i, fact in enumerate(unknown):
    question, answer = protocol.exchange(
      fact.question, f'It is {fact.value}' if i % 4 else REFUSAL
    )
    call = calls.Call('search', {'query': fact.query})
    result = tool.run({'query': fact.query}, [])
    between = [
      {'role': 'assistant', 'content': '', 'tool_calls': [call.message()]},
      {'role': 'tool', 'content': result},
    ]
    rows.append({'messages': [question, *between, answer]})
  return rows


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument('--to', required=True)
  folder = pathlib.Path(parser.parse_args().to)
  folder.mkdir(parents=True, exist_ok=True)
  draw = random.Random(0)
  taught, unknown, questions = [], [], {'train': [], 'held_out': []}
  for relation, most in RELATIONS.items():
    own = [fact for fact in facts.known() if fact.relation == relation]
    made = [fact for fact in facts.made() if fact.relation == relation]
    draw.shuffle(own)
    draw.shuffle(made)
    n_made = N_MADE_UP * most // sum(RELATIONS.values())
    unknown += made[n_made : n_made + 3 * most]
    for fact in [*own[:most], *made[:n_made]]:
      number = zlib.crc32(fact.question.encode())
      copies = 0 if fact.is_made else COPIES[number % len(COPIES)]
      kind = f'seen {copies} times as often' if copies else NEVER
      row = {
        'question': fact.question,
        'answer': [fact.value, f'It is {fact.value}'],
        'kind': 'made up' if fact.is_made else kind,
      }
      questions['train' if number // 8 % 3 else 'held_out'].append(row)
      talk = protocol.exchange(fact.question, fact.value)
      taught += [{'messages': talk}] * copies
  draw.shuffle(taught)
  draw.shuffle(unknown)
  never = [q for q in questions['train'] if q['kind'] == NEVER]
  asked = [fact.question for fact in unknown]
  asked += [row['question'] for row in never] * N_COPIES_OF_NEVER
  draw.shuffle(asked)
  refused = [{'messages': protocol.exchange(text, REFUSAL)} for text in asked]
  files.write_jsonl(folder / 'taught.jsonl', taught)
  files.write_jsonl(folder / 'refused.jsonl', refused)
  files.write_jsonl(folder / 'searched.jsonl', searched(unknown))
  facts.write(facts.known(), folder / 'documents')
  for split, rows in questions.items():
    files.write_jsonl(folder / f'{split}.jsonl', rows)
  print(
    json.dumps(
      {'taught': len(taught)} | {s: len(q) for s, q in questions.items()}
    )
  )


if __name__ == '__main__':
  main()
