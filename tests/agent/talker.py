"""A tiny model that knows some conversations with tools by heart."""

import functools

import jax
import numpy as np
import optax

from llm_jax.agent import tools
from llm_jax.chat import calls, formats
from llm_jax.losses import next_token
from llm_jax.model import config, likelihood
from llm_jax.tokenizer import encoding
from tests.model import start_params

TOKENIZER = encoding.Tokenizer.from_merges([], 'qwen2')
FORMAT = formats.choose(TOKENIZER, is_chat=True)
CFG = config.ModelConfig(
  vocab_size=TOKENIZER.vocab_size, n_layers=2, d_model=48, n_heads=2,
  n_kv_heads=1, head_dim=24, d_ff=96, max_length=160,
)  # fmt: skip
LENGTH = 150


def user(text):
  return {'role': 'user', 'content': text}


def call(*made, content=''):
  entries = [one.message() for one in made]
  return {'role': 'assistant', 'content': content, 'tool_calls': entries}


def tool(text):
  return {'role': 'tool', 'content': text}


def answer(text):
  return {'role': 'assistant', 'content': text}


ADD = calls.Call('python', {'code': '7+8'})
FIND = calls.Call('search', {'query': 'Rome'})
OTHER = calls.Call('nope', {'x': [1]})
TALKS = [
  [user('a?'), call(ADD), tool('15'), answer('it is 15')],
  [user('b?'), call(FIND, ADD, content='hm'), tool('Italy'), tool('15'),
   call(FIND), tool('Italy'), answer('both')],
  [user('c?'), answer('none')],
  [user('d?'), call(OTHER), tool('Error: there is no tool'), answer('sorry')],
]  # fmt: skip
RESULTS = {'7+8': '15', 'Rome': 'Italy'}


@functools.cache
def params():
  """Of a model that knows TALKS by heart."""
  rows = [FORMAT.rows(talk)[0] for talk in TALKS]
  tokens_BT = np.zeros((len(rows), LENGTH + 1), np.int32)
  mask_BT = np.zeros((len(rows), LENGTH + 1), np.float32)
  for i, row in enumerate(rows):
    tokens_BT[i, : len(row.token_ids)] = row.token_ids
    mask_BT[i, : len(row.token_ids)] = row.loss_mask
  batch = {
    'inputs_BT': tokens_BT[:, :-1],
    'targets_BT': tokens_BT[:, 1:],
    'positions_BT': np.tile(np.arange(LENGTH, dtype=np.int32), (len(rows), 1)),
  }
  tx = optax.adam(3e-3)

  def loss(params):
    logp_BT = likelihood.of_targets(CFG, params, batch).logp_BT
    return next_token.cross_entropy(logp_BT, mask_BT[:, 1:])

  @jax.jit
  def step(params, state):
    value, grads = jax.value_and_grad(loss)(params)
    updates, state = tx.update(grads, state)
    return optax.apply_updates(params, updates), state, value

  learnt = start_params.init(CFG)
  state = tx.init(learnt)
  for _ in range(300):
    learnt, state, value = step(learnt, state)
    if value < 0.01:
      break
  assert value < 0.01
  return learnt


def pause():
  """What a test puts in the way of every tool."""


def look_up(arguments, earlier):
  pause()
  (key,) = arguments.values()
  return RESULTS[key]


def available() -> dict[str, tools.Tool]:
  """Tools that know RESULTS."""
  schema = {'type': 'object'}
  return {
    name: tools.Tool(tools.Signature(name, '', schema), look_up)
    for name in ('python', 'search')
  }
