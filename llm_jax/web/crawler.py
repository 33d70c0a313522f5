"""A polite breadth-first crawl of the seeds' hosts into WARC files.

One request at a time for each host, the delay that the host or the
configuration asks for between two, robots.txt as in RFC 9309, and limits on
pages, bytes, depth and time. Every address gets one outcome in the frontier,
and every page that is stored stands in the WARC exactly once, also when the
process was killed and started again.

It does NOT leave the seeds' hosts, run scripts, log in, follow `nofollow`
rules of a page, or revisit a page to see whether it changed.
"""

import contextlib
import dataclasses
import datetime
import pathlib
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent import futures

from absl import logging

from llm_jax.web import disk, fetch, frontier, robots, urls, warc_write

_PREFIX = 'crawl'
_HTML_TYPES = ('text/html', 'application/xhtml+xml')
_RETRIED = frozenset({'timeout', 'connection', 'disconnect', 'http_429'})


@dataclasses.dataclass(frozen=True)
class Crawl:
  """How far and how politely to crawl.

  Attributes:
    user_agent: sent with each request; what stands before the '/' is the
      product token that robots.txt files can name.
    max_pages: pages stored, then the crawl ends.
    max_bytes: bytes of page bodies stored, then the crawl ends.
    max_depth: links between a seed and a page; deeper links are counted.
    max_seconds: working seconds over all resumes, then the crawl ends.
    max_page_bytes: a longer body is cut there and marked WARC-Truncated.
    max_redirects: redirects in a row that are followed.
    max_attempts: requests for one page before its failure counts.
    page_timeout_s: seconds for one whole answer.
    delay_s: seconds between an answer and the next request to its host.
    max_crawl_delay_s: a host whose robots.txt asks for more is left alone.
    n_connections: hosts that are asked at the same time.
    warc_bytes: a WARC file that is longer is followed by another.
  """

  user_agent: str = 'llm_jax/0.1 (research crawler)'
  max_pages: int = 10_000
  max_bytes: int = 1 << 30
  max_depth: int = 8
  max_seconds: float = 3600.0
  max_page_bytes: int = 4 << 20
  max_redirects: int = 5
  max_attempts: int = 2
  page_timeout_s: float = 30.0
  delay_s: float = 1.0
  max_crawl_delay_s: float = 60.0
  n_connections: int = 8
  warc_bytes: int = 1 << 30


def crawl(
  cfg: Crawl,
  seed_urls: Sequence[str],
  folder: pathlib.Path,
  addresses: Mapping[str, tuple[str, int]] | None = None,
  on_page: Callable[[], object] = lambda: None,
) -> dict:
  """Crawls until nothing waits or a limit is reached; goes on if called again.

  Args:
    cfg: limits and manners.
    seed_urls: where to start; their hosts are the ones that are crawled.
    folder: holds `frontier.sqlite` and `crawl-*.warc.gz`, now or later.
    addresses: where to connect for a `host:port` in place of its DNS entry.
    on_page: called after each page.

  Returns:
    pages, bytes and seconds; `stopped` (`done` or the limit's name);
    addresses by outcome; links not followed by reason; files.

  Raises:
    ValueError: a seed is no http(s) address, or no seed is given.
    OSError: the disk is full; call again when there is room.
  """
  if not seed_urls:
    raise ValueError('no seed URL to crawl; give at least one')
  seeds = [urls.normalize(url) for url in seed_urls]
  info = {'software': cfg.user_agent, 'format': 'WARC File Format 1.1'}
  with (
    disk.explain_full(folder),
    contextlib.closing(frontier.Frontier(folder / 'frontier.sqlite')) as memory,
    contextlib.closing(
      warc_write.Writer(
        folder,
        _PREFIX,
        memory.warc_ends(),
        cfg.warc_bytes,
        warc_write.encode_info(datetime.datetime.now(datetime.UTC), info),
      )
    ) as writer,
  ):
    state = _Crawl(cfg, seeds, memory, writer, addresses or {})
    return state.summary(stopped=state.run(on_page))


