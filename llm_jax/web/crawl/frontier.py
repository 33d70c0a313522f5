"""Every address that a crawl saw and what became of it, on disk.

An SQLite database beside the WARC files. One transaction closes the pages that
came: their outcomes, places in the WARC and links. So a crawler that is killed
knows exactly which bytes of the WARC count, and asks again only for what was
under way.

It does NOT fetch or decide what to fetch; crawler.py does.
"""

import collections
import contextlib
import dataclasses
import errno
import os
import pathlib
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from llm_jax.web.crawl import urls, warc_write

_VERSION = 3
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS urls (
  id INTEGER PRIMARY KEY, url TEXT UNIQUE NOT NULL, host TEXT NOT NULL,
  depth INTEGER NOT NULL, redirects INTEGER NOT NULL, sitemap INTEGER NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  outcome TEXT,              -- NULL while the address waits
  bytes INTEGER,             -- of the body, if it is stored
  warc_file TEXT,
  warc_end INTEGER           -- offset behind its records
);
CREATE INDEX IF NOT EXISTS waiting ON urls (host, depth, id)
  WHERE outcome IS NULL;
CREATE TABLE IF NOT EXISTS payloads (
  digest BLOB PRIMARY KEY, record_id TEXT, url TEXT, date TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, n REAL NOT NULL);
PRAGMA user_version = {_VERSION};
"""
# Outcomes that say that a host cannot be reached or cannot answer now.
_DOWN = """(
  outcome IN ('timeout', 'connection', 'disconnect', 'certificate', 'tls',
    'bad_http', 'http_429', 'robots_unavailable', 'max_host_errors')
  OR outcome LIKE 'http_5__')
"""
_HAVE_PAGES = '(SELECT host FROM urls WHERE warc_file IS NOT NULL)'
# What a host holds follows from its addresses: a number that is stored a second
# time beside them could come to differ, and the crawl would never end.
_HOSTS = """
SELECT host, count(*), sum(outcome IS NULL), count(warc_file),
  ifnull(sum(bytes), 0), sum(sitemap > 0) FROM urls GROUP BY host ORDER BY host
