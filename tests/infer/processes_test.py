"""Two processes of two devices answer as one device does."""

import json
import os
import socket
import subprocess
import sys

import pytest

from tests.infer import one_of_two


@pytest.mark.nightly
def test_two_processes_equal_one():
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = free.getsockname()[1]
  processes = [
    subprocess.Popen(
      [sys.executable, '-m', one_of_two.__name__, str(port), str(index)],
      env=os.environ | {'JAX_NUM_CPU_DEVICES': '2'},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for index in range(2)
  ]
  expected = one_of_two.answers(None)
  assert len({token for answer in expected for token in answer}) > 5
  for process in processes:
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err[-3000:]
    assert json.loads(out.splitlines()[-1]) == expected
