"""Measures the Python sandbox: executions a second, by threads that wait.

  python -m tools.bench_sandbox

Each execution is a program of its own, with three calls whose values come back
and are checked. Rounds with one and two threads alternate. The last line is one
JSON object, with medians. Times mean little on a machine that does other work.
"""

import contextlib
import json
import os
import statistics
import time
from concurrent import futures

from absl import app, flags

from llm_jax.verify.sandbox import sandbox

_EXECUTIONS = flags.DEFINE_integer('executions', 400, 'Executions of a round.')
_ROUNDS = flags.DEFINE_integer('rounds', 7, 'Rounds of each kind.')

_THREADS = (1, 2)
_CODE = """
from collections import Counter
def most_common(words):
  return Counter(words.split()).most_common(1)[0][0]
"""
_TEXTS = ('a b b', 'to be or not to', 'x')
_COMMON = ('b', 'to', 'x')


def execute(box: sandbox.Sandbox):
  """One program with its calls."""
  calls = [((text,), {}) for text in _TEXTS]
  done = box.run(_CODE, 'most_common', calls)
  if done.values != _COMMON:
    raise ValueError(f'{done} has other values than {_COMMON}')


def rate(box: sandbox.Sandbox, n_threads: int) -> float:
  """Executions a second."""
  with futures.ThreadPoolExecutor(n_threads) as pool:
    start = time.monotonic()
    todo = [pool.submit(execute, box) for _ in range(_EXECUTIONS.value)]
    for future in todo:
      future.result()
    return _EXECUTIONS.value / (time.monotonic() - start)


def main(_):
  """Measures and prints."""
  rates = {n: [] for n in _THREADS}
  with contextlib.closing(sandbox.Sandbox()) as box:
    print('layers:', ', '.join(box.layers))
    for _ in range(_ROUNDS.value):
      for n in _THREADS:
        rates[n].append(rate(box, n))
    result: dict[str, object] = {'layers': len(box.layers)}
  for n, values in rates.items():
    middle = statistics.median(values)
    result[f'executions_per_s_{n}'] = round(middle, 1)
    print(
      f'{n} at a time: {middle:.0f} executions/s '
      f'({min(values):.0f} to {max(values):.0f})'
    )
  result |= {'cpus': os.cpu_count(), 'load': os.getloadavg()[0]}
  print(json.dumps(result))


if __name__ == '__main__':
  app.run(main)
