"""A whole run's artifacts, written by hand, for tests of the report."""

import json
import math
import pathlib
import random
from typing import Any

HOSTILE = '<script>alert(1)</script>"\'&\x1b[31m\u202e</pre>'
RL_SHIFTS = {'rl_seed0': 0.0, 'rl_seed1': 4.0, 'rl_seed2': -3.0, 'rl_zero': 9.0}


def write(run_dir: pathlib.Path, n_steps: int = 600) -> pathlib.Path:
  """Write the artifacts of every stage of a run.

  Args:
    run_dir: folder to fill.
    n_steps: steps of pretraining.

  Returns:
    The folder.
  """
  rng = random.Random(0)
  _stage(run_dir / 'crawl', 'crawl', 41.2, pages=214, bytes=6_120_332)
  said = '187 of 214 documents are kept'
  _stage(run_dir / 'clean', 'clean', 22.9, documents=187, result=said)
  _json(run_dir / 'clean' / 'funnel.json', _funnel())
  _stage(run_dir / 'tokenizer', 'train_tokenizer', 9.4, vocab_size=2048)
  vocabulary = {
    'vocab_size': 2048, 'pattern': 'qwen2', 'fingerprint': '9f' * 32,
    'bytes_per_token': {'own': 3.31, 'cl100k': 4.02, 'gpt2': None},
  }  # fmt: skip
  _json(run_dir / 'tokenizer' / 'report.json', vocabulary)
  _stage(run_dir / 'tokens', 'tokenize', 3.8, tokens=1_204_331)
  _stage(run_dir / 'pretrain', 'pretrain', 205.0, tokens=4_915_200)
  metrics = []
  for step in range(1, n_steps + 1):
    decay = math.exp(-step / 90)
    row = {'step': step, 'loss': 1.4 + 6 * decay + rng.gauss(0, 0.06)}
    row['bits_per_byte'] = 2.0 + 4 * decay + rng.gauss(0, 0.05)
    if step % 50 == 0:
      row['valid_loss'] = 1.55 + 6 * decay
      row['valid_bits_per_byte'] = 2.1 + 4 * decay
    metrics.append(row)
  _lines(run_dir / 'pretrain' / 'metrics.jsonl', metrics)
  texts = {'os.path.join(': 'path, *paths)', '12+5=': '17'}
  samples = [
    {'step': step, 'prompt': prompt, 'text': f'{text} at {step} {HOSTILE}'}
    for step in range(0, n_steps + 1, 100)
    for prompt, text in texts.items()
  ]
  _lines(run_dir / 'pretrain' / 'samples.jsonl', samples)
  _stage(run_dir / 'sft', 'sft', 31.0, tokens=310_220)
  _lines(run_dir / 'sft' / 'samples.jsonl', [])
  tokens = [['<|im_start|>', 0], [f'user\n{HOSTILE}', 0], [' 1', 1], ['7', 1]]
  mask = {'source': 'sums', 'tokens': tokens}
  _lines(run_dir / 'sft' / 'masks.jsonl', [mask])
  losses = [0.4 + 2 * math.exp(-step / 20) for step in range(80)]
  metrics = [{'step': step, 'loss': x} for step, x in enumerate(losses)]
  _lines(run_dir / 'sft' / 'metrics.jsonl', metrics)
  for name, shift in RL_SHIFTS.items():
    _rl(run_dir / name, shift)
  _stage(run_dir / 'evaluate', 'evaluate', 70.0)
  _json(run_dir / 'evaluate' / 'evaluation.json', _evaluation())
  return run_dir


def _stage(folder: pathlib.Path, stage: str, seconds: float, **summary: Any):
  folder.mkdir(parents=True)
  run = {
    'stage': stage, 'config': {'seed': 0}, 'inputs': {},
    'start': '2026-01-02T03:04:05Z', 'git_sha': '0123456789abcdef' * 2,
    'git_dirty': stage == 'sft', 'argv': ['experiments/x.py', HOSTILE],
    'versions': {'python': '3.11.7'}, 'seeds': {'seed': 0}, 'resumed': [],
  }  # fmt: skip
  _json(folder / 'run.json', run)
  done = {'stage': stage, 'seconds': seconds, **summary}
  _json(folder / 'done.json', done)


