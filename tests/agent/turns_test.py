"""Conversations with tools, by a model that was overfitted to hold some."""

import concurrent.futures
import dataclasses
import functools
import re
import threading

import jax
import numpy as np
import optax
import pytest

from llm_jax.agent import toolbox, tools, turns
from llm_jax.chat import calls, formats
from llm_jax.infer import engine, generate, slots
from llm_jax.losses import next_token
from llm_jax.model import config, likelihood
from llm_jax.rl import rollout
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


@pytest.fixture(scope='module')
def params():
  """Knows TALKS by heart."""
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

  params = start_params.init(CFG)
  state = tx.init(params)
  for _ in range(300):
    params, state, value = step(params, state)
    if value < 0.01:
      break
  assert value < 0.01
  return params


def look_up(arguments, earlier):
  (key,) = arguments.values()
  return RESULTS[key]


@pytest.fixture(name='using', scope='module')
def _using():
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    available = {
      name: tools.Tool(tools.Signature(name, '', {'type': 'object'}), look_up)
      for name in ('python', 'search')
    }
    yield toolbox.Tools(available, pool, toolbox.Toolbox(max_chars=23))


def hold(params, using, talks=TALKS, limit=130, n_rows=2, **changes):
  prompts = [FORMAT.prompt(talk[:1]) for talk in talks]
  request = generate.Request(
    limit, FORMAT.stop_ids, **{'temperature': 0.0, **changes}
  )
  return turns.answers(
    turns.Model(CFG, params, TOKENIZER, FORMAT, using=using),
    prompts,
    seeds=range(len(talks)),
    request=request,
    batch_size=n_rows,
  )


def test_ids_are_those_of_the_whole_conversation(params, using):
  """Also where a call cannot be done, and where one answer has two calls."""
  for talk, episode in zip(TALKS, hold(params, using), strict=True):
    whole = FORMAT.rows(talk)[0]
    prompt = FORMAT.prompt(talk[:1])
    if talk is TALKS[3]:  # the model was told this much of the error
      talk[2]['content'] = 'Error: there is no tool\n... (28 more characters)'
      whole = FORMAT.rows(talk)[0]
    assert [*prompt, *episode.token_ids] == whole.token_ids
    assert [0] * len(prompt) + episode.drawn == whole.loss_mask
    assert episode.stopped
    assert FORMAT.text(episode.last_ids) == talk[-1]['content']
  assert [len(e.results) for e in hold(params, using)] == [1, 3, 0, 1]


def test_neighbours_change_nothing_and_logps_are_those_of_training(
  params, using
):
  drawn = hold(params, using, temperature=1.0)
  assert hold(params, using, n_rows=4, temperature=1.0) == drawn
  alone = [hold(params, using, [t], temperature=1.0)[0] for t in TALKS[:1]]
  assert alone[0] == drawn[0]
  problem = [rollout.prompts.Prompt(None, FORMAT.prompt(t[:1])) for t in TALKS]
  groups = [
    rollout.Group(p, [e], texts=[''], scores=[], score_s=0.0)
    for p, e in zip(problem, drawn, strict=True)
  ]
  batch = rollout.training_batch(groups, LENGTH)
  found = jax.jit(functools.partial(likelihood.of_targets, CFG))(params, batch)
  mask_BT = batch['loss_mask_BT']
  np.testing.assert_allclose(
    found.logp_BT * mask_BT, batch['old_logp_BT'], atol=1e-4
  )
  assert mask_BT.sum() == sum(sum(e.drawn) for e in drawn)
  assert mask_BT.sum() < sum(len(e.token_ids) for e in drawn)


@pytest.mark.parametrize(
  ('changes', 'limit', 'ended_by', 'n_results'),
  [
    ({'max_calls': 2}, 130, 'calls', 2),
    ({'max_calls': 0}, 130, 'calls', 0),
    ({'max_seconds': 1e-9}, 130, 'seconds', 0),
    ({}, 12, 'tokens', 0),
    ({}, 30, 'tokens', 2),
  ],
)
def test_limits_end_a_conversation_and_say_which(
  params, using, changes, limit, ended_by, n_results
):
  if changes.get('max_calls') == 2:  # two of three calls
    limit = 130
  (episode,) = hold(
    params,
    dataclasses.replace(using, box=dataclasses.replace(using.box, **changes)),
    [TALKS[1]],
    limit=limit,
  )
  assert not episode.stopped
  assert not episode.last_ids  # no call is taken for an answer
  assert (episode.ended_by, len(episode.results)) == (ended_by, n_results)
  assert len(episode.token_ids) <= limit


def test_rows_go_on_while_a_tool_works(params, using):
  """The one that needs no tool ends before the tool of its neighbour does."""
  free = threading.Event()

  def wait(arguments, earlier):
    assert free.wait(20), 'the other row did not go on'
    return '15'

  slow = {'python': dataclasses.replace(using.available['python'], run=wait)}
  plan = slots.Plan(CFG, n_rows=2, n_slots=CFG.max_length)
  rows = engine.Engine(plan, params)
  ended = []
  for step in turns.run(
    turns.Model(
      CFG,
      params,
      TOKENIZER,
      FORMAT,
      using=dataclasses.replace(using, available=slow),
    ),
    rows,
    [FORMAT.prompt(TALKS[i][:1]) for i in (0, 2)],
    [0, 0],
    request=generate.Request(60, FORMAT.stop_ids, temperature=0.0),
  ):
    if step.episode:
      ended.append(step.index)
      free.set()
  assert ended == [1, 0]


def as_model_writes(text):
  names = '|'.join(map(re.escape, TOKENIZER.special_names))
  return [
    token
    for part in re.split(f'({names})', text)
    for token in (
      [TOKENIZER.special_id(part)]
      if part in TOKENIZER.special_names
      else TOKENIZER.encode(part)
    )
  ]


@pytest.mark.parametrize(
  ('text', 'faults'),
  [
    ('<PYTHON_START>1', ['<PYTHON_START> has no <PYTHON_END>']),
    ('<PYTHON_START>1<SEARCH_END>', ['<PYTHON_START> has no <PYTHON_END>']),
    ('<CALL_START>{<CALL_END>', ['it is no JSON']),
    ('<CALL_START>[]<CALL_END>', ['it names no tool']),
    ('<CALL_START>{"name": "a", "arguments": 3}<CALL_END>',
     ['its arguments are no JSON object']),
    ('x<PYTHON_END>', []),
    ('<PYTHON_START><PYTHON_END>a<SEARCH_START>b<SEARCH_END>', ['', '']),
  ],
)  # fmt: skip
def test_calls_are_read_or_faults_are(text, faults):
  found = FORMAT.split_calls(as_model_writes(text))[1]
  assert [one.fault for one in found] == faults
