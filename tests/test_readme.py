"""The documentation names every file, and its links lead somewhere."""

import pathlib
import re
import tomllib

import jax.numpy as jnp
import pytest

from llm_jax import own_code
from llm_jax.optim import optimizers
from tools import publish_results

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


def test_readme_repeats_the_results():
  """Its rows stand in the report that docs/results.md holds."""
  page = (ROOT / 'docs' / 'results.md').read_text(encoding='utf-8')
  readme = (ROOT / 'README.md').read_text(encoding='utf-8')
  assert page.count('<!-- results -->') == page.count('<!-- /results -->') == 1
  assert publish_results.with_rows(readme, page) == readme


_REPORT = """# Report

| Stage | Time |
| ----- | ---: |
| rl    |  2 s |

## Accuracy

| Checkpoint | Problems | Sampled | Greedy |
| ---------- | -------: | ------: | -----: |
| base       |        4 |     1.0 |    2.0 |
| rl         |        4 |    99.0 |    3.0 |
| sft        |        4 |     5.0 |    6.0 |
"""


def test_results_are_published():
  page = publish_results.with_report(
    '# R\n\n<!-- results -->\nold\n<!-- /results -->\nend\n', _REPORT
  )
  assert page.startswith('# R\n\n<!-- results -->\n\n| Stage | Time |\n')
  assert '\n### Accuracy\n' in page
  assert page.endswith('|    6.0 |\n\n<!-- /results -->\nend\n')
  readme = (
    '# A\n\n| Checkpoint | Greedy |\n| - | - |\n| sft | 0 |\n| rl | 0 |\nb\n'
  )
  assert publish_results.with_rows(readme, _REPORT) == (
    '# A\n\n'
    '| Checkpoint | Greedy |\n'
    '| ---------- | -----: |\n'
    '| sft        |    6.0 |\n'
    '| rl         |    3.0 |\n'
    'b\n'
  )
  with pytest.raises(ValueError, match='no table of the report'):
    publish_results.with_rows(readme.replace('sft', 'dpo'), _REPORT)


def test_the_task_of_the_how_to():
  """It is the file's, and does what a task does."""
  page = (ROOT / 'docs' / 'how-to' / 'own_task.md').read_text(encoding='utf-8')
  path = ROOT / 'examples' / 'vowels.py'
  shown = re.findall(r'```python\n(.*?)```', page, re.DOTALL)
  assert path.read_text(encoding='utf-8').endswith(shown[0])
  (vowels,) = own_code.load([str(path)])
  task = vowels()
  problem = task.problems('train', 1, seed=0)[0]
  n_vowels = len(re.sub('[^aeiou]', '', problem.prompt))
  assert task.score(problem, f'<think>\na\n</think>\n{n_vowels}').correct
  assert not task.score(problem, str(n_vowels + 1)).correct
  assert task.score(problem, task.demonstrate(problem, think=True)).correct


def test_the_optimizer_of_the_how_to():
  page = (ROOT / 'docs' / 'how-to' / 'own_task.md').read_text(encoding='utf-8')
  path = ROOT / 'examples' / 'rules.py'
  shown = re.findall(r'```python\n(.*?)```', page, re.DOTALL)
  assert path.read_text(encoding='utf-8').endswith(shown[1])
  lion, root = own_code.load([str(path)])
  rate = root(warmup_steps=4).learning_rate(peak=1.0, n_steps=100)
  # A warmup of four steps, then one over the root.
  assert [round(float(rate(n)), 4) for n in (0, 3, 15)] == [0.25, 1.0, 0.5]
  tx = optimizers.make(lion(peak_lr=1.0), 10, lines={})
  params = {'w': jnp.ones(2)}
  updates, _ = tx.update(params, tx.init(params), params)
  assert updates['w'].tolist() == [0.0, 0.0]  # the warmup starts at 0


def test_floors_are_those_of_the_contract():
  """Rooms from the top down, as pyproject.toml has them."""
  rules = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))
  layers = rules['tool']['importlinter']['contracts'][0]['layers']
  page = (ROOT / 'docs' / 'architecture.md').read_text(encoding='utf-8')
  floors = re.findall(r'^\| \d+ \| (.*) \|$', page, re.MULTILINE)
  assert [set(re.findall(r'\w+', floor)) for floor in floors] == [
    set(re.findall(r'\w+', layer)) for layer in layers
  ]


@pytest.mark.parametrize('name', ['LOG.md', 'CHANGELOG.md'])
def test_lines_are_short(name):
  """But of tables, whose rows cannot be cut."""
  lines = (ROOT / name).read_text(encoding='utf-8').splitlines()
  long = [x for x in lines if len(x) > 100 and x[0] != '|' and ' ' in x[3:98]]
  assert long == []
