"""From prompts to judged groups and their batch; rewards by hand."""

import threading
from concurrent import futures

import jax
import numpy as np
import pytest

from llm_jax.infer import generate
from llm_jax.losses import next_token
from llm_jax.model import config, transformer
from llm_jax.parallel import device_mesh
from llm_jax.rl import prompts, reward, rollout
from llm_jax.tasks import addition, protocol
from llm_jax.tokenizer import encoding
from llm_jax.verify import verdict
from tests.model import start_params

TASK = addition.Addition(2)
TOKENIZER = encoding.Tokenizer.from_merges([], 'qwen2')
CFG = config.ModelConfig(
  vocab_size=TOKENIZER.vocab_size, n_layers=2, d_model=16, n_heads=2,
  n_kv_heads=1, head_dim=8, d_ff=24, max_length=64,
)  # fmt: skip
N_SAMPLES = 4


def question(token_ids, prompt='1+1='):
  return prompts.Question(protocol.Problem('addition', prompt, '2'), token_ids)


def group(token_ids, answers):
  scores = [verdict.Score(False, 'no')] * len(answers)
  texts = ['x'] * len(answers)
  return rollout.Group(question(token_ids), answers, texts, scores, 0.5)


def sampler(pool, **changes):
  asked = prompts.load(TASK, 6, 0, TOKENIZER, False)
  settings = {
    'config': CFG, 'request': generate.Request(10, (9,)), 'task': TASK,
    'tokenizer': TOKENIZER, 'questions': asked, 'n_prompts': 2,
    'n_samples': N_SAMPLES, 'batch_size': 0, 'reward': 'verifier', 'seed': 0,
    'mesh': device_mesh.make(device_mesh.MeshConfig(data=2)), 'pool': pool,
  }  # fmt: skip
  return rollout.Sampler(**(settings | changes))


@pytest.fixture(name='pool')
def _pool():
  with futures.ThreadPoolExecutor(2) as pool:
    yield pool


def test_batch_by_hand():
  answers = [
    generate.Answer([7, 8, 9], [-1.0, -2.0, -3.0], True),
    generate.Answer([7], [-4.0], True),
  ]
  batch = rollout.training_batch([group([1, 2], answers)], 5)
  assert batch['inputs_BT'].tolist() == [[1, 2, 7, 8, 9], [1, 2, 7, 0, 0]]
  assert batch['targets_BT'].tolist() == [[2, 7, 8, 9, 0], [2, 7, 0, 0, 0]]
  assert batch['loss_mask_BT'].tolist() == [[0, 1, 1, 1, 0], [0, 1, 0, 0, 0]]
  assert batch['old_logp_BT'].tolist() == [
    [0, -1, -2, -3, 0], [0, -4, 0, 0, 0],
  ]  # fmt: skip
  with pytest.raises(ValueError, match='do not fit a row of 4'):
    rollout.training_batch([group([1, 2], answers)], 3)


def test_draws_are_reproducible_and_their_logps_those_of_training(pool):
  """In the layout of the batch, on the drawn tokens, in float32."""
  params = start_params.init(CFG)
  drawn = rollout.draw(sampler(pool), params, 3, 0)

  def answers(step, number=0):
    one = rollout.draw(sampler(pool), params, step, number)
    return [group.answers for group in one.groups]

  same = [group.answers for group in drawn.groups]
  assert answers(3) == same
  assert answers(3, number=1) != same
  assert answers(2) != same
  batch = rollout.training_batch(drawn.groups, 16)

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

  def generate_all(cfg, params, rows, seeds, request, size, mesh, on_answer):
    del cfg, params, seeds, request, size, mesh
    order = [3, 0, 2, 1, 7, 6, 5, 4]  # as they happen to end
    assert len(rows) == len(order)
    for place, row in enumerate(order):
      if place == 4:
        assert judged.wait(20), 'nothing was judged before the last group'
      on_answer(row, generate.Answer(TOKENIZER.encode(f'{row}'), [-1.0], True))

  monkeypatch.setattr(generate, 'generate', generate_all)
  made = sampler(pool, task=Watched(2))
  drawn = rollout.draw(made, None, 1, 0)
  assert [group.texts for group in drawn.groups] == [
    list('0123'), list('4567')
  ]  # fmt: skip
  assert [group.question for group in drawn.groups] == made.questions[:2]
  correct = [[s.correct for s in group.scores] for group in drawn.groups]
  np.testing.assert_array_equal(drawn.reward_PR, np.array(correct, 'f4'))
  assert len(right) == 2


def collect(rewards, max_refills, n_groups=2):
  """From the rewards of each draw; groups are numbered."""
  numbers = iter(range(100))

  def draw(number):
    groups = [next(numbers) for _ in range(n_groups)]
    return rollout.Draw(groups, np.array(rewards[number], 'f4'), 1.5)

  dead = lambda reward_PR: np.ptp(reward_PR, axis=1) == 0  # noqa: E731
  return rollout.collect(draw, dead, max_refills)


def test_dead_groups_are_replaced_until_the_batch_lives():
  live, dead, other = [1, 0], [1, 1], [0, 1]
  found = collect([[live, other], [live, live]], 3)
  assert (found.groups, found.batch_P.tolist()) == ([0, 1], [0, 1])
  draws = [[dead, other], [dead, dead], [dead, live], [live, live]]
  assert collect(draws, 3).groups == list(range(6))  # no fourth is needed
  found = collect(draws, 2)
  assert found.groups == list(range(6))
  groups, reward_PR = found.batch
  assert groups == [1, 5]
  assert reward_PR.tolist() == [other, live]
  assert found.is_dead_P.tolist() == [True, False, True, True, True, False]
  assert found.rollout_s == 4.5
  found = collect(draws, 1)  # filled up with a dead group, in order
  assert found.batch[0] == [0, 1]
  assert collect([[dead, dead]], 0).batch[0] == [0, 1]


def test_coins_are_tossed_by_seed_step_and_draw():
  correct_PR = np.array([[1, 0], [0, 1]])
  found = reward.choose('verifier', correct_PR, 0, 1, 0)
  np.testing.assert_array_equal(found, correct_PR)
  tossed = reward.choose('random', np.zeros((50, 40)), 0, 1, 0)
  assert abs(tossed.mean() - 0.5) < 0.05  # four standard deviations
  np.testing.assert_array_equal(tossed, reward.toss((50, 40), 0, 1))
  assert (tossed != reward.toss((50, 40), 0, 2)).any()
  assert (tossed != reward.toss((50, 40), 0, 1, 1)).any()


def test_settings_that_mean_nothing_are_refused():
  with pytest.raises(ValueError, match='n_threads = 0; use 1 or more'):
    rollout.Rollouts(n_threads=0)
  with pytest.raises(ValueError, match='max_refills = -1; use 0 or more'):
    rollout.Rollouts(max_refills=-1)
