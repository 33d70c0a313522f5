"""The changed trafilatura against the one that is installed."""

import importlib.util
import json
import pydoc
import random
import re
import subprocess
import sys
import types

import lxml.html
import pytest
from lxml import etree

from llm_jax.web.extract import html_text, trafilatura_fast

WORDS = (
  'the old mill stands where two streams meet and its wheel has not turned'
)
# Trafilatura as it is, on pages from stdin: fast and full texts of each.
ALONE = """
import json, sys, trafilatura
texts = []
for page in json.load(sys.stdin):
  for fast in (True, False):
    for favor in ('', 'precision', 'recall'):
      options = trafilatura.settings.Extractor(
        fast=fast, comments=False,
        precision=favor == 'precision', recall=favor == 'recall')
      if fast and not favor:
        options.focus = 'first'
      texts.append(trafilatura.extract(page, options=options) or '')
json.dump(texts, sys.stdout)
"""


@pytest.fixture(scope='module')
def original() -> types.ModuleType:
  """The expressions as they come, not those that were exchanged."""
  spec = importlib.util.find_spec('trafilatura.xpaths')
  assert spec
  assert spec.loader
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def expressions(original: types.ModuleType) -> list[list[etree.XPath]]:
  from trafilatura import settings

  return [
    *(getattr(original, name) for name in trafilatura_fast.PATHS),
    *([expression] for expression in original.BODY_XPATH),
    [settings.BASIC_CLEAN_XPATH],
  ]


def random_page(generator: random.Random, words: list[str]) -> str:
  """Elements with the expressions' own words in attributes of any order."""
  parts = []
  for _ in range(60):
    tag = generator.choice(
      ['div', 'section', 'p', 'ul', 'aside', 'main', 'article', 'list', 'span']
    )
    names = ['id', 'class', 'style', 'role', 'itemprop', 'aria-hidden', 'href']
    attributes = ''
    for name in generator.sample(names, k=generator.randrange(4)):
      value = ' '.join(generator.choices(words, k=generator.randrange(1, 3)))
      attributes += f' {name}="{value}"'
    n_words = generator.randrange(30)
    text = ' '.join(generator.choices(WORDS.split(), k=n_words)) + '. '
    if generator.random() < 0.3:
      text = f'<a href="/{n_words}">{text}</a>' * generator.randrange(8)
    if generator.random() < 0.1:
      text += '<h1>Mill</h1><table><tr><td>a<td>b</table><li>c<br>d'
    end = f'</{tag}>' if generator.random() < 0.8 else ''
    parts.append(f'<{tag}{attributes}>{text}{end}')
  return f'<html><body>{"".join(parts)}</body></html>'


def random_pages(original: types.ModuleType, n_pages: int) -> list[str]:
  paths = [x.path for group in expressions(original) for x in group]
  words = re.findall(r"[A-Za-z][\w -]+(?=['|)])", ' '.join(paths))
  words += ['true', 'FULLTEXT', 'display:none', 'infinite-scroll']
  words += [
    'mvp-post-add-box',
    'cookie-bar',
    'lead',
    'bottom',
    'link',
    'border',
  ]
  generator = random.Random(0)
  return [random_page(generator, words) for _ in range(n_pages)]


def test_expressions_find_the_same(original):
  trees = [lxml.html.fromstring(page) for page in random_pages(original, 60)]
  for group in expressions(original):
    path = '|'.join(expression.path for expression in group)
    is_first = group[0] in original.BODY_XPATH
    ours = trafilatura_fast.AttributePath(path, is_first)
    n_found = 0
    for tree in trees * 2:  # the second time from memory
      found = dict.fromkeys(e for expression in group for e in expression(tree))
      if is_first:
        assert next(ours.iterate(tree), None) == next(iter(found), None), path
      else:
        assert ours(tree) == [e for e in tree.iter() if e in found], path
      n_found += len(found)
    assert n_found > 10, path


