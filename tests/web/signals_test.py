"""What a page says: links, nofollow, noindex, canonical; hostile pages."""

import datetime
import random
import time

import pytest

from llm_jax.web.crawl import fetch, signals

DATE = datetime.datetime(2026, 3, 4, tzinfo=datetime.UTC)


def read(page: str | bytes, *headers: tuple[str, str]) -> signals.Signals:
  body = page.encode() if isinstance(page, str) else page
  answer = fetch.Response(200, 'OK', headers, body, False, '127.0.0.1', DATE)
  return signals.read(answer, 'http://other/', 'Bot')


def test_links_of_a_page():
  page = """
    <base href="http://h/dir/"><a href='a.html'>1</a><A class=x HREF=b>2</A>
    <!-- <a href="comment"> --><area href="../c?x=1&amp;y=2">
    <a name="no">n</a><a href="mailto:x@y.z"><abbr href="no">
    <a data-href="no" title="href=no" rel="noopener" href = "d">
    <!-- never closed <a href="no">
  """
  assert read(page).links == (
    'http://h/dir/a.html',
    'http://h/dir/b',
    'http://h/c?x=1&y=2',
    'mailto:x@y.z',
    'http://h/dir/d',
  )


LINKS = [
  ('<a title="Next >" href="/x">', '/x'),
  ("<a title='a>b' href='/x'>", '/x'),
  ("<a title='<a href=/no>' href=/x?a=1&b=2&amp;c=3>", '/x?a=1&b=2&c=3'),
  ('<a href="/x?a&copy=2&#x41;&eacute;">', '/x?a&copy=2Aé'),
  ('<A\nHREF\n=\n"\t/x\n">', '/x'),
  ('<a/href=/x><area href=/y>', '/x /y'),
  ('<a href=/x href=/no>', '/x'),
  ('<a "x" y= href=/no>', ''),
  ('<a href="/x" / ><br/><a href=/y', '/x'),
  ('<!--><a href=/x><!-- <a href=/no> --!><a href=/y>', '/x /y'),
  ('<script>"<a href=/no>"</script><style><a href=/no></style>', ''),
  ('<textarea><a href=/no></textarea><title><a href=/no></title>', ''),
  ('<iframe src=/no><a href=/no></iframe><frame src=/no>', ''),
  ('<noscript><a href=/x></noscript><template><a href=/y>', '/x /y'),
  ('<svg><a href=/x></svg><select><a href=/y></select>', '/x /y'),
  ('<a href=x><base href=/d/><base href=/no/>', '/d/x'),
  ('<base target=_top><base href="data:x"><a href=x>', '/x'),
  ('<base href="//h2/d/"><a href=x><link rel=canonical href=c>', '//h2/d/x'),
  ('<a\0href=/no><a href="/x\0y">', '/x\ufffdy'),
]  # fmt: skip


@pytest.mark.parametrize(('page', 'links'), LINKS)
def test_links_as_browsers_see_them(page, links):
  base = 'http://other/'
  assert read(page).links == tuple(
    'http:' + link if link[:2] == '//' else base + link[1:]
    for link in links.split()
  )


def test_nofollow():
  page = '<a href=/1>x</a><a rel="ugc NoFollow" href=/2>x</a>'
  assert read(page).links == ('http://other/1',)
  assert read(page).n_nofollow == 1
  for said in ('nofollow', 'NOINDEX, NOFOLLOW', 'none'):
    found = read(f'<meta content="{said}" name=Robots>{page}')
    assert (found.links, found.n_nofollow) == ((), 2)


@pytest.mark.parametrize(
  ('page', 'headers', 'noindex'),
  [
    ('<meta name="robots" content="noindex">', [], True),
    ('<meta name=bot content="NoIndex,follow">', [], True),
    ('<meta name=robots content=none>', [], True),
    ('<meta name="googlebot" content="noindex">', [], False),
    ('<meta name="description" content="noindex">', [], False),
    ('<!--<meta name="robots" content="noindex">-->', [], False),
    ('', [('X-Robots-Tag', 'noarchive, NOINDEX')], True),
    ('', [('X-Robots-Tag', 'all'), ('x-robots-tag', 'none')], True),
    ('', [('X-Robots-Tag', 'googlebot: noindex')], False),
    ('', [('X-Robots-Tag', 'googlebot: noarchive, bot: noindex')], True),
    ('', [('X-Robots-Tag', 'max-snippet: 5, noindex')], True),
    ('', [('X-Robots-Tag', 'unavailable_after: 1 Jan 2030 15:00:00')], False),
  ],
)
def test_noindex(page, headers, noindex):
  assert read(page, *headers).noindex is noindex


CANONICAL = [
  ('<link rel="canonical" href="/a">', [], 'http://other/a'),
  ('<base href="http://h/d/"><link href=e rel=Canonical>', [], 'http://h/d/e'),
  ('<link rel=stylesheet href=/a>', [], ''),
  ('<link rel=canonical href=/a><link rel=canonical href=/b>', [],
   'http://other/a'),
  ('', [('Link', '</s.css>; rel=preload, </c>; rel="canonical"')],
   'http://other/c'),
  ('', [('Link', '</s.css>; rel=preload; title="x"')], ''),
]  # fmt: skip


@pytest.mark.parametrize(('page', 'headers', 'canonical'), CANONICAL)
def test_canonical(page, headers, canonical):
  assert read(page, *headers).canonical == canonical


def test_addresses_in_other_charsets():
  page = '<meta charset=koi8-r><a href="/мир">'
  assert read(page).links == ('http://other/мир',)  # it is UTF-8 all the same
  assert read(page.encode('koi8-r')).links == ('http://other/мир',)
  latin = '<a href="/é">'.encode('latin-1')
  assert read(latin).links == ('http://other/é',)
  header = ('Content-Type', 'text/html; charset="windows-1251"')
  assert read('<a href="/мир">'.encode('cp1251'), header).links == (
    'http://other/мир',
  )
  cut = ('<a href="/é">' + 'é' * 20).encode()[:-1]
  assert read(cut).links == ('http://other/é',)


UNITS = (
  '<a ', '<a href=', '<a href="', "<a href='a=\"", '<!--', '<!-', 'x', '<',
  '<meta name=', '<a' + ' ' * 5000, '<a ' + 'r-' * 3000, 'href', '<link rel=',
)  # fmt: skip


@pytest.mark.parametrize('unit', UNITS)
def test_linear_time(unit):
  start = time.process_time()
  read(unit * (4_000_000 // len(unit)))
  assert time.process_time() - start < 5


def test_damage_never_raises():
  source = random.Random(0)
  page = (
    b'<base href="//h:1/"><link rel=canonical href="http://[x/"><meta name='
    b'robots content="a:b,noindex"><a rel=x href="http://[::1]:99/&#xd800;">'
  )
  for _ in range(3000):
    body = bytearray(page * 2)
    for _ in range(source.randint(0, 9)):
      body[source.randrange(len(body))] = source.randrange(256)
    header = ''.join(chr(source.randrange(1, 256)) for _ in range(20))
    kind = ('Content-Type', f'text/html; charset={header}')
    read(bytes(body), ('Link', header), ('X-Robots-Tag', header), kind)
