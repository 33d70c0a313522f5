"""Numbers and lines of a step, by hand."""

import types
from unittest import mock

import numpy as np
import pytest

from llm_jax.evals import scoring
from llm_jax.infer import generate
from llm_jax.rl import metrics, rollout
from llm_jax.tasks import addition, prompts
from tests.rl import tiny_stage

COLLECTED = rollout.Collected(
  groups=[
    tiny_stage.group(
      [1],
      [([5], [-1.0]), generate.Answer([5, 5], [-2.0, -3.0], False)],
      texts=['2', '<think>wait'],
      right={0},
    ),
    tiny_stage.group(
      [1], [([5], [-0.5]), ([5], [-1.5])], texts=['3', '3'], problem='2+2='
    ),
  ],
  reward_PR=np.array([[1, 0], [0, 0]], 'f4'),
  is_dead_P=np.array([False, True]),
  batch_P=np.array([0]),
  rollout_s=2.0,
  score_s=0.1,
)


def asked(task, reward='verifier'):
  return types.SimpleNamespace(task=task, reward=reward)


def test_numbers_of_a_step():
  found = metrics.describe(COLLECTED, asked(addition.Addition()))
  assert found == {
    'accuracy': 0.25, 'pass_at_2': 0.5, 'reward_mean': 0.25,
    'dead_group_share': 0.5, 'drawn_groups': 2, 'mean_length': 1.25,
    'min_length': 1, 'max_length': 2, 'truncated_share': 0.25,
    'entropy': 8 / 5, 'think_share': 0.25, 'reflection_share': 0.25,
    'call_share': 0.0, 'equal_share': 0.25,
    'sampled_tokens': 5, 'sampled_tokens_per_s': 2.5, 'rollout_s': 2.0,
    'score_s': 0.1, 'verifier_s': 0.5,
    'judge_tokens': 0,
  }  # fmt: skip


def test_what_a_verifier_says_is_the_gold_of_another_reward():
  task = addition.Addition()
  for reward in ('model', 'random'):
    found = metrics.describe(COLLECTED, asked(task, reward))
    assert found['gold_mean'] == 0.25


def test_prompts_without_a_verifier_have_no_accuracy():
  found = metrics.describe(COLLECTED, asked(prompts.Prompts(), 'model'))
  assert not found.keys() & {'accuracy', 'pass_at_2', 'gold_mean'}
  assert found['reward_mean'] == 0.25


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('Hmm, no', True),
    ('let me recheck', True),
    ("That's not right", True),
    ('awaiting the check', False),
    ('', False),
  ],
)
def test_reflection(text, expected):
  assert metrics.reflects(text) is expected


def test_updates_are_joined_by_the_names_of_their_metrics():
  first = {
    'loss': 1.0, 'max_ratio': 2.0, 'min_ratio': 0.5, 'skipped': 0,
    'max_logp_difference': 0.1, 'mean_logp_difference': 0.1,
  }  # fmt: skip
  second = {
    'loss': 3.0, 'max_ratio': 1.0, 'min_ratio': 0.25, 'skipped': 1,
    'max_logp_difference': 0.7, 'mean_logp_difference': 0.5,
  }  # fmt: skip
  assert metrics.join_updates([first, second]) == {
    'loss': 2.0, 'max_ratio': 2.0, 'min_ratio': 0.25, 'skipped': 1.0,
    'max_logp_difference': 0.1, 'mean_logp_difference': 0.1,
  }  # fmt: skip
  assert metrics.join_updates([]) == {}


def test_evaluation_is_followed(monkeypatch):
  result = {'greedy': 0.5, 'sampled': 0.4, 'think_share': 1.0,
            'call_share': 0.2, 'mean_length': 3.0,
            'pass_at_k': {'1': 0.4, '8': 0.9},
            'samples': [{'prompt': '1+1=', 'answer': '2', 'correct': True}],
            }  # fmt: skip
  monkeypatch.setattr(scoring, 'evaluate', lambda *_, **options: result)
  monkeypatch.setattr(scoring, 'sentence', str)
  writer, cfg = mock.Mock(), mock.Mock()
  assert metrics.evaluate(None, cfg, writer, 7) == 0.4
  writer.metrics.assert_called_once_with(7, {
    'eval_greedy': 0.5, 'eval_sampled': 0.4, 'eval_think_share': 1.0,
    'eval_call_share': 0.2, 'eval_mean_length': 3.0, 'eval_pass_at_8': 0.9,
  })  # fmt: skip
  writer.sample.assert_called_once_with(7, {'prompt': '1+1=', 'text': '2'})


def test_lines_are_cut_where_they_say():
  lines = list(metrics.lines(COLLECTED, 3))
  assert lines[1] == {
    'group': 0, 'answer': 1, 'of': 4, 'prompt': '1+1=', 'text': '<think>wait',
    'correct': False, 'reason': 'wrong', 'reward': 0.0, 'tokens': 2,
    'logp': -2.5, 'finished': False, 'trained': True,
  }  # fmt: skip
  assert [(line['group'], line['answer']) for line in lines] == [
    (0, 0), (0, 1), (1, 0),
  ]  # fmt: skip
  assert not lines[2]['trained']
  assert len(list(metrics.lines(COLLECTED, 99))) == 4
  assert list(metrics.lines(COLLECTED, 0)) == []
