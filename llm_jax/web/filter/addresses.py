"""Removes pages by their address: listed hosts, listed addresses, words.

The lists are in the layout of UT1 (Université Toulouse Capitole) and of
squidGuard: `<folder>/<category>/domains` and `.../urls`, one entry a line,
also as `.gz`, or flat as `<category>.domains.txt.gz`. They mean what they
mean there: a domain stands for all hosts below it, an address for all pages
below it, without case, `www.`, user and port. Small lists of well known hosts
ship with the library; they are a start, not a filter of the web.

It does NOT look at a page, and does not know who owns a host: without a list
of public suffixes every parent of a host is looked up, which is the same as
long as no list holds a public suffix.

Source: Penedo et al., arXiv:2406.17557, section 3.1, and arXiv:2306.01116,
appendix on URL filtering, for the method and for the categories of UT1.
"""

import contextlib
import dataclasses
import io
import itertools
import pathlib
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from llm_jax import files
from llm_jax.web.dedup import hashes

_DEFAULT_LISTS = pathlib.Path(__file__).with_name('blocklist')
_LIST = re.compile(r'([^/]+)(?:/|\.)(domains|urls)(?:\.txt)?(?:\.gz)?')
_WORD = re.compile('[a-z0-9]+')
_WWW = re.compile(r'^www[0-9]{0,2}\.(?=.+\.)')
_AUTHORITY_END = re.compile('[/?]')
_PART_END = re.compile('[/?&;=]')
# A page has few parents; an address made of slashes must not cost more.
_MAX_PARTS = 64
_MAX_HOST = 254  # characters; no longer host has an address
_BLOCK = 1 << 18  # entries hashed at a time
_CATEGORIES = """adult mixed_adult malware phishing cryptojacking stalkerware
ddos agressif gambling arjel dating chat filehosting warez"""
_HARD_WORDS = """blowjob blowjobs bukkake camgirls camsex creampie cumshot
cumshots deepthroat gangbang hentai milf milfs porn porno pornos pornstar
pornstars sexcam sexcams shemale xnxx xvideos"""
_SOFT_WORDS = """adult amateur anal ass bdsm betting bitch blackjack bonus
boobs casino casinos cialis cock dick ebony erotic escort escorts fetish fuck
fucking horny hot jackpot lesbian levitra naked naughty nude nudes orgy poker
pussy roulette sex sexy slots slut sluts teen teens tits topless viagra
webcam whore xxx"""


@dataclasses.dataclass(frozen=True)
class UrlFilter:
  """Which addresses are removed.

  Attributes:
    enabled: whether addresses are looked at.
    categories: lists that remove; of those in two the first counts. Empty
      for every category that the folders have, press and banks included.
    allowed_categories: lists whose entries are kept whatever else names them.
    use_default_list: whether the hosts that ship with the library are used.
    hard_words: one of them in the address removes it.
    soft_words: several of them remove it.
    min_soft_words: how many different ones.
  """

  enabled: bool = True
  categories: tuple[str, ...] = tuple(_CATEGORIES.split())
  allowed_categories: tuple[str, ...] = ()
  use_default_list: bool = True
  hard_words: tuple[str, ...] = tuple(_HARD_WORDS.split())
  soft_words: tuple[str, ...] = tuple(_SOFT_WORDS.split())
  min_soft_words: int = 2

  def __post_init__(self):
    both = set(self.categories) & set(self.allowed_categories)
    if both:
      raise ValueError(f'categories and allowed_categories share {both}')
    if self.min_soft_words < 1:
      raise ValueError(f'min_soft_words {self.min_soft_words} is less than 1')


def build(
  cfg: UrlFilter, folders: Sequence[pathlib.Path], path: files.Path
) -> dict[str, int]:
  """Writes one file from lists; memory is about 50 bytes an entry.

  Args:
    cfg: the categories.
    folders: lists in the layout of UT1.
    path: the file for `hashes.read`.

  Returns:
    Entries read by category; a chosen category without a list is left out.

  Raises:
    ValueError: a folder has no list of a chosen category.
  """
  found: dict[str, list[tuple[str, pathlib.Path]]] = {}
  for folder in [*folders, *([_DEFAULT_LISTS] if cfg.use_default_list else [])]:
    lists = list(_lists(folder))
    used = set(cfg.categories + cfg.allowed_categories)
    if cfg.categories and used.isdisjoint(name for name, *_ in lists):
      raise ValueError(
        f'{folder} has no list of the chosen categories, but '
        f'{sorted({name for name, *_ in lists})[:9]}; it must hold '
        '<category>/domains or <category>/urls'
      )
    for name, kind, file_path in lists:
      found.setdefault(name, []).append((kind, file_path))
  others = sorted(set(found) - set(cfg.allowed_categories))
  names = cfg.allowed_categories + (cfg.categories or tuple(others))
  parts, counts = [], {}
  for code, name in enumerate(names):
    for kind, file_path in found.get(name, []):
      for block in _hashed_entries(kind, file_path):
        parts.append((block, code))
        counts[name] = counts.get(name, 0) + len(block)
  metadata = {'categories': names, 'n_allowed': len(cfg.allowed_categories)}
  hashes.write(path, metadata, parts)
  return counts