class _Crawl:
  """One process's part of a crawl; what outlives it is in the frontier."""

  def __init__(self, cfg, seeds, memory, writer, addresses):
    self._cfg, self._memory, self._writer = cfg, memory, writer
    self._addresses = addresses
    # Without scheme and port, so that a step from http to https stays inside.
    self._hosts = {urllib.parse.urlsplit(seed).hostname for seed in seeds}
    self._product = cfg.user_agent.partition('/')[0]
    self._rules = {
      host: robots.from_response(status, text, self._product)
      for host, (status, text) in memory.robots().items()
    }
    self._ready_at: dict[str, float] = {}  # by host, monotonic seconds
    self._mark = time.monotonic()
    with memory.transaction():
      for name in ('pages', 'bytes', 'seconds', 'pages_cut_at_max_page_bytes'):
        memory.count(name, 0)
      memory.count('torn_bytes_cut', writer.cut_bytes)
      for seed in seeds:
        memory.add(seed, urls.host_of(seed), depth=0)

  def run(self, on_page: Callable[[], object]) -> str:
    running: dict[futures.Future, tuple[str, frontier.Entry | None]] = {}
    with futures.ThreadPoolExecutor(self._cfg.n_connections) as pool:
      while True:
        limit = self._limit_reached(len(running))
        while not limit and len(running) < self._cfg.n_connections:
          job = self._next_job({host for host, _ in running.values()})
          if job is None:
            break
          running[self._start(pool, *job)] = job
          limit = self._limit_reached(len(running))
        if running:
          done, _ = futures.wait(
            running, self._pause_s(), futures.FIRST_COMPLETED
          )
          for future in done:
            host, entry = running.pop(future)
            self._close(host, entry, future)
            on_page()
        elif limit:
          return limit
        elif not self._memory.waiting_hosts():
          return 'done'
        else:
          time.sleep(self._pause_s())

  def summary(self, stopped: str) -> dict:
    counts = self._memory.counts()
    return {
      'stopped': stopped,
      'pages': int(counts.pop('pages')),
      'bytes': int(counts.pop('bytes')),
      'crawl_seconds': round(counts.pop('seconds'), 3),
      'addresses': self._memory.outcomes(),
      'counts': {name: int(n) for name, n in counts.items()},
      'files': list(self._memory.warc_ends()),
    }

  def _limit_reached(self, n_running: int) -> str:
    counts = self._memory.counts()
    # A request under way may fail, and then the crawl goes on.
    if counts['pages'] + n_running >= self._cfg.max_pages:
      return 'max_pages'
    if counts['bytes'] >= self._cfg.max_bytes:
      return 'max_bytes'
    if counts['seconds'] >= self._cfg.max_seconds:
      return 'max_seconds'
    return ''

  def _pause_s(self) -> float:
    """Seconds until the next host may be asked, at most one second."""
    now = time.monotonic()
    waits = [t - now for t in self._ready_at.values() if t > now]
    return min([*waits, 1.0])

  def _next_job(
    self, busy: set[str]
  ) -> tuple[str, frontier.Entry | None] | None:
    """The next request: (host, its page), or (host, None) for robots.txt."""
    now = time.monotonic()
    entries = []
    for host in self._memory.waiting_hosts():
      rules = self._rules.get(host)
      if rules and rules.crawl_delay_s > self._cfg.max_crawl_delay_s:
        with self._memory.transaction():
          self._memory.close_waiting(host, 'crawl_delay_too_long')
        continue
      if host in busy or self._ready_at.get(host, 0.0) > now:
        continue
      if rules is None:
        return host, None
      entry = self._next_allowed(host)
      if entry:
        entries.append(entry)
    if not entries:
      return None
    entry = min(entries, key=lambda e: (e.depth, e.id))
    return entry.host, entry

  def _next_allowed(self, host: str) -> frontier.Entry | None:
    while entry := self._memory.next_of(host):
      if self._rules[host].allows(entry.url):
        return entry
      with self._memory.transaction():
        self._memory.finish(entry, 'robots_disallowed')
    return None

  def _start(self, pool, host, entry) -> futures.Future:
    if entry is None:
      return pool.submit(self._fetch_robots, host)
    return pool.submit(
      fetch.get,
      entry.url,
      self._cfg.user_agent,
      self._cfg.page_timeout_s,
      self._cfg.max_page_bytes,
      _HTML_TYPES,
      self._addresses,
    )

  def _fetch_robots(self, host: str) -> tuple[int, str]:
    url = f'{host}/robots.txt'
    for _ in range(robots.MAX_REDIRECTS + 1):
      try:
        response = fetch.get(
          url,
          self._cfg.user_agent,
          self._cfg.page_timeout_s,
          robots.MAX_BYTES,
          addresses=self._addresses,
        )
        if not 300 <= response.status < 400:
          return response.status, response.body.decode('utf-8', 'replace')
        url = urls.normalize(urls.join(url, response.header('Location')))
      except (fetch.FetchError, ValueError) as error:
        logging.info('robots.txt of %s: %s', host, error)
        return 0, ''
    return 404, ''  # too many redirects count as none (RFC 9309 2.3.1.2)

  def _close(self, host, entry, future: futures.Future):
    """Writes down what a request brought: one transaction a page."""
    delay_s = self._cfg.delay_s
    with self._memory.transaction():
      now = time.monotonic()
      self._memory.count('seconds', now - self._mark)
      self._mark = now
      if entry is None:
        status, text = future.result()
        self._memory.set_robots(host, status, text)
        self._rules[host] = robots.from_response(status, text, self._product)
      else:
        try:
          response = future.result()
        except fetch.FetchError as error:
          logging.info('%s', error)
          self._fail(entry, error.reason)
        else:
          self._take(entry, response)
          delay_s = max(delay_s, self._asked_delay_s(response))
    delay_s = max(delay_s, self._rules[host].crawl_delay_s)
    self._ready_at[host] = time.monotonic() + delay_s

  def _asked_delay_s(self, response: fetch.Response) -> float:
    """Seconds of a Retry-After, up to the longest delay that we accept."""
    asked = response.header('Retry-After')
    if response.status in (429, 503) and asked.isdecimal():
      return min(float(asked), self._cfg.max_crawl_delay_s)
    return 0.0

  def _take(self, entry: frontier.Entry, response: fetch.Response):
    """Stores a page, follows a redirect, or counts what else came."""
    if 300 <= response.status < 400 and response.header('Location'):
      if entry.redirects >= self._cfg.max_redirects:
        self._memory.finish(entry, 'too_many_redirects')
        return
      target = urls.join(entry.url, response.header('Location'))
      self._add_links([target], entry.depth, entry.redirects + 1)
      self._memory.finish(entry, 'redirect')
    elif response.status != 200:
      self._fail(entry, f'http_{response.status}')
    elif response.content_type not in _HTML_TYPES:
      self._fail(entry, f'type_{response.content_type or "missing"}')
    else:
      record = warc_write.encode_response(entry.url, response)
      file, end = self._writer.append(record)
      self._memory.finish(entry, 'stored', file, end)
      self._memory.count('pages')
      self._memory.count('bytes', len(response.body))
      self._memory.count('pages_cut_at_max_page_bytes', response.truncated)
      page = response.body.decode('utf-8', 'replace')
      self._add_links(urls.links(page, entry.url), entry.depth + 1)

  def _fail(self, entry: frontier.Entry, outcome: str):
    """Counts an attempt, and closes the address if it was the last one."""
    may_pass = outcome in _RETRIED or outcome.startswith('http_5')
    if may_pass and entry.attempts + 1 < self._cfg.max_attempts:
      self._memory.retry(entry)
    else:
      self._memory.finish(entry, outcome)

  def _add_links(self, found: Iterable[str], depth: int, redirects: int = 0):
    """Queues the links that may be followed; counts the others."""
    for link in dict.fromkeys(found):
      try:
        url = urls.normalize(link)
      except ValueError:
        self._memory.count('links_unusable')
        continue
      host = urls.host_of(url)
      if urllib.parse.urlsplit(url).hostname not in self._hosts:
        self._memory.count('links_off_site')
      elif depth > self._cfg.max_depth:
        self._memory.count('links_too_deep')
      elif self._memory.add(url, host, depth, redirects):
        self._memory.count('links_new')
      else:
        self._memory.count('links_known')
