"""Measures generation, beside transformers on torch.

  python -m tools.bench_infer --peer_python .venv-torch/bin/python
  python -m tools.bench_infer --section slots --section buckets

Sections, all by default:
  peer     tokens/s of whole answers (a prompt of 64 tokens with them) at 4M and
           26M parameters, 1 and 16 rows, greedy and drawn; with --peer_python
           the same weights and prompts run through transformers' `generate` in
           turns, A B A B, and the greedy tokens must be equal
  parts    prefill and decode tokens/s, time to the first token, and the bytes
           that decoding must read a second beside what a copy reaches here
  slots    share of rows that are in use on log-normal lengths
  buckets  decoding with 100 of 2048 slots in use: reading a bucket against
           reading all
  prefix   16 answers to one prompt of 256 tokens: read once, or each for itself
  int8     nats a token of --text under --restore_from, with weights or cache as
           int8; only where both are given

It pins itself and the peer to one core (but on accelerators). The last line is
one JSON object. Times mean little on a machine that does other work.
"""

import dataclasses
import functools
import json
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable

import jax
import numpy as np
from absl import app, flags

from experiments import process
from llm_jax.infer import engine as engine_lib
from llm_jax.infer import quantize, requests, slots
from llm_jax.interop import huggingface
from llm_jax.model import config, kv_cache, params, transformer
from llm_jax.tokenizer import encoding
from llm_jax.train import checkpoint
from tools import peer as peer_lib

_MAX_TEXT = 1 << 15  # tokens
_SECTIONS = ('peer', 'parts', 'slots', 'buckets', 'prefix')
_SECTION = flags.DEFINE_multi_enum(
  'section', list(_SECTIONS), _SECTIONS, 'What to measure.'
)
_ROUNDS = flags.DEFINE_integer('rounds', 5, 'Rounds of each.')
_PEER = flags.DEFINE_string('peer_python', '', 'Python with transformers.')

_RESTORE = flags.DEFINE_string('restore_from', '', 'Stage of a run, for int8.')
_TEXT = flags.DEFINE_string('text', '', 'File whose perplexity int8 costs.')

_PROMPT = 64  # tokens
_N_NEW = {'4m': 64, '26m': 32}
_KINDS = {
  'greedy': {'temperature': 0.0, 'top_k': 0},
  'drawn': {'temperature': 0.8, 'top_k': 50},
}
SIZES = {
  '4m': config.ModelConfig(
    vocab_size=4096, n_layers=4, d_model=256, n_heads=4, n_kv_heads=2,
    head_dim=64, d_ff=688, max_length=2048, tied_embeddings=True,
  ),
  '26m': config.ModelConfig(
    vocab_size=16_384, n_layers=6, d_model=512, n_heads=8, n_kv_heads=4,
    head_dim=64, d_ff=1376, max_length=2048, tied_embeddings=True,
  ),
}  # fmt: skip


def _params(size: str):
  cfg = SIZES[size]
  make = jax.jit(lambda key: transformer.init(cfg, key))
  return make(jax.random.key(0))


def _prompts(cfg: config.ModelConfig, n: int, length: int) -> list[list[int]]:
  draw = np.random.default_rng(0)
  return draw.integers(1, cfg.vocab_size, (n, length)).tolist()


def _answer(engine, prompts, request, n_samples=1) -> list[list[int]]:
  """Runs requests to their end."""
  numbers = [
    engine.submit(prompt, seed, request)
    for seed, prompt in enumerate(prompts)
    for _ in range(n_samples)
  ]
  found = {}
  while not engine.is_idle:
    for update in engine.step():
      if update.answer is not None:
        found[update.number] = update.answer.token_ids
  return [found[number] for number in numbers]


