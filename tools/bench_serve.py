"""Measures the server against its own engine on the same requests.

python -m tools.bench_serve --checkpoint runs/speedrun/sft

For each number of streams: time to the first token (median and 95th percentile)
and tokens a second of all streams, through HTTP and by the bare engine with
the same rows, in turns. With --soak_s it asks for so long instead, takes a part
of the requests back, and says what memory and rows are left (Linux).
"""

import asyncio
import contextlib
import json
import os
import pathlib
import random
import re
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

import aiohttp
from absl import app, flags

from experiments import process as recipe_process
from llm_jax import api
from llm_jax.infer import engine, requests, slots

_CHECKPOINT = flags.DEFINE_string('checkpoint', None, 'model', required=True)
_STREAMS = flags.DEFINE_string('streams', '1,8,32', 'at the same time')
_TOKENS = flags.DEFINE_integer('n_tokens', 160, 'that each draws')
_ROUNDS = flags.DEFINE_integer('rounds', 5, 'of each, in turns')
_CHUNK = flags.DEFINE_integer('max_chunk', 8, 'tokens that come together')
_SOAK_S = flags.DEFINE_float('soak_s', 0, 'ask for so long instead')
_SLOTS = 256  # tokens of a prompt and its answer
_TEXT = 'The function returns a list of '


@contextlib.contextmanager
def _server(n_rows: int):
  """Its address and process, once it answers."""
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = free.getsockname()[1]
  words = [
    *(sys.executable, '-m', 'experiments.serve', '--port', str(port)),
    *('--checkpoint', f'model={_CHECKPOINT.value}'),
    *('--gin_bindings', f'Config.n_rows = {n_rows}'),
    *('--gin_bindings', f'Config.max_chunk = {_CHUNK.value}'),
    *('--gin_bindings', f'Config.n_slots = {_SLOTS}'),
  ]
  process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
  url = f'http://127.0.0.1:{port}'
  try:
    while process.poll() is None:
      with contextlib.suppress(OSError):
        urllib.request.urlopen(f'{url}/health').close()
        break
      time.sleep(0.2)
    yield url, process
  finally:
    process.terminate()
    process.wait()


def _body(i: int, **more) -> dict:
  return {
    'model': 'model',
    'prompt': f'{_TEXT}{i}',
    'seed': i,
    'max_tokens': _TOKENS.value,
    'ignore_eos': True,
    'stream': True,
  } | more


async def _ask(session, url: str, i: int) -> tuple[float, float]:
  """Seconds to the first token, and to the last."""
  began_s, first_s = time.monotonic(), None
  async with session.post(f'{url}/v1/completions', json=_body(i)) as reply:
    reply.raise_for_status()
    async for _ in reply.content:
      first_s = first_s or time.monotonic() - began_s
  return first_s or 0.0, time.monotonic() - began_s


async def _ask_all(url: str, n_streams: int) -> tuple[float, list[float]]:
  """Tokens a second of all, and seconds to each first one."""
  limit = aiohttp.TCPConnector(limit=0)
  async with aiohttp.ClientSession(connector=limit) as session:
    began_s = time.monotonic()
    tasks = [_ask(session, url, i) for i in range(n_streams)]
    first = [first_s for first_s, _ in await asyncio.gather(*tasks)]
    passed_s = time.monotonic() - began_s
  return n_streams * _TOKENS.value / passed_s, first


def _bare(model: api.Model, rows: engine.Engine, n_streams: int) -> float:
  """Tokens a second of the same requests without a server."""
  began_s = time.monotonic()
  for i in range(n_streams):
    ids = model.tokenizer.encode(f'{_TEXT}{i}')
    rows.submit(
      [*model.tokenizer.prefix_ids, *ids],
      i,
      requests.Request(_TOKENS.value, ()),
    )
  while not rows.is_idle:
    rows.step()
  return n_streams * _TOKENS.value / (time.monotonic() - began_s)


def _compare() -> None:
  counts = [*map(int, _STREAMS.value.split(','))]
  model = api.load(_CHECKPOINT.value)
  cfg = model.config
  with _server(max(counts)) as (url, process):
    plan = slots.Plan(cfg, max(counts), n_slots=_SLOTS, max_chunk=_CHUNK.value)
    rows = engine.Engine(plan, model.params)
    for n in counts:
      for _ in range(3):  # compile: prompts are read in groups of any size
        _bare(model, rows, n)
        asyncio.run(_ask_all(url, n))
      served, bare, first = [], [], []
      for _ in range(_ROUNDS.value):
        bare.append(_bare(model, rows, n))
        per_s, waits = asyncio.run(_ask_all(url, n))
        served.append(per_s)
        first += waits
      ratios = [a / b for a, b in zip(served, bare, strict=True)]
      found = {
        'streams': n,
        'first_token_median_ms': 1000 * statistics.median(first),
        'first_token_p95_ms': 1000 * sorted(first)[int(0.95 * len(first))],
        'tokens_per_s': statistics.median(served),
        'bare_tokens_per_s': statistics.median(bare),
        'ratio_median': statistics.median(ratios),
        'ratios': ratios,
      }
      print(json.dumps(found))
    assert process.poll() is None


def _resident_mb(pid: int) -> float:
  status = pathlib.Path(f'/proc/{pid}/status').read_text()
  (kilobytes,) = re.findall(r'^VmRSS:\s+(\d+) kB$', status, re.M)
  return int(kilobytes) / 1000


async def _soak(url: str, process: subprocess.Popen) -> None:
  draw, began_s, memory = random.Random(0), time.monotonic(), []
  told = {'answers': 0, 'cancelled': 0, 'errors': 0}

  async def client(number: int) -> None:
    i = number
    while time.monotonic() - began_s < _SOAK_S.value:
      i += 1000
      body = _body(i, max_tokens=draw.randint(1, _TOKENS.value))
      body['stream'] = draw.random() < 0.5
      goes = draw.random() < 0.5
      wait = aiohttp.ClientTimeout(draw.uniform(0.01, 0.5) if goes else 600)
      try:
        post = session.post(f'{url}/v1/completions', json=body, timeout=wait)
        async with post as reply:
          await reply.read()
          told['answers' if reply.status == 200 else 'errors'] += 1
      except TimeoutError:
        told['cancelled'] += 1

  async def watch() -> None:
    while time.monotonic() - began_s < _SOAK_S.value:
      memory.append(_resident_mb(process.pid))
      await asyncio.sleep(min(10, _SOAK_S.value / 20))

  limit = aiohttp.TCPConnector(limit=0)
  async with aiohttp.ClientSession(connector=limit) as session:
    await asyncio.gather(watch(), *map(client, range(16)))
    await asyncio.sleep(2)
    async with session.get(f'{url}/metrics') as reply:
      text = await reply.text()
  left = {
    name: float(value)
    for name, value in re.findall(
      r'^(llm_jax_(?:rows_in_use|answers_waiting)){.*?} (\S+)', text, re.M
    )
  }
  third = max(1, len(memory) // 3)
  parts = [memory[third : 2 * third] or memory, memory[-third:]]
  half, end = (statistics.median(part) for part in parts)
  print(json.dumps(told | left | {'middle_mb': half, 'end_mb': end}))


def main(argv) -> None:
  """Measures what the flags say."""
  del argv
  recipe_process.set_up_logging(-1)
  os.chdir(pathlib.Path(__file__).resolve().parent.parent)
  if _SOAK_S.value:
    with _server(8) as (url, process):
      asyncio.run(_soak(url, process))
  else:
    _compare()


if __name__ == '__main__':
  app.run(main)
