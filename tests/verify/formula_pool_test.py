"""Children that compare formulas: what they say, and how they end."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from llm_jax.verify import formula_pool
from tests.verify import formulas_test, sandbox_attack_run

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Small formulas that keep sympy busy for minutes.
_SLOW = [
  ('(x+y+z+w)^{900}', '(x+y+z+w+u)^{900}'),
  (r'\sin(10^{300}\pi\sqrt{2})', '1'),
]


@pytest.fixture(scope='module')
def pool():
  with formula_pool.Pool() as pool:
    yield pool


def _children(pool):
  return [child._process.pid for child in pool._idle]


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
  for text in (
    *formulas_test.HOSTILE,
    f'__import__("os").system("touch {made}")',
    f'open("{made}","w")',
    '\n', '\r\n["x", "x"]\n', '"]', '{}', 'null', '٣', '1' * 10**6,
  ):  # fmt: skip
    assert 'is no formula' in pool.difference(text, '1')
    assert not pool.is_readable(text)
  assert not made.exists()
  assert pool.difference('1', '1') == ''
  assert _children(pool) == child
  assert pool.n_killed == 0


@pytest.mark.parametrize(('answer', 'reference'), _SLOW)
def test_a_child_that_computes_too_long_is_killed(answer, reference, caplog):
  with formula_pool.Pool(cpu_s=0.5) as pool:
    assert pool.difference('1', '1') == ''
    (child,) = _children(pool)
    reason = pool.difference(answer, reference)
    assert reason == 'not equal: timed out after 0.5 s of computing'
    assert pool.n_killed == 1
    assert '1 such so far' in caplog.text
    assert _children(pool) == []
    assert not pathlib.Path(f'/proc/{child}').exists()
    assert pool.difference(r'\sqrt{8}', r'2\sqrt{2}') == ''
    assert len(_children(pool)) == 1


def test_a_child_that_does_not_compute_is_killed():
  with formula_pool.Pool(wall_s=0.5) as pool:
    pool.difference('1', '1')
    (child,) = _children(pool)
    os.kill(child, signal.SIGSTOP)
    reason = pool.difference('1', '1')
    assert reason == 'not equal: timed out after 0.5 s'
    assert pool.n_killed == 1
    assert not pathlib.Path(f'/proc/{child}').exists()


def test_a_child_that_died_before_is_replaced_and_loses_nothing():
  with formula_pool.Pool() as pool:
    pool.difference('1', '1')
    (child,) = _children(pool)
    os.kill(child, signal.SIGKILL)
    while pool._idle[0].is_alive():
      time.sleep(0.01)
    assert pool.difference('1', '1') == ''
    assert _children(pool) not in ([], [child])
    assert pool.n_killed == 0


def test_a_crash_is_said():
  with formula_pool.Pool(cpu_s=60) as pool:
    pool.difference('1', '1')
    (child,) = _children(pool)
    timer = threading.Timer(0.3, os.kill, (child, signal.SIGSEGV))
    timer.start()
    assert pool.difference(*_SLOW[0]) == (
      'not equal: the comparison crashed with code -11'
    )
    timer.join()


@pytest.mark.skipif(sys.platform != 'linux', reason='no limit elsewhere')
def test_memory_is_limited():
  with formula_pool.Pool(cpu_s=60, memory_bytes=300 << 20) as pool:
    assert pool.difference('1', '1') == ''
    reason = pool.difference(*_SLOW[0])
    assert reason == 'MemoryError in sympy'
    assert pool.difference(r'\sqrt{8}', r'2\sqrt{2}') == ''


def test_threads_have_children_of_their_own(pool):
  got = {}

  def ask(n):
    for k in range(5):
      answer, reference = rf'{n}\sqrt{{{k}}}', rf'\sqrt{{{n * n * k}}}'
      got[n, k] = pool.difference(answer, reference)

  threads = [threading.Thread(target=ask, args=(n,)) for n in range(1, 4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert got == {(n, k): '' for n in range(1, 4) for k in range(5)}
  assert len(_children(pool)) <= 3


def test_a_start_that_fails_is_said(monkeypatch, capfd):
  monkeypatch.setattr(formula_pool, '_BOOT', 'raise ImportError("no sympy")')
  with pytest.raises(OSError, match='pip install sympy'):
    formula_pool.Pool().difference('1', '1')
  assert 'no sympy' in capfd.readouterr().err


def test_children_end_with_the_pool_and_with_who_started_it():
  pool = formula_pool.Pool()
  pool.difference('1', '1')
  (child,) = _children(pool)
  pool.close()
  assert not pathlib.Path(f'/proc/{child}').exists()
  code = (
    'import os, signal, sys\n'
    'from llm_jax.tasks import word_problems\n'
    'from llm_jax.verify import formula_pool\n'
    'pool = formula_pool.shared()\n'
    'pool.difference("1", "1")\n'
    'assert not {"jax", "sympy"} & set(sys.modules)\n'
    'print(pool._idle[0]._process.pid, flush=True)\n'
    'os.kill(os.getpid(), signal.SIGKILL)\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', code],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  sandbox_attack_run.wait_for_the_end_of(int(done.stdout))
