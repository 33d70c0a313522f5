"""What an assistant was taught besides sums, for RL to keep.

  python -m examples.kept --of runs/speedrun/sft/conversations --to kept.jsonl

writes the conversations of a run of `sft` in which no answer has a number or a
thought. They are given to `rl --conversations`, which pays for sums alone.
Demonstrations of sums too would teach it to answer at once again.
"""

import argparse
import pathlib
import re

from llm_jax import files
from llm_jax.data import conversations

_SUM = re.compile(r'[0-9]|<think>')


def kept(items: list[conversations.Item]) -> list[dict[str, object]]:
  """Those in which the assistant neither counts nor thinks."""
  return [
    {'messages': item.messages}
    for item in items
    if not any(
      _SUM.search(message['content'])
      for message in item.messages
      if message['role'] == 'assistant'
    )
  ]


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument('--of', required=True, help='data set of a run of sft')
  parser.add_argument('--to', required=True, help='file in JSON lines')
  args = parser.parse_args()
  items = conversations.read(args.of)
  rows = kept(items)
  path = pathlib.Path(args.to)
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write_jsonl(path, rows)
  print(f'{path}: {len(rows):,} of {len(items):,} conversations')


if __name__ == '__main__':
  main()
