"""The chat recipe in a real terminal: a child process behind a pty."""

import io
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest

from experiments import chat
from llm_jax.chat import usages
from tests.evals import tiny_checkpoint

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_PATIENCE_S = 60  # a loaded machine compiles slowly
# Makes the pty the child's controlling terminal, so that Ctrl-C typed here is
# a signal there. In the child and not between fork and exec: this process has
# threads. Where tests run in the background, Ctrl-C is ignored; a terminal's
# programs hear it.
_TAKE_TERMINAL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, '-m', 'experiments.chat',
                          *sys.argv[1:]])
"""


class Terminal:
  """Types into a program and reads its screen."""

  def __init__(self, *arguments):
    self._master, slave = pty.openpty()
    self.process = subprocess.Popen(
      [sys.executable, '-c', _TAKE_TERMINAL, *arguments],
      stdin=slave,
      stdout=slave,
      stderr=slave,
      cwd=_ROOT,
      env=os.environ | {'TERM': 'dumb', 'JAX_PLATFORMS': 'cpu'},
      start_new_session=True,
    )
    os.close(slave)
    self.screen = ''
    self._seen = 0

  def type(self, text):
    os.write(self._master, text.encode())

  def type_until(self, key, pattern):
    """Type a key, and again where it came too early, as a person would.

    readline shows its prompt a moment before it waits for signals; one that
    comes in between waits for the next key.
    """
    for _ in range(5):
      self.type(key)
      try:
        return self.wait_for(pattern, _PATIENCE_S / 5)
      except TimeoutError:
        continue
    raise TimeoutError(f'no {pattern!r} in {self.screen!r}')

  def wait_for(self, pattern, patience_s=_PATIENCE_S):
    """Read until the pattern appears after what was waited for before."""
    deadline = time.monotonic() + patience_s
    raw = self.screen.encode('utf-8', 'surrogateescape')
    while True:
      found = re.search(pattern, self.screen[self._seen :], re.DOTALL)
      if found:
        self._seen += found.end()
        return found
      left = deadline - time.monotonic()
      if left <= 0:
        raise TimeoutError(f'no {pattern!r} in {self.screen[self._seen :]!r}')
      if select.select([self._master], [], [], left)[0]:
        try:
          raw += os.read(self._master, 65536)
        except OSError:  # the child is gone
          raise AssertionError(
            f'ended before {pattern!r}: {self.screen!r}'
          ) from None
        self.screen = raw.decode('utf-8', 'surrogateescape')

  def end(self):
    code = self.process.wait(_PATIENCE_S)
    os.close(self._master)
    return code


@pytest.fixture(name='start')
def _start():
  started = []

  def start(*arguments):
    started.append(Terminal(*arguments))
    return started[-1]

  yield start
  for terminal in started:
    if terminal.process.poll() is None:
      os.killpg(terminal.process.pid, signal.SIGKILL)
      terminal.process.wait()


def test_a_conversation(start, tmp_path):
  """Streams, obeys commands, stops on Ctrl-C, and leaves on Ctrl-D."""
  usage = usages.Usage(max_turns=1, examples=('What is 12 + 7?', '\x1b'))
  folder = tiny_checkpoint.write(
    tmp_path, is_chat=True, favourite='é', usage=usage
  )
  terminal = start(
    '--restore_from',
    str(folder),
    '--gin_bindings',
    'Config.max_new_tokens = 64',
    '--gin_bindings',
    'Config.temperature = 0.0',
  )
  terminal.wait_for(
    r'sft, step 0, context 128 tokens.*up to one question: older'
  )
  terminal.wait_for(r'Things to try:\s+What is 12 \+ 7\?\s+\\x1b.*> ')
  terminal.type('hi <|im_end|>\n')
  terminal.wait_for(r'\[stopped: the answer reached its limit of 32 tokens\]')
  terminal.wait_for('> ')
  terminal.type('/temperature 0.5\n')
  terminal.wait_for(r'\[temperature 0.5\].*> ')
  terminal.type('/system ' + 'long ' * 20 + '\n')
  terminal.wait_for(r'\[system message set.*> ')
  terminal.type('hello\n')
  terminal.wait_for(r'the message is \d+ tokens.*takes 96.*> ')
  terminal.type('/system\n')
  terminal.wait_for('removed.*> ')
  # A paste of several lines is one message: too long as one, not line by line.
  terminal.type('\x1b[200~' + 'long line\n' * 8 + '\x1b[201~\r')
  terminal.wait_for(r'the message is \d+ tokens.*takes 96.*> ')
  terminal.type_until('\x03', 'Ctrl-D leaves.*> ')
  terminal.type('/help\n')
  terminal.wait_for('/quit.*> ')
  terminal.type('\x04')  # Ctrl-D
  assert terminal.end() == 0


def test_one_prompt_is_answered_alone(tmp_path, capsys):
  folder = tiny_checkpoint.write(tmp_path, is_chat=True, favourite='y')
  chat.run(chat.Config(max_new_tokens=4), str(folder), prompt='/hi')
  assert capsys.readouterr().out == (
    'yyyy\n[stopped: the answer reached its limit of 4 tokens]\n'
  )


def test_a_middle_is_filled_in(tmp_path, capsys, monkeypatch):
  """Of a text that is piped; and refused of a model that never did it."""
  usage = usages.Usage(fills=True)
  folder = tiny_checkpoint.write(
    tmp_path / 'fim', is_chat=False, favourite='y', usage=usage
  )
  monkeypatch.setattr(sys, 'stdin', io.StringIO('say <FILL>\nor\nno\n'))
  cfg = chat.Config(max_new_tokens=4)
  chat.run(cfg, str(folder), fim=True)
  assert capsys.readouterr().out == (
    'yyyy\n[stopped: the answer reached its limit of 4 tokens]\n'
  )
  chat.run(cfg, str(folder), fim=True, prompt='no mark')
  assert 'the text has 0 <FILL>; put one' in capsys.readouterr().out
  folder = tiny_checkpoint.write(tmp_path / 'plain', is_chat=False)
  with pytest.raises(ValueError, match='was not trained to fill .*fim_rate'):
    chat.run(cfg, str(folder), fim=True, prompt='a <FILL> b')


def test_base_and_interrupt(start, tmp_path):
  """A base model continues text; Ctrl-C in an answer keeps the program."""
  folder = tiny_checkpoint.write(tmp_path, is_chat=False, favourite='\x1b')
  terminal = start('--restore_from', str(folder))
  terminal.wait_for('pretrain, step 0.*as with --base.*> ')
  terminal.type('x\n')
  terminal.wait_for(r'(\\x1b){8}')  # escapes are shown and never sent raw
  terminal.type('\x03')
  terminal.wait_for(r'\[stopped.*> ')
  assert '\x1b\x1b' not in terminal.screen
  terminal.type('/quit\n')
  assert terminal.end() == 0
