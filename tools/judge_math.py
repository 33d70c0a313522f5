"""Judges answers in MATH's form by our verifier and by math-verify.

  python -m tools.judge_math
  python -m tools.judge_math --judges ours --show

The pairs are those of tests/verify/math_answers.txt. The last line is one JSON
object. math-verify is not needed by llm_jax; `pip install math-verify==0.9.0`.
"""

import json
import pathlib
import time
from collections.abc import Iterator

from absl import app, flags

from llm_jax.tasks import word_problems

_JUDGES = flags.DEFINE_list('judges', ['ours', 'math-verify'], 'who judges')
_SHOW = flags.DEFINE_bool('show', False, 'print each pair that is misjudged')
_PAIRS = (
  pathlib.Path(__file__).parent.parent / 'tests' / 'verify' / 'math_answers.txt'
)


def pairs() -> Iterator[tuple[str, str, bool]]:
  """A data set's right answer, what a model wrote, and whether it is right."""
  gold = ''
  for line in _PAIRS.read_text(encoding='utf-8').splitlines():
    kind, _, text = line.partition(' ')
    if kind == '=':
      gold = text
    elif kind in ('+', '-'):
      yield gold, f'So it is $\\boxed{{{text}}}$.', kind == '+'
    elif kind in ('++', '--'):
      yield gold, text.replace('\\n', '\n'), kind == '++'


def ours(gold: str, answer: str) -> bool:
  """Whether the task accepts an answer to a problem of MATH's form."""
  task = word_problems.WordProblems()
  row = {'problem': 'What?', 'solution': f'So it is $\\boxed{{{gold}}}$.'}
  problem = task.read(row)
  return problem is not None and task.score(problem, answer).correct


def math_verify(gold: str, answer: str) -> bool:
  """Whether math-verify accepts an answer, with its own defaults."""
  import math_verify as peer

  return peer.verify(peer.parse(f'$\\boxed{{{gold}}}$'), peer.parse(answer))


def main(_):
  """Judges and prints."""
  judges = {'ours': ours, 'math-verify': math_verify}
  counts = {}
  for name in _JUDGES.value:
    start, n_right, n_wrong = time.monotonic(), [0, 0], [0, 0]
    for gold, answer, is_right in pairs():
      accepts = judges[name](gold, answer)
      count = n_right if is_right else n_wrong
      count[0] += accepts
      count[1] += 1
      if _SHOW.value and accepts != is_right:
        print('accepts' if accepts else 'refuses', repr(gold), repr(answer))
    seconds = time.monotonic() - start
    print(
      f'{name}: accepts {n_right[0]} of {n_right[1]} right answers and '
      f'{n_wrong[0]} of {n_wrong[1]} wrong ones, in {seconds:.0f} s'
    )
    counts[name] = {'right': n_right, 'wrong': n_wrong}
  print(json.dumps(counts))


if __name__ == '__main__':
  app.run(main)