def test_first_attribute_of_the_page_is_that_of_a_union():
  """XPath's string of two attributes is that of the first one."""
  path = ".//p[contains(@id|@class, 'x')]"
  tree = lxml.html.fromstring(
    '<div><p id="x" class="y">1<p class="y" id="x">2<p class="x" id="y">3'
    '<p id="y" class="x">4<p class="x">5<p id="x">6<p>7</div>'
  )
  found = trafilatura_fast.AttributePath(path)(tree)
  assert [element.text for element in found] == ['1', '3', '5', '6']
  assert found == etree.XPath(path)(tree)


def test_equal_attributes_of_unequal_tags_are_told_apart():
  path = ".//*[self::p or self::b][contains(@id, 'x')][not(self::b)]"
  tree = lxml.html.fromstring('<div><b id="x">1</b><p id="x">2</p></div>')
  found = trafilatura_fast.AttributePath(path)(tree)
  assert [element.text for element in found] == ['2']


def test_changed_lists_hold_our_expressions():
  from trafilatura import xpaths

  trafilatura_fast.load()
  for name in trafilatura_fast.PATHS:
    (path,) = getattr(xpaths, name)
    assert isinstance(path, trafilatura_fast.AttributePath)
  assert len(xpaths.BODY_XPATH) == 5


def test_texts_equal_the_library_alone(original):
  pages = random_pages(original, 25)
  pages += [pydoc.HTMLDoc().document(m) for m in (json, random)]
  forbidden = '\x00\x07\x0b\x1f\x7f\x85\ufffe\uffff'
  pages += [f'<div><p>{WORDS}{c}{WORDS}. ' * 9 for c in forbidden]
  pages += ['no page', '<', '<p>x</p>', '<html></html>']
  done = subprocess.run(
    [sys.executable, '-c', ALONE],
    input=json.dumps(pages),
    capture_output=True,
    text=True,
    check=True,
  )
  expected = iter(json.loads(done.stdout))
  n_found = 0
  for page in pages:
    for fast in (True, False):
      for favor in html_text._FAVORS:
        tree = trafilatura_fast.load_tree(page)
        text = ''
        if tree is not None:
          text = trafilatura_fast.extract(tree, favor, fast, fast)
        assert text == next(expected)
        n_found += len(text) > 100
  assert n_found > 80


@pytest.mark.parametrize(
  'path',
  [
    './/div[2]',
    '(.//div)[1]',
    './/div[1]',
    './/div[position() = 1]',
    './/div[last()]',
    './/div[text()]',
    './/div/p[@id]',
    './/div[../@id]',
    './/div[ancestor::p]',
    './/div[p[@id]]',
    '//div[@id]',
    './/div[string-length(@id) > 3]',
    './/div[@id] or .//p',
  ],
)
def test_other_expressions_are_refused(path):
  with pytest.raises(ValueError, match='not a path of attributes'):
    trafilatura_fast.AttributePath(path)


def test_memory_is_bounded(monkeypatch):
  monkeypatch.setattr(trafilatura_fast, '_MAX_REMEMBERED', 10)
  path = trafilatura_fast.AttributePath(".//p[contains(@id, '7')]")
  page = ''.join(f'<p id="{i}">{i}</p>' for i in range(100))
  page += f'<p id="{"7" * 1000}">long</p>'
  tree = lxml.html.fromstring(f'<div>{page}</div>')
  expected = [str(i) for i in range(100) if '7' in str(i)] + ['long']
  for _ in range(2):
    assert [element.text for element in path(tree)] == expected
    assert 0 < len(path._verdicts) <= 10
    assert all(len(str(key)) < 1000 for key in path._verdicts)


def test_visible_text_is_that_of_the_body():
  page = (
    '<html><head><title>no</title><style>no</style></head><body> one <b>two'
    '</b>\n <script>no</script>three</body></html>'
  )
  tree = trafilatura_fast.load_tree(page)
  assert tree is not None
  assert trafilatura_fast.n_visible(tree) == len('one two three')
