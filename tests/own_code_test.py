"""Classes of a user's own in a configuration, and every way that they fail."""

import dataclasses
import hashlib
import json
import pathlib
import sys

import jax.numpy as jnp
import optax
import pytest

from experiments import command_line, process
from llm_jax import config, own_code, record
from llm_jax.optim import optimizers
from llm_jax.tasks import addition, any_task, protocol

VOWELS = """
import dataclasses
from llm_jax.tasks import protocol, questions, splits
from llm_jax.verify import grading


@dataclasses.dataclass(frozen=True)
class {name}(splits.Made):
  n_syllables: int = 3
  name: str = 'vowels'
  think_start: str = grading.THINK_START

  def _make(self, draw):
    word = questions.word(draw, self.n_syllables)
    n_vowels = sum(letter in 'aeiou' for letter in word)
    return word, protocol.Problem(self.name, f'{{word}}=', str(n_vowels))
"""
RULES = """
import dataclasses
import optax


@dataclasses.dataclass(frozen=True)
class Lion:
  rate: float = 1e-3

  def transformation(self, n_steps, lines):
    return optax.lion(optax.linear_schedule(self.rate, 0.0, n_steps))


@dataclasses.dataclass(frozen=True)
class Triangle:
  top: int = 2

  def learning_rate(self, peak, n_steps):
    return optax.piecewise_interpolate_schedule(
      'linear', peak, {self.top: 0.5, n_steps: 0.0})
"""


@dataclasses.dataclass(frozen=True)
class Config:
  task: any_task.AnyTask = addition.Addition()
  optimizer: optimizers.AnyOptimizer = optimizers.Optimizer()


@pytest.fixture(autouse=True)
def _apart(monkeypatch, tmp_path):
  """Modules of a test are gone after it."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'path', [*sys.path])
  monkeypatch.setattr(process, 'set_up_logging', lambda verbosity: None)
  before = {*sys.modules}
  yield
  for name in {*sys.modules} - before:
    if getattr(sys.modules[name], '__file__', None):
      if str(tmp_path) in sys.modules[name].__file__:
        del sys.modules[name]


def _write(folder, name, text):
  folder.mkdir(exist_ok=True)
  (folder / name).write_text(text)
  return str(folder / name)


def _load(paths, *bindings):
  imported = own_code.load(paths)
  return config.load(Config, [], bindings, imported), imported


def test_a_task_an_optimizer_and_a_schedule(tmp_path):
  paths = [
    _write(tmp_path / 'mine', 'my_vowels.py', VOWELS.format(name='Vowels')),
    _write(tmp_path / 'mine', 'my_rules.py', RULES),
  ]
  cfg, imported = _load(
    paths,
    'Config.task = @Vowels()',
    'Vowels.n_syllables = 2',
    'Config.optimizer = @Lion()',
    'Lion.rate = 1',
  )
  assert cfg.task.n_syllables == 2
  (problem,) = cfg.task.problems('train', 1, seed=0)
  assert len(problem.prompt) == 5  # two syllables of two letters, and =
  assert cfg.task.score(problem, '2').correct
  assert not cfg.task.score(problem, '3').correct
  # Lion's first update is the sign of the gradient times the rate, which
  # falls to 0 over four steps.
  tx = optimizers.make(cfg.optimizer, 4, {})
  params = {'w': jnp.array([3.0, -4.0])}
  updates, state = tx.update(params, tx.init(params), params)
  assert updates['w'].tolist() == pytest.approx([-1.0, 1.0], abs=5e-3)
  updates, _ = tx.update(params, state, params)
  assert updates['w'].tolist() == pytest.approx([-0.75, 0.75], abs=5e-3)
  # What JSON holds becomes the same again, with the same modules only.
  saved = json.loads(json.dumps(config.to_dict(cfg)))
  assert saved['optimizer'] == {'class': 'Lion', 'rate': 1.0}
  assert config.from_dict(Config, saved, imported) == cfg
  with pytest.raises(ValueError, match="'class' is 'Vowels'.*--import"):
    config.from_dict(Config, saved)
  shown = config.explain(cfg)
  assert 'task = @Vowels()   # default @Addition()\n' in shown
  assert 'optimizer = @Lion()   # default @Optimizer()\n' in shown


def test_a_schedule_stands_where_a_name_does(tmp_path):
  path = _write(tmp_path, 'my_rules.py', RULES)
  cfg, imported = _load([path], 'Optimizer.schedule = @Triangle()')
  rate = optimizers.learning_rate(cfg.optimizer, peak=0.4, n_steps=4)
  assert [round(float(rate(i)), 6) for i in range(5)] == [
    0.4, 0.3, 0.2, 0.1, 0.0
  ]  # fmt: skip
  saved = json.loads(json.dumps(config.to_dict(cfg)))
  assert config.from_dict(Config, saved, imported) == cfg
  named, _ = _load([path], "Optimizer.schedule = 'wsd'")
  assert named.optimizer.schedule == 'wsd'
  assert config.from_dict(Config, config.to_dict(named)) == named
  assert isinstance(
    optimizers.make(cfg.optimizer, 4, {}), optax.GradientTransformation
  )


def test_packages_and_neighbours(tmp_path, monkeypatch):
  """By the name of a package, and a file that imports one beside it."""
  folder = tmp_path / 'mine'
  _write(folder, 'my_vowels.py', VOWELS.format(name='Vowels'))
  beside = _write(folder, 'beside.py', 'from my_vowels import Vowels as Mine\n')
  package = _write(folder, '__init__.py', 'from mine.my_vowels import Vowels\n')
  monkeypatch.syspath_prepend(str(tmp_path))
  assert [c.__name__ for c in own_code.load(['mine'])] == ['Vowels']
  assert package
  assert [c.__name__ for c in own_code.load([beside])] == ['Vowels']


LACKS = """
import dataclasses
from llm_jax.tasks import protocol

