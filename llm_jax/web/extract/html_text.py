"""The readable text of a page, taken in a child process with a deadline.

Two extractors: trafilatura for quality, resiliparse for speed and where line
breaks carry meaning (reference manuals, code). Both run native parsers that
cannot be interrupted and need quadratic time on hostile pages; so a child does
the work, and the kernel ends it at a limit of CPU seconds. CPU seconds and not
wall time, so that a loaded machine does not lose other pages than an idle one.

It does NOT fetch, and does not keep tables, images or links as such.
"""

import contextlib
import ctypes
import dataclasses
import gc
import logging
import signal
from collections.abc import Callable
from multiprocessing import connection
from typing import Any

from resiliparse.extract import html2text  # pyright: ignore[reportMissingModuleSource]

from llm_jax import pool
from llm_jax.web.extract import charset, warc

Judge = Callable[[str], tuple[Any, bool]]
Reply = tuple[str, str, Any]
_EXTRACTORS = ('trafilatura', 'resiliparse', 'cascade')
_FAVORS = ('', 'precision', 'recall')
_LARGE_BYTES = 200_000
_LIBC = ctypes.CDLL(None)


@dataclasses.dataclass(frozen=True)
class Extraction:
  """How text is taken from a page.

  Attributes:
    extractor: `trafilatura`, `resiliparse`, or `cascade`: resiliparse's text
      decides whether a page is kept, trafilatura's is what is kept of it.
    favor: what trafilatura favours: '', `precision` or `recall`.
    max_html_bytes: a larger page is removed, as parsers need quadratic time.
    deadline_s: CPU seconds for one page, above which it is removed.
    max_wall_s: seconds that a child may be silent; far above the deadline,
      so that it ends a child that hangs and never one that waits for a core.
    drop_repeated_lines: remove lines of 10 and more characters that stood
      before in resiliparse's text; it leaves menus twice on many pages, and
      the duplicate rules then remove the whole page. Off where lines repeat
      by right.
  """

  extractor: str = 'trafilatura'
  favor: str = ''
  max_html_bytes: int = 2 << 20
  deadline_s: float = 20.0
  max_wall_s: float = 600.0
  drop_repeated_lines: bool = True

  def __post_init__(self):
    for name, known in (('extractor', _EXTRACTORS), ('favor', _FAVORS)):
      value = getattr(self, name)
      if value not in known:
        raise ValueError(f'{name} {value!r} is unknown; use one of {known}')


def extract(cfg: Extraction, page: str) -> str:
  """The main text of a page, in this process and without a deadline.

  Args:
    cfg: which extractor; `cascade` is trafilatura here.
    page: HTML source, without halves of characters.

  Returns:
    Lines without spaces at their ends, at most one empty line in a row, no
    non-breaking spaces; '' if there is no text.
  """
  if cfg.extractor == 'resiliparse':
    text = html2text.extract_plain_text(
      page,
      preserve_formatting=True,
      main_content=True,
      alt_texts=False,
      comments=False,
      post_meta=False,
    )
    return _tidy(text, cfg.drop_repeated_lines)
  import trafilatura  # which takes a second of CPU time

  tree = trafilatura.load_html(page)
  if tree is None:
    return ''
  # Nothing of these is ever read, but copies of the tree are made.
  for element in list(tree.iter('script', 'style', 'svg', 'link')):
    if element.get('type') != 'application/ld+json':
      element.drop_tree()
  text = trafilatura.extract(
    tree,
    favor_precision=cfg.favor == 'precision',
    favor_recall=cfg.favor == 'recall',
    include_comments=False,
  )
  return _tidy(text or '', False)


def _tidy(text: str, drop_repeated_lines: bool) -> str:
  lines, seen = [], set()
  text = text.replace('\xa0', ' ').replace('\r', '\n').replace('\x00', '')
  for line in text.split('\n'):
    line = line.rstrip()
    if drop_repeated_lines and len(line) >= 10:
      if line in seen:
        continue
      seen.add(line)
    if line or (lines and lines[-1]):
      lines.append(line)
  return '\n'.join(lines).strip()


