"""What tokens are taught, by hand; and updates of a tiny model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from llm_jax.infer import generate
from llm_jax.model import config, likelihood, transformer, value_head
from llm_jax.model import params as param_table
from llm_jax.rl import algorithms, learn, rollout
from llm_jax.train import update
from tests.model import start_params
from tests.rl import tiny_stage
from tests.train import tiny_run

CFG = config.ModelConfig(
  vocab_size=8, n_layers=1, d_model=16, n_heads=2, n_kv_heads=1, head_dim=8,
  d_ff=16, max_length=8,
)  # fmt: skip
LINES = param_table.table(CFG, has_value_head=True)
PROMPTS = [[1], [2], [3], [4]]
N_SAMPLES, N_NEW, LENGTH = 8, 2, 2
RANDOM_PR = np.random.default_rng(0).integers(2, size=(4, N_SAMPLES))
RANDOM_PR[:, :2] = [0, 1]  # no group is dead
ONE = learn.Updates()

# By hand: prompts of one token, answers of 1 and 2, twice, each token at -1.
HAND = rollout.training_batch(
  [tiny_stage.group([1], [([5] * n, [-1.0] * n) for n in (1, 2)])] * 2, 2
)
REF_BT = np.array([[-1.5, 9], [-1.25, -1.75], [-1, 9], [-1, -1]], 'f4')


def advantages(annotated=None, **parts):
  learner = tiny_stage.learner(None, algorithms.Algorithm(**parts))
  reward_PR = np.array([[1.0, 0.0], [0.0, 0.0]])
  return learn.token_advantages(learner, HAND | (annotated or {}), reward_PR)


def test_groups():
  """The first answer is right; its group alone teaches."""
  found, metrics = advantages()
  assert found['advantage_BT'].tolist() == [[0.5], [-0.5], [0], [0]]
  assert found['loss_mask_BT'].tolist() == [[1, 0], [1, 1], [0, 0], [0, 0]]
  assert metrics == {}
  found, _ = advantages(baseline='none', only_right=True)
  assert found['loss_mask_BT'].tolist() == [[1, 0], [0, 0], [0, 0], [0, 0]]


def test_whitening():
  # Rewards 1, 0, 0, 0, 0, 0 at six tokens: mean 1/6, variance 1/6.
  found, _ = advantages(baseline='none', whiten=True)
  low, high = -1 / 6 / np.sqrt(1 / 6), 5 / 6 / np.sqrt(1 / 6)
  expected = [[high, 0], [low, low], [low, 0], [low, low]]
  np.testing.assert_allclose(found['advantage_BT'], expected, rtol=1e-5)
  np.testing.assert_array_equal(found['loss_mask_BT'], HAND['loss_mask_BT'])


def test_long_answers():
  # Half of the longest answer is free; the reward then falls to -1.
  found, metrics = advantages(overlong_share=0.5)
  assert found['advantage_BT'].tolist() == [[1], [-1], [0.5], [-0.5]]
  assert found['loss_mask_BT'].sum() == 6
  assert metrics == {'reward_overlong': -0.5}


def test_kl_is_taken_off_the_reward_of_its_answer():
  """log pi - log ref is 0.5 and, of two tokens, 0.25 + 0.75; times 0.4."""
  found, metrics = advantages({'ref_logp_BT': REF_BT}, kl_in_reward=0.4)
  # Rewards are 1 - 0.2 and 0 - 0.4 in the first group, equal in the second.
  np.testing.assert_allclose(
    found['advantage_BT'], [[0.6], [-0.6], [0], [0]], atol=1e-6
  )
  assert metrics == {
    'reward_kl': pytest.approx(-(0.2 + 0.4) / 4),
    'kl_of_answers': pytest.approx((0.5 + 1.0) / 4),
  }


def test_values_with_a_kl_at_each_token():
  value_BT = np.array([[0.5, 9], [0.25, 0.75], [0, 9], [0, 0]], 'f4')
  found, metrics = advantages(
    {'value_BT': value_BT, 'ref_logp_BT': REF_BT},
    baseline='value',
    kl_in_reward=0.4,
    gae_lambda=0.5,
  )
  # Row 0: 1 - 0.2 - 0.5. Row 1: d = (-0.1 + 0.75 - 0.25, -0.3 - 0.75).
  last = -0.3 - 0.75
  first = 0.4 + 0.5 * last
  np.testing.assert_allclose(
    found['advantage_BT'], [[0.3, 0], [first, last], [0, 0], [0, 0]], atol=1e-6
  )
  np.testing.assert_allclose(
    found['return_BT'],
    [[0.8, 0], [first + 0.25, last + 0.75], [0, 0], [0, 0]],
    atol=1e-6,
  )
  assert found['loss_mask_BT'].sum() == 6  # nothing is dead
  returns = np.array([0.8, first + 0.25, last + 0.75, 0, 0, 0])
  error = returns - np.array([0.5, 0.25, 0.75, 0, 0, 0])
  assert metrics['explained_variance'] == pytest.approx(
    1 - error.var() / returns.var(), abs=1e-5
  )


def test_importance_weights_up_to_a_cap():
  """The trainer's log-probabilities are not the sampler's -1."""
  logp_BT = np.array([[-0.5, 9], [-1.25, 0], [-1, 9], [-1, -1]], 'f4')
  found, metrics = advantages({'trainer_logp_BT': logp_BT}, max_importance=2.0)
  np.testing.assert_allclose(found['advantage_BT'][0, 0], 0.5 * np.exp(0.5))
  np.testing.assert_allclose(
    found['advantage_BT'][1], [-0.5 * np.exp(-0.25), -0.5 * 2]
  )
  np.testing.assert_array_equal(found['old_logp_BT'], logp_BT)
  assert metrics['max_logp_difference'] == 1.0
  assert metrics['mean_logp_difference'] == pytest.approx(1.75 / 3)


def params_of(seed, with_head=False):
  params = start_params.init(CFG, seed)
  head = {'w_D': jnp.linspace(-1, 1, CFG.d_model), 'bias': jnp.float32(0.5)}
  return params | ({value_head.NAME: head} if with_head else {})


def sample(params, step, temperature=1.0):
  """Groups of drawn answers, without verdicts."""
  rows = [prompt for prompt in PROMPTS for _ in range(N_SAMPLES)]
  answers = generate.generate(
    CFG,
    params,
    prompts=rows,
    seeds=[1000 * step + i for i in range(len(rows))],
    request=rollout.make_request(N_NEW, (0,), temperature),
    batch_size=len(rows),
  )
  return [
    tiny_stage.group(prompt, answers[i * N_SAMPLES : (i + 1) * N_SAMPLES])
    for i, prompt in enumerate(PROMPTS)
  ]


def make(
  cfg, updates=ONE, tx=None, params=None, micro_batch=32, temperature=1.0
):
  """A state, what it learns with, and all of a step but its rollouts."""
  stage, tx = tiny_stage.make(CFG), tx or optax.sgd(1.0)
  loss_fn = algorithms.make_loss_fn(cfg, CFG, first=0, temperature=temperature)
  update_fn = update.make_update_fn(
    loss_fn, tx, stage.mesh, updates.rows(32) // micro_batch
  )
  params = params or params_of(0, cfg.has_values)
  state = tiny_run.state_of(params, tx, stage.mesh, LINES)
  learner = tiny_stage.learner(stage, cfg, update_fn, updates=updates)
  annotate = learn.make_annotate_fn(learner, micro_batch, temperature)

  def one_step(state, groups, reward_PR, step):
    batch = annotate(state.params, rollout.training_batch(groups, LENGTH))
    changed, found = learn.token_advantages(learner, batch, reward_PR)
    state, metrics = learn.update_policy(learner, state, batch | changed, step)
    return state, metrics | found

  return state, one_step, annotate


def slow_logp(params, batch, temperature):
  """Of each target under the tempered policy, in float64."""
  hidden_BTD, *_ = transformer.apply(
    CFG, params, batch['inputs_BT'], batch['positions_BT']
  )
  logits_BTV = transformer.unembed(CFG, params, hidden_BTD)[..., :8]
  p_BTV = np.exp(np.asarray(logits_BTV, np.float64) / temperature)
  p_BTV /= p_BTV.sum(axis=-1, keepdims=True)
  at_BT1 = batch['targets_BT'][..., None]
  return np.log(np.take_along_axis(p_BTV, at_BT1, axis=-1))[..., 0]


@pytest.mark.parametrize('temperature', [0.6, 1.3])
def test_sampler_trainer_and_reference_are_of_one_temperature(temperature):
  """The ratio of the first update is 1, and the KL is of what was drawn."""
  cfg = algorithms.Algorithm(
    kl_coefficient=0.1, kl_in_reward=0.2, max_importance=2.0
  )
  state, one_step, annotate = make(cfg, temperature=temperature)
  groups = sample(state.params, 0, temperature)
  batch = annotate(state.params, rollout.training_batch(groups, LENGTH))
  kept_BT = batch['loss_mask_BT'] > 0
  logp_BT = slow_logp(state.params, batch, temperature)
  ref_BT = slow_logp(params_of(1), batch, temperature)
  for name, expected_BT in (
    ('old_logp_BT', logp_BT), ('trainer_logp_BT', logp_BT),
    ('ref_logp_BT', ref_BT),
  ):  # fmt: skip
    np.testing.assert_allclose(
      batch[name][kept_BT], expected_BT[kept_BT], atol=1e-4, err_msg=name
    )
  _, metrics = one_step(state, groups, RANDOM_PR, 1)
  for name in ('mean_ratio', 'min_ratio', 'max_ratio'):
    assert metrics[name] == pytest.approx(1, abs=1e-4)
  assert metrics['max_logp_difference'] < 1e-4
  log_x_BT = (ref_BT - logp_BT)[kept_BT]
  assert metrics['kl'] == pytest.approx(
    (np.exp(log_x_BT) - log_x_BT - 1).mean(), rel=1e-3
  )
  assert metrics['reward_kl'] == pytest.approx(
    0.2 * log_x_BT.sum() / RANDOM_PR.size, rel=1e-3
  )


def test_annotations_in_parts_are_the_whole_and_outlive_the_reference():
  cfg = algorithms.Algorithm(
    baseline='value', kl_coefficient=0.1, max_importance=2.0
  )
  params = params_of(0, with_head=True)
  batch = rollout.training_batch(sample(params, 0), LENGTH)
  logp_BT, value_BT, _ = jax.jit(functools.partial(likelihood.of_targets, CFG))(
    params, batch
  )
  ref_BT = slow_logp(params_of(1), batch, 1.0)
  stage = tiny_stage.make(CFG, data=2)
  learner = tiny_stage.learner(stage, cfg)
  whole, parts = (
    learn.make_annotate_fn(learner, micro_batch, 1.0) for micro_batch in (32, 8)
  )
  jax.tree.map(lambda x: x.delete(), stage.params)  # as donation does
  for annotate in (whole, parts):
    found = annotate(params, batch)
    np.testing.assert_allclose(found['ref_logp_BT'], ref_BT, atol=1e-5)
    np.testing.assert_allclose(found['trainer_logp_BT'], logp_BT, atol=1e-5)
    np.testing.assert_allclose(found['value_BT'], value_BT, atol=1e-5)
  learner = tiny_stage.learner(stage, algorithms.Algorithm())
  assert learn.make_annotate_fn(learner, 32, 1.0)(params, batch) is batch


def test_minibatches_use_each_answer_once_an_epoch():
  updates = learn.Updates(n_epochs=2, n_minibatches=4)
  cfg = algorithms.Algorithm(aggregation='sequence_mean')
  learner = tiny_stage.learner(None, cfg, updates=updates)
  mask_BT = np.ones((32, 2), 'f4')
  mask_BT[::2, 1] = 0
  batch = {'loss_mask_BT': mask_BT, 'rows_BT': np.arange(32)[:, None]}

  def rows(step):
    found = list(learn.minibatches(learner, batch, step))
    return [one['rows_BT'].ravel().tolist() for one in found]

  dealt = rows(5)
  assert [len(one) for one in dealt] == [8] * updates.n_a_step
  for epoch in (dealt[:4], dealt[4:]):
    assert sorted(i for one in epoch for i in one) == list(range(32))
  assert dealt[:4] != dealt[4:]
  assert rows(5) == dealt
  assert rows(6) != dealt
  for one in learn.minibatches(learner, batch, 5):  # 1/8 for each answer
    kept_BT = one['loss_mask_BT']
    weight_B = (one['weight_BT'] * kept_BT).sum(axis=1) / kept_BT.sum()
    np.testing.assert_allclose(weight_B, 1 / 8, rtol=1e-5)
  batch['loss_mask_BT'] = mask_BT * (np.arange(32) == dealt[0][0])[:, None]
  assert len(rows(5)) == 2  # one an epoch
  with pytest.raises(ValueError, match='n_minibatches = 3 does not divide 32'):
    learn.Updates(n_minibatches=3).rows(32)
  with pytest.raises(ValueError, match='n_epochs = 0; use 1 or more'):
    learn.Updates(n_epochs=0)


def test_several_updates_are_one_step_and_leave_the_policy_that_sampled():
  state, one_step, _ = make(algorithms.Algorithm(), learn.Updates(2, 2))
  groups = sample(state.params, 0)
  state, metrics = one_step(state, groups, RANDOM_PR, 1)
  assert int(state.step) == 1
  assert metrics['max_logp_difference'] < 1e-4  # of the first update
  assert metrics['max_ratio'] > 1.01
  assert metrics['min_ratio'] < 0.99
  before = jax.device_get(state.params)
  state, nothing = one_step(state, groups, np.ones_like(RANDOM_PR), 2)
  assert int(state.step) == 2
  assert 'loss' not in nothing
  jax.tree.map(np.testing.assert_array_equal, before, state.params)


def test_ppo_learns_and_knows_what_to_expect():
  """Prompts 1 and 2 want the number after them; 3 and 4 reward nothing."""

  def rewards(groups):
    return np.array(
      [
        [float(p[0] <= 2 and a.token_ids[0] == p[0] + 1) for a in group.answers]
        for p, group in zip(PROMPTS, groups, strict=True)
      ]
    )

  params = params_of(0) | {value_head.NAME: value_head.init(CFG)}
  state, one_step, _ = make(
    algorithms.PRESETS['ppo'], learn.Updates(2, 2), optax.adam(0.005), params
  )
  means, explained = [], []
  for step in range(13):
    groups = sample(state.params, step)
    reward_PR = rewards(groups)
    state, metrics = one_step(state, groups, reward_PR, step)
    means.append(reward_PR.mean())
    explained.append(metrics['explained_variance'])
  assert means[0] < 0.2
  assert np.mean(means[-3:]) > 0.45  # of 0.5
  assert explained[0] == 0
  assert np.mean(explained[-3:]) > 0.6


def test_a_value_head_changes_no_token_and_no_log_probability():
  bare, headed = params_of(0), params_of(0, with_head=True)
  groups = sample(bare, 0)
  assert [g.answers for g in sample(headed, 0)] == [g.answers for g in groups]
  batch = rollout.training_batch(groups, LENGTH)
  logp = jax.jit(functools.partial(likelihood.of_targets, CFG))
  without, value_BT, _ = logp(bare, batch)
  assert value_BT is None
  np.testing.assert_array_equal(logp(headed, batch).logp_BT, without)