@dataclasses.dataclass(frozen=True)
class Half(protocol.Task):
  name: str = 'half'
  def problems(self, split, count, seed):
    return []

@dataclasses.dataclass
class Loose:
  rate: float = 1.0
  def transformation(self, n_steps, lines):
    return None

class Bare:
  def learning_rate(self, peak, n_steps):
    return None

@dataclasses.dataclass(frozen=True)
class Odd:
  rates: dict = dataclasses.field(default_factory=dict)
  def transformation(self, n_steps, lines):
    return None
"""


@pytest.mark.parametrize(
  ('binding', 'message'),
  [
    (
      'Config.task = @Half()',
      r'lacks.Half lacks demonstrate, lacks score, lacks think_start, lacks '
      r'thinks \(see Task in llm_jax.tasks.protocol\); or write @Addition',
    ),
    ('Config.optimizer = @Loose()', 'Loose is not declared .*frozen=True'),
    ('Config.optimizer = @Half()', 'Half lacks transformation'),
    (
      'Config.optimizer = @Odd()',
      'Odd.rates = {} is refused: a field cannot be',
    ),
    ('Optimizer.schedule = @Bare()', 'Bare is not declared .*frozen=True'),
    ('Optimizer.schedule = @Nobody()', 'write a class of your own that --imp'),
    ('Optimizer.schedule = 3', r'for a class of your own write @ClassName\(\)'),
    ('Config.task = @Nobody()', 'or a class of your own that --import brings'),
    ('Half.name = 1', 'no field takes a class Half; the classes are Config'),
  ],
)
def test_classes_that_are_not_what_a_field_takes(binding, message, tmp_path):
  path = _write(tmp_path, 'lacks.py', LACKS)
  with pytest.raises(ValueError, match=message):
    _load([path], binding)


def test_a_name_that_is_taken(tmp_path):
  path = _write(tmp_path, 'sums.py', VOWELS.format(name='Addition'))
  with pytest.raises(ValueError, match='Addition stands at Config.task and at'):
    _load([path], 'Config.task = @Addition()')


@pytest.mark.parametrize(
  ('name', 'text', 'message'),
  [
    ('gone.py', None, 'gone.py: there is no such file; check the path'),
    ('no_such_module', None, 'No module named .no_such_module.; give the path'),
    ('os.no_such', None, 'No module named .os.no_such.*; give the path'),
    ('a.b.py', '', 'has no dot in its name; rename the file'),
    ('json.py', '', 'the name json is that of .*json.*; rename the file'),
    ('m1.py', 'x = 1\nimport nowhere_x\n', 'm1.py:2: `import nowhere_x`: Mod'),
    ('m2.py', 'x = 1\n\nx = (\n', r'm2.py:3: `x = \(`: SyntaxError: '),
    ('m3.py', 'def f():\n  return 1 / 0\nf()\n', 'm3.py:2: `return 1 / 0`: Z'),
    ('m4.py', 'import sys\nsys.exit(3)\n', 'm4.py:2: `sys.exit.3.`: SystemE'),
    ('m5.py', 'import json\njson.loads("{")\n', 'm5.py:2: `json.loads'),
    ('m6.py', 'import optax\noptax.lionn\n', 'm6.py:2: `optax.lionn`: Attr'),
  ],
)
def test_modules_that_fail(name, text, message, tmp_path):
  if text is not None:
    _write(tmp_path, name, text)
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    own_code.load([name])


class Recipe:
  """Begins a record, as every recipe does."""

  def run(self, cfg, workdir: str):
    self.cfg = cfg
    record.begin(workdir, 'test', cfg)
    record.finish(workdir, {})


def _execute(monkeypatch, *argv):
  recipe = Recipe()
  monkeypatch.setattr(sys, 'argv', ['x', *argv])
  code = command_line.execute(Config, recipe.run, {}, sys.argv)
  return recipe, code


def _rerun(monkeypatch, tmp_path, *argv):
  sys.modules.pop('my_vowels', None)
  old = str(tmp_path / 'first' / 'old' / 'run.json')
  workdir = f'--workdir={tmp_path}/new'
  return _execute(monkeypatch, workdir, f'--rerun={old}', *argv)


def test_a_record_and_its_rerun(tmp_path, monkeypatch, capsys):
  first = tmp_path / 'first'
  path = _write(first, 'my_vowels.py', VOWELS.format(name='Vowels'))
  monkeypatch.chdir(first)
  argv = ['--import=my_vowels.py', '--gin_bindings=Config.task = @Vowels()']
  made, code = _execute(monkeypatch, '--workdir=old', *argv)
  assert code == 0
  inputs = json.loads((first / 'old' / 'run.json').read_text())['inputs']
  text = pathlib.Path(path).read_bytes()
  assert inputs == {'import my_vowels': hashlib.sha256(text).hexdigest()}

  # From another folder it is found where it was.
  monkeypatch.chdir(tmp_path)
  again, code = _rerun(monkeypatch, tmp_path)
  assert code == 0, capsys.readouterr().err
  assert again.cfg.task.n_syllables == made.cfg.task.n_syllables

  # Another text is another run, by name; so it is for a resume.
  _write(first, 'my_vowels.py', VOWELS.format(name='Vowels') + '# other\n')
  (tmp_path / 'new' / 'run.json').unlink()
  (tmp_path / 'new' / 'done.json').unlink()
  assert _rerun(monkeypatch, tmp_path)[1] == 1
  assert 'inputs import my_vowels' in capsys.readouterr().err
  monkeypatch.chdir(first)
  sys.modules.pop('my_vowels', None)
  assert _execute(monkeypatch, '--workdir=old', *argv)[1] == 1
  assert 'old holds another run (inputs import' in capsys.readouterr().err

  # Moved, it has to be named.
  monkeypatch.chdir(tmp_path)
  (first / 'my_vowels.py').rename(tmp_path / 'moved.py')
  assert _rerun(monkeypatch, tmp_path)[1] == 1
  assert f'--import {path}: there is no such file' in capsys.readouterr().err


def test_an_example_is_found_and_kept(tmp_path, monkeypatch, capsys):
  """From any folder, as gin files are; a record and its rerun know it."""
  first, other = tmp_path / 'first', tmp_path / 'other'
  first.mkdir()
  other.mkdir()
  monkeypatch.chdir(first)
  argv = ['--import=examples/countdown.py']
  argv += ['--gin_bindings=Config.task = @Countdown()']
  made, code = _execute(monkeypatch, '--workdir=old', *argv)
  assert code == 0, capsys.readouterr().err
  inputs = json.loads((first / 'old' / 'run.json').read_text())['inputs']
  assert list(inputs) == ['import countdown']
  monkeypatch.chdir(other)
  again, code = _rerun(monkeypatch, tmp_path)
  assert code == 0, capsys.readouterr().err
  assert again.cfg == made.cfg


def test_faults_of_a_whole_class():
  """Every task of the house is one; a Protocol's own methods are none."""
  imported = [type(addition.Addition()), protocol.Problem]
  assert config.dataclass_json.faults(imported[0], protocol.Task) == []
  assert 'lacks thinks' in config.dataclass_json.faults(
    imported[1], protocol.Task
  )
