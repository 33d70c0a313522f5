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
import itertools
import logging
import re
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing import connection
from typing import NamedTuple

from resiliparse.extract import html2text  # pyright: ignore[reportMissingModuleSource]

from llm_jax import pool
from llm_jax.web.extract import charset

_EXTRACTORS = ('trafilatura', 'resiliparse', 'cascade')
_FAVORS = ('', 'precision', 'recall')
_LARGE_BYTES = 200_000
_LIBC = ctypes.CDLL(None)
_QUOTED = re.compile('"[^"]*"|\'[^\']*\'')
# Void, or closed by the next of their kind.
_FLAT_TAGS = """area base br col dd dt embed hr img input li link meta option p
param source td th tr track wbr"""
# What opens or closes an element that may hold others: '' or '/'.
_NESTING = re.compile(
  rf'<(/?)(?!(?:{"|".join(_FLAT_TAGS.split())})(?![a-z0-9]))[a-z]',
  re.IGNORECASE | re.ASCII,
)
_DEEPER = {'': 1, '/': -1}


@dataclasses.dataclass(frozen=True)
class Extraction:
  """How text is taken from a page.

  Attributes:
    extractor: `trafilatura`, `resiliparse`, or `cascade`: resiliparse's text
      decides whether a page is kept, trafilatura's is what is kept of it.
    favor: what trafilatura favours: '', `precision` or `recall`.
    max_html_bytes: a larger page is removed, as parsers need quadratic time.
    max_depth: a page whose tags may nest deeper is removed at once.
    max_attributes: the same for attributes of one tag.
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
  max_depth: int = 4000
  max_attributes: int = 10_000
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


def refuse(cfg: Extraction, page: str) -> str:
  """Whether a page would hold a parser for long, told without parsing it.

  The deadline ends what this does not see.

  Args:
    cfg: the limits.
    page: HTML source.

  Returns:
    `html_too_deep`, `html_too_many_attributes` or ''.
  """
  # Seldom are there as many tags that open something.
  n_tags = page.count('<')
  if n_tags > cfg.max_depth and n_tags - page.count('</') > cfg.max_depth:
    changes = map(_DEEPER.__getitem__, _NESTING.findall(page))
    if max(itertools.accumulate(changes), default=0) > cfg.max_depth:
      return 'html_too_deep'
  for part in page.split('>'):
    if len(part) > 2 * cfg.max_attributes:
      tag = _QUOTED.sub('""', part[part.rfind('<') :])
      if len(tag.split()) > cfg.max_attributes:
        return 'html_too_many_attributes'
  return ''


class Page(NamedTuple):
  """What is known of a page before it is read.

  Attributes:
    body: its bytes.
    http_charset: charset of the HTTP header, '' if it named none.
    is_text: whether it is text already, as in WET files, and only decoded.
  """

  body: bytes
  http_charset: str = ''
  is_text: bool = False


class _Request(NamedTuple):
  """A page, the extractor, CPU seconds left."""

  page: Page
  extractor: str
  left_s: float


class _Reply(NamedTuple):
  """One of `text` and `reason` is empty; the rest is for a second request."""

  text: str
  reason: str
  left_s: float = 0.0


class Extractor:
  """Extracts pages in a child process, one after the other.

  A child that dies takes one page with it; the next page gets a new one.
  Pages go to it in groups: processes that take turns at every page find
  nothing of their own in the caches of a core.
  """

  def __init__(self, cfg: Extraction):
    self._cfg = cfg
    self._start()

  def _start(self):
    context = pool.context_of_children([__name__])
    self._pipe, theirs = context.Pipe()
    self._child = context.Process(
      target=_serve, args=(self._cfg, theirs), daemon=True
    )
    with pool.without_main():
      self._child.start()
    theirs.close()  # so that the pipe ends when the child does

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()

  def close(self):
    """Ends the child."""
    self._pipe.close()
    self._child.kill()
    self._child.join()

  def extract(
    self,
    groups: Iterable[Sequence[Page]],
    is_kept: Callable[[int, str], bool] = lambda i, text: True,
  ) -> Iterator[list[tuple[str, str]]]:
    """The texts of groups of pages.

    The child is at a group while the next one is asked for, and while the
    texts of the one before are worked on.

    Args:
      groups: pages; no group is empty.
      is_kept: for the cascade: whether the page at this place of its group,
        whose text resiliparse found, is worth trafilatura; by default every
        page is.

    Yields:
      (text, reason) of each page of a group, one of which is empty: the text,
      resiliparse's if `is_kept` said no to it; or `html_too_deep`,
      `html_too_many_attributes`, `deadline`, `parser_crash`, `parser_error`,
      `parser_hang` or `no_text`.
    """
    name = self._cfg.extractor.replace('cascade', 'resiliparse')
    groups = iter(groups)

    def send(group: Sequence[Page]) -> list[_Request]:
      requests = [_Request(page, name, self._cfg.deadline_s) for page in group]
      self._send(requests)
      return requests

    requests = send(next(groups, ()))
    try:
      while requests:
        following = next(groups, ())
        replies = self._receive(requests)
        if self._cfg.extractor == 'cascade':
          self._extract_again(requests, replies, is_kept)
        requests = send(following)
        yield [(reply.text, reply.reason) for reply in replies]
    finally:
      if requests:  # nobody waits for its replies
        self.close()

  def _extract_again(
    self,
    requests: Sequence[_Request],
    replies: list[_Reply],
    is_kept: Callable[[int, str], bool],
  ):
    """Puts trafilatura's replies in the place of those that are kept."""
    kept = {
      i: _Request(request.page, 'trafilatura', reply.left_s)
      for i, (request, reply) in enumerate(zip(requests, replies, strict=True))
      if reply.text and not request.page.is_text and is_kept(i, reply.text)
    }
    again = list(kept.values())
    self._send(again)
    for i, reply in zip(kept, self._receive(again), strict=True):
      replies[i] = reply

  def _send(self, requests: Sequence[_Request]):
    if not requests:
      return
    if self._pipe.closed:
      self._start()
    with contextlib.suppress(OSError):  # it is dead, as `_receive` will find
      self._pipe.send(requests)

  def _receive(self, requests: Sequence[_Request]) -> list[_Reply]:
    """The replies to requests that were sent."""
    replies: list[_Reply] = []
    while len(replies) < len(requests):
      reason = ''
      try:
        if self._pipe.poll(self._cfg.max_wall_s):
          replies.append(self._pipe.recv())
        else:
          reason = 'parser_hang'
      except (EOFError, OSError):
        self._child.join()
        is_late = self._child.exitcode == -signal.SIGPROF
        reason = 'deadline' if is_late else 'parser_crash'
      if reason:
        replies.append(_Reply('', reason))
        self.close()
        self._send(requests[len(replies) :])
    return replies


