"""Batches come in order, ahead, not too far ahead, and fail at their step."""

import contextlib
import threading
import types

import pytest

from llm_jax.data import prefetch

TIMEOUT_S = 20


def test_every_step_in_order():
  made = [batch for batch, _ in prefetch.ahead(str, range(3, 9))]
  assert made == ['3', '4', '5', '6', '7', '8']
  assert list(prefetch.ahead(str, range(0))) == []


def test_made_while_the_step_runs_and_bounded():
  """In the first step, two more batches are made, and not a third."""
  made = [threading.Event() for _ in range(9)]
  batches = prefetch.ahead(lambda step: made[step].set(), range(9))
  with contextlib.closing(batches):
    for step in range(9):
      next(batches)
      for event in made[step : step + 3]:
        assert event.wait(TIMEOUT_S)
      assert not any(event.is_set() for event in made[step + 3 :])


def test_the_wait_is_measured(monkeypatch):
  """The clock runs only while step 1 is waited for: from its third reading."""
  now, n_read, awaited = [0.0], [0], threading.Event()

  def monotonic():
    n_read[0] += 1
    if n_read[0] == 3:
      awaited.set()
    return now[0]

  def make(step):
    if step == 1:
      assert awaited.wait(TIMEOUT_S)
      now[0] += 7.0

  clock = types.SimpleNamespace(monotonic=monotonic)
  monkeypatch.setattr(prefetch, 'time', clock)
  waits = [wait_s for _, wait_s in prefetch.ahead(make, range(3))]
  assert waits == [0, 7, 0]


def test_an_error_comes_at_its_step():
  def make(step):
    if step == 2:
      raise OSError('disk')
    return step

  batches = prefetch.ahead(make, range(9))
  assert [next(batches)[0], next(batches)[0]] == [0, 1]
  with pytest.raises(OSError, match='disk'):
    next(batches)
  assert list(batches) == []


def test_the_thread_ends_with_the_iterator():
  before = threading.active_count()
  calls = []
  batches = prefetch.ahead(calls.append, range(1000))
  next(batches)
  assert threading.active_count() == before + 1
  batches.close()
  assert threading.active_count() == before
  assert len(calls) <= 3
