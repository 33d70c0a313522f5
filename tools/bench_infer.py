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
from llm_jax.infer import engine, quantize, requests, slots
from llm_jax.interop import huggingface
from llm_jax.model import config, kv_cache, params, transformer
from llm_jax.tokenizer import loading
from llm_jax.train import checkpoint
from tools import peer

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


@functools.cache
def _params(size: str):
  init = functools.partial(transformer.init, SIZES[size])
  return jax.jit(init)(jax.random.key(0))


def _rows(size: str, n_rows: int, n_slots: int, max_chunk=32) -> engine.Engine:
  plan = slots.Plan(SIZES[size], n_rows, n_slots=n_slots, max_chunk=max_chunk)
  return engine.Engine(plan, _params(size))


def _prompts(cfg: config.ModelConfig, n: int, length: int) -> list[list[int]]:
  draw = np.random.default_rng(0)
  return draw.integers(1, cfg.vocab_size, (n, length)).tolist()


def _answer(rows, prompts, request, n_samples=1) -> list[list[int]]:
  """Runs requests to their end."""
  numbers = [
    rows.submit(prompt, seed, request)
    for seed, prompt in enumerate(prompts)
    for _ in range(n_samples)
  ]
  found = {}
  while not rows.is_idle:
    for update in rows.step():
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


def _medians(runs: dict[str, Callable[[], float]]) -> dict[str, float]:
  """The median of the seconds of each, and of two also of their ratio."""
  seconds = _turns(runs)
  found = {name: statistics.median(values) for name, values in seconds.items()}
  if len(seconds) == 2:
    pairs = zip(*seconds.values(), strict=True)
    found['ratio'] = round(statistics.median(b / a for a, b in pairs), 2)
  return found


def _timed(call: Callable[..., object], **arguments) -> Callable[[], float]:
  def run():
    started = time.perf_counter()
    call(**arguments)
    return time.perf_counter() - started

  return run


def _shown(name: str, case: dict) -> dict:
  print(f'{name}: {case}', flush=True)
  return {name: case}


def _quartiles(values: list[float]) -> list[float]:
  low, middle, high = statistics.quantiles(values, n=4)
  return [float(f'{x:.4g}') for x in (low, middle, high)]


def _peer_section() -> dict:
  found = {}
  for size, cfg in SIZES.items():
    with tempfile.TemporaryDirectory() as name:
      other = None
      if _PEER.value:
        folder = pathlib.Path(name) / 'model'
        huggingface.write(folder, cfg, _params(size))
        script = 'tools/bench_infer_torch.py'
        other = peer.Peer([_PEER.value, script, str(folder)])
      for n_rows in (1, 16):
        rows = _rows(size, n_rows, _PROMPT + _N_NEW[size])
        for kind, rules in _KINDS.items():
          case = _compare(rows, other, size=size, n_rows=n_rows, rules=rules)
          found |= _shown(f'{size} {n_rows} rows {kind}, tokens/s', case)
      if other is not None:
        other.close()
  return found


def _compare(rows, other: peer.Peer | None, size, n_rows, rules) -> dict:
  """Quartiles of tokens/s of each, and the median of the ratios."""
  n_new = _N_NEW[size]
  prompts = _prompts(SIZES[size], n_rows, _PROMPT)
  ours = {
    'rows': rows,
    'prompts': prompts,
    'request': requests.Request(n_new, (), **rules),
  }
  runs = {'llm_jax': _timed(_answer, **ours)}
  if other is not None:
    asked = {'prompts': prompts, 'n_new': n_new, **rules}
    runs['transformers'] = lambda: other(asked)['seconds']
    if not rules['temperature'] and _answer(**ours) != other(asked)['tokens']:
      raise RuntimeError('greedy tokens differ: not the same model')
  seconds = _turns(runs)
  case: dict[str, object] = {
    name: [round(n_rows * n_new / x) for x in _quartiles(values)][::-1]
    for name, values in seconds.items()
  }
  if other is not None:
    pairs = zip(seconds['transformers'], seconds['llm_jax'], strict=True)
    case['ratio'] = round(statistics.median(a / b for a, b in pairs), 2)
  return case


