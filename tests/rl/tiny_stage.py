"""A stage that has no folder, and groups of answers, for the tests of RL."""

import dataclasses
import types

import jax

from llm_jax import record
from llm_jax.chat import formats
from llm_jax.infer import generate
from llm_jax.model import transformer
from llm_jax.parallel import device_mesh
from llm_jax.rl import learn, prompts, rollout
from llm_jax.tasks import protocol
from llm_jax.train import start
from llm_jax.verify import grading


def make(model, params=None, tokenizer=None, data=1, **cfg):
  """A stage with what RL reads of it; params are random unless given."""
  if params is None and model is not None:
    params = transformer.init(model, jax.random.key(1))
  return start.Stage(
    name='rl',
    cfg=types.SimpleNamespace(**{'seed': 0, 'reward': 'verifier', **cfg}),
    workdir='',
    mesh=device_mesh.make(device_mesh.MeshConfig(data=data)),
    model_config=model,
    tokenizer=tokenizer,
    tokenizer_dir='',
    chat_format=tokenizer and formats.choose(tokenizer, is_chat=False),
    params=params,
    inputs={},
    goes_on=record.Continuation(),
  )


def group(token_ids, answers, texts=None, right=(), problem='1+1='):
  """A judged group, from the token ids or whole answers to a prompt."""
  answers = [
    a if isinstance(a, generate.Answer) else generate.Answer(*a, True)
    for a in answers
  ]
  return rollout.Group(
    prompts.Prompt(protocol.Problem('addition', problem, '2'), token_ids),
    answers,
    texts=list(texts or 'x' * len(answers)),
    scores=[
      grading.Score(i in right, 'right' if i in right else 'wrong')
      for i in range(len(answers))
    ],
    score_s=0.25,
  )


def learner(stage, algorithm, update_fn=None, **settings):
  """Learns on a stage, or on one without a model, with these settings."""
  stage = stage or make(None)
  cfg = {'updates': learn.Updates(), 'max_new_tokens': 2}
  cfg = types.SimpleNamespace(**{**vars(stage.cfg), **cfg, **settings})
  return learn.Learner(
    dataclasses.replace(stage, cfg=cfg), algorithm, update_fn
  )
