"""The settings of tools, and the tools that they open."""

import concurrent.futures
import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from llm_jax import dataclass_json
from llm_jax.agent import python, search, tools
from llm_jax.verify.sandbox import sandbox


@dataclasses.dataclass(frozen=True)
class Toolbox:
  """Which tools a model may call, and how much of them."""

  names: tuple[str, ...] = ()  # python, search, or functions of --import
  documents: str = ''  # that `search` searches, or the folder of an index
  max_calls: int = 4  # in a conversation
  max_chars: int = 1000  # of a result
  max_seconds: float = 0.0  # of a conversation, after which no call is done
  n_threads: int = 2  # that do calls while others are drawn
  timeout_s: float = 3.0  # of a Python program, or a function of --import
  is_session: bool = True  # a program sees what those before it have defined
  n_snippets: int = 3  # that a search shows
  snippet_chars: int = 300  # of each
  is_broken: bool = False  # a control: every call fails

  def __post_init__(self):
    require_at_least = dataclass_json.require_at_least
    require_at_least(self, 'max_calls max_seconds', 0)
    require_at_least(self, 'max_chars n_threads n_snippets snippet_chars', 1)
    require_at_least(self, 'timeout_s', 0.1)
    if ('search' in self.names) != bool(self.documents):
      raise ValueError(
        f'Toolbox.names = {self.names} with Toolbox.documents = '
        f'{self.documents!r}: `search` needs documents, and nothing else does'
      )

  def schemas(self) -> list[dict[str, Any]]:
    """What a chat template is told of the tools."""
    own = {'python': python.SIGNATURE, 'search': search.SIGNATURE}
    return [
      (
        own.get(name) or tools.registered(name, self.timeout_s).signature
      ).schema()
      for name in self.names
    ]

  def inputs(self) -> dict[str, str]:
    """Fingerprints of what is read, for the record of a run."""
    if not self.documents:
      return {}
    return {'tools.documents': search.fingerprint(self.documents)}

  @contextlib.contextmanager
  def opened(self) -> Iterator['Tools | None']:
    """The tools, ready to be called; None if there are none.

    Raises:
      ValueError: for an unknown tool, documents without text, and on several
        processes, whose rows would not step together.
      OSError: if programs cannot be isolated here.
    """
    if not self.names:
      yield None
      return
    if jax.process_count() > 1:
      raise ValueError(
        f'Toolbox.names = {self.names} on {jax.process_count()} processes: '
        'tools need one; leave them out, or run on one host'
      )
    with contextlib.ExitStack() as stack:
      available = {}
      for name in self.names:
        if name == 'python':
          box = sandbox.Sandbox(self.timeout_s)
          stack.callback(box.close)
          available[name] = python.make(box, self.is_session)
        elif name == 'search':
          index = search.opened(self.documents)
          available[name] = search.make(
            index, self.n_snippets, self.snippet_chars
          )
        else:
          available[name] = tools.registered(name, self.timeout_s)
      if self.is_broken:
        available = {
          name: dataclasses.replace(tool, run=_fail)
          for name, tool in available.items()
        }
      pool = concurrent.futures.ThreadPoolExecutor(self.n_threads)
      yield Tools(available, pool=stack.enter_context(pool), box=self)


@dataclasses.dataclass(frozen=True)
class Tools:
  """What models may call, and how much of it."""

  available: Mapping[str, tools.Tool]
  pool: concurrent.futures.Executor  # threads that do calls
  box: Toolbox = Toolbox()  # with the limits


def _fail(arguments, earlier) -> str:
  del arguments, earlier
  raise tools.ToolError('this tool is out of order.')
