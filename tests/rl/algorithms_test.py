"""Every method, however its batch is laid out; batches by hand."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from llm_jax.losses import policy
from llm_jax.parallel import device_mesh
from llm_jax.rl import algorithms, learn, rollout
from llm_jax.train import update
from tests.rl import tiny_stage
from tests.train import tiny_run

N_TOKENS, LENGTH, MAX_LENGTH = 11, 9, 7  # of the vocabulary, rows and answers
RANDOM = np.random.default_rng(0)
W = RANDOM.normal(size=(N_TOKENS, N_TOKENS)).astype('f4')  # logits of a bigram
REWARD_PR = RANDOM.integers(3, size=(4, 4)) / 2.0
REWARD_PR[1] = 0.5  # a dead group
PROMPTS = [[1, 2], [3], [4, 5, 6], [7, 8]]
GROUPS = [
  tiny_stage.group(
    prompt,
    [
      (
        RANDOM.integers(1, N_TOKENS, n).tolist(),
        (-RANDOM.exponential(2, n)).tolist(),
      )
      for n in RANDOM.integers(1, MAX_LENGTH + 1, 4)
    ],
  )
  for prompt in PROMPTS
]


def make_batch(cfg):
  """Of one update, with values as baseline value asks them."""
  batch = rollout.training_batch(GROUPS, LENGTH)
  batch |= {
    'value_BT': RANDOM.normal(size=batch['old_logp_BT'].shape).astype('f4'),
    'trainer_logp_BT': np.asarray(logp(W, batch)),
  }
  learner = tiny_stage.learner(None, cfg, max_new_tokens=MAX_LENGTH)
  changed, _ = learn.token_advantages(learner, batch, REWARD_PR)
  return next(learn.minibatches(learner, batch | changed, 1))


def logp(w, batch):
  logp_BTV = jax.nn.log_softmax(w[batch['inputs_BT']])
  chosen = jnp.take_along_axis(logp_BTV, batch['targets_BT'][..., None], -1)
  return chosen[..., 0]


def step(cfg, batch, n_micro=1, data=1):
  """Parameters and metrics after one update."""
  mesh = device_mesh.make(device_mesh.MeshConfig(data=data))

  def loss_fn(params, batch, key):
    del key
    value_BT = None
    if cfg.has_values:
      value_BT = params['w'][0][batch['inputs_BT']]
    return algorithms.loss(cfg, logp(params['w'], batch), batch, value_BT)

  tx = optax.sgd(1.0)
  state = tiny_run.state_of({'w': jnp.asarray(W)}, tx, mesh)
  update_fn = update.make_update_fn(loss_fn, tx, mesh, n_micro)
  state, metrics = update_fn(state, device_mesh.put_batch(mesh, batch))
  return jax.device_get((state.params['w'] - W, metrics))


CASES = [('clipped', x) for x in policy.AGGREGATIONS]
CASES += [('sequence', 'sequence_mean'), ('cispo', 'token_mean')]
CASES = [(*case, 'group_mean') for case in CASES]
CASES += [('clipped', 'token_mean', 'value')]


@pytest.mark.parametrize(('surrogate', 'aggregation', 'baseline'), CASES)
def test_layout_does_not_matter(surrogate, aggregation, baseline):
  """Micro-batches, mesh and order of rows; with a KL.

  Answers are sampled by another policy, so that ratios are clipped.
  """
  cfg = algorithms.Algorithm(
    baseline, surrogate=surrogate, aggregation=aggregation, kl_coefficient=0.1
  )
  batch = make_batch(cfg)
  batch['ref_logp_BT'] = np.asarray(logp(RANDOM.normal(size=W.shape), batch))
  expected = step(cfg, batch)
  assert expected[1]['clip_high_share'] > 0
  assert expected[1]['kl'] > 0
  assert expected[1]['min_ratio'] < 0.8 < 1.2 < expected[1]['max_ratio']
  order = RANDOM.permutation(16)
  shuffled = {name: x[order] for name, x in batch.items()}
  for found in (
    step(cfg, batch, n_micro=4),
    step(cfg, shuffled, n_micro=4, data=2),
  ):
    # Only the order of float32 sums differs.
    chex.assert_trees_all_close(found, expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize('name', ['', *algorithms.PRESETS])
def test_gradient_is_on_drawn_tokens_only(name):
  """The last of which stops the answer; on policy, so nothing is clipped."""
  cfg = algorithms.choose(name, algorithms.Algorithm())
  batch = make_batch(cfg)
  batch['old_logp_BT'] = logp_BT = np.asarray(logp(W, batch))

  @jax.jit
  def gradient(logp_BT, batch):
    loss_fn = lambda x: algorithms.loss(cfg, x, batch)[0]  # noqa: E731
    return jax.grad(loss_fn)(logp_BT)

  grad_BT = np.array(gradient(logp_BT, batch))
  answers = [(g.prompt.token_ids, a) for g in GROUPS for a in g.answers]
  for row, (prompt, answer) in enumerate(answers):
    first = len(prompt) - 1
    drawn = slice(first, first + len(answer.token_ids))
    is_taught = batch['loss_mask_BT'][row].any()  # or its group is dead
    advantage_T = np.broadcast_to(batch['advantage_BT'][row], LENGTH)[drawn]
    taught_T = is_taught * advantage_T
    assert ((grad_BT[row, drawn] != 0) == (taught_T != 0)).all()
    # REINFORCE: each token is pushed by its advantage times its weight.
    taught_T = taught_T * batch['weight_BT'][row, drawn]
    grad_BT[row, drawn] += taught_T / batch['loss_mask_BT'].sum()
  np.testing.assert_allclose(grad_BT, 0, atol=1e-7)


def test_choice_of_a_method():
  plain = algorithms.Algorithm()
  other = dataclasses.replace(plain, clip_high=0.3)
  assert algorithms.choose('', other) == other
  assert algorithms.choose('dapo', plain).clip_high == 0.28
  with pytest.raises(ValueError, match="preset 'ppo2'; use one of"):
    algorithms.choose('ppo2', plain)
  with pytest.raises(ValueError, match='give either'):
    algorithms.choose('dapo', other)


@pytest.mark.parametrize(
  ('parts', 'message'),
  [
    *(({n: 'x'}, f"Algorithm.{n} = 'x'; use one of ")
      for n in ('baseline', 'scale', 'surrogate', 'aggregation')),
    *(({n: -0.1}, f'Algorithm.{n} = -0.1; use 0') for n in algorithms.NUMBERS),
    ({'kl_in_reward': float('nan')}, 'kl_in_reward = nan; use 0 or more'),
    ({'max_importance': float('inf')}, 'max_importance = inf; use 0 or more'),
    ({'overlong_share': 1.1}, 'overlong_share = 1.1; use 0 to 1'),
    ({'baseline': 'value', 'scale': 'group'}, 'not of values; use whiten'),
    ({'baseline': 'value', 'only_right': True}, 'not of values; use whiten'),
    ({'baseline': 'none', 'scale': 'group'}, 'divided by a deviation of 0'),
    ({'baseline': 'none', 'scale': 'batch'}, 'divided by a deviation of 0'),
    ({'whiten': True, 'scale': 'batch'}, 'divides by the deviation .* already'),
    ({'baseline': 'none', 'whiten': True, 'only_right': True}, 'in nothing'),
    *(({n: 0.5}, 'value_clip are of baseline')
      for n in algorithms._OF_VALUES),
  ],
)  # fmt: skip
def test_parts_that_make_no_method_are_refused(parts, message):
  with pytest.raises(ValueError, match=message):
    algorithms.Algorithm(**parts)


@pytest.mark.parametrize('name', algorithms.PRESETS)
def test_a_method_without_groups_needs_one_answer_to_a_prompt(name):
  cfg = algorithms.PRESETS[name]
  cfg.check_answers(n_prompts=4, n_samples=2)
  if name in ('reinforce_plus_plus', 'ppo', 'expert_iteration'):
    cfg.check_answers(n_prompts=4, n_samples=1)
  else:
    with pytest.raises(ValueError, match='n_samples = 1: the baseline .*use 2'):
      cfg.check_answers(n_prompts=4, n_samples=1)
  if name == 'reinforce_plus_plus':
    with pytest.raises(ValueError, match='one answer cannot be compared'):
      cfg.check_answers(n_prompts=1, n_samples=1)


def test_advantages_stay_small_however_equal_rewards_are():
  """Of every method that is not refused; rewards that differ in one bit too."""
  for baseline in ('group_mean', 'leave_one_out', 'none'):
    for scale in ('none', 'group', 'batch'):
      for whiten in (False, True):
        try:
          cfg = algorithms.Algorithm(baseline, scale, whiten)
        except ValueError:
          continue
        for last in (0.1, np.nextafter(0.1, 1), 0.9):
          reward_PR = np.full((4, 4), 0.1)
          reward_PR[-1, -1] = last
          learner = tiny_stage.learner(None, cfg, max_new_tokens=MAX_LENGTH)
          batch = rollout.training_batch(GROUPS, LENGTH)
          found, _ = learn.token_advantages(learner, batch, reward_PR)
          assert np.isfinite(found['advantage_BT']).all()
          assert np.abs(found['advantage_BT']).max() < 10


def test_dead_groups():
  reward_PR = np.array([[1, 1], [0, 1], [0, 0]])
  for settings, expected in (
    ({}, [True, False, True]),
    ({'baseline': 'none'}, [False, False, True]),
    ({'baseline': 'none', 'whiten': True}, [False] * 3),
    ({'baseline': 'value'}, [False] * 3),
  ):
    cfg = algorithms.Algorithm(**settings)
    assert algorithms.dead_groups(cfg, reward_PR).tolist() == expected
  cfg = algorithms.Algorithm(baseline='none', whiten=True)
  assert algorithms.dead_groups(cfg, np.ones((2, 2))).all()
  assert not algorithms.dead_groups(cfg, np.array([[0], [1]])).any()
