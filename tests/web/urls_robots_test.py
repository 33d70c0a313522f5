"""Spelling of addresses, marks of traps, and RFC 9309."""

import pytest

from llm_jax.web.crawl import robots, urls


@pytest.mark.parametrize(
  ('url', 'expected'),
  [
    ('HTTP://Example.ORG', 'http://example.org/'),
    ('http://h:80/a#b', 'http://h/a'),
    ('https://h:443/', 'https://h/'),
    ('http://h/%7ejoe%2f%c3', 'http://h/~joe%2F%C3'),
    ('http://h/%zz%', 'http://h/%zz%'),
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


@pytest.mark.parametrize(
  ('url', 'expected'),
  [
    ('http://h/a;jsessionid=0A1F.w2?x=1', 'http://h/a?x=1'),
    ('http://h/a?PHPSESSID=0123456789abcdef&b=2', 'http://h/a?b=2'),
    ('http://h/a?b=2&sid=0123456789abcdef0', 'http://h/a?b=2'),
    ('http://h/(S(lit3py55t21z5v55vlm25s55))/a', 'http://h/a'),
    # A section or story, no visit.
    ('http://h/a?sid=12&page=3', 'http://h/a?sid=12&page=3'),
    (
      'http://h/a?outsid=0123456789abcdef',
      'http://h/a?outsid=0123456789abcdef',
    ),
    ('http://h/a?b=2&', 'http://h/a?b=2&'),
  ],
)
def test_session_ids(url, expected):
  assert urls.without_session(url) == expected


def test_traps():
  assert urls.trap('http://h/' + '/'.join('abcdefgh'), 8, 1) == ''
  assert urls.trap('http://h/' + '/'.join('abcdefghi'), 8, 1) == 'path_depth'
  assert urls.trap('http://h/a/b/a', 8, 1) == 'path_repeats'
  assert urls.trap('http://h/?/a/a/a', 8, 1) == ''
  assert urls.trap('http://h/', 0, 0) == ''


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
  for status, allowed in [
    (200, False),
    (404, True),
    (429, False),
    (500, False),
    (0, False),
  ]:
    rules = robots.from_response(status, 'User-agent: *\nDisallow: /', 'x')
    assert rules.allows('http://h/a') is allowed
    assert rules.unavailable is (status not in (200, 404))


def test_sitemaps_belong_to_all_groups():
  text = (
    'Sitemap: http://h/1.xml\nUser-agent: a\nDisallow: /\n'
    'SITEMAP : http://h/2.xml # x\nDisallow: /b'
  )
  rules = robots.parse(text, 'b')
  assert rules.sitemaps == ('http://h/1.xml', 'http://h/2.xml')
  # and do not end a group (RFC 9309 2.2.4).
  assert robots.parse(text, 'a').rules == (('/', False), ('/b', False))


def test_junk_is_no_rule():
  for text in ['\0\1\2' * 99, '<!DOCTYPE html><p>User-agent: *', 'Disallow: /']:
    assert robots.parse(text, 'x') == robots.Rules()
