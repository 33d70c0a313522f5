"""The site builds without a warning, and its reference says every setting."""

import os
import pathlib
import re
import subprocess
import sys

from tools import docs_site

ROOT = pathlib.Path(__file__).resolve().parent.parent


def _build(config: pathlib.Path, site: pathlib.Path):
  return subprocess.run(
    [sys.executable, '-m', 'mkdocs', 'build', '--strict',
     '--config-file', str(config), '--site-dir', str(site)],
    env=os.environ | {'NO_MKDOCS_2_WARNING': '1'},
    capture_output=True,
    text=True,
    check=False,
    timeout=300,
  )  # fmt: skip


def test_every_setting_is_described():
  missing = [
    name
    for cls in docs_site.setting_classes()
    for name in docs_site.undocumented(cls)
  ]
  assert missing == [], 'write a comment behind each'


def test_the_site(tmp_path):
  """A build that warns fails; what it made needs nothing from elsewhere."""
  done = _build(ROOT / 'mkdocs.yml', tmp_path)
  assert done.returncode == 0, done.stderr
  for path in tmp_path.rglob('*.html'):
    page = path.read_text(encoding='utf-8')
    loaded = re.findall(r'<(?:script|link|img|iframe)\b[^>]*>', page)
    assert not [tag for tag in loaded if '="http' in tag], path
  settings = (tmp_path / 'reference' / 'settings.html').read_text()
  assert 'id="optimizer"' in settings
  assert 'Peak learning rate of everything else' in settings
  assert (tmp_path / 'source/llm_jax/train/depth.py.html').is_file()


def test_dead_links_fail(tmp_path):
  """On a site of one page, with the rules of ours; --quiet counts none."""
  rules = (ROOT / 'mkdocs.yml').read_text(encoding='utf-8')
  rules = re.sub(r'^hooks:.*\n', '', rules, flags=re.MULTILINE)
  rules = rules[: rules.index('nav:')] + 'nav: [index.md]\n'
  (tmp_path / 'mkdocs.yml').write_text(rules)
  (tmp_path / 'docs').mkdir()
  page = tmp_path / 'docs' / 'index.md'
  page.write_text('# Here\n\n[x](#here) [x](index.md#here)\n')
  sound = _build(tmp_path / 'mkdocs.yml', tmp_path / 'site')
  assert sound.returncode == 0, sound.stderr
  dead = ['nowhere.md', '../nowhere.py', '#hare', 'index.md#hair', '/here.md']
  page.write_text('# Here\n\n' + ' '.join(f'[x]({link})' for link in dead))
  done = _build(tmp_path / 'mkdocs.yml', tmp_path / 'site')
  assert done.returncode != 0
  named = [link.rpartition('#')[2] for link in dead]
  assert [name for name in named if f"{name}'" not in done.stderr] == []


def test_links_are_turned():
  """From where GitHub shows a page to the pages of the site."""
  text = (
    '[a](own_text.md#x) [b](../../tools/house.py) [c](../../README.md) [d]'
    '(../../LOG.md#y) [e](https://a.b/c.md) [f](#z) [g](../../tools/n.py)'
  )
  place = 'docs/how-to/own_task.md'
  assert docs_site.with_site_links(text, place) == (
    '[a](own_text.md#x) [b](../source/tools/house.py.md) [c](../index.md) [d]'
    '(../log.md#y) [e](https://a.b/c.md) [f](#z) [g](../source/tools/n.py.md)'
  )
  assert docs_site.linked_files(text, place) == {'tools/house.py'}
  front = docs_site.with_site_links(
    '[a](docs/results.md) [b](LICENSE)', 'README.md'
  )
  assert front == '[a](results.md) [b](source/LICENSE.md)'
