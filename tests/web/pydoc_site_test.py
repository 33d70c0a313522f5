"""The site of the standard library: the same each time, and telling nothing."""

import os
import pathlib
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from llm_jax.web.crawl import robots, sitemaps
from tools import pydoc_site

ROOT = pathlib.Path(__file__).resolve().parents[2]


def fetch_pages(names: list[str], secret: str) -> dict[str, str]:
  """Starts the site in an environment with a secret and asks for pages."""
  process = subprocess.Popen(
    [sys.executable, '-m', 'tools.pydoc_site', '--port=0'],
    cwd=ROOT,
    env={**os.environ, 'PLANTED_SECRET': secret, 'PYTHONHASHSEED': secret},
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
  )
  try:
    url = process.stdout.readline().strip()
    pages = {}
    with urllib.request.urlopen(f'{url}sitemap.xml') as answer:
      listed = sitemaps.parse(answer.read())
    assert f'{url}argparse.html' in listed.pages
    assert not listed.problem
    with urllib.request.urlopen(f'{url}robots.txt') as answer:
      rules = robots.parse(answer.read().decode(), 'x')
    assert rules.sitemaps == (f'{url}sitemap.xml',)
    for name in names:
      with urllib.request.urlopen(url + name) as answer:
        assert answer.headers['Content-Type'] == 'text/html; charset=utf-8'
        pages[name] = answer.read().decode()
    with pytest.raises(urllib.error.HTTPError, match='404') as caught:
      urllib.request.urlopen(f'{url}test.support.html')
    caught.value.close()
    return pages
  finally:
    process.kill()
    process.wait()
    process.stdout.close()


def test_pages_are_the_same_each_time_and_hold_no_environment():
  # Modules whose constants and default arguments tell of the process.
  names = 'os posix sys site argparse inspect http.client asyncio subprocess'
  if 'cgi' in sys.stdlib_module_names:
    names += ' cgi'  # has a set as a default argument
  paths = ['', *(f'{name}.html' for name in names.split())]
  first = fetch_pages(paths, '4147001')
  second = fetch_pages(paths, '4147002')
  assert first == second
  whole = ''.join(first.values())
  assert '414700' not in whole
  assert str(pathlib.Path.home()) not in whole or os.environ['HOME'] == '/'
  assert str(ROOT) not in whole
  assert ' at 0x7' not in whole.replace('&nbsp;', ' ')
  assert '<a href="argparse.html">' in first['']
  assert 'ArgumentParser' in first['argparse.html']


def test_modules_that_act_or_are_private_are_left_out():
  names = pydoc_site.module_names()
  assert {'argparse', 'json.decoder', 'email.mime.text'} <= set(names)
  parts = {part for name in names for part in name.split('.')}
  assert not parts & {'antigravity', 'this', 'test', 'idlelib', '__main__'}
  assert not [part for part in parts if part.startswith('_')]
  assert names == sorted(set(names))


def test_constants_are_shown_only_as_plain_values():
  pages = pydoc_site.Pages({})
  assert pages.docother(3, 'N') == '<strong>N</strong> = 3'
  assert pages.docother((1, 'a', None), 'T').endswith("(1, 'a', None)")
  assert pages.docother({'KEY': 'secret'}, 'D').endswith('&lt;dict object&gt;')
  assert pages.docother([1], 'L').endswith('&lt;list object&gt;')
