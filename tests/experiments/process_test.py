"""What a recipe's process is set up with."""

import ctypes
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
_FREED = """
import resource, threading
import jax
from experiments import process
{}
def faults():
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def use():  # in a thread, which would have an arena of its own
  thread = threading.Thread(target=bytearray(b'x').__mul__, args=(100_000_000,))
  thread.start()
  thread.join()
use()
before = faults()
for _ in range(5):
  use()
print(faults() - before)
"""


@pytest.mark.skipif(
  not hasattr(ctypes.CDLL(None), 'mallopt'), reason="malloc is not glibc's"
)
def test_memory_that_was_freed_is_not_asked_for_again():
  def faults(set_up):
    command = [sys.executable, '-c', _FREED.format(set_up)]
    return int(subprocess.check_output(command, text=True))

  pages = 5 * 100_000_000 // 4096
  assert faults('') > pages * 0.9
  assert faults('process.set_up_jax()') < pages * 0.1


def test_no_recipe_touches_a_device_when_it_is_imported():
  """Processes that train together join before that; libraries may forget."""
  program = (
    'import importlib, pathlib\n'
    'from jax._src import xla_bridge\n'
    'for path in sorted(pathlib.Path("experiments").glob("*.py")):\n'
    '  importlib.import_module(f"experiments.{path.stem}")\n'
    '  assert not xla_bridge.backends_are_initialized(), path\n'
  )
  subprocess.run([sys.executable, '-c', program], cwd=ROOT, check=True)
