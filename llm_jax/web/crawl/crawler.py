"""A polite breadth-first crawl of the seeds' hosts into WARC files.

One request at a time for each host, the delay that the host or the
configuration asks for between two, robots.txt as in RFC 9309 with the sitemaps
that it names, and limits on pages, bytes, depth, failures and time. Every
address gets one outcome in the frontier, and every page that is stored has one
response record in the WARC, or one revisit record if its payload is stored
already, and the record of its request; also when the process was killed and
started again.

It does NOT leave the seeds' hosts unless told (a robots.txt that is redirected
is read where it is, as RFC 9309 asks), run scripts, log in, keep cookies, or
come back to a page to see whether it changed.
"""

import contextlib
import dataclasses
import datetime
import email.utils
import pathlib
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures

from absl import logging

from llm_jax import files
from llm_jax.web.crawl import (
  fetch,
  frontier,
  intake,
  robots,
  signals,
  sitemaps,
  urls,
  warc_write,
)

_PREFIX = 'crawl'
_HTML_TYPES = ('text/html', 'application/xhtml+xml')
_RETRIED = frozenset({'timeout', 'connection', 'disconnect', 'http_429'})
# They say that the host is ill, not the page.
_OF_HOST = _RETRIED | {'certificate', 'tls', 'private_address'}
_MAX_SITEMAP_NESTING = 3
_ROBOTS_KEPT_S = 24 * 3600  # RFC 9309 2.4
_Job = tuple[str, frontier.Entry | None]


@dataclasses.dataclass(frozen=True)
class Crawl:
  """How far and how politely to crawl.

  Attributes:
    user_agent: sent with each request; what stands before the '/' is the
      product token that robots.txt files and pages can name.
    scope: hosts, depth and traps.
    max_pages: pages stored, then the crawl ends.
    max_bytes: bytes of page bodies stored, then the crawl ends.
    max_seconds: working seconds over all resumes, then the crawl ends.
    max_pages_per_host: pages stored of one host, then it is left alone.
    max_bytes_per_host: bytes of page bodies of one host, likewise.
    max_host_errors: failures in a row after which a host is left alone.
    max_page_bytes: a longer body is cut there and marked WARC-Truncated.
    max_redirects: redirects in a row that are followed.
    max_attempts: requests for one page before its failure counts.
    max_sitemaps: sitemaps of one host that are read; 0 reads none.
    page_timeout_s: seconds for one whole answer.
    delay_s: seconds between an answer and the next request to its host.
    retry_delay_s: seconds after a failure that may pass, doubled by each
      further one in a row.
    max_crawl_delay_s: the longest wait; a host whose robots.txt asks for more
      is left alone, a page whose Retry-After asks for more is not retried.
    n_connections: hosts that are asked at the same time.
    warc_bytes: a WARC file that is longer is followed by another.
    keep_noindex: store pages that ask not to be indexed.
    keep_non_canonical: store pages that name another address as their own
      although that one is stored.
  """

  user_agent: str = 'llm_jax/0.1 (research crawler)'
  scope: intake.Scope = intake.Scope()
  max_pages: int = 10_000
  max_bytes: int = 1 << 30
  max_seconds: float = 3600.0
  max_pages_per_host: int = 10_000
  max_bytes_per_host: int = 1 << 30
  max_host_errors: int = 20
  max_page_bytes: int = 4 << 20
  max_redirects: int = 5
  max_attempts: int = 2
  max_sitemaps: int = 50
  page_timeout_s: float = 30.0
  delay_s: float = 1.0
  retry_delay_s: float = 5.0
  max_crawl_delay_s: float = 60.0
  n_connections: int = 8
  warc_bytes: int = 1 << 30
  keep_noindex: bool = False
  keep_non_canonical: bool = False