def _keep_all(_: str) -> tuple[None, bool]:
  """Judges a text as worth the slow extractor, and says nothing of it."""
  return None, True


class Extractor:
  """Extracts pages in a child process, one after the other.

  A child that dies takes one page with it; the next page gets a new one.
  """

  def __init__(self, cfg: Extraction, judge: Judge = _keep_all):
    """Starts the child.

    Args:
      cfg: how text is taken.
      judge: what is said of a text, in the child, and for the cascade whether
        the page is worth trafilatura; picklable.
    """
    self._cfg, self._judge = cfg, judge
    self._start()

  def _start(self):
    context = pool.context_of_children([__name__])
    self._pipe, theirs = context.Pipe()
    self._child = context.Process(
      target=_serve, args=(self._cfg, self._judge, theirs), daemon=True
    )
    with pool.without_main():
      self._child.start()
    theirs.close()  # so that the pipe ends when the child does

  def close(self):
    """Ends the child."""
    self._pipe.close()
    self._child.kill()
    self._child.join()

  def extract(self, page: warc.Record) -> Reply:
    """The text of a page.

    Args:
      page: of a conversion, which is text, the characters are decoded and no
        more.

    Returns:
      (text, reason, what `judge` said). One of the first two is empty: the
      text, in a cascade resiliparse's if `judge` said no to it; or `deadline`,
      `parser_crash`, `parser_error`, `parser_hang` or `no_text`. What `judge`
      said is of resiliparse's text in a cascade.
    """
    if self._pipe.closed:
      self._start()
    try:
      self._pipe.send(page)
      if self._pipe.poll(self._cfg.max_wall_s):
        return self._pipe.recv()
      reason = 'parser_hang'
    except (EOFError, OSError):
      self._child.join()
      is_late = self._child.exitcode == -signal.SIGPROF
      reason = 'deadline' if is_late else 'parser_crash'
    self.close()
    return '', reason, None


def _serve(cfg: Extraction, judge: Judge, pipe: connection.Connection):
  """The child: a reply to each page."""
  pool.end_with_parent()
  logging.disable()  # trafilatura's lines on pages that are counted anyway
  if cfg.extractor != 'resiliparse':
    import trafilatura  # noqa: F401  # before the clock of the first page
  # Trees hold no cycles, so the collector would walk their elements in vain.
  gc.freeze()
  gc.disable()
  with contextlib.suppress(EOFError):  # at the end of the pipe
    while True:
      page = pipe.recv()
      pipe.send(_reply(cfg, judge, page))
      gc.collect()
      # What the tree of a large page leaves free goes back to the system, or a
      # child keeps what its largest pages took, and grows by half.
      is_large = len(page.body) > _LARGE_BYTES
      if is_large and hasattr(_LIBC, 'malloc_trim'):  # of glibc
        _LIBC.malloc_trim(0)


def _reply(cfg: Extraction, judge: Judge, page: warc.Record) -> Reply:
  text, reason, said = '', '', None
  is_cascade = cfg.extractor == 'cascade'
  fast = dataclasses.replace(cfg, extractor='resiliparse')
  # The default action of SIGPROF ends the process inside native code too.
  signal.setitimer(signal.ITIMER_PROF, cfg.deadline_s)
  try:
    source = charset.decode(page.body, page.charset)
    is_text = page.kind == 'conversion'
    if is_text:
      text = source.strip()
    else:
      text = extract(fast if is_cascade else cfg, source)
    if text:
      said, is_kept = judge(text)
      if is_cascade and is_kept and not is_text:
        text = extract(cfg, source)
  except Exception:  # a parser's own error loses this page, and is counted
    text, reason = '', 'parser_error'
  signal.setitimer(signal.ITIMER_PROF, 0)
  return text, reason or ('' if text else 'no_text'), said
