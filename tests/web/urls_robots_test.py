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
    ('http://[0:0::0001]/', 'http://[::1]/'),
    # UTS 46 without transitional mapping, as browsers have it.
    ('http://straße.de/', 'http://xn--strae-oqa.de/'),
    ('http://STRASSE.de/', 'http://strasse.de/'),
    ('http://Straße.DE', 'http://xn--strae-oqa.de/'),
    ('http://XN--STRAE-OQA.de/', 'http://xn--strae-oqa.de/'),
    ('http://\u2615.example/', 'http://xn--53h.example/'),
    ('http://\U0001f4a9.la/', 'http://xn--ls8h.la/'),
    ('http://βόλος.com/', 'http://xn--nxasmm1c.com/'),
    ('http://ＢÜcher。example．ORG/', 'http://xn--bcher-kva.example.org/'),
    ('http://a\xadb.c/', 'http://ab.c/'),
    ('http://a_b.ex%61mple./', 'http://a_b.example/'),
    # Dot segments go after what need not be encoded is decoded.
    ('http://h/public/%2e%2e/private/x', 'http://h/private/x'),
    ('http://h/a/./b/.%2E/c', 'http://h/a/c'),
    ('http://h/../../a/..', 'http://h/'),
    ('http://h/a/%2E', 'http://h/a/'),
    ('http://h/a//../b', 'http://h/a/b'),
    ('http://h/a%2f../b', 'http://h/a%2F../b'),
    ('http://h/a.../..b/?q=/../', 'http://h/a.../..b/?q=/../'),
    ('http://h/a/..//b', 'http://h//b'),
  ],
)
def test_one_spelling(url, expected):
  assert urls.normalize(url) == expected
  assert urls.normalize(expected) == expected


UNUSABLE = (
  'mailto:a@b.c', '/path', 'http://', 'http://[x', 'http://h:x/',
  'http://a..b/', 'http://.a/', 'http://./', 'http://a b/', 'http://a%2fb/',
  f'http://{"a" * 64}.de/', f'http://{"ü" * 60}.de/', 'http://[v1.a]/',
  f'http://{"a." * 127}de/', 'http://\xad.de/', 'http://a\ufffd/',
)  # fmt: skip


@pytest.mark.parametrize('url', UNUSABLE)
def test_unusable_addresses(url):
  with pytest.raises(ValueError, match='http|URL|Port|parts|Codepoint'):
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
    *((f'http://h/a?{q}',) * 2 for q in ('outsid=0123456789abcdef', 'b=2&')),
  ],
)
def test_session_ids(url, expected):
  assert urls.without_session(url) == expected


def test_traps():
  deep = 'http://h/' + '/'.join('abcdefghijklmnopqrst')
  assert (urls.trap(deep), urls.trap(f'{deep}/u')) == ('', 'path_depth')
  assert urls.trap('http://h/a/b/a/b/a') == ''
  assert urls.trap('http://h/a/b/a/b/a//a') == 'path_repeats'
  assert urls.trap('http://h/?/a/a/a/a') == ''


MISSPELT = (
  'Dissallow:', 'Dissalow:', 'Disalow:', 'Diasllow:', 'disallaw:', 'Disallow',
)  # fmt: skip
# Rules, paths that they allow, and paths that they do not. First the examples
# of RFC 9309, sections 2.2.2, 2.2.3 and 5.2, and of its traps.
RULES = [
  ('Disallow: /a\nAllow: /a/b', '/a/b/c', ''),
  ('Allow: /a/b\nDisallow: /a', '', '/a/c'),
  ('Allow: /a\nDisallow: /a', '/a', ''),
  ('Disallow: *.gif$', '/x/y.gif?z', '/x/y.gif'),
  ('Disallow: /a*b*c', '/axxcyyb', '/axxbyyc'),
  ('Disallow: /a$', '/ab', '/a'),
  ('Disallow: /ab*b$', '/ab', ''),
  ('Disallow:', '/x', ''),
  ('Disallow: /', '/robots.txt', '/x'),
  ('Disallow: /foo/bar?q', '', '/foo/bar?q=1'),
  ('Disallow: /%7Ejoe', '', '/~joe'),
  ('Disallow: /a%2Fb', '/a/b', '/a%2fb'),
  ('disallow : /x # why', '', '/x'),
  # One spelling of patterns and paths (RFC 3986 6.2.2).
  (
    'Disallow: /private/',
    '',
    '/public/%2e%2e/private/x /public/.%2E/private/x /./%70rivate/x',
  ),
  ('Disallow: /x/%2e%2e/private/', '', '/private/x'),
  ('Disallow: /%70rivate/', '', '/private/x'),
  ('Disallow: /a%2fb', '', '/a%2Fb'),
  ('Disallow: /a/b', '/a%2fb', ''),
  ('Disallow: /a%3Fb', '/a?b', ''),
  ('Disallow: /a?b', '/a%3fb', ''),
  ('Disallow: /a%26b', '/a&b', ''),
  ('Disallow: /a%252f', '/a%2f', ''),
  ('Disallow: /café', '', '/caf%c3%a9'),
  ('Disallow: /caf%c3%a9', '', '/café'),
  # A dot at the end of a pattern is the start of a name.
  ('Disallow: /.', '/a', '/.git/x'),
  ('Disallow: /a?b=/../', '', '/a?b=/../'),
  # RFC 9309 2.2.3: how to write * and $ that are meant as they are.
  ('Disallow: /a-%2A.html', '/a-b.html', '/a-*.html'),
  ('Disallow: /a-%24', '/a-', '/a-$'),
  ('Disallow: /a$b', '', '/a$b'),
  # What Google's parser takes for it as well.
  *((f'{word} /', '', '/x') for word in MISSPELT),
  ('Disallow: /\nAllow: /x/index.html', '/x/', ''),
  ('Disallowed: /', '/x', ''),
  ('Noindex: /', '/x', ''),
  ('\nDisallow: /', '', '/x'),
  ('Disallow: /a\rDisallow: /x', '', '/x'),
  ('Disallow: /a\x0bAllow: /b', '/x', ''),
]


