"""What a crawl lets into its frontier: hosts, depth, and no traps.

Every address that is offered is counted under one name, `<kind>_<verdict>`.
It does NOT know robots.txt, which is asked when an address has its turn.
"""

import dataclasses
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
    max_query_variants: addresses beyond so many that differ only in their
      query, such as a calendar's, count as a trap.
  """

  max_depth: int = 8
  include_subdomains: bool = False
  max_off_site_hosts: int = 0
  max_addresses_per_host: int = 1_000_000
  max_query_variants: int = 500


class Intake:
  """Judges addresses and queues those inside the scope."""

  def __init__(self, cfg: Scope, seeds: list[str], seen: frontier.Frontier):
    self._cfg, self._seen = cfg, seen
    # Without scheme and port, so that a step from http to https stays inside.
    self._seeds = {urls.name_of(seed) for seed in seeds}
    known = {urls.name_of(host) for host in seen.hosts}
    self._others = {name for name in known if not self._is_near(name)}

  def is_seed(self, url: str) -> bool:
    """True if the address is on a host that was given, not found."""
    return urls.name_of(url) in self._seeds

  def _is_near(self, name: str) -> bool:
    return name in self._seeds or (
      self._cfg.include_subdomains
      and any(name.endswith(f'.{seed}') for seed in self._seeds)
    )

  def holds(self, url: str) -> bool:
    """True if the address is on a host that the crawl asks already."""
    name = urls.name_of(url)
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
      try:
        url = urls.normalize(link)
      except ValueError:
        self._seen.counts[f'{kind}_unusable'] += 1
        continue
      # A redirect to an address with a session id is the only way to the page.
      if kind != 'redirects' and urls.without_session(url) != url:
        self._seen.counts['session_ids_removed'] += 1
        url = urls.without_session(url)
      verdict = self._verdict(url, depth)
      self._seen.counts[f'{kind}_{verdict}'] += 1
      if verdict == 'new':
        if not self.holds(url):
          self._others.add(urls.name_of(url))
        self._seen.add(url, depth=depth, redirects=redirects, sitemap=sitemap)

  def _verdict(self, url: str, depth: int) -> str:
    cfg, seen = self._cfg, self._seen
    if seen.outcome(url) is not None:
      return 'known'
    if not self.holds(url) and len(self._others) >= cfg.max_off_site_hosts:
      return 'off_site'
    if depth > cfg.max_depth:
      return 'too_deep'
    if trap := urls.trap(url):
      return f'trap_{trap}'
    path, query, _ = url.partition('?')
    if query and seen.n_queries(path) >= cfg.max_query_variants:
      return 'trap_queries'
    host = seen.hosts.get(urls.host_of(url))
    if host and host.addresses >= cfg.max_addresses_per_host:
      return 'over_host_limit'
    return 'new'
