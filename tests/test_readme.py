"""The documentation names every file, and its links lead somewhere."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
_FOLDERS = ('experiments', 'tools', 'llm_jax')


def listed(text: str) -> dict[str, str]:
  """The files of the tree on the page, with the line of each."""
  tree = re.search(r'## The house.*?```\n(.*?)```', text, re.DOTALL)
  assert tree, 'docs/architecture.md has no tree under "## The house"'
  files, folder = {}, ''
  for line in tree[1].splitlines():
    name, _, what = line.strip().partition(' ')
    if line.startswith(' '):
      files[folder + name] = what.strip()
    else:
      folder = name
  return files


def test_every_file_has_a_line():
  page = ROOT / 'docs' / 'architecture.md'
  files = listed(page.read_text(encoding='utf-8'))
  there = {
    str(path.relative_to(ROOT))
    for folder in _FOLDERS
    for path in (ROOT / folder).rglob('*')
    if path.suffix in {'.py', '.sh'} and path.name != '__init__.py'
  }
  assert sorted(set(files) - there) == [], 'on the page, but not there'
  assert sorted(there - set(files)) == [], 'there, but not on the page'
  assert all(files.values())


@pytest.mark.parametrize('name', ['README.md', 'docs/architecture.md'])
def test_links_lead_somewhere(name):
  text = (ROOT / name).read_text(encoding='utf-8')
  for target in re.findall(r'\]\(([^)#]+)\)', text):
    assert ((ROOT / name).parent / target).exists(), target


def test_results_have_their_place():
  """The speedrun's table is put between these two lines."""
  text = (ROOT / 'README.md').read_text(encoding='utf-8')
  assert text.count('<!-- results -->') == text.count('<!-- /results -->') == 1
