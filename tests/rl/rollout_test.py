"""From prompts to judged groups and their batch; rewards by hand."""

import threading
from concurrent import futures

import jax
import numpy as np
import pytest

from llm_jax.agent import turns
from llm_jax.infer import generate
from llm_jax.losses import next_token
from llm_jax.model import config, transformer
from llm_jax.rl import prompts, rollout
from llm_jax.tasks import addition
from llm_jax.tokenizer import encoding
from tests.model import start_params
from tests.rl import tiny_stage

TASK = addition.Addition(2, phrasings=('12+7=',))
TOKENIZER = encoding.Tokenizer.from_merges([], 'qwen2')
CFG = config.ModelConfig(
  vocab_size=TOKENIZER.vocab_size, n_layers=1, d_model=16, n_heads=2,
  n_kv_heads=1, head_dim=8, d_ff=24, max_length=64,
)  # fmt: skip
N_SAMPLES = 4


def sampler(pool, **changes):
  cfg = {
    'task': TASK, 'n_prompts': 2, 'n_samples': N_SAMPLES, 'reward': 'verifier',
    'rollouts': rollout.Rollouts(),
  }  # fmt: skip
  cfg |= {name: changes.pop(name) for name in [*changes] if name in cfg}
  stage = tiny_stage.make(CFG, tokenizer=TOKENIZER, data=2, **cfg)
  settings = {
    'stage': stage, 'problems': prompts.load(stage, TASK, 6), 'pool': pool,
    'request': rollout.make_request(10, (9,), 1.0),
    'dead_groups': lambda reward_PR: np.ptp(reward_PR, axis=1) == 0,
  }  # fmt: skip
  return rollout.Sampler(**(settings | changes))


def model_of(made, params):
  stage = made.stage
  return turns.Model(CFG, params, TOKENIZER, stage.chat_format, mesh=stage.mesh)


@pytest.fixture(name='pool')
def _pool():
  with futures.ThreadPoolExecutor(2) as pool:
    yield pool


def test_batch_by_hand():
  answers = [([7, 8, 9], [-1.0, -2.0, -3.0]), ([7], [-4.0])]
  groups = [tiny_stage.group([1, 2], answers)]
  batch = rollout.training_batch(groups, 5)
  assert batch['inputs_BT'].tolist() == [[1, 2, 7, 8, 9], [1, 2, 7, 0, 0]]
  assert batch['targets_BT'].tolist() == [[2, 7, 8, 9, 0], [2, 7, 0, 0, 0]]
  assert batch['loss_mask_BT'].tolist() == [[0, 1, 1, 1, 0], [0, 1, 0, 0, 0]]
  assert batch['old_logp_BT'].tolist() == [
    [0, -1, -2, -3, 0], [0, -4, 0, 0, 0],
  ]  # fmt: skip


def test_draws_are_reproducible_and_their_logps_those_of_training(pool):
  """In the layout of the batch, on the drawn tokens, in float32."""
  params = start_params.init(CFG)
  model = model_of(sampler(pool), params)
  drawn = rollout.draw(sampler(pool), model, 3, 0)

  def answers(step, number=0):
    one = rollout.draw(sampler(pool), model, step, number)
    return [group.answers for group in one.groups]

  same = [group.answers for group in drawn.groups]
  assert answers(3) == same
  assert answers(3, number=1) != same
  assert answers(2) != same
  batch = rollout.training_batch(drawn.groups, 40)

  @jax.jit
  def training_logp(params, batch):
    hidden_BTD, *_ = transformer.apply(
      CFG, params, batch['inputs_BT'], batch['positions_BT']
    )
    head = transformer.head(CFG, params)
    return next_token.token_logp(hidden_BTD, head, batch['targets_BT'])

  logp_BT = training_logp(params, batch) * batch['loss_mask_BT']
  np.testing.assert_allclose(logp_BT, batch['old_logp_BT'], atol=1e-4)
  assert batch['loss_mask_BT'].sum() == sum(
    len(answer.token_ids) for group in drawn.groups for answer in group.answers
  )


