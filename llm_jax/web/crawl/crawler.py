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
import pathlib
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent import futures

import urllib3
from absl import logging

from llm_jax import files, locks
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

_HTML_TYPES = ('text/html', 'application/xhtml+xml')
_RETRIED = frozenset({'timeout', 'connection', 'disconnect', 'http_429'})
# They say that the host is ill, not the page.
_OF_HOST = _RETRIED | {'certificate', 'tls', 'private_address'}
_MAX_REDIRECTS = 5
_MAX_SITEMAP_NESTING = 3
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
  max_attempts: int = 2
  max_sitemaps: int = 50
  page_timeout_s: float = 30.0
  delay_s: float = 1.0
  retry_delay_s: float = 5.0
  max_crawl_delay_s: float = 60.0
  n_connections: int = 8
  warc_bytes: int = 1 << 30


def crawl(
  cfg: Crawl,
  seed_urls: Sequence[str],
  folder: pathlib.Path,
  addresses: Mapping[str, tuple[str, int]] | None = None,
  on_page: Callable[[], object] = lambda: None,
  ca_file: pathlib.Path | None = None,
) -> dict:
  """Crawls until nothing waits or a limit is reached; goes on if called again.

  Called again, it asks hosts again that were down and gave no page.

  Args:
    cfg: limits and manners.
    seed_urls: where to start; their hosts are the ones that are crawled.
    folder: holds `frontier.sqlite` and `crawl-*.warc.gz`, now or later.
    addresses: where to connect for a `host:port` in place of its DNS entry.
    on_page: called after each answer.
    ca_file: certificates to trust in place of the system's.

  Returns:
    pages, bytes and seconds; `stopped` (`done` or the limit's name);
    addresses by outcome; other counts, such as links by verdict; files;
    `n_seed_hosts`; and under `down` those of them that cannot be reached and
    gave no page, with the reason.

  Raises:
    ValueError: a seed is no http(s) address, no seed is given, or another
      version began this crawl.
    OSError: the disk is full; call again when there is room. Or another
      process crawls into this folder.
  """
  if not seed_urls:
    raise ValueError('no seed URL to crawl; give at least one')
  seeds = [urls.normalize(url) for url in seed_urls]
  client = fetch.Client(
    user_agent=cfg.user_agent,
    timeout_s=cfg.page_timeout_s,
    addresses=addresses,
    ca_file=ca_file,
  )
  with files.explain_full(folder), contextlib.ExitStack() as stack:
    if locks.lock(folder):
      stack.callback(locks.unlock, folder)
    seen = frontier.Frontier(folder / 'frontier.sqlite')
    stack.callback(seen.close)
    writer = warc_write.Writer(
      folder=folder,
      ends=seen.warc_ends(),
      max_bytes=cfg.warc_bytes,
      fields={
        'software': cfg.user_agent,
        'http-header-user-agent': cfg.user_agent,
        'robots': 'obeyed as in RFC 9309, with Crawl-delay',
      },
    )
    stack.callback(writer.close)
    state = _Crawl(
      cfg=cfg, seeds=seeds, seen=seen, writer=writer, client=client
    )
    return state.summary(stopped=state.run(on_page))