def crawl(
  cfg: Crawl,
  seed_urls: Sequence[str],
  folder: pathlib.Path,
  addresses: Mapping[str, tuple[str, int]] | None = None,
  on_page: Callable[[], object] = lambda: None,
  ca_file: pathlib.Path | None = None,
) -> dict:
  """Crawls until nothing waits or a limit is reached; goes on if called again.

  Args:
    cfg: limits and manners.
    seed_urls: where to start; their hosts are the ones that are crawled.
    folder: holds `frontier.sqlite` and `crawl-*.warc.gz`, now or later.
    addresses: where to connect for a `host:port` in place of its DNS entry.
    on_page: called after each answer.
    ca_file: certificates to trust in place of the system's.

  Returns:
    pages, bytes and seconds; `stopped` (`done` or the limit's name);
    addresses by outcome; other counts, such as links by verdict; files.

  Raises:
    ValueError: a seed is no http(s) address, no seed is given, or another
      version began this crawl.
    OSError: the disk is full; call again when there is room.
  """
  if not seed_urls:
    raise ValueError('no seed URL to crawl; give at least one')
  seeds = [urls.normalize(url) for url in seed_urls]
  info = {
    'software': cfg.user_agent,
    'http-header-user-agent': cfg.user_agent,
    'robots': 'obeyed as in RFC 9309, with Crawl-delay',
    'format': 'WARC File Format 1.1',
    'conformsTo': 'http://iipc.github.io/warc-specifications/specifications/'
    'warc-format/warc-1.1/',
  }
  client = fetch.Client(
    cfg.user_agent, cfg.page_timeout_s, addresses or {}, ca_file
  )
  with (
    files.explain_full(folder),
    contextlib.closing(frontier.Frontier(folder / 'frontier.sqlite')) as memory,
    contextlib.closing(
      warc_write.Writer(
        folder,
        _PREFIX,
        memory.warc_ends(),
        cfg.warc_bytes,
        lambda name: warc_write.encode_info(
          datetime.datetime.now(datetime.UTC), info, name
        ),
      )
    ) as writer,
    contextlib.closing(client),
  ):
    state = _Crawl(cfg, seeds, memory, writer, client)
    return state.summary(stopped=state.run(on_page))