def test_a_group_is_judged_while_others_are_sampled(pool, monkeypatch):
  """Sampling of the second group waits for the verdict on the first."""
  judged, right = threading.Event(), {}

  class Watched(addition.Addition):
    def score(self, problem, answer):
      right[problem.prompt] = answer == problem.reference
      judged.set()
      return addition.Addition.score(self, problem, answer)

  def generate_all(cfg, params, prompts, on_answer, **_):
    order = [3, 0, 2, 1, 7, 6, 5, 4]  # as they happen to end
    assert len(prompts) == len(order)
    for n, row in enumerate(order):
      if n == 4:
        assert judged.wait(20), 'nothing was judged before the last group'
      on_answer(row, generate.Answer(TOKENIZER.encode(f'{row}'), [-1.0], True))

  monkeypatch.setattr(generate, 'generate', generate_all)
  made = sampler(pool, task=Watched(2))
  drawn = rollout.draw(made, model_of(made, None), 1, 0)
  assert [group.texts for group in drawn.groups] == [
    list('0123'), list('4567')
  ]  # fmt: skip
  assert [group.prompt for group in drawn.groups] == made.problems[:2]
  correct = [[s.correct for s in group.scores] for group in drawn.groups]
  np.testing.assert_array_equal(drawn.reward_PR, np.array(correct, 'f4'))
  assert len(right) == 2


@pytest.mark.parametrize(
  ('n_draws', 'max_refills', 'trained', 'dead'),
  [
    # Draws of two groups: dead and live, both dead, dead and live, both live.
    (3, 3, [1, 5], [0, 2, 3, 4]),  # no fourth is needed
    (3, 2, [1, 5], [0, 2, 3, 4]),
    (2, 1, [0, 1], [0, 2, 3]),  # filled up with a dead group, in order
    (1, 0, [0, 1], [0]),
  ],
)
def test_dead_groups_are_replaced_until_the_batch_lives(
  n_draws, max_refills, trained, dead, monkeypatch
):
  right, equal, wrong = [1, 0], [1, 1], [0, 1]
  draws = [[equal, wrong], [equal, equal], [equal, right], [right, right]]

  def draw(sampler, model, step, number):
    del sampler, model, step
    groups = [2 * number, 2 * number + 1]  # numbered
    return rollout.Draw(groups, np.array(draws[number], 'f4'), 1.5)

  monkeypatch.setattr(rollout, 'draw', draw)
  cfg = rollout.Rollouts(max_refills=max_refills)
  found = rollout.collect(sampler(None, rollouts=cfg), None, 1)
  assert found.groups == list(range(2 * n_draws))
  assert found.trained_groups == trained
  assert found.is_dead_P.nonzero()[0].tolist() == dead
  assert found.rollout_s == 1.5 * n_draws
  rewards = [reward for one in draws for reward in one]
  assert found.trained_reward_PR.tolist() == [rewards[i] for i in trained]


def test_verdicts_and_coins():
  groups = [
    tiny_stage.group([1], [([5], [0.0])] * 2, right={i}) for i in (0, 1)
  ]
  assert rollout.verdicts(groups).tolist() == [[1, 0], [0, 1]]
  tossed = rollout.coins((50, 40), seed=0, step=1, draw=0)
  assert abs(tossed.mean() - 0.5) < 0.05  # four standard deviations
  again = rollout.coins((50, 40), seed=0, step=1, draw=0)
  np.testing.assert_array_equal(tossed, again)
  for step, draw in ((2, 0), (1, 1)):
    assert (tossed != rollout.coins((50, 40), 0, step, draw)).any()


def test_settings_that_mean_nothing_are_refused():
  for settings, message in (
    ({'n_threads': 0}, 'n_threads = 0; use 1 or more'),
    ({'max_refills': -1}, 'max_refills = -1; use 0 or more'),
  ):
    with pytest.raises(ValueError, match=message):
      rollout.Rollouts(**settings)
  for temperature in (0, -1.0, float('nan'), float('inf')):
    with pytest.raises(ValueError, match=f'temperature {temperature}'):
      rollout.make_request(10, (9,), temperature)
