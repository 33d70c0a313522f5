"""What the crawler leaves alone: what sites ask for, limits, traps."""

import email.utils
import gzip
import time

import pytest

from tests.web import bad_site

HTML = bad_site.HTML
NAMESPACE = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'


def crawl(site, folder, seeds=('http://a.test/',), **settings):
  return bad_site.crawl(site, folder, seeds, **settings)


def stored(folder) -> list[str]:
  return [path[1:] for path in bad_site.stored(folder)]


def listing(*paths: str) -> bytes:
  entries = ''.join(f'<url><loc>http://a.test{p}</loc></url>' for p in paths)
  return f'<urlset {NAMESPACE}>{entries}</urlset>'.encode()


def index(*paths: str) -> bytes:
  entries = ''.join(
    f'<sitemap><loc>http://a.test{p}</loc></sitemap>' for p in paths
  )
  return f'<sitemapindex {NAMESPACE}>{entries}</sitemapindex>'.encode()


def test_sitemaps_that_robots_names(site, tmp_path):
  xml = {'Content-Type': 'application/xml'}
  robots = (
    b'Sitemap: http://a.test/index.xml\nSitemap: http://a.test/moved\n'
    b'Sitemap: http://b.test/x.xml\nSitemap: http://a.test/none.xml\n'
    b'Sitemap: http://a.test/bomb.xml\nUser-agent: *\nDisallow: /secret\n'
  )
  site.answers['/robots.txt'] = (200, {'Content-Type': 'text/plain'}, robots)
  site.answers['/index.xml'] = (200, xml, index('/1.xml.gz', '/index2.xml'))
  site.answers['/index2.xml'] = (200, xml, index('/index3.xml', '/index.xml'))
  site.answers['/index3.xml'] = (200, xml, index('/too/deep.xml'))
  site.answers['/1.xml.gz'] = (
    200,
    {'Content-Type': 'application/gzip'},
    gzip.compress(listing('/p1', '/p2', '/secret/p')),
  )
  site.answers['/moved'] = (301, {'Location': '/list.txt'}, b'')
  site.answers['/list.txt'] = (200, HTML, b'http://a.test/p3\nhttp://x.test/')
  bomb = b'<!DOCTYPE a [<!ENTITY b "c">]>' + listing('/&b;')
  site.answers['/bomb.xml'] = (200, xml, bomb)
  for path in ('/', '/p1', '/p2', '/p3'):
    site.page(path, f'page {path}')
  summary = crawl(site, tmp_path)
  assert sorted(stored(tmp_path)) == ['', 'p1', 'p2', 'p3']
  # index 1 to 3, 1.xml.gz, list.txt and the bomb.
  assert summary['addresses'] == {
    'http_404': 1,
    'redirect': 1,
    'robots_disallowed': 1,
    'sitemap': 6,
    'stored': 4,
  }
  counts = summary['counts']
  assert counts['sitemaps_off_site'] == 1
  assert counts['sitemaps_doctype'] == 1
  assert counts['sitemaps_over_limit'] == 1
  assert counts['sitemaps_known'] == 1
  assert counts['sitemap_links_off_site'] == 1
  assert counts['sitemap_links_new'] == 4


@pytest.mark.parametrize(('limit', 'n_read'), [(0, 0), (2, 2)])
def test_limit_on_sitemaps(site, tmp_path, limit, n_read):
  robots = b'\n'.join(b'Sitemap: http://a.test/%d.txt' % i for i in range(4))
  site.answers['/robots.txt'] = (200, {}, robots)
  for i in range(4):
    site.answers[f'/{i}.txt'] = (200, {}, b'http://a.test/p')
  site.page('/', 'root')
  site.page('/p', 'page')
  summary = crawl(site, tmp_path, max_sitemaps=limit)
  assert summary['addresses'].get('sitemap', 0) == n_read
  assert summary['counts']['sitemaps_over_limit'] == 4 - n_read
  assert len(stored(tmp_path)) == 1 + bool(n_read)


