"""Crawls a web site into WARC files.

  python -m experiments.crawl --workdir runs/speedrun/crawl \
      --gin_file gin_configs/crawl_pydoc.gin
  python -m experiments.crawl --workdir runs/site/crawl \
      --seed_url https://example.org/

It obeys robots.txt with its Crawl-delay, reads the sitemaps that it names, and
keeps to the seeds' hosts; Crawl and its Scope hold the limits. Each page is a
response record, or a revisit record if its payload is known, and a request.
Seeds' hosts that are down are named in a warning and in done.json. It fails,
and can be run again, if all of them are down or no page is stored.

Without --seed_url it starts tools/pydoc_site on loopback, the documentation of
this Python's standard library, and crawls that. The site answers under a fixed
name whatever its port is, so pages have the same addresses in each run.

Hardware: 2 CPU cores, one connection to each host. Time: 14 s.
Result: 528 pages, 16.5 MB of HTML (Python 3.11).
"""

import contextlib
import dataclasses
import pathlib
import platform
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator, Sequence

from absl import logging

from experiments import command_line
from llm_jax import record
from llm_jax.web.crawl import crawler

_SITE_URL = 'http://pydoc.localhost/'


@dataclasses.dataclass(frozen=True)
class Config:
  """Limits and manners of the crawler."""

  crawl: crawler.Crawl = crawler.Crawl()


def run(
  cfg: Config,
  workdir: str,
  seed_url: Sequence[str] = (),
  ca_file: str | None = None,
):
  """Crawls the seeds, or the documentation of this Python."""
  folder = pathlib.Path(workdir)
  inputs = {f'seed_url {url}': url for url in seed_url}
  if not seed_url:
    inputs['site'] = f'pydoc of Python {platform.python_version()}'
  if record.begin(folder, 'crawl', cfg, inputs=inputs):
    logging.info('%s is finished', folder)
    return

  def tick():
    record.tick(folder)

  with contextlib.nullcontext() if seed_url else _pydoc_site() as addresses:
    summary = crawler.crawl(
      cfg.crawl,
      seed_url or [_SITE_URL],
      folder,
      addresses=addresses,
      on_page=tick,
      ca_file=pathlib.Path(ca_file) if ca_file else None,
    )
  _refuse_unfinished(summary)
  outcomes = ', '.join(f'{n} {how}' for how, n in summary['addresses'].items())
  size = f'{summary["pages"]:,} pages with {summary["bytes"] / 1e6:.1f} MB'
  result = f'{size}, stopped: {summary["stopped"]}; by outcome: {outcomes}'
  record.finish(folder, summary | {'result': result})


def _refuse_unfinished(summary: dict):
  """Names seeds' hosts that are down; one among many stops no crawl for ever.

  Raises:
    OSError: each of them is down, or the others gave no page.
    ValueError: none is down, and none gave a page.
  """
  n_pages, n_up = summary['pages'], summary['n_seed_hosts']
  n_up -= len(summary['down'])
  down = ', '.join(f'{h} ({why})' for h, why in summary['down'].items())
  if down and not (n_pages and n_up):
    raise OSError(
      f'{down} could not be reached; give the same command again when it can '
      f'({n_pages} pages of others are kept), or other seeds with another '
      '--workdir'
    )
  if down:
    logging.warning(
      '%s could not be reached and gave no page; the crawl is finished without '
      'it: crawl it into another --workdir when it can be reached',
      down,
    )
  if not n_pages:
    raise ValueError(
      f'no page was stored; addresses by outcome: {summary["addresses"]}, '
      f'stopped: {summary["stopped"]}; give the same command again when the '
      'site lets a crawler in, or other seeds with another --workdir'
    )


@contextlib.contextmanager
def _pydoc_site() -> Iterator[dict[str, tuple[str, int]]]:
  """Runs the site; yields where to connect for its name."""
  root = pathlib.Path(__file__).resolve().parent.parent
  # A process of its own: it imports the whole standard library.
  site = subprocess.Popen(
    [sys.executable, '-m', 'tools.pydoc_site', '--port=0'],
    cwd=root,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
  )
  try:
    assert site.stdout is not None
    url = site.stdout.readline().strip()
    if not url:
      raise OSError(
        f'tools.pydoc_site ended with code {site.wait()} before it listened; '
        'run `python -m tools.pydoc_site` to see why'
      )
    parts = urllib.parse.urlsplit(url)
    yield {'pydoc.localhost:80': (parts.hostname or '', parts.port or 0)}
  finally:
    site.terminate()
    site.wait()


if __name__ == '__main__':
  command_line.main(
    Config,
    run,
    seed_url="page to start from; default: this Python's pydoc",
    ca_file="certificates to trust in place of the system's",
  )