"""


@dataclasses.dataclass(frozen=True)
class Entry:
  """An address that waits.

  Attributes:
    id: position in the order of discovery.
    url: normalised address.
    host: scheme, host and port.
    depth: links between a seed and this address.
    redirects: redirects in a row that led here.
    sitemap: 0 for a page, else how deep in an index a sitemap is, from 1.
    attempts: requests that failed so far.
  """

  id: int
  url: str
  host: str
  depth: int
  redirects: int
  sitemap: int
  attempts: int


@dataclasses.dataclass
class Host:
  """What is known of one host.

  Attributes:
    name: scheme, host and port.
    addresses: addresses that were added.
    waiting: those without an outcome.
    pages: pages stored, as a response or as a revisit.
    bytes: bytes of their bodies.
    sitemaps: sitemaps that the crawler chose to read.
    errors: failures in a row that speak of the host, not of a page, since
      this process began.
  """

  name: str
  addresses: int = 0
  waiting: int = 0
  pages: int = 0
  bytes: int = 0
  sitemaps: int = 0
  errors: int = 0


class Frontier:
  """The addresses of one crawl, in breadth-first order.

  Use only in the thread that made it. Every change happens inside
  `transaction()`; what a killed process had not committed never happened, and
  after an error inside one the object is of no use.

  Attributes:
    hosts: by name.
    counts: named counts; they become those of the next commit.
  """

  def __init__(self, path: pathlib.Path):
    """Opens or makes the database.

    Hosts that have been down and of which no page is stored are to be asked
    again, and a crawl without any page begins anew.

    Raises:
      ValueError: another version of this library made it.
      OSError: the disk is full.
    """
    self._database = sqlite3.connect(path, isolation_level=None)
    self.counts = collections.Counter[str]()
    try:
      with _disk_errors():
        version = self._value('PRAGMA user_version')
        if version != _VERSION and self._value('PRAGMA schema_version'):
          raise ValueError(
            f'{path} has format {version}, not {_VERSION}; crawl into a new '
            'folder'
          )
        self._do('PRAGMA journal_mode = WAL')
        self._do('PRAGMA synchronous = FULL')
        self._database.executescript(f'BEGIN;{_SCHEMA}COMMIT;')
        with self.transaction():
          self._ask_again()
        self.hosts = {row[0]: Host(*row) for row in self._do(_HOSTS)}
        self.counts.update(dict(self._do('SELECT * FROM counts')))
    except (OSError, ValueError):
      self.close()
      raise

  def size(self) -> tuple[int, int]:
    """Pages stored, and bytes of their bodies."""
    hosts = self.hosts.values()
    return sum(h.pages for h in hosts), sum(h.bytes for h in hosts)

  def _ask_again(self):
    self._do(
      f'UPDATE urls SET outcome = NULL, attempts = 0 WHERE {_DOWN} '
      f'AND host NOT IN {_HAVE_PAGES}'
    )
    if not self._value(f'SELECT count(*) FROM {_HAVE_PAGES}'):
      self._do('DELETE FROM urls')
      self._do('DELETE FROM counts')

  def _do(self, sql: str, *values) -> sqlite3.Cursor:
    return self._database.execute(sql, values)

  def _value(self, sql: str, *values) -> Any:
    """The first column of the first row, None if there is no row."""
    return next(self._do(sql, *values), (None,))[0]

  def close(self):
    """Closes the database."""
    self._database.close()

  @contextlib.contextmanager
  def transaction(self) -> Iterator[None]:
    """All changes inside, or none of them.

    Raises:
      OSError: the disk is full; the crawl can go on from the last commit.
    """
    with _disk_errors():
      self._do('BEGIN IMMEDIATE')
      try:
        yield
        rows = sorted(self.counts.items())
        sql = 'INSERT OR REPLACE INTO counts VALUES (?, ?)'
        self._database.executemany(sql, rows)
        self._do('COMMIT')
      except BaseException:
        with contextlib.suppress(sqlite3.Error):
          self._do('ROLLBACK')
        raise

  def add(self, url: str, depth: int, redirects: int = 0, sitemap: int = 0):
    """Appends an address unless it is known.

    Args:
      url: normalised address.
      depth: links between a seed and this address.
      redirects: redirects in a row that led here.
      sitemap: 0 for a page, else how deep in an index a sitemap is.
    """
    name = urls.host_of(url)
    host = self.hosts.setdefault(name, Host(name))
    is_new = self._do(
      'INSERT OR IGNORE INTO urls (url, host, depth, redirects, sitemap) '
      'VALUES (?, ?, ?, ?, ?)',
      *(url, name, depth, redirects, sitemap),
    ).rowcount
    host.addresses += is_new
    host.waiting += is_new
    host.sitemaps += is_new * bool(sitemap)

  def n_queries(self, path: str) -> int:
    """Addresses so far that differ only in their query."""
    # '@' follows '?', so this is a range of the index.
    sql = 'SELECT count(*) FROM urls WHERE url > ? AND url < ?'
    return self._value(sql, f'{path}?', f'{path}@')

  def next_of(self, name: str) -> Entry | None:
    """The first waiting address of a host in breadth-first order."""
    rows = self._do(
      'SELECT id, url, host, depth, redirects, sitemap, attempts FROM urls '
      'WHERE outcome IS NULL AND host = ? ORDER BY depth, id LIMIT 1',
      name,
    )
    return next((Entry(*row) for row in rows), None)

  def waiting_hosts(self) -> list[Host]:
    """Hosts with at least one waiting address."""
    return [host for host in self.hosts.values() if host.waiting]

  def finish(
    self,
    entry: Entry,
    outcome: str,
    n_bytes: int | None = None,
    warc_file: str | None = None,
    warc_end: int | None = None,
  ):
    """Closes a waiting address with its outcome; a page with where it is."""
    self._do(
      'UPDATE urls SET outcome = ?, bytes = ?, warc_file = ?, warc_end = ?, '
      'attempts = attempts + 1 WHERE id = ?',
      *(outcome, n_bytes, warc_file, warc_end, entry.id),
    )
    host = self.hosts[entry.host]
    host.waiting -= 1
    host.pages += bool(warc_file)
    host.bytes += n_bytes or 0

  def retry(self, entry: Entry):
    """Counts a failed attempt; the address goes on waiting."""
    self._do('UPDATE urls SET attempts = attempts + 1 WHERE id = ?', entry.id)

  def close_waiting(self, name: str, outcome: str):
    """Gives all that waits at a host one outcome."""
    self._do(
      'UPDATE urls SET outcome = ? WHERE outcome IS NULL AND host = ?',
      *(outcome, name),
    )
    self.hosts[name].waiting = 0

  def outcome(self, url: str) -> str | None:
    """The outcome of an address, '' if it waits, None if it is not known."""
    return self._value(
      "SELECT ifnull(outcome, '') FROM urls WHERE url = ?", url
    )

  def down(self, names: Iterable[str]) -> dict[str, str]:
    """Why hosts of these names are down, of which no page is stored."""
    reasons = {}
    for name in names:
      hosts = [h for h in self.hosts.values() if urls.name_of(h.name) == name]
      sql = f'SELECT outcome FROM urls WHERE host = ? AND {_DOWN}'
      found = [self._value(sql, host.name) for host in hosts]
      if any(found) and not any(host.pages for host in hosts):
        reasons[name] = ', '.join(filter(None, found))
    return reasons

  def outcomes(self) -> dict[str, int]:
    """Addresses by outcome, `waiting` for those without one."""
    return dict(
      self._do(
        "SELECT coalesce(outcome, 'waiting') AS o, count(*) FROM urls "
        'GROUP BY o ORDER BY o'
      )
    )

  def warc_ends(self) -> dict[str, int]:
    """Length of each WARC file up to the last record that counts."""
    return dict(
      self._do(
        'SELECT warc_file, max(warc_end) FROM urls '
        'WHERE warc_file IS NOT NULL GROUP BY warc_file ORDER BY warc_file'
      )
    )

  def original(
    self, digest: bytes, record: warc_write.Original
  ) -> warc_write.Original | None:
    """The record that holds a payload; None if it is new, and `record` will."""
    sql = 'SELECT record_id, url, date FROM payloads WHERE digest = ?'
    for row in self._do(sql, digest):
      return warc_write.Original(*row)
    self._do('INSERT INTO payloads VALUES (?, ?, ?, ?)', digest, *record)
    return None


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
  """SQLite's errors of a disk without room as the OSError that they are."""
  try:
    yield
  except sqlite3.OperationalError as error:
    if 'full' not in str(error) and 'disk I/O' not in str(error):
      raise
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
