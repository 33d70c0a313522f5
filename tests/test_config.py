"""Configuration: what is built, and every way to be refused."""

import contextlib
import dataclasses
import json
import re
from typing import Literal

import gin
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_jax import config, dataclass_json


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  d_model: int = 64
  n_layers: int = 2
  dropout: float = 0.0
  bias: bool = False
  windows: tuple[int, ...] = ()
  norm: Literal['rms', 'layer'] = 'rms'
  name: str = 'tiny'
  n_heads: int | None = None

  def __post_init__(self):
    if self.d_model % self.n_layers:
      raise ValueError(f'd_model {self.d_model} is odd for {self.n_layers}')


@dataclasses.dataclass(frozen=True)
class AdamW:
  peak_lr: float = 0.001
  betas: tuple[float, float] = (0.9, 0.95)


@dataclasses.dataclass(frozen=True)
class Muon:
  momentum: float = 0.95


@dataclasses.dataclass(frozen=True)
class DataConfig:
  split: str = 'train'
  weights: tuple[tuple[str, float], ...] = ()


@dataclasses.dataclass(frozen=True)
class Checks(DataConfig):
  split: str = 'valid'


@dataclasses.dataclass(frozen=True)
class Schedule:
  warmup: int = 10


@dataclasses.dataclass(frozen=True)
class Config:
  model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
  optimizer: AdamW | Muon = AdamW(peak_lr=0.01)
  train_data: DataConfig = DataConfig()
  valid_data: Checks = Checks()
  schedule: Schedule | None = None
  seed: int = 0


def load(*bindings):
  return config.load(Config, [], bindings)


class TestLoad:
  def test_defaults(self):
    assert config.load(Config) == Config()

  def test_values(self):
    cfg = load(
      'ModelConfig.d_model = 1_28',
      'ModelConfig.dropout = 1',
      'ModelConfig.windows = (16, 32)',
      "ModelConfig.norm = 'layer'",
      'ModelConfig.n_heads = 4',
      'AdamW.betas = (0, 1)',
      "DataConfig.weights = (('a', 1), ('b', -2.5))",
    )
    model = ModelConfig(128, 2, 1.0, False, (16, 32), 'layer', 'tiny', 4)
    assert cfg == Config(
      model=model,
      optimizer=AdamW(0.01, (0.0, 1.0)),
      train_data=DataConfig(weights=(('a', 1.0), ('b', -2.5))),
    )
    assert type(cfg.model.dropout) is float
    assert type(cfg.optimizer.betas[0]) is float

  def test_union(self):
    cfg = load('Config.optimizer = @Muon()', 'Muon.momentum = 0.5')
    assert cfg.optimizer == Muon(0.5)

  def test_optional_class(self):
    cfg = load('Config.schedule = @Schedule()', 'Schedule.warmup = 3')
    assert cfg.schedule == Schedule(3)

  def test_default_of_a_nested_class_is_kept(self):
    cfg = load('AdamW.betas = (0.8, 0.9)')
    assert cfg.optimizer == AdamW(0.01, (0.8, 0.9))

  def test_later_overrides_earlier(self, tmp_path):
    (tmp_path / 'a.gin').write_text(
      '# a header\nConfig.seed = 2\nAdamW.peak_lr = 1\n'
    )
    (tmp_path / 'b.gin').write_text(
      'ModelConfig.n_layers = 4\nConfig.seed = 3\n'
    )
    paths = [str(tmp_path / 'a.gin'), str(tmp_path / 'b.gin')]
    cfg = config.load(Config, paths, ['ModelConfig.n_layers = 8'])
    assert (cfg.seed, cfg.optimizer.peak_lr) == (3, 1.0)
    assert cfg.model.n_layers == 8


