"""The crawler against real HTTP servers, well and ill behaved."""

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading

import pytest

from experiments import crawl as crawl_recipe
from llm_jax.web.crawl import crawler, warc_write
from tests.web import bad_site, corpus, file_limit

PROGRAM = """
import sys, pathlib
from llm_jax.web.crawl import crawler
cfg = crawler.Crawl(delay_s=0.0)
crawler.crawl(cfg, [sys.argv[1]], pathlib.Path(sys.argv[2]))
"""
HTML = bad_site.HTML
crawl, records, stored = bad_site.crawl, bad_site.records, bad_site.stored


def recipe(folder, seeds: str, binding: str = 'Crawl.page_timeout_s = 9.0'):
  """The command that crawls seeds, given with spaces between them."""
  return [
    *(sys.executable, '-m', 'experiments.crawl', '--workdir', str(folder)),
    *(f'--seed_url={seed}' for seed in seeds.split()),
    *('--gin_bindings', 'Crawl.delay_s = 0.0'),
    *('--gin_bindings', 'Crawl.retry_delay_s = 0.0'),
    *('--gin_bindings', binding),
  ]


def run(command) -> subprocess.CompletedProcess:
  return subprocess.run(
    command, cwd=corpus.ROOT, capture_output=True, text=True
  )


def run_here(folder, seed: str):
  limits = crawler.Crawl(delay_s=0.0, retry_delay_s=0.0)
  crawl_recipe.run(crawl_recipe.Config(limits), str(folder), [seed])


def test_breadth_first_and_each_page_once(site, tmp_path):
  site.page('/', 'root', '/a', '/b', '#top', '/a?x=1#frag')
  site.page('/a', 'a', '/deep', '/')
  site.page('/b', 'b', 'a', '/deep')
  site.page('/deep', 'deep')
  site.page('/a?x=1', 'query')
  summary = crawl(site, tmp_path)
  assert site.paths() == ['/robots.txt', '/', '/a', '/b', '/a?x=1', '/deep']
  assert summary['stopped'] == 'done'
  assert summary['addresses'] == {'stored': 5}
  pages = stored(tmp_path)
  assert set(pages) == {'/', '/a', '/b', '/deep', '/a?x=1'}
  assert pages['/deep'].body == b'deep'
  assert pages['/deep'].content_type == 'text/html'
  assert pages['/deep'].date.endswith('Z')
  assert summary['bytes'] == sum(len(p.body) for p in pages.values())
  assert {agent for _, agent, _ in site.requests} == {
    crawler.Crawl().user_agent
  }


def test_robots_rules_and_delay(site, tmp_path):
  site.answers['/robots.txt'] = (
    200,
    {'Content-Type': 'text/plain'},
    b'User-agent: *\nDisallow: /\n\n'
    b'User-agent: llm_jax\nDisallow: /no\nAllow: /no/but\nCrawl-delay: 0.3',
  )
  site.page('/', 'root', '/no', '/no/but', '/yes')
  site.page('/yes', 'yes')
  site.page('/no/but', 'but')
  summary = crawl(site, tmp_path)
  assert set(stored(tmp_path)) == {'/', '/no/but', '/yes'}
  assert summary['addresses'] == {'robots_disallowed': 1, 'stored': 3}
  assert '/no' not in site.paths()
  times = [t for _, _, t in site.requests]
  assert min(b - a for a, b in zip(times, times[1:], strict=False)) >= 0.3


def test_redirects_loops_and_chains(site, tmp_path):
  site.page('/', 'root', '/old', '/loop1', '/chain0', '/away', '/b', '/shop')
  site.answers['/old'] = (301, {'Location': '/new'}, b'')
  site.page('/new', 'new')
  site.answers['/loop1'] = (302, {'Location': '/loop2'}, b'')
  site.answers['/loop2'] = (302, {'Location': '/loop1'}, b'')
  for i in range(9):
    site.answers[f'/chain{i}'] = (302, {'Location': f'/chain{i + 1}'}, b'')
  site.answers['/away'] = (302, {'Location': 'http://other.test/'}, b'')
  site.answers['/b'] = (301, {'Location': 'http://b.test/'}, b'')
  site.page('b.test/', 'b')
  # The only way to the page is an address with a session.
  site.answers['/shop'] = (302, {'Location': '/shop;jsessionid=7'}, b'')
  site.page('/shop;jsessionid=7', 'shop', '/shop;jsessionid=7')
  seeds = ['http://a.test/', 'http://b.test/']
  summary = crawl(site, tmp_path, seeds)
  bodies = {page.body[:4] for page in records(tmp_path)}
  assert bodies == {b'root', b'new', b'b', b'shop'}
  # /old, both loops, /away, /b, /shop, and /chain0 to /chain4.
  assert summary['addresses'] == {
    'redirect': 11,
    'stored': 4,
    'too_many_redirects': 1,
  }
  assert summary['counts']['redirects_off_site'] == 1
  assert summary['counts']['redirects_to_another_host'] == 2
  assert summary['counts']['redirects_known'] >= 1
  assert len(site.paths()) == len(set(site.paths())) + 2  # two hosts' / and
  # robots.txt