class _Crawl:
  """One process's part of a crawl; what outlives it is in the frontier."""

  def __init__(self, cfg: Crawl, seeds, memory, writer, client):
    self._cfg, self._memory = cfg, memory
    self._writer, self._client = writer, client
    self._intake = intake.Intake(cfg.scope, seeds, memory)
    self._product = cfg.user_agent.partition('/')[0]
    self._rules = {
      host: robots.from_response(status, text, self._product)
      for host, (status, text) in memory.robots(
        time.time() - _ROBOTS_KEPT_S
      ).items()
    }
    self._robots_attempts: dict[str, int] = {}
    self._n_sitemaps = memory.n_sitemaps()
    self._ready_at: dict[str, float] = {}  # by host, monotonic seconds
    self._mark = time.monotonic()
    with memory.transaction():
      for name in ('pages', 'bytes', 'seconds', 'pages_cut_at_max_page_bytes'):
        memory.count(name, 0)
      memory.count('torn_bytes_cut', writer.cut_bytes)
      for seed in seeds:
        memory.add(seed, urls.host_of(seed), depth=0)

  def run(self, on_page: Callable[[], object]) -> str:
    running: dict[futures.Future, _Job] = {}
    done: set[futures.Future] = set()
    with futures.ThreadPoolExecutor(self._cfg.n_connections) as pool:
      while True:
        with self._memory.transaction():
          for future in done:
            self._close(*running.pop(future), future)
          limit = self._limit_reached(len(running))
          while not limit and len(running) < self._cfg.n_connections:
            job = self._next_job({host for host, _ in running.values()})
            if job is None:
              break
            running[pool.submit(self._ask, *job)] = job
            limit = self._limit_reached(len(running))
          # On the disk while the next requests are under way.
          self._writer.sync()
        for _ in done:
          on_page()
        if not running:
          if limit or not self._memory.waiting_hosts():
            return limit or 'done'
          time.sleep(self._pause_s())
        done, _ = futures.wait(
          running, self._pause_s(), futures.FIRST_COMPLETED
        )

  def summary(self, stopped: str) -> dict:
    counts = dict(sorted(self._memory.counts.items()))
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
    counts = self._memory.counts
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

  def _next_job(self, busy: set[str]) -> _Job | None:
    """The next request: (host, its page), or (host, None) for robots.txt."""
    now = time.monotonic()
    entries = []
    for host in self._memory.waiting_hosts():
      name = host.name
      if name in busy:
        continue
      reason = name in self._rules and self._why_left_alone(host)
      if reason:
        self._memory.close_waiting(name, reason)
        continue
      if self._ready_at.get(name, 0.0) > now:
        continue
      if name not in self._rules:
        return name, None
      entry = self._next_allowed(name)
      if entry:
        entries.append(entry)
    if not entries:
      return None
    entry = min(entries, key=lambda e: (e.depth, e.id))
    return entry.host, entry

  def _why_left_alone(self, host: frontier.Host) -> str:
    cfg, rules = self._cfg, self._rules[host.name]
    if rules.unavailable:
      return 'robots_unavailable'
    if rules.crawl_delay_s > cfg.max_crawl_delay_s:
      return 'crawl_delay_too_long'
    if host.errors >= cfg.max_host_errors:
      return 'max_host_errors'
    if host.pages >= cfg.max_pages_per_host:
      return 'max_pages_per_host'
    return 'max_bytes_per_host' if host.bytes >= cfg.max_bytes_per_host else ''

  def _next_allowed(self, host: str) -> frontier.Entry | None:
    while entry := self._memory.next_of(host):
      if self._rules[host].allows(entry.url):
        return entry
      self._memory.finish(entry, 'robots_disallowed')
    return None

  def _ask(self, host: str, entry: frontier.Entry | None):
    """What a thread does: a request and the reading of its answer."""
    if entry is None:
      return self._ask_robots(host), None
    if entry.sitemap:
      response = self._get(entry.url, sitemaps.MAX_BYTES)
      return response, sitemaps.parse(response.body)
    response = self._get(entry.url, self._cfg.max_page_bytes, _HTML_TYPES)
    return response, signals.read(response, entry.url, self._product)

  def _get(self, url: str, *limits) -> fetch.Response:
    public_only = not self._intake.is_seed(url)
    return self._client.get(url, *limits, public_only=public_only)

  def _ask_robots(self, host: str) -> tuple[int, str]:
    """Status and text of robots.txt; 0 and why if there was no answer."""
    url = f'{host}/robots.txt'
    for _ in range(robots.MAX_REDIRECTS + 1):
      try:
        response = self._get(url, robots.MAX_BYTES)
        if not 300 <= response.status < 400:
          return response.status, response.body.decode('utf-8', 'replace')
        url = urls.normalize(urls.join(url, response.location))
      except fetch.FetchError as error:
        logging.info('robots.txt of %s: %s', host, error)
        return 0, error.reason
      except ValueError:
        return 0, 'unusable_redirect'
    return 404, ''  # too many redirects count as none (RFC 9309 2.3.1.2)

  def _close(self, name: str, entry, future: futures.Future):
    """Writes down what a request brought."""
    now = time.monotonic()
    self._memory.count('seconds', now - self._mark)
    self._mark = now
    wait_s = self._cfg.delay_s
    if entry is None:
      status, text = future.result()[0]
      wait_s = max(wait_s, self._take_robots(name, status, text))
    else:
      try:
        response, told = future.result()
      except fetch.FetchError as error:
        logging.info('%s', error)
        wait_s = max(wait_s, self._fail(entry, error.reason))
      else:
        wait_s = max(wait_s, self._take(entry, response, told))
    if name in self._rules:
      wait_s = max(wait_s, self._rules[name].crawl_delay_s)
    self._ready_at[name] = time.monotonic() + wait_s

  def _take_robots(self, name: str, status: int, text: str) -> float:
    """Keeps the rules, or returns the seconds until they are asked again."""
    rules = robots.from_response(status, text, self._product)
    attempts = self._robots_attempts.get(name, 0) + 1
    if rules.unavailable:
      self._memory.count(f'robots_{f"http_{status}" if status else text}')
    if rules.unavailable and attempts < self._cfg.max_attempts:
      self._robots_attempts[name] = attempts
      return self._backoff_s(attempts)
    self._memory.set_robots(name, status, text, time.time())
    self._rules[name] = rules
    self._add_sitemaps(name, rules.sitemaps, 1)
    return 0.0

  def _backoff_s(self, n_failures: int) -> float:
    wait_s = self._cfg.retry_delay_s * 2.0 ** min(n_failures - 1, 16)
    return min(wait_s, self._cfg.max_crawl_delay_s)

  def _add_sitemaps(self, name: str, found: Sequence[str], nesting: int):
    room = self._cfg.max_sitemaps - self._n_sitemaps.get(name, 0)
    used = found[:room] if nesting <= _MAX_SITEMAP_NESTING else ()
    if len(used) < len(found):
      self._memory.count('sitemaps_over_limit', len(found) - len(used))
    self._n_sitemaps[name] = self._n_sitemaps.get(name, 0) + len(used)
    self._intake.add('sitemaps', used, depth=0, sitemap=nesting)

  def _take(self, entry: frontier.Entry, response: fetch.Response, told):
    """Takes an answer; returns the seconds that its host asks us to wait."""
    if 300 <= response.status < 400 and response.location:
      self._redirect(entry, response)
    elif response.status != 200:
      return self._fail(entry, f'http_{response.status}', response)
    elif entry.sitemap:
      self._memory.finish(entry, 'sitemap')
      if told.problem:
        self._memory.count(f'sitemaps_{told.problem}')
      self._intake.add('sitemap_links', told.pages, depth=1)
      self._add_sitemaps(entry.host, told.sitemaps, entry.sitemap + 1)
    elif response.content_type not in _HTML_TYPES:
      return self._fail(entry, f'type_{response.content_type or "missing"}')
    else:
      self._take_page(entry, response, told)
    self._memory.hosts[entry.host].errors = 0
    return 0.0

  def _redirect(self, entry: frontier.Entry, response: fetch.Response):
    if entry.redirects >= self._cfg.max_redirects:
      self._memory.finish(entry, 'too_many_redirects')
      return
    target = urls.join(entry.url, response.location)
    with contextlib.suppress(ValueError):  # counted as unusable below
      if urls.host_of(urls.normalize(target)) != entry.host:
        self._memory.count('redirects_to_another_host')
    n_redirects = entry.redirects + 1
    self._intake.add(
      'redirects', [target], entry.depth, n_redirects, entry.sitemap
    )
    self._memory.finish(entry, 'redirect')

  def _take_page(self, entry, response, told: signals.Signals):
    """Stores a page unless it asks not to be, and queues its links."""
    self._intake.add('links', told.links, entry.depth + 1)
    if told.n_nofollow:
      self._memory.count('links_nofollow', told.n_nofollow)
    is_copy = self._is_copy(entry, told.canonical)
    if told.noindex and not self._cfg.keep_noindex:
      self._memory.finish(entry, 'noindex')
    elif is_copy and not self._cfg.keep_non_canonical:
      self._memory.finish(entry, 'not_canonical')
    else:
      self._store(entry, response)

  def _is_copy(self, entry: frontier.Entry, canonical: str) -> bool:
    """True if the page says to be a copy of one that is stored.

    A site can be wrong about it, so the address that it names is asked for,
    and the page is left out only where that one has been stored. A site that
    names its front page on all others, a frequent mistake, is not believed.
    """
    try:
      url = urls.normalize(canonical) if canonical else entry.url
    except ValueError:
      url = entry.url
      self._memory.count('canonicals_unusable')
    if url == entry.url:
      return False
    self._memory.count('pages_with_another_canonical')
    if not self._intake.holds(url):
      self._memory.count('canonicals_off_site')
      return False
    if urllib.parse.urlsplit(url).path == '/':
      self._memory.count('canonicals_of_front_page')
      return False
    # One link deeper: a row of canonical addresses may have no end.
    self._intake.add('canonicals', [url], entry.depth + 1)
    return self._memory.outcome(url) in ('stored', 'revisit')

  def _store(self, entry: frontier.Entry, response: fetch.Response):
    # What is cut is not known to be the same.
    seen = None
    if not response.truncated:
      seen = self._memory.seen(response.digest)
      if not seen:
        record = warc_write.original(entry.url, response)
        self._memory.set_seen(response.digest, record)
    file, end = self._writer.append(
      warc_write.encode_response(entry.url, response, seen)
      + warc_write.encode_request(entry.url, response)
    )
    self._memory.finish(entry, 'revisit' if seen else 'stored', file, end)
    host = self._memory.hosts[entry.host]
    host.pages += 1
    host.bytes += len(response.body)
    self._memory.count('pages')
    self._memory.count('bytes', len(response.body))
    self._memory.count('pages_cut_at_max_page_bytes', response.truncated)

  def _fail(
    self,
    entry: frontier.Entry,
    outcome: str,
    response: fetch.Response | None = None,
  ) -> float:
    """Counts an attempt, and closes the address if it was the last one.

    Returns:
      Seconds to leave the host alone.
    """
    may_pass = outcome in _RETRIED or outcome.startswith('http_5')
    host = self._memory.hosts[entry.host]
    is_of_host = may_pass or outcome in _OF_HOST
    host.errors = host.errors + 1 if is_of_host else 0
    asked_s = _retry_after_s(response) if response and may_pass else 0.0
    is_too_long = asked_s > self._cfg.max_crawl_delay_s
    if is_too_long:
      self._memory.count('retry_after_too_long')
    last = entry.attempts + 1 >= self._cfg.max_attempts
    if may_pass and not last and not is_too_long:
      self._memory.retry(entry)
    else:
      self._memory.finish(entry, outcome)
    backoff_s = self._backoff_s(host.errors) if may_pass else 0.0
    return min(max(asked_s, backoff_s), self._cfg.max_crawl_delay_s)


def _retry_after_s(response: fetch.Response) -> float:
  """Seconds of a Retry-After, given as such or as a date; else 0."""
  asked = response.header('Retry-After').strip()
  if asked.isascii() and asked.isdigit():
    return float(asked)
  try:
    date = email.utils.parsedate_to_datetime(asked)
    return max((date - response.date).total_seconds(), 0.0)
  except (TypeError, ValueError, OverflowError):  # a date without a zone too
    return 0.0
