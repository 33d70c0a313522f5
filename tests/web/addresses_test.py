"""Addresses against lists, by hand, by a slow filter and by UT1's own."""

import dataclasses
import gzip
import pathlib
import random
import time

import pytest

from llm_jax.web.dedup import hashes
from llm_jax.web.filter import addresses

CFG = addresses.UrlFilter(use_default_list=False)


def write(folder: pathlib.Path, lists: dict[str, str]) -> pathlib.Path:
  for name, entries in lists.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text('\n'.join(entries.split()) + '\n')
  return folder


def build(cfg, tmp_path, lists) -> hashes.Table:
  folder = write(tmp_path / 'lists', lists)
  addresses.build(cfg, [folder], tmp_path / 'file')
  return hashes.read(tmp_path / 'file')


VERDICTS = {
  'domain_adult': (
    'http://bad.org/', 'https://www.bad.org:8080/x?y#z', 'http://a.b.bad.org',
    'HTTP://user:pw@BAD.ORG./x', '//bad.org/x', 'bad.org',
    ' http:\\\\bad.org\\x ', 'http://b%61d.org/',
  ),
  'domain_gambling': ('http://bücher.example/',),
  'domain_malware': (
    'http://10.1.2.3:81/x', 'http://[2001:db8::1]:80/x', 'http://both.org/page',
  ),
  'url_adult': (
    'http://good.org/a/b', 'https://www2.good.org/A/b/',
    'http://good.org:80/a/b/c.html', 'http://good.org/a/b?c=d',
    'http://good.org/a/b#c', 'http://good.org/a%2Fb',
  ),
  'url_malware': (
    'http://double.org//x', 'http://script.org/?id=7',
    'http://script.org?id=7&x=1', 'http://whole.org/any/page',
  ),
  '': (
    'http://notbad.org/bad.org', 'http://bad.org.uk/', 'http://org/',
    'http://x@good.net/@bad.org', 'http://good.net/?u=http://bad.org/',
    'http://sub.good.org/a/b', 'http://good.org/a/bc', 'http://good.org/x/a/b',
    'http://good.org/a', 'http://script.org/?id=77',
  ),
}  # fmt: skip


@pytest.mark.parametrize(
  ('url', 'reason'), [(url, r) for r, urls in VERDICTS.items() for url in urls]
)
def test_addresses_by_hand(tmp_path, url, reason):
  blocklist = build(
    CFG,
    tmp_path,
    {
      'adult/domains': '# bad.net\nbad.org',
      'adult/urls': 'good.org/a/b/',
      'gambling/domains': 'xn--bcher-kva.example both.org',
      'malware/domains': '10.1.2.3 2001:db8::1 both.org',
      'malware/urls': 'http://www.Script.org:80/?id=7 whole.org/ double.org//x',
      'bank/domains': 'good.org',
    },
  )
  assert addresses.reject(CFG, blocklist, url) == reason
  off = dataclasses.replace(CFG, enabled=False)
  assert addresses.reject(off, blocklist, url) == ''


@pytest.mark.parametrize(
  ('url', 'reason'),
  [
    ('http://a.org/Free-PORN_pics', 'words'),
    ('http://porn.a.org/', 'words'),
    ('http://a.org/?q=%70orn', 'words'),
    ('http://a.org/popcorn/pornography', ''),
    ('http://a.org/casino', ''),
    ('http://a.org/casino/casino', ''),
    ('http://casino.org/poker', 'words'),
    ('http://sussex.ac.uk/essex-cockpit-analysis', ''),
  ],
)
def test_words(tmp_path, url, reason):
  blocklist = build(CFG, tmp_path, {'adult/domains': ''})
  assert addresses.reject(CFG, blocklist, url) == reason
  softer = dataclasses.replace(CFG, hard_words=(), min_soft_words=3)
  assert addresses.reject(softer, blocklist, url) == ''


def test_categories_are_chosen(tmp_path):
  lists = {
    'adult/domains': 'a.org b.org',
    'press/domains': 'b.org c.org',
    'white/domains': 'good.a.org',
    'white/urls': 'c.org/page',
  }
  blocklist = build(CFG, tmp_path, lists)
  reason = lambda url: addresses.reject(CFG, blocklist, url)  # noqa: E731
  assert reason('http://c.org/') == ''
  every = dataclasses.replace(CFG, categories=(), allowed_categories=('white',))
  blocklist = build(every, tmp_path, lists)
  assert blocklist.metadata['categories'] == ['white', 'adult', 'press']
  assert reason('http://b.org/') == 'domain_adult'
  assert reason('http://c.org/') == 'domain_press'
  assert reason('http://c.org/page/porn') == ''
  assert reason('http://x.good.a.org/') == ''
  assert reason('http://x.a.org/') == 'domain_adult'
  with pytest.raises(ValueError, match="'press', 'white'"):
    build(dataclasses.replace(CFG, categories=('malware',)), tmp_path, lists)
  with pytest.raises(ValueError, match='share'):
    addresses.UrlFilter(categories=('a',), allowed_categories=('a',))