def reject(cfg: UrlFilter, blocklist: hashes.Table, url: str) -> str:
  """Reason to remove a page, '' to keep it; no address makes it fail.

  Args:
    cfg: the words; the categories are those that `blocklist` was built with.
    blocklist: the lists.
    url: the page's address.

  Returns:
    `domain_<category>`, `url_<category>` or `words`. A listed parent counts
    as much as the host itself; an allowed one overrules all.
  """
  if not cfg.enabled:
    return ''
  host, rest = _split(url)
  domains = _parents(host)
  keys = hashes.of_strings(domains + _prefixes(host, rest))
  codes = blocklist.find(keys)
  if len(codes):
    code = int(codes.min())
    if code < blocklist.metadata['n_allowed']:
      return ''
    is_domain = code in blocklist.find(keys[: len(domains)])
    category = blocklist.metadata['categories'][code]
    return f'{"domain" if is_domain else "url"}_{category}'
  words = set(_WORD.findall(f'{host} {rest}'))
  if not words.isdisjoint(cfg.hard_words):
    return 'words'
  if len(words.intersection(cfg.soft_words)) >= cfg.min_soft_words:
    return 'words'
  return ''


def _split(url: str) -> tuple[str, str]:
  """Host, and path with query, both as they are compared."""
  url = url.strip().partition('#')[0].replace('\\', '/').lower()
  scheme, separator, rest = url.partition('//')
  if not separator or '/' in scheme or scheme[-1:] not in ('', ':'):
    rest = url
  authority = _AUTHORITY_END.split(rest, maxsplit=1)[0]
  rest = rest[len(authority) :]
  if '%' in rest:
    rest = urllib.parse.unquote(rest)
  return _host(authority.rpartition('@')[2]), rest.strip('/')


def _host(authority: str) -> str:
  if authority.startswith('['):
    return authority[1:].partition(']')[0]
  if authority.count(':') > 1:  # lists have IPv6 addresses without brackets
    return authority
  host = authority.partition(':')[0]
  if '%' in host:
    host = urllib.parse.unquote(host)
  if not host.isascii() and len(host) < _MAX_HOST:
    with contextlib.suppress(UnicodeError):  # else no list can name it
      host = host.encode('idna').decode()
  return host.strip('.')


def _parents(host: str) -> list[str]:
  """The host and all domains above it."""
  labels = host.split('.')[-_MAX_PARTS:] if host else []
  return ['.'.join(labels[i:]) for i in range(len(labels))]


def _prefixes(host: str, rest: str) -> list[str]:
  """The address as lists have it, and the parts of it that an entry may be."""
  host = _WWW.sub('', host) + '/'
  ends = itertools.islice(_PART_END.finditer(rest), _MAX_PARTS)
  return [host + rest, host, *(host + rest[: end.start()] for end in ends)]


def _lists(folder: pathlib.Path) -> Iterator[tuple[str, str, pathlib.Path]]:
  """Category, kind and path of each list of a folder."""
  for path in sorted([*folder.glob('*'), *folder.glob('*/*')]):
    match = _LIST.fullmatch(path.relative_to(folder).as_posix())
    if match and path.is_file():
      yield match[1], match[2], path


def _hashed_entries(kind: str, path: pathlib.Path) -> Iterator[np.ndarray]:
  with (
    files.opened(path) as raw,
    io.TextIOWrapper(raw, 'utf-8', 'surrogateescape') as file,
  ):
    keys = _keys(file, kind)
    while block := list(itertools.islice(keys, _BLOCK)):
      yield hashes.of_strings(block)


def _keys(lines: Iterable[str], kind: str) -> Iterator[str]:
  for line in lines:
    entry = line.strip()
    if not entry or entry.startswith('#'):
      continue
    if kind == 'domains':
      yield _host(entry.lower())
    else:
      yield _prefixes(*_split(entry))[0]
