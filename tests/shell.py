"""Shell scripts, run beside programs that stand in for those that they call."""

import os
import stat
import subprocess


def call(folder, *words, **environment):
  """Bash in a folder, with more in its environment; not checked."""
  return subprocess.run(
    ['/bin/bash', *words],
    cwd=folder,
    env=os.environ | environment,
    capture_output=True,
    text=True,
    check=False,
    timeout=60,
  )


def executable(path, text):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text, encoding='utf-8')
  path.chmod(path.stat().st_mode | stat.S_IXUSR)
