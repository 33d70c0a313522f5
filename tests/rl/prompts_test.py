"""Epochs and refills of a pool of problems, without any state."""

import collections
import types

import pytest

from llm_jax.rl import prompts, rollout
from llm_jax.tasks import addition, closed_book
from llm_jax.train import training_loop

POOL = [prompts.Prompt(None, [i]) for i in range(10)]


def numbers(step, draw=0, n_prompts=4, seed=0):
  chosen = prompts.of_step(POOL, n_prompts, seed, step, draw)
  return [prompt.token_ids[0] for prompt in chosen]


def test_every_epoch_asks_every_problem_once_in_another_order():
  read = [i for step in range(1, 11) for i in numbers(step)]
  assert read[:10] == list(range(10))
  epochs = [tuple(read[start : start + 10]) for start in range(0, 40, 10)]
  assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
  assert len(set(epochs)) == 4
  other = [i for step in range(1, 11) for i in numbers(step, seed=1)]
  assert other[:10] == read[:10]  # the task's own order has the seed in it
  assert other != read


def test_refills_are_new_to_the_step_and_need_no_state():
  for step in (1, 3, 7):  # the third one holds the end of an epoch
    draws = [numbers(step, draw, 3) for draw in range(3)]
    assert len({i for draw in draws for i in draw}) >= 8
    count = collections.Counter(i for draw in draws[1:] for i in draw)
    assert max(count.values()) == 1
    assert not set(count) & set(draws[0])
    assert draws == [numbers(step, draw, 3) for draw in range(3)]
  assert len({numbers(step, 1, 1)[0] for step in range(1, 11)}) > 3
  assert numbers(1, 1, 3) != numbers(1, 1, 3, seed=1)


def test_too_few_problems_are_refused():
  with pytest.raises(ValueError, match='draw 2 of a step asks for 12 problems'):
    numbers(1, 2)


def test_a_file_is_asked_in_epochs_and_what_is_made_anew():
  cfg = types.SimpleNamespace(
    n_problems=0,
    n_prompts=4,
    rollouts=rollout.Rollouts(),
    loop=training_loop.LoopConfig(n_steps=10),
    task=addition.Addition(),
  )
  assert prompts.count(cfg) == 40
  cfg.task = closed_book.ClosedBook(path='questions.jsonl')
  assert prompts.count(cfg) == 0  # all that there are
  cfg.n_problems = 7
  assert prompts.count(cfg) == 7
