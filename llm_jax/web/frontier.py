"""The crawler's memory on disk: every address it saw, and what became of it.

An SQLite database beside the WARC files. One transaction closes one page: its
outcome, its place in the WARC and the links it brought. So a crawler that is
killed knows exactly which bytes of the WARC count, and asks no page twice.

It does NOT fetch or decide what to fetch; crawl.py does.
"""

import contextlib
import dataclasses
import errno
import os
import pathlib
import sqlite3
from collections.abc import Iterator

_SCHEMA = """
CREATE TABLE IF NOT EXISTS urls (
  id INTEGER PRIMARY KEY,
  url TEXT UNIQUE NOT NULL,
  host TEXT NOT NULL,
  depth INTEGER NOT NULL,
  redirects INTEGER NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  outcome TEXT,              -- NULL while the address waits
  warc_file TEXT,
  warc_end INTEGER           -- offset behind the record
);
CREATE INDEX IF NOT EXISTS waiting ON urls (host, depth, id)
  WHERE outcome IS NULL;
CREATE TABLE IF NOT EXISTS hosts (
  host TEXT PRIMARY KEY, robots_status INTEGER, robots_text TEXT
);
CREATE TABLE IF NOT EXISTS counts (
  name TEXT PRIMARY KEY, n REAL NOT NULL
);
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
    attempts: requests that failed so far.
  """

  id: int
  url: str
  host: str
  depth: int
  redirects: int
  attempts: int


class Frontier:
  """The addresses of one crawl, in breadth-first order.

  Use only in the thread that made it. Every change happens inside
  `transaction()`; what a killed process had not committed never happened.
  """

  def __init__(self, path: pathlib.Path):
    self._database = sqlite3.connect(path, isolation_level=None)
    try:
      with _disk_errors():
        self._database.execute('PRAGMA journal_mode = WAL')
        # A commit is on the disk before the next request leaves.
        self._database.execute('PRAGMA synchronous = FULL')
        self._database.executescript(_SCHEMA)
    except OSError:
      self.close()
      raise

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
        self._database.execute('COMMIT')
      except BaseException:
        with contextlib.suppress(sqlite3.Error):
          self._database.execute('ROLLBACK')
        raise

  def add(self, url: str, host: str, depth: int, redirects: int = 0) -> bool:
    """Appends an address unless it is known; True if it was new."""
    cursor = self._database.execute(
      'INSERT OR IGNORE INTO urls (url, host, depth, redirects) '
      'VALUES (?, ?, ?, ?)',
      (url, host, depth, redirects),
    )
    return cursor.rowcount == 1

  def next_of(self, host: str) -> Entry | None:
    """The first waiting address of a host in breadth-first order."""
    row = self._database.execute(
      'SELECT id, url, host, depth, redirects, attempts FROM urls '
      'WHERE outcome IS NULL AND host = ? ORDER BY depth, id LIMIT 1',
      (host,),
    ).fetchone()
    return Entry(*row) if row else None

  def waiting_hosts(self) -> list[str]:
    """Hosts with at least one waiting address, sorted."""
    rows = self._database.execute(
      'SELECT DISTINCT host FROM urls WHERE outcome IS NULL ORDER BY host'
    )
    return [host for (host,) in rows]

  def finish(
    self,
    entry: Entry,
    outcome: str,
    warc_file: str | None = None,
    warc_end: int | None = None,
  ):
    """Closes an address with its outcome, and its record if it has one."""
    self._database.execute(
      'UPDATE urls SET outcome = ?, warc_file = ?, warc_end = ?, '
      'attempts = attempts + 1 WHERE id = ?',
      (outcome, warc_file, warc_end, entry.id),
    )

  def retry(self, entry: Entry):
    """Counts a failed attempt; the address goes on waiting."""
    self._database.execute(
      'UPDATE urls SET attempts = attempts + 1 WHERE id = ?', (entry.id,)
    )

  def close_waiting(self, host: str, outcome: str):
    """Closes all waiting addresses of a host with one outcome."""
    self._database.execute(
      'UPDATE urls SET outcome = ? WHERE outcome IS NULL AND host = ?',
      (outcome, host),
    )

  def count(self, name: str, n: float = 1):
    """Adds to a named count."""
    self._database.execute(
      'INSERT INTO counts VALUES (?, ?) '
      'ON CONFLICT (name) DO UPDATE SET n = n + excluded.n',
      (name, n),
    )

  def counts(self) -> dict[str, float]:
    """All named counts, sorted by name."""
    return dict(self._database.execute('SELECT * FROM counts ORDER BY name'))

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

  def set_robots(self, host: str, status: int, text: str):
    """Remembers what a host answered to /robots.txt."""
    self._database.execute(
      'INSERT OR REPLACE INTO hosts VALUES (?, ?, ?)', (host, status, text)
    )

  def robots(self) -> dict[str, tuple[int, str]]:
    """Status and text of /robots.txt of each host that was asked."""
    rows = self._database.execute('SELECT * FROM hosts ORDER BY host')
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