@pytest.mark.parametrize(
  ('settings', 'stopped', 'n_pages'),
  [
    ({'max_pages': 3}, 'max_pages', 3),
    ({'max_bytes': 50}, 'max_bytes', 1),
    ({'max_depth': 2}, 'done', 3),
    ({'max_seconds': 0.0}, 'max_seconds', 0),
  ],
)
def test_limits(site, tmp_path, settings, stopped, n_pages):
  site.page('/', 'root' * 20, '/1')
  for i in range(1, 9):
    site.page(f'/{i}', f'page {i}', f'/{i + 1}')
  summary = crawl(site, tmp_path, **settings)
  assert summary['stopped'] == stopped
  assert len(stored(tmp_path)) == n_pages
  if stopped == 'done':
    assert summary['counts']['links_too_deep'] == 1


def test_seed_that_is_no_address_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r"'ftp://x/' is not an http"):
    crawler.crawl(crawler.Crawl(), ['ftp://x/'], tmp_path)
  with pytest.raises(ValueError, match='no seed URL'):
    crawler.crawl(crawler.Crawl(), [], tmp_path)


def test_killed_crawler_goes_on_and_loses_nothing(site, tmp_path):
  """SIGKILL at the third, the sixth and the ninth page, then a torn tail."""
  n_pages = 12
  process: list[subprocess.Popen] = []
  kill_at = {3, 6, 9}

  def answer(i):
    links = ''.join(f'<a href="/{j}">x</a>' for j in (2 * i + 1, 2 * i + 2))
    body = f'page {i} {links if i < 6 else ""}'.encode() * 50

    def send(handler):
      if i in kill_at:
        kill_at.remove(i)
        os.kill(process[-1].pid, signal.SIGKILL)
      bad_site.send(handler, 200, HTML, body)

    return send

  for i in range(n_pages + 1):
    site.answers[f'/{i}'] = answer(i)
  command = recipe(tmp_path, f'{site.url}/0', 'Crawl.warc_bytes = 700')
  codes = []
  while not (tmp_path / 'done.json').exists():
    process.append(subprocess.Popen(command, cwd=corpus.ROOT))
    codes.append(process[-1].wait(60))
    if len(codes) == 2:  # a kill in the middle of a write leaves half a record
      newest = max(tmp_path.glob('*.warc.gz'))
      whole = warc_write.encode_info(corpus.DATE, {'a': 'b'}, 'name')
      newest.write_bytes(newest.read_bytes() + whole[: len(whole) // 2])
      (tmp_path / 'crawl-00099.warc.gz').write_bytes(whole)
  assert codes == [-signal.SIGKILL] * 3 + [0]
  pages = stored(tmp_path)
  assert set(pages) == {f'/{i}' for i in range(n_pages + 1)}
  # Only the request under way at a kill is made again, and the one before it,
  # whose page was perhaps not yet on the disk.
  for i in range(n_pages + 1):
    at_kill, before = i in (3, 6, 9), i in (2, 5, 8)
    n_requests = site.paths().count(f'/{i}')
    assert n_requests in ([2] if at_kill else [1, 2] if before else [1])
  assert len(list(tmp_path.glob('*.warc.gz'))) > 1
  # Once finished, the command redoes nothing.
  n_before = len(site.requests)
  assert subprocess.run(command, cwd=corpus.ROOT).returncode == 0
  assert len(site.requests) == n_before


def test_without_a_seed_the_recipe_crawls_the_pydoc_site(tmp_path):
  command = recipe(tmp_path, '', 'Crawl.max_pages = 4')
  command += ['--gin_file', 'gin_configs/crawl_pydoc.gin']
  assert run(command).returncode == 0
  pages = stored(tmp_path)
  assert len(pages) == 4
  # The address does not depend on the port that was free.
  assert pages['/'].url == 'http://pydoc.localhost/'
  assert b'ABCMeta' in pages['/abc.html'].body
  done = json.loads((tmp_path / 'done.json').read_text())
  assert done['pages'] == 4
  assert done['stopped'] == 'max_pages'
  assert done['addresses']['waiting'] > 100


@pytest.mark.parametrize('room', [25_000, 200_000])
def test_full_disk_is_named_and_loses_nothing(site, tmp_path, room):
  """A limit on file size stands for a full disk: writes fail likewise.

  The smaller one is reached when the frontier is opened.
  """
  words = [os.urandom(15_000).hex() for _ in range(20)]
  site.page('/', 'root', *(f'/{i}' for i in range(20)))
  for i, word in enumerate(words):
    site.page(f'/{i}', word)

  command = [sys.executable, '-c', PROGRAM, f'{site.url}/', str(tmp_path)]
  done = run(file_limit.limited(command, room))
  assert done.returncode == 1
  assert 'make room and give the same command again' in done.stderr
  assert str(tmp_path) in done.stderr
  before = len(site.requests)
  subprocess.run(command, cwd=corpus.ROOT, check=True)
  assert {page.body for page in stored(tmp_path).values()} >= {
    word.encode() for word in words
  }
  if room > 25_000:
    assert before > 3  # pages came before the disk was full,
    assert len(site.requests) < before + 20  # and are not asked for again


def test_seed_that_is_down_is_named_and_asked_again_if_it_is_alone(
  site, tmp_path
):
  site.page('/', 'root')
  with socket.create_server(('127.0.0.1', 0)) as late:
    port = late.getsockname()[1]
  dead, named = f'http://localhost:{port}/', 'localhost (robots_unavailable)'
  command = recipe(tmp_path / 'two', f'{site.url}/ {dead}')
  for n_times in (1, 0):  # once finished, the command redoes nothing
    done = run(command)
    assert done.returncode == 0
    message = f'{named} could not be reached and gave no page'
    assert done.stderr.count(message) == n_times
  summary = json.loads((tmp_path / 'two' / 'done.json').read_text())
  assert summary['down'] == {'localhost': 'robots_unavailable'}
  assert (summary['pages'], summary['n_seed_hosts']) == (1, 2)
  message = re.escape(f'{named} could not be reached; give the same command')
  with pytest.raises(OSError, match=message):
    run_here(tmp_path / 'one', dead)
  assert not (tmp_path / 'one' / 'done.json').exists()
  with bad_site.serve(port=port) as other:
    other.page('/', 'late')
    run_here(tmp_path / 'one', dead)
  assert {page.body for page in records(tmp_path / 'one')} == {b'late'}


@pytest.mark.parametrize(
  ('path', 'answer', 'message'),
  [
    ('/robots.txt', (503, {}, b''), '127.0.0.1 (robots_unavailable)'),
    ('/', (500, {}, b''), '127.0.0.1 (http_500)'),
    ('/', bad_site.reset, '127.0.0.1 (disconnect)'),
    ('/', (404, {}, b''), "no page was stored; addresses by outcome: {'http_4"),
    (
      '/robots.txt',
      (200, {}, b'User-agent: *\nDisallow: /'),
      "outcome: {'robots_disallowed': 1}",
    ),
    ('/', (302, {'Location': 'http://x.test/'}, b''), "{'redirect': 1}"),
  ],
)
def test_crawl_without_a_page_fails_and_begins_anew(
  site, tmp_path, path, answer, message
):
  site.page('/', 'root')
  good = site.answers[path]
  site.answers[path] = answer
  for _ in range(2):
    with pytest.raises((OSError, ValueError), match=re.escape(message)):
      run_here(tmp_path, f'{site.url}/')
  site.answers[path] = good
  run_here(tmp_path, f'{site.url}/')
  assert set(stored(tmp_path)) == {'/'}


def test_second_process_in_a_folder_is_refused(site, tmp_path):
  """It names the first, which goes on."""
  is_asked, go_on = threading.Event(), threading.Event()

  def wait(handler):
    is_asked.set()
    go_on.wait(60)
    bad_site.send(handler, 200, HTML, b'slow')

  site.page('/', 'root', '/slow')
  site.answers['/slow'] = wait
  command = [sys.executable, '-c', PROGRAM, f'{site.url}/', str(tmp_path)]
  first = subprocess.Popen(command, cwd=corpus.ROOT)
  assert is_asked.wait(60)
  with pytest.raises(BlockingIOError, match=f'process {first.pid} on '):
    crawl(site, tmp_path)
  go_on.set()
  assert first.wait(60) == 0
  assert set(stored(tmp_path)) == {'/', '/slow'}


def test_numbers_of_a_host_follow_from_its_addresses(site, tmp_path):
  """What another program changes in the frontier cannot make it endless."""
  site.page('/', 'root', '/1', '/2')
  for i in (1, 2):
    site.page(f'/{i}', f'page {i}')
  assert crawl(site, tmp_path, max_pages=1)['stopped'] == 'max_pages'
  with contextlib.closing(
    sqlite3.connect(tmp_path / 'frontier.sqlite')
  ) as base:
    base.execute("UPDATE urls SET outcome = 'gone' WHERE url LIKE '%/2'")
    base.commit()
  summary = crawl(site, tmp_path)
  assert summary['stopped'] == 'done'
  assert (summary['pages'], summary['bytes']) == (2, 4 + 2 * 18 + 6)
