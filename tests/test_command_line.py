"""The command line of every recipe: flags, errors and exit codes."""

import dataclasses
import errno
import pathlib
import subprocess
import sys
from collections.abc import Sequence

import pytest

from experiments import command_line, process, sft
from llm_jax import record

ROOT = pathlib.Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True)
class Config:
  rate: float = 0.5
  seed: int = 0


@pytest.fixture(autouse=True)
def _apart(monkeypatch, tmp_path):
  """Loggers belong to the whole process; a recipe may set them up, not us."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(process, 'set_up_logging', lambda verbosity: None)


class Recipe:
  """Records what `run` was called with."""

  def __init__(self, error=None):
    self.calls = []
    self.error = error

  def run(
    self,
    cfg,
    workdir: str,
    warc: Sequence[str],
    tokens: str = 'tokens',
    base: bool = False,
  ):
    self.calls.append((cfg, workdir, warc, tokens, base))
    if self.error:
      raise self.error


_HELP = {'warc': 'files', 'tokens': 'folder', 'base': 'switch'}


def _execute(recipe, *argv):
  return command_line.execute(Config, recipe.run, _HELP, ['x', *argv])


def test_all_flags():
  recipe = Recipe()
  code = _execute(
    recipe,
    '--workdir=w',
    '--warc=a',
    '--warc=b',
    '--tokens=t',
    '--base',
    '--gin_bindings=Config.rate = 2',
    '--gin_bindings=Config.seed = 1',
  )
  assert code == 0
  assert recipe.calls == [(Config(2.0, 1), 'w', ['a', 'b'], 't', True)]


def test_defaults():
  recipe = Recipe()
  assert _execute(recipe, '--workdir', 'w', '--warc', 'a') == 0
  assert recipe.calls == [(Config(), 'w', ['a'], 'tokens', False)]


def test_explain(capsys):
  recipe = Recipe()
  assert _execute(recipe, '--explain', '--gin_bindings=Config.seed = 1') == 0
  assert capsys.readouterr().out == 'rate = 0.5\nseed = 1   # default 0\n'
  assert recipe.calls == []


def test_help(capsys):
  assert _execute(Recipe(), '--help') == 0
  assert '--[no]explain' in capsys.readouterr().out


@pytest.mark.parametrize(
  ('argv', 'code', 'message'),
  [
    ([], 1, 'error: --workdir, --warc must be given'),
    (['--workdir=w'], 1, 'error: --warc must be given'),
    (['--wrkdir=w'], 2, "Unknown command line flag 'wrkdir'"),
    (['--workdir=w', '--warc=a', 'b'], 2, 'unexpected arguments: b'),
    (['--restore_from=r'], 1, 'error: --restore_from r: this recipe takes'),
    (
      ['--gin_file=nowhere.gin'],
      1,
      'error: gin file nowhere.gin cannot be read',
    ),
    (['--gin_bindings=Config.sed = 1'], 1, 'did you mean seed?'),
  ],
)
def test_refusals(argv, code, message, capsys):
  recipe = Recipe()
  assert _execute(recipe, *argv) == code
  assert message in capsys.readouterr().err
  assert recipe.calls == []


@pytest.mark.parametrize(
  ('error', 'message'),
  [
    (ValueError('batch_size 10; use 8'), 'error: batch_size 10; use 8\n'),
    (OSError(errno.ENOSPC, 'No space left'), 'No space left'),
    (FloatingPointError('10 steps in a row'), 'error: 10 steps in a row\n'),
    (FileNotFoundError(2, 'No such file', 'a'), "No such file: 'a'"),
  ],
)
def test_errors_become_a_line(error, message, capsys):
  assert _execute(Recipe(error), '--workdir=w', '--warc=a') == 1
  written = capsys.readouterr().err
  assert message in written
  assert 'Traceback' not in written


def test_verbosity_shows_where():
  recipe = Recipe(ValueError('bad'))
  with pytest.raises(ValueError, match='bad'):
    _execute(recipe, '--workdir=w', '--warc=a', '--verbosity=1')


def test_interrupt():
  assert _execute(Recipe(KeyboardInterrupt()), '--workdir=w', '--warc=a') == 130


def test_a_bug_keeps_its_traceback():
  with pytest.raises(TypeError):
    _execute(Recipe(TypeError('bug')), '--workdir=w', '--warc=a')


def test_restore_from_is_passed_where_it_is_a_parameter():
  calls = []

  def run(cfg, workdir: str, restore_from: str | None = None):
    calls.append((workdir, restore_from))

  argv = ['x', '--workdir=w', '--restore_from=r']
  assert command_line.execute(Config, run, {}, argv) == 0
  assert calls == [('w', 'r')]


def test_undescribed_flag():
  with pytest.raises(TypeError, match='main\\(\\) describes'):
    command_line.execute(Config, Recipe().run, {}, ['x'])


def test_two_recipes_in_one_process():
  """No flag is global, so the same name may be defined again."""
  for _ in range(2):
    assert _execute(Recipe(), '--workdir=w', '--warc=a') == 0


class TestRerun:
  @pytest.fixture
  def earlier(self, tmp_path, monkeypatch):
    """The record of a run with flags and a configuration of its own."""
    argv = ['x', '--workdir', 'old', '--warc=a', '--warc=b', '--tokens=t']
    argv += ['--gin_bindings', 'Config.seed = 3']
    monkeypatch.setattr(sys, 'argv', argv)
    record.begin(tmp_path / 'old', 'test', Config(seed=3))
    return str(tmp_path / 'old' / 'run.json')

  def test_configuration_and_flags_are_taken_over(self, earlier, tmp_path):
    new, recipe = str(tmp_path / 'new'), Recipe()
    assert _execute(recipe, f'--workdir={new}', f'--rerun={earlier}') == 0
    assert recipe.calls == [(Config(seed=3), new, ['a', 'b'], 't', False)]
    recipe = Recipe()
    argv = [f'--workdir={new}', f'--rerun={earlier}', '--warc=c']
    assert _execute(recipe, *argv) == 0
    assert recipe.calls == [(Config(seed=3), new, ['c'], 't', False)]

  @pytest.mark.parametrize(
    ('argv', 'message'),
    [
      (['--gin_bindings=Config.seed = 1'], 'leave out --gin_file and'),
      ([], 'needs a new folder; give --workdir'),
    ],
  )
  def test_refusals(self, argv, message, earlier, capsys):
    argv += ['--workdir=new'] if argv else []
    assert _execute(Recipe(), f'--rerun={earlier}', *argv) == 1
    assert message in capsys.readouterr().err

  @pytest.mark.parametrize(
    ('text', 'message'),
    [
      ('', r'is of a run of tokenize, not of sft; give it to python -m exp'),
      ('{}', 'is no record of a run; give the run.json of a stage'),
      ('[1]', 'it is no JSON object'),
      ('{', 'is damaged'),
    ],
  )
  def test_other_records(self, text, message, tmp_path, capsys):
    record.begin(tmp_path / 'old', 'tokenize', Config())
    path = tmp_path / 'old' / 'run.json'
    path.write_text(text or path.read_text())
    argv = ['x', f'--rerun={path}', f'--workdir={tmp_path}/new']
    flags = {'conversations': 'files', 'persona': 'file'}
    assert command_line.execute(sft.Config, sft.run, flags, argv) == 1
    written = capsys.readouterr().err
    assert message in written
    assert 'Traceback' not in written

  def test_a_rerun_says_what_was_first(self, earlier, tmp_path, monkeypatch):
    argv = ['x', f'--workdir={tmp_path}/new', f'--rerun={earlier}']
    monkeypatch.setattr(sys, 'argv', argv)
    record.begin(tmp_path / 'new', 'test', Config(seed=3))
    argv = [f'--workdir={tmp_path}/x', f'--rerun={tmp_path}/new/run.json']
    with pytest.raises(ValueError, match=r'give --rerun .*new/rerun_of\.json'):
      _execute(Recipe(), '--verbosity=1', *argv)


BUG = """
import sys
import jax
from experiments import process
if sys.argv[1] == 'many':
  jax.distributed.is_initialized = lambda: True
import atexit
atexit.register(print, 'waited for the others')
process.leave(int(sys.argv[2]))
"""


@pytest.mark.parametrize(
  ('processes', 'code', 'waits'),
  [('one', 1, True), ('many', 0, True), ('many', 1, False)],
)
def test_a_failed_process_of_many_waits_for_nothing(processes, code, waits):
  done = subprocess.run(
    [sys.executable, '-c', BUG, processes, str(code)],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == code, done.stderr
  assert ('waited' in done.stdout) == waits