def test_nofollow_and_noindex(site, tmp_path):
  site.page('/', '<a rel=nofollow href=/ad>x</a>', '/meta', '/header', '/end')
  site.page('/meta', '<meta name=robots content=noindex>', '/behind')
  site.answers['/header'] = (200, {**HTML, 'X-Robots-Tag': 'noindex'}, b'')
  site.page('/end', '<meta name=robots content=nofollow>', '/x', '/y')
  site.page('/behind', 'behind')
  summary = crawl(site, tmp_path)
  assert stored(tmp_path) == ['', 'end', 'behind']
  assert summary['addresses'] == {'noindex': 2, 'stored': 3}
  assert summary['counts']['links_nofollow'] == 3


def canonical(url: str) -> str:
  return f'<link rel="canonical" href="{url}">'


def test_canonical_addresses(site, tmp_path):
  site.page(
    '/', 'root', '/a', '/a?sort=1', '/late?x', '/wrong', '/far', '/gone'
  )
  site.page('/a', 'a' + canonical('/a'))
  site.page('/a?sort=1', 'sorted' + canonical('/a'))
  # The page it names is not yet stored, so both are.
  site.page('/late?x', 'late' + canonical('/late'))
  site.page('/late', 'late')
  site.page('/wrong', 'all pages name the front page' + canonical('/'))
  site.page('/far', 'far' + canonical('http://b.test/far'))
  site.page('/gone', 'gone' + canonical('/404') + canonical('/a'))
  summary = crawl(site, tmp_path)
  assert stored(tmp_path) == ['', 'a', 'late?x', 'wrong', 'far', 'gone', 'late']
  assert summary['addresses'] == {
    'http_404': 1,
    'not_canonical': 1,
    'stored': 7,
  }
  counts = summary['counts']
  assert counts['pages_with_another_canonical'] == 5
  assert counts['canonicals_off_site'] == 1
  assert counts['canonicals_of_front_page'] == 1


def test_limits_of_one_host(site, tmp_path):
  seeds = ['http://a.test/', 'http://b.test/']
  for i in range(9):
    site.page(f'/{i}', f'page {i}')
    site.answers[f'b.test/{i}'] = (200, HTML, b'other %d' % i)
  site.page('/', 'a' * 50, *(f'/{i}' for i in range(9)))
  site.page('b.test/', 'b', *(f'/{i}' for i in range(9)))
  summary = crawl(site, tmp_path, seeds, max_pages_per_host=4)
  assert summary['addresses'] == {'max_pages_per_host': 12, 'stored': 8}
  summary = crawl(site, tmp_path / 'bytes', seeds[:1], max_bytes_per_host=200)
  assert summary['addresses']['max_bytes_per_host'] > 5
  summary = crawl(site, tmp_path / 'links', seeds[:1], max_addresses_per_host=4)
  assert summary['addresses'] == {'stored': 4}
  assert summary['counts']['links_over_host_limit'] == 6


def test_dead_host_is_left_alone(site, tmp_path):
  site.page('/', 'root', *(f'/{i}' for i in range(20)), 'http://b.test/ok')
  for i in range(20):
    site.answers[f'/{i}'] = bad_site.reset
  site.answers['/1'] = (200, HTML, b'one that works begins the count anew')
  site.answers['/3'] = (404, HTML, b'and so does one that is not there')

  def late(handler):
    time.sleep(0.5)
    bad_site.send(handler, 200, HTML, b'<a href="http://a.test/late">')

  site.answers['b.test/ok'] = late
  summary = crawl(
    site, tmp_path, ['http://a.test/', 'http://b.test/ok'], max_host_errors=4
  )
  assert summary['addresses'] == {
    'disconnect': 4,
    'http_404': 1,
    'max_host_errors': 15,
    'stored': 3,
  }


def test_leaves_the_host_only_if_told(site, tmp_path):
  site.page('/', 'root', '//sub.a.test/', '//b.test/', '//nota.test/')
  for name in ('sub.a.test', 'b.test', 'nota.test'):
    site.page(f'{name}/', name)
  runs = {
    'plain': ({}, 1, 3),
    'below': ({'include_subdomains': True}, 2, 2),
    'one': ({'max_off_site_hosts': 1}, 2, 2),
    'all': ({'max_off_site_hosts': 9}, 4, 0),
  }
  for name, (settings, n_stored, n_off_site) in runs.items():
    summary = crawl(site, tmp_path / name, **settings)
    assert summary['addresses'] == {'stored': n_stored}
    assert summary['counts'].get('links_off_site', 0) == n_off_site