def _turns(runs: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
  """Seconds of each, in turns, after one call of each that compiles."""
  for run in runs.values():
    run()
  seconds: dict[str, list[float]] = {name: [] for name in runs}
  for _ in range(_ROUNDS.value):
    for name, run in runs.items():
      seconds[name].append(run())
  return seconds


def _timed(call: Callable[..., object], *args) -> Callable[[], float]:
  def run():
    started = time.perf_counter()
    call(*args)
    return time.perf_counter() - started

  return run


def _quartiles(values: list[float]) -> list[float]:
  low, middle, high = statistics.quantiles(values, n=4)
  return [float(f'{x:.4g}') for x in (low, middle, high)]


def _peer_section() -> dict:
  found = {}
  for size, cfg in SIZES.items():
    params = _params(size)
    with tempfile.TemporaryDirectory() as name:
      peer = None
      if _PEER.value:
        folder = pathlib.Path(name) / 'model'
        huggingface.write(folder, cfg, params, None, False, 'float32')
        script = 'tools/bench_infer_torch.py'
        peer = peer_lib.Peer([_PEER.value, script, str(folder)])
      for n_rows in (1, 16):
        engine = engine_lib.Engine(
          cfg,
          params,
          n_rows=n_rows,
          n_slots=_PROMPT + _N_NEW[size],
          max_chunk=32,
        )
        for kind, rules in _KINDS.items():
          case = _compare(engine, peer, size, n_rows, rules)
          found[f'{size} {n_rows} rows {kind}'] = case
          print(f'{size} {n_rows} rows {kind}: tokens/s {case}', flush=True)
      if peer is not None:
        peer.close()
  return found


def _compare(engine, peer: peer_lib.Peer | None, size, n_rows, rules) -> dict:
  """Quartiles of tokens/s of each, and the median of the ratios."""
  n_new = _N_NEW[size]
  prompts = _prompts(SIZES[size], n_rows, _PROMPT)
  request = requests.Request(n_new, (), **rules)
  runs = {'llm_jax': _timed(_answer, engine, prompts, request)}
  if peer is not None:
    asked = {'prompts': prompts, 'n_new': n_new, **rules}
    runs['transformers'] = lambda: peer(asked)['seconds']
    if not rules['temperature'] and (
      _answer(engine, prompts, request) != peer(asked)['tokens']
    ):
      raise RuntimeError('greedy tokens differ: not the same model')
  seconds = _turns(runs)
  case: dict[str, object] = {
    name: [round(n_rows * n_new / x) for x in _quartiles(values)][::-1]
    for name, values in seconds.items()
  }
  if peer is not None:
    pairs = zip(seconds['transformers'], seconds['llm_jax'], strict=True)
    case['ratio'] = round(statistics.median(a / b for a, b in pairs), 2)
  return case


def _copy_rate() -> float:
  """Bytes a second that are read where two arrays are added up."""
  x = jax.numpy.ones(1 << 25, jax.numpy.float32)
  total = jax.jit(lambda x: x.sum())
  seconds = _turns({'sum': _timed(lambda: total(x).block_until_ready())})
  return x.nbytes / statistics.median(seconds['sum'])


def _parts_section() -> dict:
  found = {}
  ceiling = _copy_rate()
  for size, cfg in SIZES.items():
    params = _params(size)
    n_bytes = sum(x.nbytes for x in jax.tree.leaves(params))
    for n_rows in (1, 16):
      engine = engine_lib.Engine(
        cfg, params, n_rows=n_rows, n_slots=512, max_chunk=32
      )
      prompts = _prompts(cfg, n_rows, 256)
      first = requests.Request(1, ())
      more = requests.Request(97, ())
      seconds = _turns(
        {
          'first': _timed(_answer, engine, prompts, first),
          'more': _timed(_answer, engine, prompts, more),
        }
      )
      medians = {k: statistics.median(v) for k, v in seconds.items()}
      decode_s = (medians['more'] - medians['first']) / 96
      cache = 2 * 2 * cfg.n_layers * cfg.n_kv_heads * cfg.head_dim * 2
      read = n_bytes + n_rows * 304 * cache  # 256 to 352 tokens, 304 on average
      case = {
        'first_token_ms': round(1e3 * medians['first'], 2),
        'prefill_tokens_per_s': round(n_rows * 256 / medians['first']),
        'decode_tokens_per_s': round(n_rows / decode_s),
        'read_gb_per_s': round(read / decode_s / 1e9, 2),
        'share_of_ceiling': round(read / decode_s / ceiling, 3),
      }
      found[f'{size} {n_rows} rows'] = case
      print(f'parts, {size} {n_rows} rows: {case}', flush=True)
  found['ceiling_gb_per_s'] = round(ceiling / 1e9, 2)
  print(f'a sum reads {found["ceiling_gb_per_s"]} GB/s', flush=True)
  return found


def _slots_section() -> dict:
  """Lengths with a sigma of 0.6 and of 1, as those of rollouts."""
  found = {}
  cfg = SIZES['4m']
  params = _params('4m')
  for sigma in (0.6, 1.0):
    draw = np.random.default_rng(0)
    lengths = np.clip(draw.lognormal(np.log(64), sigma, 512), 1, 448).astype(
      int
    )
    engine = engine_lib.Engine(cfg, params, n_rows=16, n_slots=512, max_chunk=8)
    prompts = _prompts(cfg, 64, 32)
    for i, length in enumerate(lengths):
      engine.submit(prompts[i // 8], i, requests.Request(int(length), ()))
    started = time.perf_counter()
    while not engine.is_idle:
      engine.step()
    seconds = time.perf_counter() - started
    batches = lengths.reshape(-1, 16)
    case = {
      'use': round(engine.n_drawn / (16 * engine.n_steps), 3),
      'use_of_fixed_batches': round(
        float(lengths.sum() / (16 * batches.max(1).sum())), 3
      ),
      'tokens_per_s': round(lengths.sum() / seconds),
    }
    found[f'sigma {sigma}'] = case
    print(f'slots, sigma {sigma}: {case}', flush=True)
  return found


def _buckets_section() -> dict:
  found = {}
  cfg = SIZES['4m']
  params = _params('4m')
  for n_rows in (1, 16):
    plan = slots.Plan(cfg, n_rows, n_slots=2048, max_chunk=16)
    state = slots.start(plan) | {
      'done_B': np.zeros(n_rows, bool),
      'position_B': np.full(n_rows, 100, np.int32),
    }
    released_B = np.zeros(n_rows, bool)

    def decode(n_read, plan=plan, released_B=released_B):
      nonlocal state
      reset = {
        'position_B': np.full(len(released_B), 100, np.int32),
        'done_B': released_B,
        'n_left_B': np.full(len(released_B), 99, np.int32),
      }
      state, drawn = slots.decode(
        plan,
        n_read,
        params=params,
        state=state | reset,
        released_B=released_B,
      )
      jax.block_until_ready(drawn)

    seconds = _turns(
      {
        'bucket': _timed(decode, 128),
        'all': _timed(decode, 2048),
      }
    )
    ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
    case = {
      'ms_a_step': {
        k: round(1e3 / 16 * statistics.median(v), 3) for k, v in seconds.items()
      },
      'ratio': round(statistics.median(ratios), 2),
    }
    found[f'{n_rows} rows'] = case
    print(f'buckets, {n_rows} rows: {case}', flush=True)
  return found


def _prefix_section() -> dict:
  cfg = SIZES['4m']
  engine = engine_lib.Engine(cfg, _params('4m'), n_rows=16, n_slots=512)
  different = _prompts(cfg, 16, 256)
  request = requests.Request(1, ())
  seconds = _turns(
    {
      'shared': _timed(_answer, engine, different[:1], request, 16),
      'each': _timed(_answer, engine, different, request),
    }
  )
  ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
  found = {
    'ms': {k: round(1e3 * statistics.median(v), 1) for k, v in seconds.items()},
    'ratio': round(statistics.median(ratios), 2),
  }
  print(f'prefix: {found}', flush=True)
  return found


def _int8_section() -> dict:
  model = checkpoint.load_model(_RESTORE.value)
  cfg = model.model_config
  vocabulary = encoding.Tokenizer.load(model.tokenizer_dir)
  text = pathlib.Path(_TEXT.value).read_text(encoding='utf-8')
  start = vocabulary.special_id('<|endoftext|>')
  length = cfg.max_length
  tokens = np.array(vocabulary.encode(text)[:_MAX_TEXT], np.int32)
  n_rows = len(tokens) // (length - 1)
  if not n_rows:
    raise ValueError(f'{_TEXT.value} has {len(tokens)} tokens; {length} needed')
  tokens_BT = tokens[: n_rows * (length - 1)].reshape(n_rows, length - 1)
  tokens_BT = np.pad(tokens_BT, ((0, 0), (1, 0)), constant_values=start)

  @functools.partial(jax.jit, static_argnums=1)
  def nats(params, int8_cache):
    cache = kv_cache.init(cfg, n_rows, length - 1, int8_cache)
    position_BT = np.tile(np.arange(length - 1), (n_rows, 1))
    params = quantize.as_arrays(params, cfg.dtype)
    hidden_BTD, _ = transformer.apply(
      cfg, params, tokens_BT[:, :-1], position_BT, cache=cache
    )
    logits_BTV = transformer.unembed(cfg, params, hidden_BTD)
    logp_BTV = jax.nn.log_softmax(logits_BTV)
    at_BT1 = tokens_BT[:, 1:, None]
    return -jax.numpy.take_along_axis(logp_BTV, at_BT1, axis=2).mean()

  rounded = quantize.int8(model.params, params.table(cfg))
  found = {
    'tokens': tokens_BT[:, 1:].size,
    'floats': float(nats(model.params, False)),
    'int8 weights': float(nats(rounded, False)),
    'int8 cache': float(nats(model.params, True)),
    'both': float(nats(rounded, True)),
  }
  print(f'int8, nats a token: {found}', flush=True)
  return found


def main(_):
  """Measures."""
  if hasattr(os, 'sched_setaffinity') and 'cuda' not in os.environ.get(
    'JAX_PLATFORMS', ''
  ):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
  process.set_up_jax()
  sections = {
    'peer': _peer_section,
    'parts': _parts_section,
    'slots': _slots_section,
    'buckets': _buckets_section,
    'prefix': _prefix_section,
  }
  found = {name: sections[name]() for name in dict.fromkeys(_SECTION.value)}
  if _TEXT.value:
    found['int8'] = _int8_section()
  found['device'] = jax.devices()[0].device_kind
  found['models'] = {
    size: dataclasses.asdict(cfg) for size, cfg in SIZES.items()
  }
  print(json.dumps(found))


if __name__ == '__main__':
  app.run(main)
