"""From groups of answers to a batch; rewards by hand."""

import jax
import numpy as np
import pytest

from llm_jax.infer import generate
from llm_jax.losses import next_token
from llm_jax.model import config, transformer
from llm_jax.parallel import mesh as mesh_lib
from llm_jax.rl import reward, rollout
from llm_jax.tasks import addition

CFG = config.ModelConfig(
  vocab_size=50, n_layers=2, d_model=16, n_heads=2, n_kv_heads=1, head_dim=8,
  d_ff=24, max_length=64,
)  # fmt: skip


def test_batch_by_hand():
  answers = [
    generate.Answer([7, 8, 9], [-1.0, -2.0, -3.0], True),
    generate.Answer([7], [-4.0], True),
  ]
  batch = rollout.training_batch(
    [[1, 2]], [answers], np.array([[0.5, -0.5]]), np.array([False]), 5
  )
  assert batch['inputs_BT'].tolist() == [[1, 2, 7, 8, 9], [1, 2, 7, 0, 0]]
  assert batch['targets_BT'].tolist() == [[2, 7, 8, 9, 0], [2, 7, 0, 0, 0]]
  assert batch['loss_mask_BT'].tolist() == [[0, 1, 1, 1, 0], [0, 1, 0, 0, 0]]
  assert batch['old_logp_BT'].tolist() == [
    [0, -1, -2, -3, 0], [0, -4, 0, 0, 0],
  ]  # fmt: skip
  assert batch['advantage_B'].tolist() == [0.5, -0.5]
  dead = rollout.training_batch(
    [[1, 2]], [answers], np.zeros((1, 2)), np.array([True]), 5
  )
  assert not dead['loss_mask_BT'].any()
  with pytest.raises(ValueError, match='do not fit a row of 4'):
    rollout.training_batch(
      [[1, 2]], [answers], np.zeros((1, 2)), np.array([False]), 3
    )


def test_rollout_logps_equal_those_of_training():
  """In the layout of the batch, on the drawn tokens, in float32."""
  mesh = mesh_lib.make(mesh_lib.MeshConfig(data=2))
  params = transformer.init(CFG, jax.random.key(0))
  prompts = [[1, 2, 3], [4, 5, 6, 7]]
  request = generate.Request(10, (9,))
  groups = rollout.sample_groups(CFG, params, prompts, 4, request, 0, 3, mesh)
  again = rollout.sample_groups(CFG, params, prompts, 4, request, 0, 3, mesh)
  assert groups == again
  other = rollout.sample_groups(CFG, params, prompts, 4, request, 0, 4, mesh)
  assert groups != other
  batch = rollout.training_batch(
    prompts, groups, np.ones((2, 4)), np.array([False, False]), 13
  )

  @jax.jit
  def training_logp(params, batch):
    hidden_BTD, _ = transformer.apply(
      CFG, params, batch['inputs_BT'], batch['positions_BT']
    )
    return next_token.token_logp(
      hidden_BTD, params['head'], batch['targets_BT'], CFG.vocab_size
    )

  logp_BT = training_logp(params, batch) * batch['loss_mask_BT']
  np.testing.assert_allclose(logp_BT, batch['old_logp_BT'], atol=1e-4)
  assert batch['loss_mask_BT'].sum() == sum(
    len(a.token_ids) for group in groups for a in group
  )


def test_rewards():
  task = addition.Addition(2)
  problems = task.problems('train', 2, 0)
  right = [p.reference for p in problems]
  answers = [[right[0], 'x'], ['', right[1]]]
  assert reward.verify(task, problems, answers).tolist() == [[1, 0], [0, 1]]
  tossed = reward.toss((50, 40), 0, 1)
  assert abs(tossed.mean() - 0.5) < 0.05  # four standard deviations
  np.testing.assert_array_equal(tossed, reward.toss((50, 40), 0, 1))
  assert (tossed != reward.toss((50, 40), 0, 2)).any()
