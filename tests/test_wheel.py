"""What a wheel holds, and that it works in another folder."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
_FOLDERS = ('llm_jax', 'experiments', 'tools', 'gin_configs', 'examples')
_FILES = ('setup.py', 'pyproject.toml', 'README.md', 'LICENSE')


@pytest.fixture(name='installed', scope='module')
def _installed(tmp_path_factory):
  """The tree that a wheel unpacks to, of the files that are here."""
  pytest.importorskip('setuptools', reason='pip install setuptools')
  copy, lib = tmp_path_factory.mktemp('copy'), tmp_path_factory.mktemp('lib')
  for folder in _FOLDERS:
    ignored = shutil.ignore_patterns('__pycache__')
    shutil.copytree(ROOT / folder, copy / folder, ignore=ignored)
  for name in _FILES:
    shutil.copy(ROOT / name, copy)
  words = [sys.executable, 'setup.py', '-q', 'build', '--build-lib', lib]
  done = subprocess.run(words, cwd=copy, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  return lib


def _python(installed, folder, *words):
  environment = os.environ | {'PYTHONPATH': str(installed)}
  done = subprocess.run(
    [sys.executable, *words],
    cwd=folder,
    env=environment,
    capture_output=True,
    text=True,
    timeout=120,
  )
  return done.returncode, done.stdout, done.stderr


def test_one_name_with_all_that_is_needed(installed):
  assert [path.name for path in installed.iterdir()] == ['llm_jax']
  there = {str(p.relative_to(installed)) for p in installed.rglob('*')}
  sources = [p for f in _FOLDERS for p in (ROOT / f).rglob('*.py')]
  sources += (ROOT / 'gin_configs').glob('*.gin')
  for path in sources:
    name = path.relative_to(ROOT)
    inside = name if name.parts[0] == 'llm_jax' else f'llm_jax/recipes/{name}'
    assert str(inside) in there
  assert 'llm_jax/py.typed' in there


def test_it_works_elsewhere(installed, tmp_path):
  program = 'import llm_jax, sys; print(llm_jax.__file__, "jax" in sys.modules)'
  code, out, err = _python(installed, tmp_path, '-c', program)
  assert (code, out) == (0, f'{installed}/llm_jax/__init__.py False\n'), err
  code, out, err = _python(installed, tmp_path, '-m', 'llm_jax')
  assert code == 0, err
  assert 'experiments: chat, clean, crawl, dpo, evaluate, index, ' in out
  assert f'gin files: {installed}/llm_jax/recipes/gin_configs' in out
  assert _python(installed, tmp_path, '-m', 'llm_jax', 'pretrian')[0] == 2
  # A recipe with a gin file that comes with it, and its own log lines.
  words = (
    'crawl',
    '--workdir',
    'w',
    '--gin_file',
    'gin_configs/crawl_pydoc.gin',
  )
  words += ('--gin_bindings', 'Crawl.max_pages = 2')
  code, out, err = _python(installed, tmp_path, '-m', 'llm_jax', *words)
  assert code == 0, err
  assert '2 pages' in err
  assert (tmp_path / 'w' / 'done.json').exists()
  # A task that comes with it, by the command in the gin file's header.
  words = (
    'sft',
    '--workdir',
    's',
    '--gin_file',
    'gin_configs/sft_countdown.gin',
  )
  words += ('--import', 'examples/countdown.py', '--explain')
  code, out, err = _python(installed, tmp_path, '-m', 'llm_jax', *words)
  assert code == 0, err
  assert 'n_numbers = 3 ' in out


def test_a_checkout_has_the_same_names(tmp_path):
  words = ('-m', 'llm_jax', 'count_params', 'llama3-8b')
  code, out, err = _python(ROOT, tmp_path, *words)
  assert code == 0, err
  assert '8,030,261,248' in out  # as published
