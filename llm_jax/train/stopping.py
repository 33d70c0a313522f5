"""How a run hears that it shall stop: SIGTERM, and Ctrl-C on its terminal.

A thread hears them at once, also while the step is compiled, when no Python
code of the main thread runs. It does NOT stop anything before Ctrl-C is pressed
for the third time: the loop asks after each step.
"""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator

import jax

_N_PRESSES = 3  # of Ctrl-C end a process that does not come to its next step
INTERRUPTED = 130  # exit code, as of a shell: a script does not go on behind it


class Listener:
  """Says by what signal the process was told to stop, if by any."""

  def __init__(self):
    """Hear nothing yet."""
    self.heard = ''  # SIGTERM or Ctrl-C
    self._n_presses = 0

  @contextlib.contextmanager
  def listening(self) -> Iterator[None]:
    """Signals are noted inside, and do nothing else."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signals = []
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # as behind nohup
      signals.append(signal.SIGINT)
    if jax.process_count() == 1:  # else JAX listens, see Loop.is_due
      signals.append(signal.SIGTERM)
    previous = {s: signal.signal(s, lambda *_: None) for s in signals}
    wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=self._listen, args=[reader], daemon=True)
    thread.start()
    try:
      yield
    finally:
      signal.set_wakeup_fd(wakeup)
      for number, handler in previous.items():
        signal.signal(number, handler)
      writer.close()
      thread.join()
      reader.close()

  def _listen(self, reader: socket.socket) -> None:
    while number := reader.recv(1):
      if number[0] == signal.SIGTERM:
        self.heard = self.heard or 'SIGTERM'
      elif number[0] == signal.SIGINT:
        self._interrupt()

  def _interrupt(self) -> None:
    self._n_presses += 1
    if self._n_presses >= _N_PRESSES:
      os._exit(INTERRUPTED)
    n_left = _N_PRESSES - self._n_presses
    _say(
      'Ctrl-C: saves after this step, then ends; '
      f'{n_left} more to end at once, without the steps since the last save'
    )
    if jax.process_count() > 1:
      os.kill(os.getpid(), signal.SIGTERM)  # JAX tells the other processes
    else:
      self.heard = self.heard or 'Ctrl-C'


def _say(text: str) -> None:
  """Write past Python's buffers, which another thread may hold."""
  with contextlib.suppress(OSError):  # the terminal may be gone
    os.write(2, f'\n{text}\n'.encode())


@contextlib.contextmanager
def deferred() -> Iterator[None]:
  """Ctrl-C inside is raised behind it, as what it cuts off looks damaged."""
  is_main = threading.current_thread() is threading.main_thread()
  if not is_main or signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    yield
    return
  heard = []
  previous = signal.signal(signal.SIGINT, lambda *_: heard.append(True))
  try:
    yield
  finally:
    signal.signal(signal.SIGINT, previous)
    if heard:
      raise KeyboardInterrupt
