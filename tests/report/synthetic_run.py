"""A whole run's artifacts, written by hand, for tests of the report."""

import json
import math
import pathlib
import random

HOSTILE = '<script>alert(1)</script>"\'&\x1b[31m\u202e</pre>'


def write(run_dir: pathlib.Path, n_steps: int = 600) -> pathlib.Path:
  """Write the artifacts of every stage of a run.

  Args:
    run_dir: folder to fill.
    n_steps: steps of pretraining.

  Returns:
    The folder.
  """
  rng = random.Random(0)
  _stage(run_dir, 'crawl', 'crawl', 41.2, pages=214, bytes=6_120_332)
  _stage(run_dir, 'clean', 'clean', 22.9, documents=187)
  _json(run_dir / 'clean' / 'funnel.json', _funnel())
  _stage(run_dir, 'tokenizer', 'train_tokenizer', 9.4, vocab_size=2048)
  _json(
    run_dir / 'tokenizer' / 'report.json',
    {
      'vocab_size': 2048,
      'pattern': 'qwen2',
      'fingerprint': '9f' * 32,
      'bytes_per_token': {'own': 3.31, 'cl100k': 4.02, 'gpt2': None},
    },
  )
  _stage(run_dir, 'tokens', 'tokenize', 3.8, tokens=1_204_331)
  _stage(run_dir, 'pretrain', 'pretrain', 205.0, tokens=4_915_200)
  _lines(
    run_dir / 'pretrain' / 'metrics.jsonl',
    [
      {
        'step': step,
        'loss': 1.4 + 6 * math.exp(-step / 90) + rng.gauss(0, 0.06),
        'bits_per_byte': 2.0 + 4 * math.exp(-step / 90) + rng.gauss(0, 0.05),
        'tokens_per_s': 24_000.0,
      }
      for step in range(1, n_steps)
    ]
    + [
      {
        'step': step,
        'valid_loss': 1.55 + 6 * math.exp(-step / 90),
        'valid_bits_per_byte': 2.1 + 4 * math.exp(-step / 90),
      }
      for step in range(50, n_steps + 1, 50)
    ],
  )
  _lines(
    run_dir / 'pretrain' / 'samples.jsonl',
    [
      {'step': step, 'prompt': prompt, 'text': f'{text} at {step} {HOSTILE}'}
      for step in range(0, n_steps + 1, 100)
      for prompt, text in (('os.path.join(', 'path, *paths)'), ('12+5=', '17'))
    ],
  )
  _stage(run_dir, 'sft', 'sft', 31.0, tokens=310_220)
  _lines(run_dir / 'sft' / 'samples.jsonl', [])
  _lines(
    run_dir / 'sft' / 'metrics.jsonl',
    [
      {'step': step, 'loss': 0.4 + 2 * math.exp(-step / 20)}
      for step in range(1, 80)
    ],
  )
  for name, shift in (
    ('rl_seed0', 0.0),
    ('rl_seed1', 4.0),
    ('rl_seed2', -3.0),
    ('rl_zero', 9.0),
  ):
    _stage(run_dir, name, 'rl', 62.0 + shift, tokens=820_000)
    _lines(
      run_dir / name / 'samples.jsonl',
      [
        {'step': step, 'prompt': '1+2=', 'text': mode, 'mode': mode}
        for step in (0, 20, 40)
        for mode in ('greedy', 'sampled')
      ],
    )
    _lines(
      run_dir / name / 'rollouts.jsonl',
      [
        {
          'step': step,
          'group': index // 8,
          'answer': index % 8,
          'of': 256,
          'prompt': f'{step}+{index}={HOSTILE}',
          'text': f'{step + index} {HOSTILE}' * (1 + 99 * (index == 3)),
          'correct': index % 2 == 0,
          'reason': f'because {HOSTILE}',
          'reward': float(index % 2 == 0),
          'tokens': 3,
          'logp': -0.5,
          'finished': index != 3,
          'trained': index < 8,
        }
        for step in range(1, 61)
        for index in range(16)
      ],
    )
    _lines(
      run_dir / name / 'metrics.jsonl',
      [
        {
          'step': step,
          'loss': rng.gauss(0, 0.02),
          'accuracy': 0.85 / (1 + math.exp((18 + shift - step) / 6)),
          'think_share': 1 / (1 + math.exp((10 + shift - step) / 3)),
          'mean_length': 12 + 14 / (1 + math.exp((10 + shift - step) / 3)),
          'dead_group_share': 0.05 + 0.4 * step / 60,
        }
        for step in range(1, 61)
      ],
    )
  _stage(run_dir, 'evaluate', 'evaluate', 70.0)
  _json(run_dir / 'evaluate' / 'evaluation.json', _evaluation())
  return run_dir


