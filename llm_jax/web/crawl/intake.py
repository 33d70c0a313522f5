"""What a crawl lets into its frontier: hosts, depth, and no traps.

Every address that is offered is counted under one name, `<kind>_<verdict>`.
It does NOT know robots.txt, which is asked when an address has its turn.
"""

import dataclasses
import urllib.parse
from collections.abc import Iterable

from llm_jax.web.crawl import frontier, urls


@dataclasses.dataclass(frozen=True)
class Scope:
  """Where a crawl may go.

  Attributes:
    max_depth: links between a seed and a page; deeper links are counted.
    include_subdomains: hosts below a seed's host belong to it.
    max_off_site_hosts: other hosts that links may lead to; servers in private
      networks are refused there. 0 stays on the seeds' hosts.
    max_addresses_per_host: what a host may fill the frontier with.
    max_path_segments: a path of more parts counts as a trap.
    max_segment_repeats: so does one with a part that occurs more often.
    max_query_variants: and addresses beyond so many that differ only in
      their query, such as a calendar's.
    remove_session_ids: take the id of a visit out of links.
  """

  max_depth: int = 8
  include_subdomains: bool = False
  max_off_site_hosts: int = 0
  max_addresses_per_host: int = 1_000_000
  max_path_segments: int = 20
  max_segment_repeats: int = 3
  max_query_variants: int = 500
  remove_session_ids: bool = True


class Intake:
  """Judges addresses and queues those inside the scope."""

  def __init__(self, cfg: Scope, seeds: list[str], memory: frontier.Frontier):
    self._cfg, self._memory = cfg, memory
    # Without scheme and port, so that a step from http to https stays inside.
    self._seeds = {_name(seed) for seed in seeds}
    known = {_name(host) for host in memory.hosts}
    self._others = {name for name in known if not self._is_near(name)}

  def is_seed(self, url: str) -> bool:
    """True if the address is on a host that was given, not found."""
    return _name(url) in self._seeds

  def _is_near(self, name: str) -> bool:
    return name in self._seeds or (
      self._cfg.include_subdomains
      and any(name.endswith(f'.{seed}') for seed in self._seeds)
    )

  def holds(self, url: str) -> bool:
    """True if the address is on a host that the crawl asks already."""
    name = _name(url)
    return self._is_near(name) or name in self._others

  def add(
    self,
    kind: str,
    found: Iterable[str],
    depth: int,
    redirects: int = 0,
    sitemap: int = 0,
  ):
    """Queues addresses, or counts why not.

    Args:
      kind: what offers them: `links`, `redirects`, `canonicals`, `sitemaps`
        or `sitemap_links`.
      found: absolute addresses as written; repetitions count once.
      depth: links between a seed and them.
      redirects: redirects in a row that led to them.
      sitemap: 0 for pages, else how deep in an index they are.
    """
    for link in dict.fromkeys(found):
      verdict = self._add(kind, link, depth, redirects, sitemap)
      self._memory.count(f'{kind}_{verdict}')

  def _add(self, kind, link: str, depth, redirects, sitemap) -> str:
    cfg, memory = self._cfg, self._memory
    try:
      url = urls.normalize(link)
    except ValueError:
      return 'unusable'
    # A redirect to an address with a session id is the only way to the page.
    if cfg.remove_session_ids and kind != 'redirects':
      stripped = urls.without_session(url)
      if stripped != url:
        memory.count('session_ids_removed')
        url = stripped
    if memory.knows(url):
      return 'known'
    if not self.holds(url) and len(self._others) >= cfg.max_off_site_hosts:
      return 'off_site'
    if depth > cfg.max_depth:
      return 'too_deep'
    trap = urls.trap(url, cfg.max_path_segments, cfg.max_segment_repeats)
    if trap:
      return f'trap_{trap}'
    name = urls.host_of(url)
    path, has_query, _ = url.partition('?')
    if has_query and memory.n_queries(path) >= cfg.max_query_variants:
      return 'trap_queries'
    host = memory.hosts.get(name)
    if host and host.addresses >= cfg.max_addresses_per_host:
      return 'over_host_limit'
    if not self.holds(url):
      self._others.add(_name(url))
    if has_query:
      memory.count_query(path)
    memory.add(url, name, depth, redirects, sitemap)
    return 'new'


def _name(url: str) -> str:
  return urllib.parse.urlsplit(url).hostname or ''