def test_pages_cannot_lead_into_a_private_network(site, tmp_path):
  with bad_site.serve() as private:
    private.page('/', 'secret')
    site.page(
      '/', 'root', f'{private.url}/', f'http://localhost:{private.port}/'
    )
    summary = crawl(site, tmp_path, max_off_site_hosts=9)
    assert private.requests == []
  assert summary['addresses'] == {'robots_unavailable': 2, 'stored': 1}


def test_traps_end(site, tmp_path):
  """A calendar, a link that deepens its own path, a visit in the address."""

  def page(handler):
    n = len(site.requests)
    body = (
      f'{n}<a href="/calendar?day={n}">x</a><a href="/calendar?day={n}.5">x</a>'
      f'<a href="deeper/">x</a><a href="/home;jsessionid=V{n}">x</a>'
      f'<a href="/shop?PHPSESSID={n:032x}&item=1">x</a>'
    )
    bad_site.send(handler, 200, HTML, body.encode())

  class Endless(dict):
    def get(self, path, default=None):
      return dict.get(self, path, default if '.test' in path else page)

  site.answers = Endless(site.answers)
  summary = crawl(
    site, tmp_path, max_depth=1000, max_pages=300, max_query_variants=10
  )
  assert summary['stopped'] == 'done'
  # Ten days, the root, /home and /shop; three levels below each.
  assert sum(path.startswith('calendar') for path in stored(tmp_path)) == 10
  assert 'shop?item=1' in stored(tmp_path)
  assert 'home' in stored(tmp_path)
  assert len(stored(tmp_path)) < 25
  assert summary['counts']['links_trap_queries'] > 0
  assert summary['counts']['links_trap_path_repeats'] > 0
  assert summary['counts']['session_ids_removed'] > 10


@pytest.mark.parametrize('is_date', [False, True])
def test_retry_after_is_waited_for(site, tmp_path, is_date):
  def busy(handler):
    # To the second, as HTTP dates are.
    date = email.utils.formatdate(int(time.time()) + 2, usegmt=True)
    headers = {'Retry-After': date if is_date else '1'}
    bad_site.send(handler, 429, headers, b'')

  site.answers['/'] = bad_site.in_turn(busy, (200, HTML, b'ok'))
  summary = crawl(site, tmp_path)
  assert summary['addresses'] == {'stored': 1}
  (_, _, first), (_, _, second) = site.requests[1:]
  assert second - first > 0.9


def test_retry_after_an_hour_is_no_retry(site, tmp_path):
  site.answers['/'] = (503, {'Retry-After': '3600'}, b'')
  summary = crawl(site, tmp_path, max_crawl_delay_s=0.1)
  assert summary['addresses'] == {'http_503': 1}
  assert summary['counts']['retry_after_too_long'] == 1
  assert site.paths() == ['/robots.txt', '/']


def test_waits_longer_after_each_failure(site, tmp_path):
  site.answers['/'] = (500, HTML, b'')
  crawl(site, tmp_path, retry_delay_s=0.2, max_attempts=4)
  times = [t for path, _, t in site.requests if path == '/']
  waits = [b - a for a, b in zip(times, times[1:], strict=False)]
  assert [int(wait / 0.2) for wait in waits] == [1, 2, 4]


def test_counts_outlive_a_restart(site, tmp_path):
  site.answers['/robots.txt'] = (200, {}, b'User-agent: *\nDisallow: /no')
  site.page('/', 'root', '/no', *(f'/{i}' for i in range(6)))
  for i in range(6):
    site.page(f'/{i}', str(i))
  for n in range(1, 8):
    # Each time one page more.
    summary = crawl(site, tmp_path, max_pages=n, max_pages_per_host=5)
  pages = [path for path in site.paths() if path != '/robots.txt']
  assert pages == ['/', '/0', '/1', '/2', '/3']
  assert summary['addresses'] == {
    'max_pages_per_host': 2,
    'robots_disallowed': 1,
    'stored': 5,
  }