def _stage(run_dir, folder, stage, seconds, **summary):
  (run_dir / folder).mkdir(parents=True)
  _json(
    run_dir / folder / 'run.json',
    {
      'stage': stage,
      'config': {'seed': 0},
      'inputs': {},
      'start': '2026-01-02T03:04:05Z',
      'git_sha': '0123456789abcdef' * 2,
      'git_dirty': stage == 'sft',
      'argv': ['experiments/x.py', HOSTILE],
      'versions': {'python': '3.11.7', 'jax': '0.10.2'},
      'seeds': {'seed': 0},
      'resumed': [],
    },
  )
  _json(
    run_dir / folder / 'done.json',
    {'stage': stage, 'seconds': seconds, **summary},
  )


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
    steps.append({
      'name': name,
      'documents_in': documents,
      'bytes_in': documents * 12_000,
      'documents_kept': kept,
      'bytes_kept': kept * 12_000,
      'replaced': {'e_mail': 48} if name == 'pii' else {},
      'removed': {
        reason: {
          'documents': count,
          'bytes': count * 3000,
          'samples': [{'url': 'http://127.0.0.1/x', 'text': HOSTILE * 40}],
        }
        for reason, count in removed.items()
      },
    })  # fmt: skip
    documents = kept
  return {'steps': steps}


def _evaluation():
  rows = []
  for name, greedy, sampled, think in (
    ('base', 0.09, 0.268, 0.37),
    ('sft', 0.17, 0.291, 0.45),
    ('rl_seed0', 0.978, 0.825, 0.99),
    ('rl_seed1', 1.0, 0.845, 1.0),
    ('rl_seed2', 0.968, 0.853, 1.0),
    ('rl_zero', 0.948, 0.87, 1.0),
  ):
    for mode in ('free', 'direct'):
      share = sampled if mode == 'free' else 0.002
      best = greedy if mode == 'free' else 0.005
      rows.append({
        'checkpoint': name,
        'task': 'addition',
        'mode': mode,
        'n': 400,
        'n_samples': 8,
        'greedy': best,
        'sampled': share,
        'interval': {
          'greedy': [max(best - 0.03, 0), min(best + 0.03, 1)],
          'sampled': [max(share - 0.02, 0), share + 0.02],
        },
        'pass_at_k': {
          str(k): 1 - (1 - share) ** k for k in (1, 2, 4, 8)
        },
        'think_share': think if mode == 'free' else 0.0,
        'mean_length': 12 + 14 * think if mode == 'free' else 5.0,
        'samples': [
          {
            'prompt': '988+391=',
            'answer': '<think>\n810:09\n890:17\n931:13\n</think>\n1379',
            'correct': True,
            'reason': 'equal',
          },
          {
            'prompt': '123+456=',
            'answer': HOSTILE,
            'correct': False,
            'reason': f'{HOSTILE!r} is not a number',
          },
        ],
      })  # fmt: skip
  return {
    'rows': rows,
    'held_out': {
      'source': 'documents/valid',
      'documents': 11,
      'bytes': 151_220,
      'compressors': {'gzip -9': 2.21, 'xz -9': 1.92},
      'models': {'base': 2.12, 'sft': 2.31, 'rl_seed0': 2.4},
    },
  }


def _json(path, value):
  path.write_text(json.dumps(value))


def _lines(path, rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