HOSTILE = [
  ('import os', 'runs no code; write'),
  ('from os import system', 'runs no code'),
  ('from __gin__ import dynamic_registration', 'runs no code'),
  ("import os\nos.system.command = 'touch pwned'", 'runs no code'),
  ('Config.seed = @os.system()', '@os.system() is Reference, not int'),
  ('Config.seed = @os.system', '@os.system is Reference, not int'),
  ('Config.optimizer = @Muon', 'write @AdamW() or @Muon()'),
  ('Config.optimizer = @a/Muon()', 'write @AdamW() or @Muon()'),
  ('Config.optimizer = (@Muon(),)', 'write @AdamW() or @Muon()'),
  ('size = 3', 'macros are refused'),
  ('Config.seed = %size', '%size is Reference, not int'),
  ('ModelConfig.windows = (1, %size)', 'is Reference, not int'),
  ("include '/etc/passwd'", 'give several files with --gin_file'),
  ("Config.seed = 1\ninclude 'x.gin'", 'import, include, blocks'),
  ('Config:\n  seed = 1', 'write `Class.field = value` in each line'),
  ('Config.seed = 1 + 1', 'not understood'),
  ("Config.seed = __import__('os')", 'not understood'),
  ('Config.seed = (1', 'not understood'),
  ('Config.seed =', 'not understood'),
  ('ModelConfig.name = hello', "'hello'"),
  ('$%&/()', 'not understood'),
  ('Config.seed = ' + '(' * 3000, 'not understood'),
  ('Config.seed = ' + '9' * 5000, 'not understood'),
  ('Config.seed = 1\nConfig.seed = 2', 'already set by'),
  ('Muon.momentum = 0.5', 'add `Config.optimizer = @Muon()`'),
  ('Schedule.warmup = 3', 'add `Config.schedule = @Schedule()`'),
  ('Modelconfig.d_model = 2', 'did you mean ModelConfig?'),
  ('Trainer.steps = 2', 'takes a class Trainer; the classes are Config'),
  ('ModelConfig.d_modle = 2', 'did you mean d_model?'),
  ('Config.d_model = 2', 'did you mean ModelConfig.d_model?'),
  ('ModelConfig.bogus = 2', 'its fields are d_model, n_layers'),
  ("test_data/DataConfig.split = 'x'", "scope 'test_data' is refused; write"),
  ('model/ModelConfig.d_model = 2', 'write `ModelConfig.d_model = ...`'),
  ('Config.model = @ModelConfig()', 'is always a ModelConfig'),
  ('Config.model = 3', 'set its fields, such as ModelConfig.d_model'),
  ('Config.optimizer = None', 'write @AdamW() or @Muon()'),
  ("AdamW.peak_lr = 'abc'", 'is str, not float; write a number such as 0.1'),
  ("AdamW.peak_lr = '0.1'", 'is str, not float'),
  ('AdamW.peak_lr = True', 'is bool, not float'),
  ('AdamW.peak_lr = None', 'is NoneType, not float'),
  ('AdamW.peak_lr = 1e999', 'not finite'),
  ('AdamW.peak_lr = ' + '9' * 400, 'too large'),
  ('Config.seed = 0.5', 'is float, not int; write a whole number'),
  ('Config.seed = 1e6', 'is float, not int; write 1000000'),
  ('Config.seed = True', 'is bool, not int'),
  ('Config.seed = 1j', 'is complex, not int'),
  ("ModelConfig.name = b'x'", 'is bytes, not str'),
  ('ModelConfig.bias = 1', 'is int, not bool; write True or False'),
  ("ModelConfig.norm = 'Rms'", "write 'rms' or 'layer'"),
  ("ModelConfig.n_heads = '4'", 'is str, not int'),
  ('ModelConfig.windows = (16)', 'is int, not tuple; write (16,)'),
  ('ModelConfig.windows = [16, 32]', 'is list, not tuple; write (16, 32)'),
  ("ModelConfig.windows = (16, '32')", 'is str, not int'),
  ('ModelConfig.windows = {16: 32}', 'is dict, not tuple'),
  ('AdamW.betas = (0.1, 0.2, 0.3)', 'has 3 elements; write 2'),
  ("AdamW.betas = (0.1, 'x')", 'is str, not float'),
  ('ModelConfig.d_model = 65', 'd_model 65 is odd for 2'),
]


