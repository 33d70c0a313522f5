"""The README's list of files is the list of files."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent
_FOLDERS = ('experiments', 'tools', 'llm_jax')


def listed(text: str) -> dict[str, str]:
  """The files of the tree in a README, with the line of each."""
  tree = re.search(r'## The house.*?```\n(.*?)```', text, re.DOTALL)
  assert tree, 'README.md has no tree under "## The house"'
  files, folder = {}, ''
  for line in tree[1].splitlines():
    name, _, what = line.strip().partition(' ')
    if line.startswith(' '):
      files[folder + name] = what.strip()
    else:
      folder = name
  return files


def test_every_file_has_a_line():
  files = listed((ROOT / 'README.md').read_text(encoding='utf-8'))
  there = {
    str(path.relative_to(ROOT))
    for folder in _FOLDERS
    for path in (ROOT / folder).rglob('*')
    if path.suffix in {'.py', '.sh'} and path.name != '__init__.py'
  }
  assert sorted(set(files) - there) == [], 'in README.md, but not there'
  assert sorted(there - set(files)) == [], 'there, but not in README.md'
  assert all(files.values())


def test_links_lead_somewhere():
  text = (ROOT / 'README.md').read_text(encoding='utf-8')
  for target in re.findall(r'\]\(([^)#]+)\)', text):
    assert (ROOT / target).exists(), target


def test_results_have_their_place():
  """The speedrun's table is put between these two lines."""
  text = (ROOT / 'README.md').read_text(encoding='utf-8')
  assert text.count('<!-- results -->') == text.count('<!-- /results -->') == 1