class _Crawl:
  """One process's part of a crawl; what outlives it is in the frontier."""

  def __init__(self, cfg: Crawl, seeds, seen, writer, client):
    self._cfg, self._seeds, self._seen = cfg, seeds, seen
    self._writer, self._client, self._counts = writer, client, seen.counts
    self._intake = intake.Intake(cfg.scope, seeds, seen)
    self._rules: dict[str, robots.Rules] = {}
    self._ready_at: dict[str, float] = {}  # by host, monotonic seconds
    self._mark = time.monotonic()
    with seen.transaction():
      for name in ('seconds', 'pages_cut_at_max_page_bytes'):
        self._counts[name] += 0
      self._counts['torn_bytes_cut'] += writer.cut_bytes
      for seed in seeds:
        seen.add(seed, depth=0)

  def run(self, on_page: Callable[[], object]) -> str:
    running: dict[futures.Future, _Job] = {}
    done: set[futures.Future] = set()
    limit = ''
    with futures.ThreadPoolExecutor(self._cfg.n_connections) as pool:
      while True:
        with self._seen.transaction():
          for future in done:
            self._close(*running.pop(future), future)
          while len(running) < self._cfg.n_connections:
            limit = self._limit_reached(len(running))
            job = None if limit else self._next_job(running.values())
            if job is None:
              break
            running[pool.submit(self._ask, *job)] = job
          # On the disk while the next requests are under way.
          self._writer.sync()
        for _ in done:
          on_page()
        if not running:
          if limit or not self._seen.waiting_hosts():
            return limit or 'done'
          time.sleep(self._pause_s())
        done, _ = futures.wait(
          running, self._pause_s(), futures.FIRST_COMPLETED
        )

  def summary(self, stopped: str) -> dict:
    counts = dict(sorted(self._counts.items()))
    n_pages, n_bytes = self._seen.size()
    return {
      'stopped': stopped,
      'pages': n_pages,
      'bytes': n_bytes,
      'crawl_seconds': round(counts.pop('seconds'), 3),
      'addresses': self._seen.outcomes(),
      'counts': {name: int(n) for name, n in counts.items()},
      'files': list(self._seen.warc_ends()),
      'n_seed_hosts': len(set(map(urls.name_of, self._seeds))),
      'down': self._seen.down(map(urls.name_of, self._seeds)),
    }

  def _limit_reached(self, n_running: int) -> str:
    cfg, (n_pages, n_bytes) = self._cfg, self._seen.size()
    limits = {
      # A request under way may fail, and then the crawl goes on.
      'max_pages': n_pages + n_running >= cfg.max_pages,
      'max_bytes': n_bytes >= cfg.max_bytes,
      'max_seconds': self._counts['seconds'] >= cfg.max_seconds,
    }
    return _first(limits)

  def _pause_s(self) -> float:
    """Seconds until the next host may be asked, at most one second."""
    now = time.monotonic()
    waits = [t - now for t in self._ready_at.values() if t > now]
    return min([*waits, 1.0])

  def _next_job(self, running: Iterable[_Job]) -> _Job | None:
    """The next request: (host, its page), or (host, None) for robots.txt."""
    now = time.monotonic()
    busy, entries = {host for host, _ in running}, []
    for host in self._seen.waiting_hosts():
      name = host.name
      if name in busy:
        continue
      reason = name in self._rules and self._why_left_alone(host)
      if reason:
        self._seen.close_waiting(name, reason)
      elif self._ready_at.get(name, 0.0) <= now:
        if name not in self._rules:
          return name, None
        if entry := self._next_allowed(name):
          entries.append(entry)
    entry = min(entries, key=lambda e: (e.depth, e.id), default=None)
    return entry and (entry.host, entry)

  def _why_left_alone(self, host: frontier.Host) -> str:
    cfg, rules = self._cfg, self._rules[host.name]
    reasons = {
      'robots_unavailable': rules.unavailable,
      'crawl_delay_too_long': rules.crawl_delay_s > cfg.max_crawl_delay_s,
      'max_host_errors': host.errors >= cfg.max_host_errors,
      'max_pages_per_host': host.pages >= cfg.max_pages_per_host,
      'max_bytes_per_host': host.bytes >= cfg.max_bytes_per_host,
    }
    return _first(reasons)

  def _next_allowed(self, host: str) -> frontier.Entry | None:
    while entry := self._seen.next_of(host):
      if self._rules[host].allows(entry.url):
        return entry
      self._seen.finish(entry, 'robots_disallowed')
    return None

  def _ask(self, host: str, entry: frontier.Entry | None):
    """What a thread does: a request and the reading of its answer."""
    if entry is None:
      return self._ask_robots(host)
    if entry.sitemap:
      response = self._get(entry.url, sitemaps.MAX_BYTES)
      return response, sitemaps.parse(response.body)
    response = self._get(entry.url, self._cfg.max_page_bytes, _HTML_TYPES)
    return response, signals.read(response, entry.url, self._cfg.user_agent)

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
    self._counts['seconds'] += now - self._mark
    self._mark = now
    if entry is None:
      wait_s = self._take_robots(name, *future.result())
    else:
      try:
        wait_s = self._take(entry, *future.result())
      except fetch.FetchError as error:
        logging.info('%s: %s', entry.url, error)
        wait_s = self._fail(entry, error.reason)
    if name in self._rules:
      wait_s = max(wait_s, self._rules[name].crawl_delay_s)
    self._ready_at[name] = time.monotonic() + max(wait_s, self._cfg.delay_s)

  def _take_robots(self, name: str, status: int, text: str) -> float:
    """Keeps the rules, or returns the seconds until they are asked again."""
    rules = robots.from_response(status, text, self._cfg.user_agent)
    host = self._seen.hosts[name]
    host.errors = host.errors + 1 if rules.unavailable else 0
    if rules.unavailable:
      self._counts[f'robots_{f"http_{status}" if status else text}'] += 1
      if host.errors < self._cfg.max_attempts:
        return self._backoff_s(host.errors)
    self._rules[name] = rules
    # Those that an earlier process queued are not counted again.
    new = [url for url in rules.sitemaps if self._seen.outcome(url) is None]
    self._add_sitemaps(name, new, 1)
    return 0.0

  def _backoff_s(self, n_failures: int) -> float:
    wait_s = self._cfg.retry_delay_s * 2.0 ** min(n_failures - 1, 16)
    return min(wait_s, self._cfg.max_crawl_delay_s)

  def _add_sitemaps(self, name: str, found: Sequence[str], nesting: int):
    room = self._cfg.max_sitemaps - self._seen.hosts[name].sitemaps
    used = found[: max(room, 0)] if nesting <= _MAX_SITEMAP_NESTING else ()
    if len(used) < len(found):
      self._counts['sitemaps_over_limit'] += len(found) - len(used)
    self._intake.add('sitemaps', used, depth=0, sitemap=nesting)

  def _take(self, entry: frontier.Entry, response: fetch.Response, found):
    """Takes an answer; returns the seconds that its host asks us to wait."""
    if 300 <= response.status < 400 and response.location:
      self._redirect(entry, response)
    elif response.status != 200:
      asked_s = _retry_after_s(response)
      return self._fail(entry, f'http_{response.status}', asked_s)
    elif entry.sitemap:
      self._seen.finish(entry, 'sitemap')
      if found.problem:
        self._counts[f'sitemaps_{found.problem}'] += 1
      self._intake.add('sitemap_links', found.pages, depth=1)
      self._add_sitemaps(entry.host, found.sitemaps, entry.sitemap + 1)
    elif response.content_type not in _HTML_TYPES:
      return self._fail(entry, f'type_{response.content_type or "missing"}')
    else:
      self._take_page(entry, response, found)
    self._seen.hosts[entry.host].errors = 0
    return 0.0

  def _redirect(self, entry: frontier.Entry, response: fetch.Response):
    if entry.redirects >= _MAX_REDIRECTS:
      self._seen.finish(entry, 'too_many_redirects')
      return
    target = urls.join(entry.url, response.location)
    with contextlib.suppress(ValueError):  # counted as unusable below
      if urls.host_of(urls.normalize(target)) != entry.host:
        self._counts['redirects_to_another_host'] += 1
    self._intake.add(
      'redirects',
      [target],
      depth=entry.depth,
      redirects=entry.redirects + 1,
      sitemap=entry.sitemap,
    )
    self._seen.finish(entry, 'redirect')

  def _take_page(self, entry, response, page: signals.Signals):
    """Stores a page unless it asks not to be, and queues its links."""
    self._intake.add('links', page.links, entry.depth + 1)
    if page.n_nofollow:
      self._counts['links_nofollow'] += page.n_nofollow
    is_copy = self._is_copy(entry, page.canonical)
    if page.noindex or is_copy:
      outcome = 'noindex' if page.noindex else 'not_canonical'
      self._seen.finish(entry, outcome)
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
      self._counts['canonicals_unusable'] += 1
    if url == entry.url:
      return False
    self._counts['pages_with_another_canonical'] += 1
    if not self._intake.holds(url):
      self._counts['canonicals_off_site'] += 1
      return False
    if urllib.parse.urlsplit(url).path == '/':
      self._counts['canonicals_of_front_page'] += 1
      return False
    # One link deeper: a row of canonical addresses may have no end.
    self._intake.add('canonicals', [url], entry.depth + 1)
    return self._seen.outcome(url) in ('stored', 'revisit')

  def _store(self, entry: frontier.Entry, response: fetch.Response):
    original = None
    if not response.truncated:  # what is cut is not known to be the same
      record = warc_write.original(entry.url, response)
      original = self._seen.original(response.digest, record)
    warc_file, warc_end = self._writer.append(
      warc_write.encode_response(entry.url, response, original)
      + warc_write.encode_request(entry.url, response)
    )
    self._seen.finish(
      entry,
      outcome='revisit' if original else 'stored',
      n_bytes=len(response.body),
      warc_file=warc_file,
      warc_end=warc_end,
    )
    self._counts['pages_cut_at_max_page_bytes'] += response.truncated

  def _fail(self, entry: frontier.Entry, outcome: str, asked_s=0.0) -> float:
    """Counts an attempt, and closes the address if it was the last one.

    Args:
      entry: the address.
      outcome: what went wrong.
      asked_s: seconds of Retry-After.

    Returns:
      Seconds to leave the host alone.
    """
    cfg, host = self._cfg, self._seen.hosts[entry.host]
    may_pass = outcome in _RETRIED or outcome.startswith('http_5')
    host.errors = host.errors + 1 if may_pass or outcome in _OF_HOST else 0
    retry_after_s = asked_s if may_pass else 0.0
    is_too_long = retry_after_s > cfg.max_crawl_delay_s
    if is_too_long:
      self._counts['retry_after_too_long'] += 1
    if may_pass and entry.attempts + 1 < cfg.max_attempts and not is_too_long:
      self._seen.retry(entry)
    else:
      self._seen.finish(entry, outcome)
    backoff_s = self._backoff_s(host.errors) if may_pass else 0.0
    return min(max(retry_after_s, backoff_s), cfg.max_crawl_delay_s)


def _first(reasons: Mapping[str, bool]) -> str:
  """The first that holds, '' if none does."""
  return next((reason for reason, holds in reasons.items() if holds), '')


def _retry_after_s(response: fetch.Response) -> float:
  """Seconds of a Retry-After, given as such or as a date; else 0."""
  try:
    value = response.header('Retry-After')
    return urllib3.Retry().parse_retry_after(value)
  except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
    return 0.0