def _serve(cfg: Extraction, pipe: connection.Connection):
  """The child: a reply to each request of a group."""
  pool.end_with_parent()
  logging.disable()  # trafilatura's lines on pages that are counted anyway
  if cfg.extractor != 'resiliparse':
    import trafilatura  # noqa: F401  # before the clock of the first page
  # Trees hold no cycles, so the collector would walk their elements in vain.
  gc.freeze()
  gc.disable()
  while True:
    try:
      requests: list[_Request] = pipe.recv()
    except EOFError:
      return
    for request in requests:
      pipe.send(_reply(cfg, request))
    gc.collect()
    # What trees of large pages leave free goes back to the system, or a child
    # keeps what its largest pages took, and grows by half.
    is_large = max(len(r.page.body) for r in requests) > _LARGE_BYTES
    if is_large and hasattr(_LIBC, 'malloc_trim'):  # of glibc
      _LIBC.malloc_trim(0)


def _reply(cfg: Extraction, request: _Request) -> _Reply:
  body, http_charset, is_text = request.page
  text, reason = '', ''
  # The default action of SIGPROF ends the process inside native code too.
  signal.setitimer(signal.ITIMER_PROF, request.left_s)
  try:
    page = charset.decode(body, http_charset)
    if is_text:
      text = page.strip()
    elif not (reason := refuse(cfg, page)):
      cfg = dataclasses.replace(cfg, extractor=request.extractor)
      text = extract(cfg, page)
  except Exception:  # a parser's own error loses this page, and is counted
    reason = 'parser_error'
  left_s = max(signal.setitimer(signal.ITIMER_PROF, 0)[0], 1e-3)
  return _Reply(text, reason or ('' if text else 'no_text'), left_s)