class TestRefusals:
  @pytest.mark.parametrize(('text', 'reason'), HOSTILE)
  def test_file(self, text, reason, tmp_path, monkeypatch):
    """The message names file, line, value and remedy; nothing was run."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'a.gin'
    path.write_text('# a header\n\n' + text + '\n')
    with pytest.raises(ValueError, match=re.escape(reason)) as error:
      config.load(Config, [str(path)])
    assert re.search(r'a\.gin:[3-5]\b', str(error.value))
    assert not (tmp_path / 'pwned').exists()
    assert gin.config_str() == ''

  @pytest.mark.parametrize(('text', 'reason'), HOSTILE)
  def test_binding(self, text, reason):
    with pytest.raises(ValueError, match='--gin_bindings') as error:
      load(text)
    assert reason in str(error.value)
    assert len(str(error.value)) < 700
    assert gin.config_str() == ''

  def test_files(self, tmp_path):
    latin, long = tmp_path / 'latin.gin', tmp_path / 'long.gin'
    latin.write_bytes(b'Config.seed = 1 # \xff\n')
    long.write_bytes(b'#' * (1 << 21))
    for path, reason in (
      ('nowhere.gin', 'No such file'),
      (tmp_path, 'Is a directory'),
      (latin, "'utf-8' codec can't decode"),
      (long, 'more than 1048576 characters'),
    ):
      message = f'gin file {path} cannot be read .*{reason}.*; check the path'
      with pytest.raises(ValueError, match=message):
        config.load(Config, [str(path)])

  def test_value_without_default(self):
    @dataclasses.dataclass(frozen=True)
    class Needs:
      steps: int

    with pytest.raises(ValueError, match=r'Needs\.steps has no default'):
      config.load(Needs)
    assert config.load(Needs, [], ['Needs.steps = 3']).steps == 3

  @given(st.text(alphabet=st.characters(), max_size=60))
  def test_any_text_is_refused_or_read(self, text):
    with contextlib.suppress(ValueError):
      assert load(text) == Config()


class TestClassesThatCannotBeConfigured:
  @pytest.mark.parametrize(
    ('field', 'frozen', 'message'),
    [
      ((int, 0), False, 'Made is not declared @dataclass'),
      ((list[int], None), True, 'a field cannot be list'),
      ((int, 0.5), True, r'the default of Made\.x = 0\.5'),
    ],
  )
  def test_wrong_fields(self, field, frozen, message):
    made = dataclasses.make_dataclass('Made', [('x', *field)], frozen=frozen)
    with pytest.raises(ValueError, match=message):
      config.load(made)

  def test_two_classes_of_one_name(self):
    def make(default):
      @dataclasses.dataclass(frozen=True)
      class Twin:
        x: int = default

      return Twin

    first, second = make(1), make(2)
    both = dataclasses.make_dataclass(
      'Both', [('a', first, first()), ('b', second, second())], frozen=True
    )
    with pytest.raises(ValueError, match=r'Twin stands at Both\.a and at Both'):
      config.load(both)
    both = dataclasses.make_dataclass(
      'Both', [('a', first, first()), ('b', first, first())], frozen=True
    )
    with pytest.raises(ValueError, match='a name of its own'):
      config.load(both)


class TestExplain:
  def test_marks_what_differs(self):
    cfg = load(
      'ModelConfig.d_model = 128',
      'Config.optimizer = @Muon()',
      'Config.schedule = @Schedule()',
    )
    assert config.explain(cfg).splitlines() == [
      'model.d_model = 128   # default 64',
      'model.n_layers = 2',
      'model.dropout = 0.0',
      'model.bias = False',
      'model.windows = ()',
      "model.norm = 'rms'",
      "model.name = 'tiny'",
      'model.n_heads = None',
      'optimizer = @Muon()   # default @AdamW()',
      'optimizer.momentum = 0.95',
      "train_data.split = 'train'",
      'train_data.weights = ()',
      "valid_data.split = 'valid'",
      'valid_data.weights = ()',
      'schedule = @Schedule()   # default None',
      'schedule.warmup = 10',
      'seed = 0',
    ]

  def test_without_default(self):
    @dataclasses.dataclass(frozen=True)
    class Needs:
      steps: int
      seed: int = 0

    assert config.explain(Needs(3, 1)).splitlines() == [
      'steps = 3   # no default',
      'seed = 1   # default 0',
    ]


_MODELS = st.builds(
  ModelConfig,
  d_model=st.integers(1, 9).map(lambda n: 2 * n),
  dropout=st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 9),
  windows=st.lists(st.integers()).map(tuple),
  norm=st.sampled_from(['rms', 'layer']),
  name=st.text(),
  n_heads=st.none() | st.integers(),
)
_CONFIGS = st.builds(
  Config,
  model=_MODELS,
  optimizer=st.builds(Muon) | st.builds(AdamW),
  schedule=st.none() | st.builds(Schedule),
  seed=st.integers(),
)


class TestJson:
  @given(_CONFIGS)
  def test_round_trip(self, cfg):
    mapping = json.loads(json.dumps(config.to_dict(cfg), allow_nan=False))
    again = config.from_dict(Config, mapping)
    assert again == cfg
    # Also where an int was given for a float.
    assert repr(config.to_dict(again)) == repr(config.to_dict(cfg))

  @pytest.mark.parametrize(
    ('change', 'reason'),
    [
      ({'seed': '1'}, "seed = '1' is str, not int"),
      ({'sed': 1}, "Config: unknown key 'sed'"),
      ({'model': {}}, "model: missing key 'd_model'"),
      ({'model': 3}, 'model: expected a dictionary, got 3'),
      ({'optimizer': {'class': 'SGD'}}, "'class' is 'SGD'; it must be one of"),
      ({'optimizer': None}, "'class' is None"),
      ({'train_data': {'split': 'a', 'weights': 3}}, 'is int, not list'),
    ],
  )
  def test_refusals(self, change, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
      config.from_dict(Config, {**config.to_dict(Config()), **change})

  def test_value_of_another_type(self):
    with pytest.raises(ValueError, match=r'Muon\.momentum'):
      config.to_dict(Muon('x'))  # type: ignore

  def test_leaves(self):
    tree = {'a': {'b': 1, 'c': {}}, 'd': [1]}
    assert dataclass_json.leaves(tree) == {'a.b': 1, 'd': [1]}
