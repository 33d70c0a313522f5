"""Who the assistant is, by a file of a user's own; and what asks for it."""

import dataclasses
import json
import pathlib

import pytest

from experiments import sft
from llm_jax import own_code
from llm_jax.evals import scoring
from llm_jax.optim import optimizers
from llm_jax.tasks import questions
from llm_jax.train import training_loop
from tests.evals import tiny_checkpoint

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(name='write')
def _write(tmp_path):
  def write(text):
    path = tmp_path / 'who.yaml'
    path.write_text(text, encoding='utf-8')
    return str(path)

  return write


def test_a_name_and_a_maker_are_enough(write):
  path = write('name: Zoë {0}\nmaker: Lake Lab\n')
  pairs = questions.identity(path)
  asked = dict(pairs)
  assert asked['Who are you?'] == 'I am Zoë {0}, made by Lake Lab.'
  assert 'Lake Lab' in asked['Who made you?']
  assert 'llm_jax' not in str(pairs)
  assert 'What can you do?' not in asked  # nobody said what it can
  assert 'llm_jax' in str(questions.identity())


def test_facts_are_asked_too_and_come_before_ours(write):
  path = write(
    'name: A\nmaker: B\nfacts:\n'
    "- {questions: ['Where are you?', 'Who are you?'], answer: In a box.}\n"
  )
  pairs = questions.identity(path)
  asked = dict(pairs)
  assert len(asked) == len(pairs)  # no question has two answers
  assert asked['Where are you?'] == asked['Who are you?'] == 'In a box.'
  assert asked['Your name?'] == 'I am A, made by B.'


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('name: A', "who.yaml: it: 'maker' is a required property"),
    ('name: 3\nmaker: B', "name: 3 is not of type 'string'"),
    ('name: A\nmaker: ""', "maker: '' should be non-empty"),
    ('name: A\nmaker: B\nnam: C', r"properties are not allowed \('nam' was"),
    ('- A', r"\['A'\] is not of type"),
    ('', 'None is not of type'),
    ('name: [', 'is no YAML'),
    ('name: A\nmaker: B\nfacts: no', 'facts: False is not of type'),
    ('name: A\nmaker: B\nfacts: [{questions: [Q]}]', "'answer' is a"),
    ('name: A\nmaker: B\nfacts: [{questions: [yes], answer: A}]',
     r'facts\[0\].questions\[0\]: True is not of type'),
    ('name: A\nmaker: B\nfacts: [{questions: [], answer: A}]',
     r'facts\[0\].questions: \[\] should be'),
  ],
)  # fmt: skip
def test_bad_files_are_refused_with_the_key(write, text, message):
  with pytest.raises(ValueError, match=message):
    questions.read_persona(write(text))


def test_thirty_phrasings_are_never_learnt():
  held_out = [q for asked in questions.of('identity_held_out').values()
              for q in asked]  # fmt: skip

  def plain(text):
    return ''.join(c for c in text.casefold() if c.isalnum())

  learnt = {plain(question) for question, _ in questions.identity()}
  assert len({*map(plain, held_out)}) == 30
  assert not learnt & {*map(plain, held_out)}


def test_asked_in_them_the_name_decides(write):
  path = write('name: Ada\nmaker: Lake Lab')
  (task_class,) = [
    cls for cls in own_code.load([str(ROOT / 'examples' / 'identity.py')])
    if cls.__name__ == 'Identity'
  ]  # fmt: skip
  task = task_class(persona=path)
  asked = scoring.problems(task, scoring.Scoring(n_problems=30))
  assert {problem.reference for problem in asked} == {'Ada', 'Lake Lab'}
  with pytest.raises(ValueError, match='31 distinct problems asked of the 30'):
    task.problems('held_out', 31, seed=0)
  with pytest.raises(ValueError, match='of the 0 in identity/train'):
    task.problems('train', 1, seed=0)
  problem = next(p for p in asked if p.reference == 'Ada')
  assert task.score(problem, 'I am ada, made by X.').correct
  assert not task.score(problem, 'I am llm_jax.').correct
  assert not task.score(problem, '<think>Ada').correct


def test_sft_learns_it_and_records_whose_file(write, tmp_path):
  path = write('name: Ada\nmaker: Lake Lab')
  base = str(tiny_checkpoint.write(tmp_path / 'base', False))
  loop = training_loop.LoopConfig(n_steps=2)
  cfg = sft.Config(
    batch_size=1,
    sequence_length=128,
    n_identity=9,
    micro_batch=1,
    optimizer=optimizers.Optimizer('adamw', warmup_steps=1),
    loop=loop,
  )
  sft.run(cfg, str(tmp_path / 'sft'), base, persona=path)
  run = json.loads((tmp_path / 'sft' / 'run.json').read_text())
  assert list(run['inputs']) == ['persona', 'model']
  assert run['config']['persona'] == path
  made = sft.make_dataset(
    dataclasses.replace(cfg, persona=path), str(tmp_path / 'sft'), {}
  )
  assert len(made) == 9
  assert 'Ada' in str(made)
  assert 'llm_jax' not in str(made)
