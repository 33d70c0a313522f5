"""stories260K goes on with other texts, and becomes a chat model that learns.

It lies in LLM_JAX_DATA, in model-stories260k: config.json, model.safetensors
and tokenizer.model. Its vocabulary of 512 has no room for our control tokens.
"""

import dataclasses
import gzip
import json
import os
import pathlib

import numpy as np
import pytest

import llm_jax
from experiments import pretrain, rl, sft, tokenize
from llm_jax.agent import turns
from llm_jax.evals import scoring
from llm_jax.optim import optimizers
from llm_jax.tasks import protocol, splits
from llm_jax.train import checkpoint, metrics, training_loop
from llm_jax.verify import grading
from tools import import_hf

DATA = pathlib.Path(os.environ.get('LLM_JAX_DATA', '/'))
STORIES = DATA / 'model-stories260k'
PLAYS = DATA / 'tinyshakespeare' / 'input.txt.gz'
pytestmark = pytest.mark.skipif(
  not (STORIES.exists() and PLAYS.exists()),
  reason='LLM_JAX_DATA has no model-stories260k, or no tinyshakespeare',
)
THINGS = ['ball', 'cat', 'dog', 'tree', 'car', 'boy', 'girl', 'bird', 'fish']
OPTIMIZER = optimizers.Optimizer(matrices='adamw', peak_lr=3e-3, warmup_steps=2)


@dataclasses.dataclass(frozen=True)
class Liking(splits.Made):
  """Yes is right; the model has learnt to say yes as often as no."""

  name: str = 'liking'
  think_start: str = grading.THINK_START

  def _make(self, draw):
    one, two = draw.sample(THINGS, 2)
    prompt = f'Do you like the {one} and the {two}?'
    return prompt, protocol.Problem(self.name, prompt, 'Yes')

  def _reader(self, problem):
    return (lambda text: text), 'a word'


@pytest.mark.nightly
def test_it_becomes_a_chat_model_and_learns_what_pays(tmp_path):
  base, tuned, taught = (str(tmp_path / n) for n in ('base', 'sft', 'rl'))
  import_hf.run(str(STORIES), base)
  conversations = tmp_path / 'talk.jsonl'
  lines = [
    protocol.exchange(problem.prompt, ('Yes', 'No')[i % 2])
    for i, problem in enumerate(Liking().problems('train', 60, 0))
  ]
  conversations.write_text(
    ''.join(json.dumps({'messages': line}) + '\n' for line in lines)
  )
  cfg = sft.Config(
    batch_size=4,
    sequence_length=128,
    optimizer=OPTIMIZER,
    loop=training_loop.LoopConfig(n_steps=60),
  )
  with pytest.raises(ValueError, match='import it again with --grow'):
    sft.run(cfg, tuned, base, conversations=[str(conversations)])
  import_hf.run(str(STORIES), f'{base}2', grow=True)
  sft.run(cfg, tuned, f'{base}2', conversations=[str(conversations)])
  losses = [
    line['loss']
    for line in metrics.read(os.path.join(tuned, metrics.METRICS))
    if 'loss' in line
  ]
  assert losses[-1] < losses[0] / 2
  scores = scoring.Scoring(
    n_problems=4, n_samples=8, max_new_tokens=6, batch_size=32
  )
  before = share(tuned, scores)
  assert 0.1 < before < 0.8
  rl.run(
    rl.Config(
      task=Liking(),
      n_prompts=4,
      n_samples=8,
      n_problems=40,
      max_new_tokens=6,
      evaluate_every=25,
      evaluation=scores,
      optimizer=OPTIMIZER,
      loop=training_loop.LoopConfig(n_steps=25),
    ),
    taught,
    tuned,
  )
  assert share(taught, scores) > max(0.85, before + 0.1)


def share(folder, cfg):
  """Of sampled answers that are right."""
  model = turns.of_checkpoint(checkpoint.load_model(folder))
  return scoring.evaluate(model, Liking(), cfg, direct=False)['sampled']


@pytest.mark.nightly
def test_continued_pretraining_lowers_its_loss(tmp_path):
  """On plays, of which it has seen none; measured on lines it was not given."""
  plays = gzip.decompress(PLAYS.read_bytes()).decode().split('\n\n')
  texts, base, tokens, more = (
    str(tmp_path / name) for name in ('plays.jsonl', 'base', 'tokens', 'more')
  )
  pathlib.Path(texts).write_text(
    ''.join(json.dumps({'text': text}) + '\n' for text in plays[:3000])
  )
  import_hf.run(str(STORIES), base)
  tokenizer = f'{base}/checkpoints/tokenizer'
  tokenize.run(
    tokenize.Config(sequence_length=128), tokens, [texts], tokenizer=tokenizer
  )
  cfg = pretrain.Config(
    batch_size=8,
    optimizer=OPTIMIZER,
    loop=training_loop.LoopConfig(n_steps=100),
  )
  pretrain.run(cfg, more, [tokens], restore_from=base)
  before, after = (
    llm_jax.load(folder).logprobs(plays[-20:]) for folder in (base, more)
  )
  means = [
    np.mean([x for text in found for x in text]) for found in (before, after)
  ]
  assert means[1] > means[0] + 0.3
