"""Every method, however its batch is laid out; batches by hand."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from llm_jax.infer import generate
from llm_jax.losses import policy
from llm_jax.model import params
from llm_jax.parallel import device_mesh
from llm_jax.rl import algorithm, credit, learn, rollout
from llm_jax.rl import prompts as questions_lib
from llm_jax.train import train_state, update

N_TOKENS, LENGTH, MAX_LENGTH = 11, 9, 7  # of the vocabulary, rows and answers
RANDOM = np.random.default_rng(0)
W = RANDOM.normal(size=(N_TOKENS, N_TOKENS)).astype('f4')  # logits of a bigram
REWARD_PR = RANDOM.integers(3, size=(4, 4)) / 2.0
REWARD_PR[1] = 0.5  # a dead group
PROMPTS = [[1, 2], [3], [4, 5, 6], [7, 8]]
GROUPS = [
  [
    generate.Answer(
      RANDOM.integers(1, N_TOKENS, n).tolist(),
      (-RANDOM.exponential(2, n)).tolist(),
      True,
    )
    for n in RANDOM.integers(1, MAX_LENGTH + 1, 4)
  ]
  for _ in PROMPTS
]


def make_batch(
  cfg,
  prompts=PROMPTS,
  groups=GROUPS,
  reward_PR=REWARD_PR,
  max_length=MAX_LENGTH,
):
  """Of one update, with values as baseline value asks them."""
  drawn = [
    rollout.Group(questions_lib.Question(None, prompt), answers, [], [], 0.0)
    for prompt, answers in zip(prompts, groups, strict=True)
  ]
  batch = rollout.training_batch(drawn, LENGTH)
  looked = {
    'value_BT': RANDOM.normal(size=batch['old_logp_BT'].shape).astype('f4'),
    'trainer_logp_BT': np.asarray(logp(W, batch)),
  }
  batch, _ = credit.assign(cfg, batch | looked, reward_PR, max_length)
  learner = learn.Learner(
    cfg, learn.Updates(), None, None, None, LENGTH, max_length, 0
  )
  return next(learn.minibatches(learner, batch, 1))


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
    if cfg.baseline == 'value':
      value_BT = params['w'][0][batch['inputs_BT']]
    return algorithm.loss(cfg, logp(params['w'], batch), batch, value_BT)

  tx = optax.sgd(1.0)
  state = train_state.create(
    lambda key: {'w': jnp.asarray(W)},
    tx,
    seed=0,
    mesh=mesh,
    lines=params.Table(),
  )
  update_fn = update.make_update_fn(loss_fn, tx, mesh, n_micro)
  state, metrics = update_fn(state, device_mesh.put_batch(mesh, batch))
  return jax.device_get((state.params['w'] - W, metrics))


def pack(cfg, batch):
  """Two answers a row, which segment_ids_BT tells apart."""
  mask_BT = batch['loss_mask_BT']
  batch = batch | {
    'advantage_BT': np.broadcast_to(batch['advantage_BT'], mask_BT.shape)
  }
  rows = len(mask_BT) // 2
  packed = {name: x.reshape(rows, -1) for name, x in batch.items()}
  ids_BT = np.repeat([[0, 1]], LENGTH, axis=1).repeat(rows, axis=0)
  return packed | {
    'segment_ids_BT': ids_BT.astype(np.int32),
    'weight_BT': policy.token_weights(
      cfg.aggregation, packed['loss_mask_BT'], len(mask_BT), MAX_LENGTH, ids_BT
    ),
  }


CASES = [('clipped', x) for x in policy.AGGREGATIONS]
CASES += [('sequence', 'sequence_mean'), ('cispo', 'token_mean')]
CASES = [(*case, 'group_mean') for case in CASES]
CASES += [('clipped', 'token_mean', 'value')]


@pytest.mark.parametrize(('surrogate', 'aggregation', 'baseline'), CASES)
def test_layout_does_not_matter(surrogate, aggregation, baseline):
  """Micro-batches, mesh, order of rows and packing; with a KL.

  Answers are sampled by another policy, so that ratios are clipped.
  """
  cfg = algorithm.Algorithm(
    baseline, surrogate=surrogate, aggregation=aggregation, kl_coefficient=0.1,
  )  # fmt: skip
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
    step(cfg, pack(cfg, shuffled), n_micro=2, data=2),
  ):
    # Only the order of float32 sums differs.
    chex.assert_trees_all_close(found, expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize('name', ['', *algorithm.PRESETS])
def test_gradient_is_on_drawn_tokens_only(name):
  """The last of which stops the answer; on policy, so nothing is clipped."""
  cfg = algorithm.choose(name, algorithm.Algorithm())
  batch = make_batch(cfg)
  batch['old_logp_BT'] = logp_BT = np.asarray(logp(W, batch))

  @jax.jit
  def gradient(logp_BT, batch):
    loss_fn = lambda x: algorithm.loss(cfg, x, batch)[0]  # noqa: E731
    return jax.grad(loss_fn)(logp_BT)

  grad_BT = np.array(gradient(logp_BT, batch))
  row = 0
  for prompt, group in zip(PROMPTS, GROUPS, strict=True):
    for answer in group:
      start = len(prompt) - 1
      drawn = slice(start, start + len(answer.token_ids))
      is_taught = batch['loss_mask_BT'][row].any()  # or its group is dead
      advantage_T = np.broadcast_to(batch['advantage_BT'][row], LENGTH)[drawn]
      taught_T = is_taught * advantage_T
      assert ((grad_BT[row, drawn] != 0) == (taught_T != 0)).all()
      # REINFORCE: each token is pushed by its advantage times its weight.
      taught_T = taught_T * batch['weight_BT'][row, drawn]
      grad_BT[row, drawn] += taught_T / batch['loss_mask_BT'].sum()
      row += 1
  np.testing.assert_allclose(grad_BT, 0, atol=1e-7)


def test_choice_of_a_method():
  plain = algorithm.Algorithm()
  other = dataclasses.replace(plain, clip_high=0.3)
  assert algorithm.choose('', other) == other
  assert algorithm.choose('dapo', plain).clip_high == 0.28
  with pytest.raises(ValueError, match="preset 'ppo2'; use one of"):
    algorithm.choose('ppo2', plain)
  with pytest.raises(ValueError, match='give either'):
    algorithm.choose('dapo', other)
  for name in ('baseline', 'scale', 'surrogate', 'aggregation'):
    with pytest.raises(ValueError, match=f"Algorithm.{name} = 'x'; use one"):
      algorithm.Algorithm(**{name: 'x'})
  with pytest.raises(ValueError, match='these are of groups'):
    algorithm.Algorithm('value', 'group')