def _copy_rate() -> float:
  """Bytes a second that are read where two arrays are added up."""
  x = jax.numpy.ones(1 << 25, jax.numpy.float32)
  total = jax.jit(lambda x: x.sum())
  seconds = _medians({'sum': _timed(lambda: total(x).block_until_ready())})
  return x.nbytes / seconds['sum']


def _parts_section() -> dict:
  found = {}
  ceiling = _copy_rate()
  for size, cfg in SIZES.items():
    n_bytes = sum(x.nbytes for x in jax.tree.leaves(_params(size)))
    for n_rows in (1, 16):
      asked = functools.partial(
        _timed,
        _answer,
        rows=_rows(size, n_rows, 512),
        prompts=_prompts(cfg, n_rows, 256),
      )
      medians = _medians(
        {
          name: asked(request=requests.Request(n_new, ()))
          for name, n_new in (('first', 1), ('more', 97))
        }
      )
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
      found |= _shown(f'parts, {size} {n_rows} rows', case)
  return found | _shown('a sum', {'gb_per_s': round(ceiling / 1e9, 2)})


def _slots_section() -> dict:
  """Lengths with a sigma of 0.6 and of 1, as those of rollouts."""
  found = {}
  for sigma in (0.6, 1.0):
    drawn = np.random.default_rng(0).lognormal(np.log(64), sigma, 512)
    lengths = np.clip(drawn, 1, 448).astype(int)
    rows = _rows('4m', 16, 512, max_chunk=8)
    prompts = _prompts(SIZES['4m'], 64, 32)
    for i, length in enumerate(lengths):
      rows.submit(prompts[i // 8], i, requests.Request(int(length), ()))
    started = time.perf_counter()
    while not rows.is_idle:
      rows.step()
    seconds = time.perf_counter() - started
    batches = lengths.reshape(-1, 16)
    case = {
      'use': round(rows.n_drawn / (16 * rows.n_steps), 3),
      'use_of_fixed_batches': round(
        float(lengths.sum() / (16 * batches.max(1).sum())), 3
      ),
      'tokens_per_s': round(lengths.sum() / seconds),
    }
    found |= _shown(f'slots, sigma {sigma}', case)
  return found


def _buckets_section() -> dict:
  found = {}
  params = _params('4m')
  for n_rows in (1, 16):
    plan = slots.Plan(SIZES['4m'], n_rows, n_slots=2048, max_chunk=16)
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

    case = _medians(
      {
        'bucket': _timed(decode, n_read=128),
        'all': _timed(decode, n_read=2048),
      }
    )
    found |= _shown(f'buckets, {n_rows} rows, seconds of 16 steps', case)
  return found


def _prefix_section() -> dict:
  asked = functools.partial(
    _timed,
    _answer,
    rows=_rows('4m', 16, 512, max_chunk=16),
    request=requests.Request(1, ()),
  )
  different = _prompts(SIZES['4m'], 16, 256)
  runs = {
    'shared': asked(prompts=different[:1], n_samples=16),
    'each': asked(prompts=different),
  }
  return _shown('prefix, seconds', _medians(runs))


def _int8_section() -> dict:
  model = checkpoint.load_model(_RESTORE.value)
  cfg = model.model_config
  vocabulary = loading.load(model.tokenizer_dir)
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
    cache = kv_cache.init(cfg, n_rows, n_slots=length - 1, int8=int8_cache)
    position_BT = np.tile(np.arange(length - 1), (n_rows, 1))
    params = quantize.as_arrays(params, cfg.dtype)
    hidden_BTD, *_ = transformer.apply(
      cfg,
      params,
      tokens_BT=tokens_BT[:, :-1],
      positions_BT=position_BT,
      cache=cache,
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
  return _shown('int8, nats a token', found)


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
  found['models'] = {name: vars(cfg) for name, cfg in SIZES.items()}
  print(json.dumps(found))


if __name__ == '__main__':
  app.run(main)
