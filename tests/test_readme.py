"""The documentation names every file, and its links lead somewhere."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
_FOLDERS = ('experiments', 'tools', 'llm_jax')
_PAGES = [
  str(path.relative_to(ROOT))
  for pattern in ('README.md', 'CHANGELOG.md', 'LOG.md', 'docs/**/*.md')
  for path in sorted(ROOT.glob(pattern))
]


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


@pytest.mark.parametrize('name', _PAGES)
def test_links_lead_somewhere(name):
  """Relative to the page, as GitHub shows it; anchors are mkdocs' to check."""
  text = (ROOT / name).read_text(encoding='utf-8')
  for target in re.findall(r'\]\((?!https?://)([^)#]+)', text):
    assert ((ROOT / name).parent / target).exists(), target


def test_readme_is_one_page():
  lines = (ROOT / 'README.md').read_text(encoding='utf-8').splitlines()
  assert len(lines) <= 120


def _rows(name: str) -> dict[str, list[str]]:
  """The cells of each row of a page's tables, by the first; the first wins."""
  rows: dict[str, list[str]] = {}
  for line in (ROOT / name).read_text(encoding='utf-8').splitlines():
    if line.startswith('| '):
      first, *rest = (cell.strip() for cell in line.strip('|').split('|'))
      if any('–' in cell for cell in rest):  # a row with an interval
        rows.setdefault(first, rest)
  return rows


def test_readme_repeats_the_results():
  """Its rows stand in the report that docs/results.md holds."""
  page = (ROOT / 'docs' / 'results.md').read_text(encoding='utf-8')
  assert page.count('<!-- results -->') == page.count('<!-- /results -->') == 1
  results, readme = _rows('docs/results.md'), _rows('README.md')
  assert len(readme) == 3
  for name, cells in readme.items():
    assert [cell for cell in cells if cell not in results[name]] == [], name


@pytest.mark.parametrize('name', ['LOG.md', 'CHANGELOG.md'])
def test_lines_are_short(name):
  """But of tables, whose rows cannot be cut."""
  lines = (ROOT / name).read_text(encoding='utf-8').splitlines()
  long = [x for x in lines if len(x) > 100 and x[0] != '|' and ' ' in x[3:98]]
  assert long == []