@pytest.mark.parametrize(('rules', 'allowed', 'refused'), RULES)
def test_rules(rules, allowed, refused):
  parsed = robots.parse(f'User-Agent: *\n{rules}', 'bot')
  for paths, is_allowed in ((allowed, True), (refused, False)):
    for path in paths.split():
      assert parsed.allows(f'http://h{path}') is is_allowed, path


@pytest.mark.parametrize(
  ('group', 'applies'),
  [
    ('User-agent: Llm_Jax\n', True),
    ('User-agent: llm_jax/0.1\n', True),
    ('User-agent: llm_jax/9.9 (other)\n', True),
    ('User-agent: llm_jax 2\n', True),
    ('useragent: llm_jax\n', True),
    ('User agent : *\n', True),
    ('USER-AGENT *\r\n\r\n', True),
    ('\ufeffUser-agent: *\r', True),
    ('User-agent: llm_jax\nUser-agent: b\n', True),
    ('User-agent: b\n\n\nUser-agent: llm_jax\n', True),
    # Sitemaps and what is no rule do not end a group (RFC 9309 2.2.4).
    ('User-agent: llm_jax\nSitemap: s\nNoindex: /\nUser-agent: b\n', True),
    ('User-agent: llm_jax\nDisallow: /1\nUser-agent: b\n', False),
    ('User-agent: llm\n', False),
    ('User-agent: jax\n', False),
    ('User-agent: llm_jaxbot\n', False),
    ('User-agent: mozilla/5.0 llm_jax\n', False),
    ('User-agent: llm_jax\nAllow: /\nUser-agent: *\n', False),
    ('', False),
  ],
)
def test_whom_a_group_is_for(group, applies):
  rules = robots.parse(f'{group}Disallow: /x', 'llm_jax/0.1 (research)')
  assert rules.allows('http://h/x') is not applies


def test_groups_and_delay():
  text = (
    'User-agent: a\nUser-agent: Bot\nDisallow: /1\nCrawl-delay: 2\n'
    'User-agent: *\nDisallow: /2\nCrawl-delay: 9\n'
    'User-agent: bot\nDisallow: /3\nCrawl-delay: nan'
  )

  def refused(rules):
    return [i for i in range(5) if not rules.allows(f'http://h/{i}')]

  bot, other = robots.parse(text, 'BOT'), robots.parse(text, 'x')
  assert (refused(bot), bot.crawl_delay_s) == ([1, 3], 2)
  assert (refused(other), other.crawl_delay_s) == ([2], 9)
  assert robots.Rules().crawl_delay_s == 0


def test_answers_without_a_file():
  for status in (200, 404, 429, 500, 0):
    rules = robots.from_response(status, 'User-agent: *\nDisallow: /', 'x')
    assert rules.allows('http://h/a') is (status == 404)
    assert rules.unavailable is (status not in (200, 404))


def test_sitemaps_belong_to_all_groups():
  text = (
    'Sitemap: http://h/1.xml\nUser-agent: a\nDisallow: /\n'
    'SITEMAP : http://h/2.xml # x\nDisallow: /b'
  )
  rules = robots.parse(text, 'b')
  assert rules.sitemaps == ('http://h/1.xml', 'http://h/2.xml')


def test_junk_is_no_rule():
  for text in ['\0\1\2' * 99, '<!DOCTYPE html><p>User-agent: *', 'Disallow: /']:
    rules = robots.parse(text, 'x')
    assert rules.allows('http://h/')
    assert (rules.sitemaps, rules.crawl_delay_s) == ((), 0)
