"""Updates from rollouts, on a tiny model; PPO learns a game of two tokens."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from llm_jax.infer import generate
from llm_jax.model import (
  config,
  likelihood,
  params,
  transformer,
  value_head,
)
from llm_jax.parallel import device_mesh
from llm_jax.rl import algorithm, learn, prompts, rollout
from llm_jax.train import train_state, update

CFG = config.ModelConfig(
  vocab_size=8, n_layers=1, d_model=16, n_heads=2, n_kv_heads=1, head_dim=8,
  d_ff=16, max_length=8,
)  # fmt: skip
PROMPTS = [[1], [2], [3], [4]]
N_SAMPLES, N_NEW, LENGTH = 8, 2, 2
REQUEST = generate.Request(N_NEW, (0,))
LINES = params.table(CFG, has_value_head=True)
REWARD_PR = np.random.default_rng(0).integers(2, size=(4, N_SAMPLES))
REWARD_PR[:, :2] = [0, 1]  # no group is dead


def params_of(seed, with_head=False):
  params = transformer.init(CFG, jax.random.key(seed))
  head = {'w_D': jnp.linspace(-1, 1, CFG.d_model), 'bias': jnp.float32(0.5)}
  return params | ({value_head.NAME: head} if with_head else {})


def mesh_of(data=1):
  return device_mesh.make(device_mesh.MeshConfig(data=data))


def collect(params, step, reward_fn=None):
  rows = [prompt for prompt in PROMPTS for _ in range(N_SAMPLES)]
  seeds = [1000 * step + i for i in range(len(rows))]
  answers = generate.generate(CFG, params, rows, seeds, REQUEST, len(rows))
  groups = []
  for i, prompt in enumerate(PROMPTS):
    drawn = answers[i * N_SAMPLES : (i + 1) * N_SAMPLES]
    question = prompts.Question(None, prompt)
    groups.append(rollout.Group(question, drawn, [], [], 0.0))
  reward_PR = REWARD_PR
  if reward_fn is not None:
    reward_PR = np.array(
      [[reward_fn(p, a.token_ids) for a in g.answers]
       for p, g in zip(PROMPTS, groups, strict=True)], 'f4'
    )  # fmt: skip
  everyone = np.arange(len(PROMPTS))
  return rollout.Collected(groups, reward_PR, everyone < 0, everyone, 0, 0)


ONE = learn.Updates()


def make(cfg, updates=ONE, tx=None, params=None, micro_batch=32):
  """A state and what it learns with."""
  mesh = mesh_of()
  update_fn = update.make_update_fn(
    algorithm.make_loss_fn(cfg, CFG, first=0), tx or optax.sgd(1.0), mesh,
    updates.rows(32) // micro_batch,
  )  # fmt: skip
  params = params or params_of(0, cfg.baseline == 'value')
  state = train_state.create(
    lambda _: params, tx or optax.sgd(1.0), seed=0, mesh=mesh, lines=LINES
  )
  look_fn = learn.make_look_fn(cfg, CFG, params_of(1), mesh, micro_batch)
  return state, learn.Learner(
    cfg, updates, look_fn, update_fn, mesh, LENGTH, N_NEW, 0
  )


def test_a_look_in_parts_is_the_whole_and_outlives_the_reference():
  cfg = algorithm.Algorithm(
    baseline='value', kl_coefficient=0.1, max_importance=2.0
  )
  policy, reference = params_of(0, with_head=True), params_of(1)
  batch = rollout.training_batch(collect(policy, 0).groups, LENGTH)
  logp_BT, value_BT = jax.jit(
    functools.partial(likelihood.target_logp_and_value, CFG)
  )(policy, batch)
  ref_BT = jax.jit(functools.partial(likelihood.target_logp, CFG))(
    reference, batch
  )
  mesh = mesh_of(2)
  placed = jax.device_put(
    reference, params.state_shardings(LINES, mesh, reference)
  )
  whole, parts = (
    learn.make_look_fn(cfg, CFG, placed, mesh, micro_batch)
    for micro_batch in (32, 8)
  )
  jax.tree.map(lambda x: x.delete(), placed)  # as donation does
  policy = jax.device_put(policy, params.shardings(LINES, mesh))
  for look_fn in (whole, parts):
    found = look_fn(policy, batch)
    np.testing.assert_allclose(found['ref_logp_BT'], ref_BT, atol=1e-5)
    np.testing.assert_allclose(found['trainer_logp_BT'], logp_BT, atol=1e-5)
    np.testing.assert_allclose(found['value_BT'], value_BT, atol=1e-5)
  plain = learn.make_look_fn(algorithm.Algorithm(), CFG, params, mesh, 32)
  assert plain(params, batch) is batch


def test_minibatches_use_each_answer_once_an_epoch():
  updates = learn.Updates(n_epochs=2, n_minibatches=4)
  cfg = algorithm.Algorithm(aggregation='sequence_mean')
  learner = learn.Learner(cfg, updates, None, None, None, LENGTH, N_NEW, 0)
  mask_BT = np.ones((32, 2), 'f4')
  mask_BT[::2, 1] = 0
  batch = {'loss_mask_BT': mask_BT, 'rows_BT': np.arange(32)[:, None]}
  found = list(learn.minibatches(learner, batch, 5))
  rows = [one['rows_BT'].ravel().tolist() for one in found]
  assert [len(one) for one in rows] == [8] * updates.n_a_step
  for epoch in (rows[:4], rows[4:]):
    assert sorted(i for one in epoch for i in one) == list(range(32))
  assert rows[:4] != rows[4:]
  again = [one['rows_BT'].ravel().tolist()
           for one in learn.minibatches(learner, batch, 5)]  # fmt: skip
  assert again == rows
  other = next(learn.minibatches(learner, batch, 6))
  assert other['rows_BT'].ravel().tolist() != rows[0]
  for one in found:  # weights are of the minibatch: 1/8 for each answer
    kept_BT = one['loss_mask_BT']
    weight_B = (one['weight_BT'] * kept_BT).sum(axis=1) / kept_BT.sum()
    np.testing.assert_allclose(weight_B, 1 / 8, rtol=1e-5)
  batch['loss_mask_BT'] = mask_BT * (np.arange(32) == rows[0][0])[:, None]
  assert len(list(learn.minibatches(learner, batch, 5))) == 2  # one an epoch
  with pytest.raises(ValueError, match='n_minibatches = 3 does not divide 32'):
    learn.Updates(n_minibatches=3).rows(32)
  with pytest.raises(ValueError, match='n_epochs = 0; use 1 or more'):
    learn.Updates(n_epochs=0)


def test_several_updates_are_one_step_and_leave_the_policy_that_sampled():
  cfg = algorithm.Algorithm()
  state, learner = make(cfg, learn.Updates(2, 2))
  state, metrics = learn.learn(learner, state, collect(state.params, 0), 1)
  assert int(state.step) == 1
  assert metrics['max_logp_difference'] < 1e-4  # of the first update
  assert metrics['max_ratio'] > 1.01
  assert metrics['min_ratio'] < 0.99
  state, learner = make(cfg)
  state, once = learn.learn(learner, state, collect(state.params, 0), 1)
  assert abs(once['max_ratio'] - 1) < 1e-4
  dead = collect(state.params, 0, lambda *_: 1.0)
  before = jax.device_get(state.params)
  state, nothing = learn.learn(learner, state, dead, 2)
  assert int(state.step) == 2
  assert 'loss' not in nothing
  jax.tree.map(np.testing.assert_array_equal, before, state.params)


def test_micro_batches_are_the_whole():
  found = []
  for micro_batch in (32, 8):
    state, learner = make(
      algorithm.PRESETS['ppo'], tx=optax.sgd(0.1), micro_batch=micro_batch
    )
    state, metrics = learn.learn(learner, state, collect(state.params, 0), 1)
    found.append((jax.device_get(state.params), metrics['value_loss']))
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-6), *found)


def test_ppo_learns_and_knows_what_to_expect():
  """Prompts 1 and 2 want the number after them; 3 and 4 reward nothing."""

  def reward(prompt, answer):
    return float(prompt[0] <= 2 and answer[0] == prompt[0] + 1)

  tx = optax.adam(0.005)
  state, learner = make(
    algorithm.PRESETS['ppo'], learn.Updates(2, 2), tx,
    params_of(0) | {value_head.NAME: value_head.init(CFG)},
  )  # fmt: skip
  means, explained = [], []
  for step in range(13):
    collected = collect(state.params, step, reward)
    state, metrics = learn.learn(learner, state, collected, step)
    means.append(collected.reward_PR.mean())
    explained.append(metrics['explained_variance'])
  assert means[0] < 0.2
  assert np.mean(means[-3:]) > 0.45  # of 0.5
  assert explained[0] == 0
  assert np.mean(explained[-3:]) > 0.6


def test_a_value_head_changes_no_token_and_no_log_probability():
  bare, headed = params_of(0), params_of(0, with_head=True)
  rows, seeds = [[1], [2]] * 4, range(8)
  answers = [
    generate.generate(CFG, params, rows, seeds, REQUEST, 8)
    for params in (bare, headed)
  ]
  assert answers[0] == answers[1]
  batch = rollout.training_batch(collect(bare, 0).groups, LENGTH)
  logp = jax.jit(functools.partial(likelihood.target_logp_and_value, CFG))
  without, value_BT = logp(bare, batch)
  assert value_BT is None
  np.testing.assert_array_equal(logp(headed, batch)[0], without)