def _rl(folder: pathlib.Path, shift: float):
  _stage(folder, 'rl', 62.0 + shift, tokens=820_000)
  samples = [
    {'step': step, 'prompt': '1+2=', 'text': mode, 'mode': mode}
    for step in (0, 20, 40)
    for mode in ('greedy', 'sampled')
  ]
  _lines(folder / 'samples.jsonl', samples)
  rollouts, metrics = [], []
  for step in range(1, 61):
    for index in range(16):
      rollouts.append({
        'step': step, 'group': index // 8, 'answer': index % 8, 'of': 256,
        'prompt': f'{step}+{index}={HOSTILE}',
        'text': f'{step + index} {HOSTILE}' * (1 + 99 * (index == 3)),
        'correct': index % 2 == 0, 'reason': f'because {HOSTILE}',
        'reward': float(index % 2 == 0), 'tokens': 3, 'logp': -0.5,
        'finished': index != 3, 'trained': index < 8,
      })  # fmt: skip
    think_share = 1 / (1 + math.exp((10 + shift - step) / 3))
    metrics.append({
      'step': step, 'loss': 0.02 * math.sin(step), 'think_share': think_share,
      'accuracy': 0.85 / (1 + math.exp((18 + shift - step) / 6)),
      'mean_length': 12 + 14 * think_share,
      'dead_group_share': 0.05 + 0.4 * step / 60,
    })  # fmt: skip
  _lines(folder / 'rollouts.jsonl', rollouts)
  _lines(folder / 'metrics.jsonl', metrics)


def _funnel():
  steps, documents = [], 214
  for name, removed in (
    ('extract', {'no text': 6}),
    ('language', {'not English': 1}),
    ('quality', {'too short': 11, 'too many symbols': 3}),
    ('duplicates', {'exact': 4, 'near': 2}),
    ('pii', {}),
  ):
    kept = documents - sum(removed.values())
    samples = [{'url': 'http://127.0.0.1/x', 'text': HOSTILE * 40}]
    steps.append({
      'name': name, 'documents_in': documents, 'bytes_in': documents * 12_000,
      'documents_kept': kept, 'bytes_kept': kept * 12_000,
      'replaced': {'e_mail': 48} if name == 'pii' else {},
      'removed': {
        reason: {'documents': n, 'bytes': n * 3000, 'samples': samples}
        for reason, n in removed.items()
      },
    })  # fmt: skip
    documents = kept
  return {'steps': steps}


def _evaluation():
  rows = []
  samples = [
    {'prompt': '988+391=', 'answer': '<think>\n810:09\n</think>\n1379',
     'correct': True, 'reason': 'equal'},
    {'prompt': '123+456=', 'answer': HOSTILE, 'correct': False,
     'reason': f'{HOSTILE!r} is not a number'},
  ]  # fmt: skip
  for name, *free in (
    ('base', 0.09, 0.268, 0.37),
    ('sft', 0.17, 0.291, 0.45),
    ('rl_seed0', 0.978, 0.825, 0.99),
    ('rl_seed1', 1.0, 0.845, 1.0),
    ('rl_seed2', 0.968, 0.853, 1.0),
    ('rl_zero', 0.948, 0.87, 1.0),
  ):
    for mode, (greedy, sampled, think) in (
      ('free', free),
      ('direct', (0.005, 0.002, 0.0)),
    ):
      rows.append({
        'checkpoint': name, 'task': 'addition', 'mode': mode,
        'n': 400, 'n_samples': 8, 'greedy': greedy, 'sampled': sampled,
        'interval': {
          'greedy': [max(greedy - 0.03, 0), min(greedy + 0.03, 1)],
          'sampled': [max(sampled - 0.02, 0), sampled + 0.02],
        },
        'pass_at_k': {str(k): 1 - (1 - sampled) ** k for k in (1, 2, 4, 8)},
        'think_share': think, 'mean_length': 12 + 14 * think,
        'samples': samples,
      })  # fmt: skip
  held_out = {
    'source': 'documents/valid', 'documents': 11, 'bytes': 151_220,
    'compressors': {'gzip -9': 2.21, 'xz -9': 1.92},
    'models': {'base': 2.12, 'sft': 2.31, 'rl_seed0': 2.4},
  }  # fmt: skip
  return {'rows': rows, 'held_out': held_out}


def _json(path: pathlib.Path, value: Any):
  path.write_text(json.dumps(value))


def _lines(path: pathlib.Path, rows: list[dict[str, Any]]):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
