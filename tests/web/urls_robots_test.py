"""Spelling of addresses, links of a page, and RFC 9309."""

import time

import pytest

from llm_jax.web import robots, urls


@pytest.mark.parametrize(
  ('url', 'expected'),
  [
    ('HTTP://Example.ORG', 'http://example.org/'),
    ('http://h:80/a#b', 'http://h/a'),
    ('https://h:443/', 'https://h/'),
    ('http://h:8080/?q=a b', 'http://h:8080/?q=a%20b'),
    ('http://h/é%20%2F', 'http://h/%C3%A9%20%2F'),
    ('http://user:secret@h/x', 'http://h/x'),
    ('http://bücher.example/', 'http://xn--bcher-kva.example/'),
    ('http://[::1]:8000/', 'http://[::1]:8000/'),
  ],
)
def test_one_spelling(url, expected):
  assert urls.normalize(url) == expected
  assert urls.normalize(expected) == expected


@pytest.mark.parametrize(
  'url', ['mailto:a@b.c', '/path', 'http://', 'http://[x', 'http://h:x/']
)
def test_unusable_addresses(url):
  with pytest.raises(ValueError, match='http|URL|Port'):
    urls.normalize(url)


def test_links_of_a_page():
  page = """
    <base href="http://h/dir/"><a href='a.html'>1</a><A class=x HREF=b>2</A>
    <!-- <a href="comment"> --><area href="../c?x=1&amp;y=2">
    <a name="no">n</a><a href="mailto:x@y.z"><abbr href="no">
    <!-- never closed <a href="no">
  """
  assert list(urls.links(page, 'http://other/')) == [
    'http://h/dir/a.html',
    'http://h/dir/b',
    'http://h/c?x=1&y=2',
    'mailto:x@y.z',
  ]


@pytest.mark.parametrize('unit', ['<a ', '<a href=', '<a href="', '<!--', 'x'])
def test_links_take_linear_time(unit):
  start = time.process_time()
  list(urls.links(unit * (2_000_000 // len(unit)), 'http://h/'))
  assert time.process_time() - start < 5


# The examples of RFC 9309, sections 2.2.2, 2.2.3 and 5.2, and of its traps.
@pytest.mark.parametrize(
  ('rules', 'path', 'allowed'),
  [
    ('Disallow: /a\nAllow: /a/b', '/a/b/c', True),
    ('Allow: /a/b\nDisallow: /a', '/a/c', False),
    ('Allow: /a\nDisallow: /a', '/a', True),
    ('Disallow: *.gif$', '/x/y.gif', False),
    ('Disallow: *.gif$', '/x/y.gif?z', True),
    ('Disallow: /a*b*c', '/axxbyyc', False),
    ('Disallow: /a*b*c', '/axxcyyb', True),
    ('Disallow: /a$', '/a', False),
    ('Disallow: /a$', '/ab', True),
    ('Disallow: /ab*b$', '/ab', True),
    ('Disallow:', '/x', True),
    ('Disallow: /', '/x', False),
    ('Disallow: /', '/robots.txt', True),
    ('Disallow: /foo/bar?q', '/foo/bar?q=1', False),
    ('Disallow: /%7Ejoe', '/~joe', False),
    ('Disallow: /a%2Fb', '/a/b', True),
    ('disallow : /x # why', '/x', False),
  ],
)
def test_rules(rules, path, allowed):
  parsed = robots.parse(f'User-Agent: *\n{rules}', 'bot')
  assert parsed.allows(f'http://h{path}') is allowed


def test_groups_and_delay():
  text = (
    'User-agent: a\nUser-agent: Bot\nDisallow: /1\nCrawl-delay: 2\n'
    'User-agent: *\nDisallow: /2\nCrawl-delay: 9\n'
    'User-agent: bot\nDisallow: /3\nCrawl-delay: nan'
  )
  bot, other = robots.parse(text, 'BOT'), robots.parse(text, 'x')
  assert bot.rules == (('/1', False), ('/3', False))
  assert bot.crawl_delay_s == 2
  assert other.rules == (('/2', False),)
  assert other.crawl_delay_s == 9


def test_answers_without_a_file():
  for status, allowed in [(200, False), (404, True), (500, False), (0, False)]:
    rules = robots.from_response(status, 'User-agent: *\nDisallow: /', 'x')
    assert rules.allows('http://h/a') is allowed
