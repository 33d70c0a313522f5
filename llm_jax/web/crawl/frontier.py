"""The crawler's memory on disk: every address it saw, and what became of it.

An SQLite database beside the WARC files. One transaction closes the pages that
came: their outcomes, places in the WARC and links. So a crawler that is killed
knows exactly which bytes of the WARC count, and asks again only for what was
under way.

It does NOT fetch or decide what to fetch; crawler.py does.
"""

import contextlib
import dataclasses
import errno
import os
import pathlib
import sqlite3
from collections.abc import Iterator

from llm_jax.web.crawl import warc_write

_VERSION = 2
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS urls (
  id INTEGER PRIMARY KEY,
  url TEXT UNIQUE NOT NULL,
  host TEXT NOT NULL,
  depth INTEGER NOT NULL,
  redirects INTEGER NOT NULL,
  sitemap INTEGER NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  outcome TEXT,              -- NULL while the address waits
  warc_file TEXT,
  warc_end INTEGER           -- offset behind its records
);
CREATE INDEX IF NOT EXISTS waiting ON urls (host, depth, id)
  WHERE outcome IS NULL;
CREATE TABLE IF NOT EXISTS hosts (
  host TEXT PRIMARY KEY, addresses INTEGER, waiting INTEGER, pages INTEGER,
  bytes INTEGER, errors INTEGER
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS robots (
  host TEXT PRIMARY KEY, status INTEGER, text TEXT, seconds REAL
);
CREATE TABLE IF NOT EXISTS payloads (
  digest BLOB PRIMARY KEY, record_id TEXT, url TEXT, date TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS queries (
  path TEXT PRIMARY KEY, n INTEGER
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, n REAL NOT NULL);
PRAGMA user_version = {_VERSION};
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
  """What is known of one host; changes are kept with the next commit.

  Attributes:
    name: scheme, host and port.
    addresses: addresses that were added.
    waiting: those without an outcome.
    pages: pages stored, as a response or as a revisit.
    bytes: bytes of their bodies.
    errors: failures in a row that speak of the host, not of a page.
  """

  name: str
  addresses: int = 0
  waiting: int = 0
  pages: int = 0
  bytes: int = 0
  errors: int = 0


class Frontier:
  """The addresses of one crawl, in breadth-first order.

  Use only in the thread that made it. Every change happens inside
  `transaction()`; what a killed process had not committed never happened, and
  after an error inside one the object is of no use.

  Attributes:
    hosts: by name.
    counts: named counts.
  """

  def __init__(self, path: pathlib.Path):
    """Opens or makes the database.

    Raises:
      ValueError: another version of this library made it.
      OSError: the disk is full.
    """
    self._database = sqlite3.connect(path, isolation_level=None)
    try:
      with _disk_errors():
        (version,) = self._database.execute('PRAGMA user_version').fetchone()
        is_new = not self._database.execute('PRAGMA schema_version').fetchone()[
          0
        ]
        if not is_new and version != _VERSION:
          raise ValueError(
            f'{path} has format {version}, not {_VERSION}; crawl into a new '
            'folder'
          )
        self._database.execute('PRAGMA journal_mode = WAL')
        self._database.execute('PRAGMA synchronous = FULL')
        self._database.executescript(f'BEGIN;{_SCHEMA}COMMIT;')
        self.hosts = {
          row[0]: Host(*row)
          for row in self._database.execute('SELECT * FROM hosts ORDER BY host')
        }
        self.counts: dict[str, float] = dict(
          self._database.execute('SELECT * FROM counts')
        )
    except (OSError, ValueError):
      self.close()
      raise
    self._kept_hosts = {
      name: tuple(vars(host).values()) for name, host in self.hosts.items()
    }
    self._kept_counts = dict(self.counts)

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
      self._database.execute('BEGIN IMMEDIATE')
      try:
        yield
        self._keep()
        self._database.execute('COMMIT')
      except BaseException:
        with contextlib.suppress(sqlite3.Error):
          self._database.execute('ROLLBACK')
        raise

  def _keep(self):
    """Writes the hosts and counts that changed."""
    hosts = {n: tuple(vars(host).values()) for n, host in self.hosts.items()}
    self._database.executemany(
      'INSERT OR REPLACE INTO hosts VALUES (?, ?, ?, ?, ?, ?)',
      [row for n, row in hosts.items() if row != self._kept_hosts.get(n)],
    )
    changed = self.counts.items() - self._kept_counts.items()
    self._database.executemany(
      'INSERT OR REPLACE INTO counts VALUES (?, ?)', sorted(changed)
    )
    self._kept_hosts, self._kept_counts = hosts, dict(self.counts)

  def knows(self, url: str) -> bool:
    """True if the address was added."""
    return bool(
      self._database.execute(
        'SELECT 1 FROM urls WHERE url = ?', (url,)
      ).fetchone()
    )

  def add(
    self, url: str, name: str, depth: int, redirects: int = 0, sitemap: int = 0
  ) -> bool:
    """Appends an address unless it is known; True if it was new.

    Args:
      url: normalised address.
      name: its scheme, host and port.
      depth: links between a seed and this address.
      redirects: redirects in a row that led here.
      sitemap: 0 for a page, else how deep in an index a sitemap is.
    """
    host = self.hosts.setdefault(name, Host(name))
    cursor = self._database.execute(
      'INSERT OR IGNORE INTO urls (url, host, depth, redirects, sitemap) '
      'VALUES (?, ?, ?, ?, ?)',
      (url, name, depth, redirects, sitemap),
    )
    host.addresses += cursor.rowcount
    host.waiting += cursor.rowcount
    return cursor.rowcount == 1

  def count_query(self, path: str):
    """Counts one more address of a path that has a query."""
    self._database.execute(
      'INSERT INTO queries VALUES (?, 1) '
      'ON CONFLICT (path) DO UPDATE SET n = n + 1',
      (path,),
    )

  def n_queries(self, path: str) -> int:
    """Addresses so far that differ only in their query."""
    row = self._database.execute(
      'SELECT n FROM queries WHERE path = ?', (path,)
    ).fetchone()
    return row[0] if row else 0

  def n_sitemaps(self) -> dict[str, int]:
    """Sitemaps that were added, by host."""
    return dict(
      self._database.execute(
        'SELECT host, count(*) FROM urls WHERE sitemap > 0 GROUP BY host'
      )
    )

  def next_of(self, name: str) -> Entry | None:
    """The first waiting address of a host in breadth-first order."""
    row = self._database.execute(
      'SELECT id, url, host, depth, redirects, sitemap, attempts FROM urls '
      'WHERE outcome IS NULL AND host = ? ORDER BY depth, id LIMIT 1',
      (name,),
    ).fetchone()
    return Entry(*row) if row else None

  def waiting_hosts(self) -> list[Host]:
    """Hosts with at least one waiting address."""
    return [host for host in self.hosts.values() if host.waiting]

  def finish(
    self,
    entry: Entry,
    outcome: str,
    warc_file: str | None = None,
    warc_end: int | None = None,
  ):
    """Closes a waiting address with its outcome, and its records' place."""
    self._database.execute(
      'UPDATE urls SET outcome = ?, warc_file = ?, warc_end = ?, '
      'attempts = attempts + 1 WHERE id = ?',
      (outcome, warc_file, warc_end, entry.id),
    )
    self.hosts[entry.host].waiting -= 1

  def retry(self, entry: Entry):
    """Counts a failed attempt; the address goes on waiting."""
    self._database.execute(
      'UPDATE urls SET attempts = attempts + 1 WHERE id = ?', (entry.id,)
    )

  def close_waiting(self, name: str, outcome: str):
    """Gives all that waits at a host one outcome."""
    self._database.execute(
      'UPDATE urls SET outcome = ? WHERE outcome IS NULL AND host = ?',
      (outcome, name),
    )
    self.hosts[name].waiting = 0

  def outcome(self, url: str) -> str:
    """The outcome of an address, '' if it waits or is not known."""
    row = self._database.execute(
      'SELECT outcome FROM urls WHERE url = ?', (url,)
    ).fetchone()
    return (row and row[0]) or ''

  def count(self, name: str, n: float = 1):
    """Adds to a named count."""
    self.counts[name] = self.counts.get(name, 0) + n

  def outcomes(self) -> dict[str, int]:
    """Addresses by outcome, `waiting` for those without one."""
    rows = self._database.execute(
      "SELECT coalesce(outcome, 'waiting') AS o, count(*) FROM urls "
      'GROUP BY o ORDER BY o'
    )
    return dict(rows)

  def warc_ends(self) -> dict[str, int]:
    """Length of each WARC file up to the last record that counts."""
    return dict(
      self._database.execute(
        'SELECT warc_file, max(warc_end) FROM urls '
        'WHERE warc_file IS NOT NULL GROUP BY warc_file ORDER BY warc_file'
      )
    )

  def seen(self, digest: bytes) -> warc_write.Original | None:
    """The record that holds a payload, None if it is a new one."""
    row = self._database.execute(
      'SELECT record_id, url, date FROM payloads WHERE digest = ?', (digest,)
    ).fetchone()
    return warc_write.Original(*row) if row else None

  def set_seen(self, digest: bytes, record: warc_write.Original):
    """Remembers the record that holds a payload."""
    self._database.execute(
      'INSERT INTO payloads VALUES (?, ?, ?, ?)',
      (digest, record.record_id, record.url, record.date),
    )

  def set_robots(self, name: str, status: int, text: str, seconds: float):
    """Remembers what a host answered to /robots.txt, and when."""
    self._database.execute(
      'INSERT OR REPLACE INTO robots VALUES (?, ?, ?, ?)',
      (name, status, text, seconds),
    )

  def robots(self, since: float) -> dict[str, tuple[int, str]]:
    """Status and text of /robots.txt of each host asked at `since` or later."""
    rows = self._database.execute(
      'SELECT host, status, text FROM robots WHERE seconds >= ? ORDER BY host',
      (since,),
    )
    return {host: (status, text) for host, status, text in rows}


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
  """SQLite's errors of a disk without room as the OSError that they are."""
  try:
    yield
  except sqlite3.OperationalError as error:
    if 'full' not in str(error) and 'disk I/O' not in str(error):
      raise
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