def test_every_layout_gives_the_same_file(tmp_path):
  entries = {'adult': ('a.org #z.org b.org', 'c.org/x'), 'ddos': ('d.org', '')}
  plain = write(
    tmp_path / 'plain',
    {f'{c}/domains': d for c, (d, _) in entries.items()}
    | {f'{c}/urls': u for c, (_, u) in entries.items()},
  )
  zipped, flat = tmp_path / 'zipped', tmp_path / 'flat'
  flat.mkdir()
  for path in plain.glob('*/*'):
    category, kind = path.parts[-2:]
    (zipped / category).mkdir(parents=True, exist_ok=True)
    data = gzip.compress(path.read_bytes())
    (zipped / category / f'{kind}.gz').write_bytes(data)
    (flat / f'{category}.{kind}.txt.gz').write_bytes(data)
  built = []
  for folders in ([plain], [zipped], [flat], [plain, flat]):
    counts = addresses.build(CFG, folders, tmp_path / 'file')
    n = len(folders)
    assert counts == {'adult': 3 * n, 'ddos': n}
    built.append((tmp_path / 'file').read_bytes())
  assert len(set(built)) == 1


def test_the_default_list(tmp_path):
  cfg = addresses.UrlFilter()
  counts = addresses.build(cfg, [], tmp_path / 'file')
  assert set(counts) <= set(cfg.categories)
  assert min(counts.values()) >= 10
  blocklist = hashes.read(tmp_path / 'file')
  reason = addresses.reject(cfg, blocklist, 'https://www.pornhub.com/view')
  assert reason == 'domain_adult'
  reason = addresses.reject(cfg, blocklist, 'https://en.wikipedia.org/wiki/A')
  assert reason == ''


def slow_reject(domains: set[str], urls: set[str], url: str) -> str:
  """The meaning of the lists, entry by entry, for addresses in plain form."""
  host, _, path = url.removeprefix('http://').partition('/')
  if any(host == d or host.endswith(f'.{d}') for d in domains):
    return 'domain_adult'
  bare = f'{host.removeprefix("www.")}/{path}'.rstrip('/')
  if any(bare == u or bare.startswith(f'{u}/') for u in urls):
    return 'url_adult'
  return ''


def test_random_addresses_equal_the_slow_filter(tmp_path):
  generator = random.Random(0)

  def host():
    labels = generator.choices('abc', k=2)
    return '.'.join(['www'] * generator.randrange(2) + labels) + '.org'

  def path():
    return '/'.join(generator.choices('xyz', k=generator.randrange(4)))

  domains = {host() for _ in range(4)}
  urls = {f'{host().removeprefix("www.")}/{path()}x' for _ in range(30)}
  blocklist = build(
    CFG,
    tmp_path,
    {'adult/domains': ' '.join(domains), 'adult/urls': ' '.join(urls)},
  )
  reasons = []
  for _ in range(5000):
    url = f'http://{host()}/{path()}'
    reasons.append(addresses.reject(CFG, blocklist, url))
    assert reasons[-1] == slow_reject(domains, urls, url), url
  assert min(map(reasons.count, ('', 'domain_adult', 'url_adult'))) > 100


@pytest.mark.parametrize('n', [1, 300, 200_000])
def test_no_address_fails_or_takes_long(tmp_path, n):
  cfg = addresses.UrlFilter()
  addresses.build(cfg, [], tmp_path / 'file')
  blocklist = hashes.read(tmp_path / 'file')
  start = time.process_time()
  for piece in ('', '%ff', *'a/.@:%[]\ud800é'):
    for template in ['{}', 'http://{}', 'http://[{}', 'http://h/{}', '{}://h']:
      addresses.reject(cfg, blocklist, template.format(piece * n))
  assert time.process_time() - start < 10  # quadratic: many minutes


def test_random_text_never_fails(tmp_path):
  generator = random.Random(0)
  blocklist = build(CFG, tmp_path, {'adult/domains': 'a.org'})
  alphabet = 'aA.:/@?#[]%\\ \t\n\0ß。\u200d\udc80é😀7-'
  for _ in range(2000):
    text = ''.join(generator.choices(alphabet, k=generator.randrange(30)))
    addresses.reject(CFG, blocklist, text)
    addresses.reject(CFG, blocklist, f'http://{text}')


def test_the_lists_of_ut1(tmp_path, data):
  folder = data / 'url-blocklist'
  cfg = dataclasses.replace(
    CFG, categories=(), allowed_categories=('liste_blanche',)
  )
  counts = addresses.build(cfg, [folder], tmp_path / 'file')
  blocklist = hashes.read(tmp_path / 'file')
  kept = []
  for name, n_entries in counts.items():
    entries = []
    for path in folder.glob(f'{name}.*.txt.gz'):
      entries += gzip.decompress(path.read_bytes()).decode().split('\n')[:-1]
    assert n_entries == len(entries)
    for entry in entries[::3]:
      reason = addresses.reject(cfg, blocklist, f'https://www.{entry}/x')
      if name == 'liste_blanche':
        assert reason == '', entry
      elif not reason.startswith(('domain_', 'url_')):
        kept.append(entry)
  # Test pages of the lists' own publisher, whose host is on the white list.
  assert all('test_filtrage' in entry for entry in kept), kept
