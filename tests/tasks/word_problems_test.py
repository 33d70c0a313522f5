r"""Rows of MATH's form, whose answers may be formulas.

GSM8K's form is tested with all tasks, and with other files of questions.
"""

import contextlib

import pytest

from llm_jax.tasks import published, word_problems
from llm_jax.verify import formula_pool
from tests.tasks import published_test
from tools import judge_math


def _row(answer):
  return {'problem': 'What?', 'solution': f'Hence $\\boxed{{{answer}}}$.'}


def _score(reference, answer):
  task = word_problems.WordProblems()
  problem = task.read(_row(reference))
  assert problem is not None
  return task.score(problem, answer)


def test_a_solution_is_demonstrated_and_right():
  task = word_problems.WordProblems()
  problem = task.read(_row(r'\frac{\sqrt{3}}{2}'))
  assert problem is not None
  assert problem.prompt == 'What?'
  direct = task.demonstrate(problem, think=False)
  assert direct == r'#### \frac{\sqrt{3}}{2}'
  thought = task.demonstrate(problem, think=True)
  assert thought.startswith('<think>\nHence $\\boxed{')
  assert thought.endswith(f'</think>\n{direct}')
  for answer in (direct, thought):
    assert task.score(problem, answer).correct


def test_what_cannot_be_read_drops_the_problem_and_is_counted(tmp_path, caplog):
  answers = [
    '12', r'2\sqrt{3}', '(1, 2)', 'x^2', r'12\text{ cm}', r'\text{Monday}',
    r'\begin{pmatrix}1\\2\end{pmatrix}', '25_7', r'\frac{1}{', '9^{9^{9}}',
    '1/0', '', '2' * 1001, r'\text{', r'\text{}',
  ]  # fmt: skip
  rows = [
    {**_row(answer), 'problem': f'problem {n}'}
    for n, answer in enumerate(answers)
  ]
  rows.append({'problem': 'none', 'solution': 'It is 5.'})
  task = word_problems.WordProblems(published_test.write(tmp_path, rows))
  loaded = published.load(task.path, task.read)
  kept = [p.reference.rpartition('#### ')[2] for p in loaded.values()]
  assert kept == answers[:8]
  assert '8 problems of' in caplog.text
  for problem in loaded.values():
    assert task.score(problem, task.demonstrate(problem, True)).correct


@pytest.mark.parametrize(
  ('reference', 'answer', 'is_correct', 'reason'),
  [
    (r'2\sqrt{3}', r'\boxed{\sqrt{12}}', True, 'equal as formulas'),
    (r'2\sqrt{3}', r'\boxed{2\sqrt{3}}', True, 'equal'),
    (r'2\sqrt{3}', r'#### $\sqrt{12}$', True, 'equal as formulas'),
    (r'2\sqrt{3}', r'It is $1$ or $\sqrt{12}$.', True, 'equal as formulas'),
    (r'2\sqrt{3}', r'It is $\sqrt{12}$ or $1$.', False, "'1' is not '2"),
    (r'2\sqrt{3}', r'\boxed{\sqrt{12}} \boxed{4}', False, "'4' is not"),
    (r'2\sqrt{3}', r'\boxed{4} \boxed{\sqrt{12}}', True, 'equal as formulas'),
    (r'2\sqrt{3}', r'<think>\boxed{\sqrt{12}}', False, 'thought does not end'),
    (r'2\sqrt{3}', r'<think>\boxed{\sqrt{12}}</think>4', False, "'4' is not"),
    (r'2\sqrt{3}', 'I do not know.', False, 'is no formula'),
    (r'2\sqrt{3}', '', False, 'is no formula'),
    (r'2\sqrt{3}', '9' * 10**6, False, 'are more than 1000'),
    (r'2\sqrt{3}', r'\boxed{9**9**9}', False, 'an exponent is larger'),
    ('1, 2', r'\boxed{2,1}', True, 'equal as formulas'),
    ('1, 2', '#### $2$, $1$', True, 'equal as formulas'),
    (r'12\text{ cm}', r'\boxed{12}', True, 'equal'),
    (r'\text{Monday}', r'\boxed{The monday}', True, 'equal as words'),
    (r'\text{Monday}', 'It is Tuesday.', False, 'is not'),
    # A number must have been worked out.
    ('72', r'\boxed{48+24}', False, 'is not a number'),
    ('2', r'\boxed{\sqrt{4}}', False, 'is not'),
    (r'-\frac{3}{4}', r'\boxed{\frac{-3}{4}}', True, 'equal'),
  ],
)
def test_verdicts(reference, answer, is_correct, reason):
  score = _score(reference, answer)
  assert score.correct is is_correct
  assert reason in score.reason


def test_answers_in_the_form_of_math():
  """Each of the table, without math-verify, which tools/judge_math.py asks."""
  wrong = [p for p in judge_math.pairs() if judge_math.ours(*p[:2]) != p[2]]
  assert wrong == []


def test_a_timeout_is_not_equal_and_said(monkeypatch):
  monkeypatch.setattr(formula_pool, '_CPU_S', 0.5)
  with contextlib.closing(formula_pool.Pool()) as pool:
    monkeypatch.setattr(formula_pool, 'shared', lambda: pool)
    score = _score('(x+y+z+w+u)^{900}', r'\boxed{(x+y+z+w)^{900}}')
    assert not score.correct
    assert score.reason == 'not equal: timed out after 0.5 s of computing'
    assert pool.n_killed == 1
