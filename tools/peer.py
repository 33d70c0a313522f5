"""A peer's process that answers lines of JSON, for the benchmarks.

Peers live in environments of their own, such as one with torch. It does NOT
measure anything.
"""

import json
import subprocess
from collections.abc import Sequence
from typing import Any


class Peer:
  """A process that does its work when it is asked."""

  def __init__(self, command: Sequence[str]):
    self._process = subprocess.Popen(
      command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

  def __call__(self, asked: Any) -> Any:
    """Sends a line of JSON and gives the one that comes back.

    Raises:
      RuntimeError: if the process has ended.
    """
    assert self._process.stdin is not None
    assert self._process.stdout is not None
    self._process.stdin.write(json.dumps(asked) + '\n')
    self._process.stdin.flush()
    line = self._process.stdout.readline()
    if not line:
      raise RuntimeError('the peer ended; see its message above')
    return json.loads(line)

  def close(self):
    """Ends the process."""
    assert self._process.stdin is not None
    self._process.stdin.close()
    self._process.wait()
