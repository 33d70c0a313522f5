"""The easy functions: right by their own tests, and the same each time."""

import itertools

import pytest

from llm_jax.tasks import python_functions
from tests.tasks import published_test
from tools import make_functions


def test_solutions_pass_and_others_do_not(tmp_path, caplog):
  rows = list(make_functions.problems(40, 20, seed=0))
  path = published_test.write(tmp_path, rows)
  task = python_functions.PythonFunctions(path, 20.0)
  chosen = task.problems('train', 40, 0) + task.problems('held_out', 20, 0)
  assert 'are dropped' not in caplog.text
  for problem in chosen:
    solution = task.demonstrate(problem, False)
    assert task.score(problem, solution).correct, problem
    wrong = solution.replace('return ', 'return 1 + ')
    assert not task.score(problem, wrong).correct


def test_a_longer_file_begins_with_the_shorter_one():
  longer = list(make_functions.problems(3000, 600, seed=0))
  assert list(make_functions.problems(10, 600, seed=0)) == longer[:610]
  assert len({row['text'] for row in longer}) == 3600
  other = make_functions.problems(10, 600, seed=1)
  assert list(itertools.islice(other, 10)) != longer[:10]


def test_more_than_mbpp_holds_out_is_refused():
  with pytest.raises(ValueError, match='601 problems held out'):
    list(make_functions.problems(1, 601, seed=0))
