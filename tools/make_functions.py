"""Writes easy Python functions to a file, in MBPP's form.

  python -m tools.make_functions --to runs/show/functions.jsonl

MBPP's own problems are far beyond a model of half a million parameters. These
are two steps of arithmetic each, with names and constants drawn at random and
four asserts, the first of which the prompt shows. The same counts and seed
give the same bytes. It does NOT make hard problems or tricky tests.
"""

import json
import pathlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from absl import app, flags

from llm_jax.tasks import python_functions

_TO = flags.DEFINE_string('to', None, 'the JSONL file', required=True)
_TRAIN = flags.DEFINE_integer('n_train', 6000, 'problems to train on')
_HELD_OUT = flags.DEFINE_integer('n_held_out', 600, 'problems held out')
_SEED = flags.DEFINE_integer('seed', 0, 'of everything')

# What is said, what is written, what it is: of two arguments, and of the
# value and a constant. The values are computed here and not by that code.
_FIRST: Sequence[tuple[str, str, Callable[[int, int], int]]] = (
  ('the sum of {a} and {b}', '{a} + {b}', lambda a, b: a + b),
  ('{a} minus {b}', '{a} - {b}', lambda a, b: a - b),
  ('{b} minus {a}', '{b} - {a}', lambda a, b: b - a),
  ('the product of {a} and {b}', '{a} * {b}', lambda a, b: a * b),
  ('the larger of {a} and {b}', 'max({a}, {b})', max),
  ('the smaller of {a} and {b}', 'min({a}, {b})', min),
)
_SECOND: Sequence[tuple[str, str, Callable[[int, int], int]]] = (
  ('plus {k}', '({x}) + {k}', lambda x, k: x + k),
  ('minus {k}', '({x}) - {k}', lambda x, k: x - k),
  ('subtracted from {k}', '{k} - ({x})', lambda x, k: k - x),
  ('times {k}', '({x}) * {k}', lambda x, k: x * k),
  ('but at least {k}', 'max({x}, {k})', max),
  ('but at most {k}', 'min({x}, {k})', min),
)
_NAMES = (
  'total', 'result', 'value', 'count', 'score', 'level', 'price', 'size',
)  # fmt: skip
_ARGUMENTS = 'abcnxy'
_N_TESTS = 4
_FIRST_TRAINING_ID = python_functions.FIRST_TRAINING_ID


def problems(n_train: int, n_held_out: int, seed: int) -> Iterator[dict]:
  """Rows with MBPP's fields; those that are held out have its low numbers.

  No two problems have the same text.

  Raises:
    ValueError: if more are held out than MBPP has numbers for.
  """
  if not 0 <= n_held_out < _FIRST_TRAINING_ID:
    raise ValueError(
      f'{n_held_out} problems held out; MBPP numbers fewer than '
      f'{_FIRST_TRAINING_ID} so'
    )
  draw = random.Random(f'functions/{seed}')
  texts: set[str] = set()
  ids = [*range(1, n_held_out + 1)]
  ids += range(_FIRST_TRAINING_ID, _FIRST_TRAINING_ID + n_train)
  for task_id in ids:
    row = _problem(draw)
    while row['text'] in texts:
      row = _problem(draw)
    texts.add(row['text'])
    yield {'task_id': task_id, **row}


def _problem(draw: random.Random) -> dict[str, Any]:
  name, k = draw.choice(_NAMES), draw.randint(2, 9)
  a, b = draw.sample(_ARGUMENTS, 2)
  said, written, first = draw.choice(_FIRST)
  then_said, then_written, second = draw.choice(_SECOND)
  inner = written.format(a=a, b=b)
  text = (
    f'Write a function {name} of {a} and {b} to return '
    f'{said.format(a=a, b=b)}, {then_said.format(k=k)}.'
  )
  value = then_written.format(x=inner, k=k)
  tests = []
  for _ in range(_N_TESTS):
    x, y = draw.randint(0, 20), draw.randint(0, 20)
    tests.append(f'assert {name}({x}, {y}) == {second(first(x, y), k)}')
  return {
    'text': text,
    'code': f'def {name}({a}, {b}):\n  return {value}',
    'test_setup_code': '',
    'test_list': tests,
    'challenge_test_list': [],
  }


def _main(argv: Sequence[str]) -> None:
  del argv
  path = pathlib.Path(_TO.value)
  path.parent.mkdir(parents=True, exist_ok=True)
  rows = problems(_TRAIN.value, _HELD_OUT.value, _SEED.value)
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows), 'utf-8')


if __name__ == '__main__':
  app.run(_main)
