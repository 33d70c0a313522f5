"""Every command in the documentation runs.

Commands are taken from README.md, from the docstrings of recipes and tools,
from the headers of gin files and from tools/speedrun.sh. Each is parsed by the
recipe itself, with its real flags and gin files, up to the call of `run`.
"""

import functools
import os
import pathlib
import re
import runpy
import shlex
import subprocess
import sys
import typing

import pytest

from experiments import command_line, process, rerun
from llm_jax import dataclass_json, record

ROOT = pathlib.Path(__file__).resolve().parent.parent
_COMMAND = re.compile(
  r'(?:^|[ `$])(python -m [a-z]\w*\.\w+.*|\./tools/\w+\.sh.*)'
)


def _documents() -> list[pathlib.Path]:
  patterns = (
    'README.md', 'docs/**/*.md', 'experiments/*.py',
    'tools/*.py', 'tools/*.sh', 'gin_configs/**/*.gin',
  )  # fmt: skip
  return sorted(path for p in patterns for path in ROOT.glob(p))


def commands(text: str) -> list[str]:
  """Finds the commands of a text, joining lines that end in a backslash."""
  lines = [line.strip().lstrip('#').strip() for line in text.splitlines()]
  joined = re.sub(r'\\\n', ' ', '\n'.join(lines))
  # The speedrun's `stage NAME ...` stands for `python -m experiments.NAME`.
  joined = re.sub(
    r'^stage (?=\w+ --)', 'python -m experiments.', joined, flags=re.M
  )
  found = []
  for line in joined.splitlines():
    match = _COMMAND.search(line)
    # In running text a command stands between backquotes.
    if match and not (line.count('`') and '`' + match[1] not in line):
      found.append(match[1].split('`')[0].split(' #')[0].strip())
  return found


def _all_commands() -> list[tuple[str, str]]:
  return [
    (str(path.relative_to(ROOT)), command)
    for path in _documents()
    for command in commands(path.read_text(encoding='utf-8'))
  ]


def _parse(command: str, monkeypatch) -> None:
  """Runs the recipe of a command up to the call of `run`."""
  words = shlex.split(command.replace('$seed', '0').replace('$2', 'x'))
  path = ROOT / (words[2].replace('.', '/') + '.py')
  calls, codes = [], []

  def main(config_class, run, explain=None, **path_flags):
    @functools.wraps(run)
    def stop(cfg, *args, **kwargs):
      calls.append(cfg)

    code = command_line.execute(
      config_class, stop, path_flags, argv=words[2:], explain=explain
    )
    codes.append(code)

  def take_over(run, path_flags, flag_values):
    for name in path_flags:  # as if the record of --rerun were there
      flag_values[name].value = 'x'
    config_class = typing.get_type_hints(run)['cfg']
    return {'config': dataclass_json.to_dict(config_class())}

  monkeypatch.chdir(ROOT)
  monkeypatch.setattr(command_line, 'main', main)
  monkeypatch.setattr(rerun, 'take_over', take_over)
  monkeypatch.setattr(record, 'rerun', lambda *_: None)
  monkeypatch.setattr(process, 'set_up_logging', lambda verbosity: None)
  runpy.run_path(str(path), run_name='__main__')
  if codes != [0] or not (calls or '--explain' in words or '--help' in words):
    raise ValueError(f'exit codes {codes}, {len(calls)} calls of run')


@pytest.mark.parametrize(('place', 'command'), _all_commands())
def test_documented_command(place, command, monkeypatch):
  words = shlex.split(command)
  if words[0].startswith('./'):
    assert os.access(ROOT / words[0], os.X_OK), place
  elif words[2].startswith('experiments.'):
    _parse(command, monkeypatch)
  else:
    source = (ROOT / (words[2].replace('.', '/') + '.py')).read_text()
    for shared in re.findall(r'^from examples import (\w+)', source, re.M):
      source += (ROOT / 'examples' / f'{shared}.py').read_text()
    for name in re.findall(r' --([a-z]\w*)', command.split(' -- ')[0]):
      assert re.search(rf"'(--)?{name}'", source), f'{place}: no flag --{name}'


def test_installed_extras_are_there():
  extras = (ROOT / 'setup.py').read_text(encoding='utf-8')
  for path in _documents():
    text = path.read_text(encoding='utf-8')
    for names in re.findall(r"pip\s+install [^\n`]*'\.\[([\w,]+)\]'", text):
      for name in names.split(','):
        assert f"    '{name}':" in extras, f'{path}: no extra {name}'


def test_every_gin_file_is_the_subject_of_a_command():
  text = ' '.join(command for _, command in _all_commands())
  for path in sorted((ROOT / 'gin_configs').glob('**/*.gin')):
    assert f'--gin_file {path.relative_to(ROOT)}' in text


def test_every_recipe_is_shown():
  text = ' '.join(command for _, command in _all_commands())
  no_recipes = ('command_line', 'explain', 'process', 'recipe_flags', 'rerun')
  for path in sorted((ROOT / 'experiments').glob('[a-z]*.py')):
    if path.stem not in no_recipes:
      assert f'python -m experiments.{path.stem} ' in text


def test_module_is_run_for_real():
  done = subprocess.run(
    [sys.executable, '-m', 'experiments.crawl', '--explain'],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
    timeout=60,
  )
  assert done.returncode == 0, done.stderr
  assert ' = ' in done.stdout


def test_commands_are_found():
  text = """
    python -m experiments.a --workdir w \\
      --tokens t   # a remark
    Then run `python -m experiments.b --x 'y z'` and look.
    $ ./tools/test.sh
    # python -m experiments.c --gin_file \\
    #   gin_configs/c.gin
    stage d --workdir w
    Speak of python -m experiments.e in prose with a `backquote`.
  """
  assert commands(text) == [
    'python -m experiments.a --workdir w  --tokens t',
    "python -m experiments.b --x 'y z'",
    './tools/test.sh',
    'python -m experiments.c --gin_file  gin_configs/c.gin',
    'python -m experiments.d --workdir w',
  ]


@pytest.mark.parametrize(
  'change',
  [
    '--no_such_flag x',
    '--gin_file gin_configs/nowhere.gin',
    "--gin_bindings 'Config.no_such_field = 1'",
    '--restore_from x',
  ],
)
def test_planted_fault(change, monkeypatch):
  sound = 'python -m experiments.crawl --workdir w'
  _parse(sound, monkeypatch)
  with pytest.raises(ValueError, match='exit codes'):
    _parse(f'{sound} {change}', monkeypatch)


def test_planted_missing_flag(monkeypatch):
  with pytest.raises(ValueError, match='exit codes'):
    _parse('python -m experiments.clean --workdir w', monkeypatch)
