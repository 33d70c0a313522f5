"""Children that compare formulas: what they say, and how they end."""

import contextlib
import os
import pathlib
import signal
import sys
import threading
import time
from concurrent import futures

import pytest

from llm_jax.verify import formula_pool
from tests.verify import formulas_test, sandbox_attack_run

# Small formulas that keep sympy busy for minutes.
_SLOW = [
  ('(x+y+z+w)^{900}', '(x+y+z+w+u)^{900}'),
  (r'\sin(10^{300}\pi\sqrt{2})', '1'),
]


@pytest.fixture(scope='module')
def pool():
  with contextlib.closing(formula_pool.Pool()) as pool:
    yield pool


def _children(pool):
  return [child._process.pid for child in pool._idle]


def _child(pool):
  """The only one, which has compared once."""
  assert pool.difference('1', '1') == ''
  (child,) = _children(pool)
  return child


def test_verdicts_are_those_of_the_comparison(pool):
  assert pool.difference(r'\sqrt{12}', r'2\sqrt3') == ''
  assert pool.difference('x', 'y') == "'x' is not 'y'"
  assert pool.difference('two', '2') == ("'two' is no formula: 'two' is a word")
  assert pool.is_readable('2x')
  assert not pool.is_readable('two')
  assert len(_children(pool)) == 1


def test_hostile_text_changes_nothing(pool, tmp_path):
  child = _children(pool)
  made = tmp_path / 'made'
  texts = [f'__import__("os").system("touch {made}")', f'open("{made}","w")']
  texts += ['\n', '\r\n["x", "x"]\n', '"]', '{}', 'null', '٣', '1' * 10**6]
  for text in [*formulas_test.HOSTILE, *texts]:
    assert 'is no formula' in pool.difference(text, '1')
    assert not pool.is_readable(text)
  assert not made.exists()
  assert pool.difference('1', '1') == ''
  assert _children(pool) == child
  assert pool.n_killed == 0


@pytest.mark.parametrize(('answer', 'reference'), _SLOW)
def test_a_child_that_computes_too_long_is_killed(
  answer, reference, caplog, monkeypatch
):
  monkeypatch.setattr(formula_pool, '_CPU_S', 0.5)
  with contextlib.closing(formula_pool.Pool()) as pool:
    child = _child(pool)
    reason = pool.difference(answer, reference)
    assert reason == 'not equal: timed out after 0.5 s of computing'
    assert pool.n_killed == 1
    assert '1 such so far' in caplog.text
    assert _children(pool) == []
    assert not pathlib.Path(f'/proc/{child}').exists()
    assert pool.difference(r'\sqrt{8}', r'2\sqrt{2}') == ''
    assert len(_children(pool)) == 1


def test_a_child_that_does_not_compute_is_killed(monkeypatch):
  monkeypatch.setattr(formula_pool, '_WALL_S', 0.5)
  with contextlib.closing(formula_pool.Pool()) as pool:
    child = _child(pool)
    os.kill(child, signal.SIGSTOP)
    reason = pool.difference('1', '1')
    assert reason == 'not equal: timed out after 0.5 s'
    assert pool.n_killed == 1
    assert not pathlib.Path(f'/proc/{child}').exists()


def test_a_child_that_died_before_is_replaced_and_loses_nothing():
  with contextlib.closing(formula_pool.Pool()) as pool:
    child = _child(pool)
    os.kill(child, signal.SIGKILL)
    while pool._idle[0].is_alive():
      time.sleep(0.01)
    assert pool.difference('1', '1') == ''
    assert _children(pool) not in ([], [child])
    assert pool.n_killed == 0


def test_a_crash_is_said(monkeypatch):
  monkeypatch.setattr(formula_pool, '_CPU_S', 60.0)
  with contextlib.closing(formula_pool.Pool()) as pool:
    child = _child(pool)
    timer = threading.Timer(0.3, os.kill, (child, signal.SIGSEGV))
    timer.start()
    assert pool.difference(*_SLOW[0]) == (
      'not equal: the comparison crashed with code -11'
    )
    timer.join()


@pytest.mark.skipif(sys.platform != 'linux', reason='no limit elsewhere')
def test_memory_is_limited(monkeypatch):
  monkeypatch.setattr(formula_pool, '_CPU_S', 60.0)
  monkeypatch.setattr(formula_pool, '_MEMORY_BYTES', 300 << 20)
  with contextlib.closing(formula_pool.Pool()) as pool:
    assert pool.difference('1', '1') == ''
    reason = pool.difference(*_SLOW[0])
    assert reason == 'MemoryError in sympy'
    assert pool.difference(r'\sqrt{8}', r'2\sqrt{2}') == ''


def test_threads_have_children_of_their_own(pool):
  def ask(n):
    k = n // 3
    return pool.difference(rf'{n}\sqrt{{{k}}}', rf'\sqrt{{{n * n * k}}}')

  with futures.ThreadPoolExecutor(3) as threads:
    assert [*threads.map(ask, range(1, 16))] == [''] * 15
  assert len(_children(pool)) <= 3


def test_a_start_that_fails_is_said(monkeypatch, capfd):
  monkeypatch.setattr(formula_pool, '_SERVE', 'no_sympy.serve')
  with pytest.raises(OSError, match='pip install sympy'):
    formula_pool.Pool().difference('1', '1')
  assert "No module named 'no_sympy'" in capfd.readouterr().err


def test_children_end_with_the_pool_and_with_who_started_it():
  pool = formula_pool.Pool()
  child = _child(pool)
  pool.close()
  assert not pathlib.Path(f'/proc/{child}').exists()
  assert not sandbox_attack_run.outlives_its_parent(
    'import sys\n'
    'from llm_jax.tasks import word_problems\n'
    'from llm_jax.verify import formula_pool\n'
    'pool = formula_pool.shared()\n'
    'pool.difference("1", "1")\n'
    'assert not {"jax", "sympy"} & set(sys.modules)',
    pid='pool._idle[0]._process.pid',
  )
