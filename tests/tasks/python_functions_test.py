"""MBPP and HumanEval: what is read of their tests, and the verdicts."""

import pytest

from llm_jax.tasks import python_functions
from llm_jax.verify import python_tests
from tests.tasks import published_test

_MBPP = {
  'text': 'Write a function to halve a number.',
  'code': 'def halve(x):\r\n  return x / 2\r\n',
  'task_id': 601,
  'test_setup_code': '',
  'test_list': ['assert halve(4) == 2', 'assert halve(-3) == -1.5'],
  'challenge_test_list': ['assert halve(10*2)==10.0'],
}
_HUMANEVAL = {
  'task_id': 'HumanEval/0',
  'prompt': (
    'import math\n\n\ndef root(x: float) -> float:\n'
    '  """ The square root.\n  >>> root(4)\n  2.0\n  """\n'
  ),
  'entry_point': 'root',
  'canonical_solution': '  return math.sqrt(x)\n',
  'test': (
    '\n\nMETADATA = {}\n\n\ndef check(candidate):\n'
    '    assert candidate(16) == 4\n'
    '    assert abs(candidate(2.0) - 2.8284271/2) < 1e-6, "not so near"\n'
    '    assert True, "prints if it fails"\n'
  ),
}


def _task(tmp_path, *rows):
  path = published_test.write(tmp_path, rows, 'problems.jsonl.gz')
  return python_functions.PythonFunctions(path, 20.0)


def test_mbpp(tmp_path):
  task = _task(tmp_path, _MBPP, {**_MBPP, 'text': 'b', 'task_id': 600})
  (problem,) = task.problems('train', 1, 0)
  assert problem.prompt == (
    'Write a function to halve a number.\nFor example: assert halve(4) == 2\n'
  )
  assert task.problems('held_out', 1, 0)[0].prompt.startswith('b\n')
  answer = task.demonstrate(problem, True)
  assert answer == 'def halve(x):\n  return x / 2\n'
  assert not task.thinks(answer)
  score = task.score(problem, answer)
  assert (score.correct, score.reason) == (True, '3 calls are right')
  for text in (f'Look:\n```python\n{answer}```', f'<think>\n</think>{answer}'):
    assert task.score(problem, text).correct
  for text, reason in (
    ('def halve(x): return x // 2', 'halve(-3) is -2'),
    ('def half(x): return x / 2', "KeyError: 'halve'"),
    ('def halve(x): return 2 if x == 4 else None', 'halve(-3) is None'),
    ('def halve(x): return x / 0', 'ZeroDivisionError: division by zero'),
    ('raise SystemExit', 'SystemExit: '),
    ('x' * 30_000, 'the code has more than 20000 characters'),
    ('', "KeyError: 'halve'"),
  ):
    score = task.score(problem, text)
    assert (score.correct, score.reason) == (False, reason)


def test_humaneval(tmp_path):
  task = _task(tmp_path, _HUMANEVAL)
  with pytest.raises(ValueError, match='2 distinct .* of the 1 in'):
    task.problems('held_out', 2, 0)
  assert task.problems('train', 0, 0) == []
  (problem,) = task.problems('held_out', 1, 0)
  assert problem.prompt == _HUMANEVAL['prompt']
  assert task.score(problem, task.demonstrate(problem, False)).correct
  assert task.score(problem, '  return x ** 0.5 + 1e-9 * (x == 2)').correct
  assert task.score(problem, 'def root(x):\n  return x ** 0.5').correct
  assert not task.score(problem, '  return x ** 0.5 + 1e-9').correct
  assert not task.score(problem, '  return x ** 0.5 + 1e-5 * (x == 2)').correct
  assert not task.score(problem, '').correct


@pytest.mark.parametrize(
  ('test', 'right', 'wrong'),
  [
    ('f(1) == (2, [3])', (2, [3]), [2, [3]]),
    ('f(1, k=-1) == 1', True, 2),
    ('int(f(1)) == 3', 3.5, 'x'),
    ('tuple(f(1)) == tuple([1, 2])', [1, 2], [2, 1]),
    ('set(f(1)) == {1, 2}', [2, 1, 2], 1),
    ('f(1)', [0], []),
    ('not f(1)', '', 'x'),
    ('math.isclose(f(1), 200.0, rel_tol=0.01)', 201, 203),
    ('abs(f(1) - 0.5) < 1e-3', 0.5004, '0.5'),
    ('f(1) == 1e308', 1e308, 10**400),
  ],
)
def test_forms(test, right, wrong):
  (case,) = python_tests.cases(f'assert {test}')
  assert (case.entry, case.args) == ('f', (1,))
  assert case.kwargs == ({'k': -1} if 'k=' in test else {})
  assert case.accepts(right)
  assert not case.accepts(wrong)
  assert not case.accepts(None) or 'not' in test


@pytest.mark.parametrize(
  'tests',
  [
    ['x = 3', 'assert f(x) == 3'],
    ['assert f(x) == 3'],
    ['assert f(1) == g(1)'],
    ['assert f(1) == 1', 'assert g(1) == 1'],
    ['assert f(*[1]) == 1'],
    ['assert f(**{}) == 1'],
    ['assert f(1) < 3'],
    ['assert f(1) == f(1) == 2'],
    ['assert f.g(1) == 2'],
    ['assert f(1) == 1/0'],
    ['assert __import__("os").system("exit 1") == 1'],
    ['for x in [1]: assert f(x) == x'],
    ['assert f(1) =='],
    [],
  ],
)
def test_other_forms_are_dropped_and_counted(tests, tmp_path, caplog):
  row = {**_MBPP, 'test_list': tests or [''], 'challenge_test_list': []}
  task = _task(tmp_path, row, _MBPP)
  assert len(task.problems('train', 1, 0)) == 1
  assert f'1 problems of {task.path} are dropped' in caplog.text


def test_what_cannot_be_had_is_refused(tmp_path):
  other = {**_MBPP, 'text': 'Another', 'test_setup_code': 'x = 1'}
  assert len(_task(tmp_path, _MBPP, other).problems('train', 0, 0)) == 1
  with pytest.raises(ValueError, match='the task has no file; set its path'):
    python_functions.PythonFunctions().problems('train', 1, 0)
  (tmp_path / 'other').mkdir()
  other_form = _task(tmp_path / 'other', {'question': 1})
  with pytest.raises(
    ValueError, match=r'line 1 of .*gz: the fields are .*MBPP'
  ):
    other_form.problems('train', 1, 0)
