"""Conversations with tools, by a model that was overfitted to hold some."""

import concurrent.futures
import dataclasses
import functools
import re
import threading

import jax
import numpy as np
import pytest

from llm_jax.agent import toolbox, turns
from llm_jax.infer import engine, generate, slots
from llm_jax.model import likelihood
from llm_jax.rl import rollout
from tests.agent import talker


@pytest.fixture(scope='module')
def params():
  return talker.params()


@pytest.fixture(name='using', scope='module')
def _using():
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    box = toolbox.Toolbox(max_chars=23)
    yield toolbox.Tools(talker.available(), pool, box)


CFG, TOKENIZER, FORMAT = talker.CFG, talker.TOKENIZER, talker.FORMAT
LENGTH, TALKS = talker.LENGTH, talker.TALKS


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
