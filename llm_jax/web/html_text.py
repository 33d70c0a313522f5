"""The readable text of a page, taken in a child process with a deadline.

Two extractors: trafilatura for quality, resiliparse for speed and where line
breaks carry meaning (reference manuals, code). Both run native parsers that
cannot be interrupted and need quadratic time on hostile pages; so a child does
the work, and the kernel ends it at a limit of CPU seconds. CPU seconds and not
wall time, so that a loaded machine does not lose other pages than an idle one.

It does NOT fetch, and does not keep tables, images or links as such.
"""

import dataclasses
import multiprocessing
import re
import signal
from multiprocessing import connection

from resiliparse.extract import html2text  # pyright: ignore[reportMissingModuleSource]
from resiliparse.parse import encoding  # pyright: ignore[reportMissingModuleSource]

from llm_jax.web import pool

_EXTRACTORS = ('trafilatura', 'resiliparse')
_NOT_UTF8_NAMES = frozenset({'', 'utf-8', 'utf8'})
_META_CHARSET = re.compile(
  rb'<meta[^<>]{0,200}?charset\s{0,9}=\s{0,9}["\']?([\w:.-]{1,40})',
  re.IGNORECASE,
)
_META_BYTES = 4096
_SPACES = str.maketrans({'\xa0': ' ', '\r': '\n', '\x00': None})
_SURROGATE = re.compile('[\ud800-\udfff]')


@dataclasses.dataclass(frozen=True)
class Extraction:
  """How text is taken from a page.

  Attributes:
    extractor: `trafilatura` or `resiliparse`.
    max_html_bytes: a larger page is removed, as parsers need quadratic time.
    deadline_s: CPU seconds for one page, above which it is removed.
    drop_repeated_lines: remove lines of 10 and more characters that stood
      before in the same document; resiliparse leaves menus twice on many
      pages, and the duplicate rules then remove the whole page. Off where
      lines repeat by right.
  """

  extractor: str = 'trafilatura'
  max_html_bytes: int = 2 << 20
  deadline_s: float = 20.0
  drop_repeated_lines: bool = True

  def __post_init__(self):
    if self.extractor not in _EXTRACTORS:
      raise ValueError(
        f'extractor {self.extractor!r} is unknown; use one of {_EXTRACTORS}'
      )


class ExtractionError(Exception):
  """No text came out; `reason` is one word to count by."""

  def __init__(self, reason: str):
    super().__init__(reason)
    self.reason = reason


def decode(body: bytes, http_charset: str) -> str:
  """The page's characters.

  Strict UTF-8 first, since a page of another charset almost never is valid
  UTF-8; then the charset that HTTP or the page names, if it fits without an
  error; then a guess. Pages lie about UTF-8 more than about anything else.

  Args:
    body: the page's bytes.
    http_charset: charset of the HTTP header, '' if it named none.

  Returns:
    The text; bytes that fit no charset become U+FFFD.
  """
  try:
    return body.decode('utf-8-sig')
  except UnicodeDecodeError:
    pass
  meta = _META_CHARSET.search(body[:_META_BYTES])
  named = [http_charset, meta.group(1).decode('ascii') if meta else '']
  for name in named:
    if name.lower() not in _NOT_UTF8_NAMES:
      try:
        return body.decode(name)
      except (LookupError, UnicodeDecodeError):
        continue
  guess = encoding.detect_encoding(body) or 'utf-8'
  return encoding.bytes_to_str(body, guess, errors='replace')


def extract(cfg: Extraction, page: str) -> str:
  """The main text of a page, in this process and without a deadline.

  Args:
    cfg: which extractor.
    page: HTML source.

  Returns:
    Lines without spaces at their ends, at most one empty line in a row, no
    non-breaking spaces; '' if there is no text.
  """
  page = _SURROGATE.sub('\ufffd', page)  # resiliparse refuses lone halves
  if cfg.extractor == 'trafilatura':
    # Here, because it takes a second to load in each process.
    import trafilatura

    text = trafilatura.extract(page, include_comments=False) or ''
  else:
    text = html2text.extract_plain_text(
      page,
      preserve_formatting=True,
      main_content=True,
      alt_texts=False,
      comments=False,
      post_meta=False,
    )
  return _tidy(text, cfg.drop_repeated_lines)


def _tidy(text: str, drop_repeated_lines: bool) -> str:
  lines, seen = [], set()
  for line in text.translate(_SPACES).split('\n'):
    line = line.rstrip()
    if drop_repeated_lines and len(line) >= 10:
      if line in seen:
        continue
      seen.add(line)
    if line or (lines and lines[-1]):
      lines.append(line)
  return '\n'.join(lines).strip()


class Extractor:
  """Extracts pages in a child process, one after the other.

  A child that dies takes one page with it; the next page gets a new one.
  """

  def __init__(self, cfg: Extraction):
    self._cfg = cfg
    self._context = multiprocessing.get_context('spawn')
    self._child = None
    self._pipe: connection.Connection | None = None

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()

  def extract(self, body: bytes, http_charset: str) -> str:
    """The text of a page.

    Args:
      body: the page's bytes.
      http_charset: charset of the HTTP header, '' if it named none.

    Returns:
      The text, never empty.

    Raises:
      ExtractionError: reason `html_too_large`, `deadline`, `parser_crash`,
        `parser_error` or `no_text`.
    """
    if len(body) > self._cfg.max_html_bytes:
      raise ExtractionError('html_too_large')
    if self._pipe is None:
      self._start()
    assert self._pipe is not None
    assert self._child is not None
    try:
      self._pipe.send((body, http_charset))
      text = self._pipe.recv()
    except (EOFError, OSError) as error:
      self._child.join()
      is_late = self._child.exitcode == -signal.SIGPROF
      self.close()
      reason = 'deadline' if is_late else 'parser_crash'
      raise ExtractionError(reason) from error
    if text is None:
      raise ExtractionError('parser_error')
    if not text:
      raise ExtractionError('no_text')
    return text

  def close(self):
    """Ends the child."""
    if self._pipe is not None:
      self._pipe.close()
    if self._child is not None:
      self._child.join()
    self._pipe = self._child = None

  def _start(self):
    self._pipe, theirs = self._context.Pipe()
    self._child = self._context.Process(
      target=_serve, args=(self._cfg, theirs), daemon=True
    )
    self._child.start()
    theirs.close()  # so that the pipe ends when the child does


def _serve(cfg: Extraction, pipe: connection.Connection):
  """The child: text for each page, None where the parser raised."""
  pool.end_with_parent()
  while True:
    try:
      body, http_charset = pipe.recv()
    except EOFError:
      return
    # The default action of SIGPROF ends the process inside native code too.
    signal.setitimer(signal.ITIMER_PROF, cfg.deadline_s)
    try:
      text = extract(cfg, decode(body, http_charset))
    except Exception:  # a parser's own error loses this page, and is counted
      text = None
    signal.setitimer(signal.ITIMER_PROF, 0)
    pipe.send(text)
