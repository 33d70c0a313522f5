"""What every task promises: splits, demonstrations, verdicts, and its choice.

Verdicts are tables of answers in all the forms that count as right, and of
wrong ones that look like them.
"""

import fractions
import gc
import pathlib
import random
import re
import time
import tomllib
import typing

import pytest

from examples import (
  comparison,
  countdown,
  format,
  letters,
  multiplication,
  reversal,
)
from experiments import evaluate, rl, sft
from llm_jax import config
from llm_jax.agent import any_task, judge
from llm_jax.tasks import (
  addition,
  closed_book,
  multiple_choice,
  prompts,
  protocol,
  python_functions,
  questions,
  word_problems,
)
from llm_jax.verify import equality
from tests.tasks import published_test

_SILENT = ('format', 'multiple_choice', 'python_functions')
# But for those of users.
CLASSES = set(typing.get_args(any_task.AnyTask)) - {protocol.Task}
# Loaded by --import.
EXAMPLES = {
  comparison.Comparison,
  countdown.Countdown,
  format.Format,
  letters.Letters,
  multiplication.Multiplication,
  reversal.Reversal,
}
MADE = (
  addition.Addition(),
  multiplication.Multiplication(),
  multiplication.Multiplication(2, 2),
  countdown.Countdown(),
  countdown.Countdown(4),
  comparison.Comparison(),
  letters.Letters(),
  letters.Letters('spell'),
  reversal.Reversal(),
  format.Format(),
)


@pytest.fixture(scope='module')
def tasks(tmp_path_factory):
  """Every task; those of files with a file of 800 rows."""
  folder = tmp_path_factory.mktemp('files')
  draw = random.Random(0)
  names = [questions.word(draw, 6) for _ in range(800)]
  rows = [
    {
      'question': f'{name} has {n} eggs and buys {m}. How many are there?',
      'answer': f'They are <<{n}+{m}={n + m}>>{n + m}.\n#### {n + m}',
    }
    for n, (m, name) in enumerate(enumerate(names, 7))
  ]
  words = published_test.write(folder, rows, 'words.jsonl')
  rows = [
    {'question': f'Who is {name}?', 'choices': list('wxyz'), 'answer': n % 4}
    for n, name in enumerate(names)
  ]
  choices = published_test.write(folder, rows, 'choices.jsonl')
  rows = [
    {
      'task_id': n + 300,
      'text': f'Write a function {name} that adds {n}.',
      'code': f'def {name}(x):\n  return x + {n}\n',
      'test_list': [f'assert {name}(2) == {n + 2}'],
    }
    for n, name in enumerate(names)
  ]
  functions = published_test.write(folder, rows, 'functions.jsonl')
  return (
    *MADE,
    word_problems.WordProblems(words),
    multiple_choice.MultipleChoice(choices),
    python_functions.PythonFunctions(functions, 20.0),
  )


def test_no_task_is_left_out_here(tasks):
  # Refusals are verdicts of their own, see closed_book_test.py. Prompts have no
  # verdict, and a judge is asked for his, see judge_test.py.
  others = {closed_book.ClosedBook, prompts.Prompts}
  others |= {judge.Judge}
  tested = others | {type(task) for task in tasks}
  assert tested == CLASSES | EXAMPLES


def test_splits_are_disjoint_whatever_the_seed(tasks):
  for task in tasks:
    held_out = {p.prompt for p in task.problems('held_out', 50, 0)}
    assert len(held_out) == 50
    for seed in (0, 1):
      train = {p.prompt for p in task.problems('train', 400, seed)}
      assert len(train) == 400
      assert not train & held_out, task
    first = task.problems('train', 20, 0)
    assert first == task.problems('train', 30, 0)[:20]
    assert first != task.problems('train', 20, 1)
    with pytest.raises(ValueError, match="split 'test' is unknown"):
      task.problems('test', 1, 0)


@pytest.mark.parametrize(
  'task',
  [
    addition.Addition(2),
    multiplication.Multiplication(2, 2),
    countdown.Countdown(3, max_number=9),
    comparison.Comparison(1, max_whole=5),
    letters.Letters(n_syllables=2),
    format.Format(2),
  ],
  ids=lambda task: task.name,
)
def test_what_is_the_same_question_is_of_one_split(task):
  """Its words in another order, and without the letter or form asked for."""

  def cores(split, count):
    found = set()
    for problem in task.problems(split, count, 0):
      text = problem.prompt.partition(' as ')[0]
      parts = re.findall(r'[0-9]+(?:\.[0-9]+)?', text) or re.findall(
        '[a-z]{4,}', text
      )
      if task.name == 'countdown':  # the target stays what it is
        parts = [parts[0], *sorted(parts[1:])]
      elif task.name != 'format':
        parts.sort()
      found.add(' '.join(parts))
    return found

  assert not cores('train', 1000) & cores('held_out', 100)


def test_demonstrations_are_right_and_think_when_asked(tasks):
  for task in tasks:
    silent = task.name in _SILENT or (
      isinstance(task, letters.Letters) and task.kind == 'spell'
    )
    for problem in task.problems('train', 50, 3):
      assert problem.task == task.name
      for think in (False, True):
        answer = task.demonstrate(problem, think)
        assert task.score(problem, answer).correct, (task, problem, answer)
        assert task.thinks(answer) == (think and not silent)
        assert not task.score(problem, '').correct
      assert not task.score(problem, task.think_start + answer).correct or (
        task.thinks(answer)
      )


def _exact(text):
  """A sum that this test wrote itself, by Python."""
  return eval(re.sub('([0-9]+)', r'F(\1)', text), {'F': fractions.Fraction})


def test_sums_in_demonstrated_countdown_are_true():
  task = countdown.Countdown()
  for problem in task.problems('train', 200, 0):
    thought = task.demonstrate(problem, True).split('\n')[1:-2]
    for line in thought:
      left, right = line.split('=')
      assert _exact(left) == _exact(right)
    target = problem.prompt.split(' ')[1]
    assert [line.split('=')[1] for line in thought].index(target) == (
      len(thought) - 1
    )


@pytest.mark.parametrize('sizes', [(3, 1), (2, 3)])
def test_demonstrated_columns_make_the_product(sizes):
  task = multiplication.Multiplication(*sizes)
  for problem in task.problems('train', 200, 0):
    thought = task.demonstrate(problem, True).split('\n')[1:-2]
    total = 0
    for place in range(sizes[1]):
      part, carry = '', '0'
      for x in reversed(problem.prompt[: sizes[0]]):
        line, thought = thought[0], thought[1:]
        y = problem.prompt[-2 - place]
        assert line[:4] == f'{x}{y}{carry}:'
        assert int(x) * int(y) + int(carry) == int(line[4:])
        carry, part = line[4], line[5] + part
      added = int(carry + part) * 10**place
      if sizes[1] > 1:
        line, thought = thought[0], thought[1:]
        assert list(map(int, re.split('[+=]', line))) == (
          [total, added, total + added]
        )
      total += added
    assert not thought
    assert total == int(problem.reference)


def _problem(task, *parts):
  return task, task._problem(*parts)


WORD = word_problems.WordProblems()
CHOICE = multiple_choice.MultipleChoice()
WORDS = ['kiwi', 'fig']
OPTIONS = {'question': '2+2?', 'choices': ['3', '4', 'a cat']}
PROBLEMS = {
  'addition': _problem(
    addition.Addition(), 988, 391, 'What is 988 plus 391?'
  ),
  'multiplication': _problem(multiplication.Multiplication(), 123, 9),
  'countdown': _problem(countdown.Countdown(), 60, [3, 5, 25], '(25-5)*3'),
  'comparison': _problem(comparison.Comparison(), '9.11', '9.9'),
  'count': _problem(letters.Letters(), 'banana', 'a'),
  'spell': _problem(letters.Letters('spell'), 'banana', 'a'),
  'reversal': _problem(reversal.Reversal(), 'bade'),
  'json': _problem(format.Format(), WORDS, 'a JSON list'),
  'numbered': _problem(format.Format(), WORDS, 'a numbered list'),
  'capitals': _problem(format.Format(), WORDS, 'capitals with commas'),
  'word_problems': (
    WORD, WORD.read({'question': 'How many?', 'answer': 'So\n#### 1,500.5'})
  ),
  'undone': (WORD, WORD.read({'question': 'How many?', 'answer': 72})),
  'letter_B': (CHOICE, CHOICE.read(OPTIONS | {'answer': 1})),
  'letter_C': (CHOICE, CHOICE.read(OPTIONS | {'answer': 2})),
}  # fmt: skip
VERDICTS = tomllib.loads(
  (pathlib.Path(__file__).parent / 'verdicts.toml').read_text('utf-8')
)


@pytest.mark.parametrize('name', PROBLEMS)
def test_verdicts(name):
  task, problem = PROBLEMS[name]
  for answer in VERDICTS[name]['right']:
    score = task.score(problem, answer)
    assert score.correct, (answer, score.reason)
  for answer in VERDICTS[name]['wrong']:
    score = task.score(problem, answer)
    assert not score.correct, answer
    assert score.reason


M = 10**5
N = 10**4
HOSTILE = [
  '9' * M, '(' * M, '(' * M + '1' + ')' * M, '{' * M, '[' * M, '\x00', '1\x00',
  '\ud800', '٣', '³', '1e999999999', '1/0', '0/0', '9' * 4000 + '/7', '1,' * N,
  ' ' * N, '\n' * N, '-' * N, '*' * N, '1+' * N + '1', '\\boxed{' * N,
  '\\frac' * N, '\\text{' * N, '<think>' * N, '</think>' * N,
  '####' * N, '\\frac{1}{0}', '$' * N, 'answer is ' * N,
  'B.\n ' * N,  '0.' * N, '1 ' * N, '{"a":' * N, '1' + '0' * 300 + '%',
  '-.', '.', '/',  '2**9**9**9', '9**9**9', '"' * N, '\\' * N, 'b-' * N,
  '=' * N, '9' * 5000, '1' + '0' * 500 + '72', '1072' + ' x' * 499,
]  # fmt: skip


def test_hostile_answers_are_wrong_at_once():
  """A verifier that is quadratic in 100 kB would take minutes, not a second."""
  gc.freeze()  # a collection of what earlier tests left can take a second
  for name, (task, problem) in PROBLEMS.items():
    for answer in HOSTILE:
      for text in (answer, f'#### {answer}', f'\\boxed{{{answer}}}'):
        started = time.process_time()
        score = task.score(problem, text)
        seconds = time.process_time() - started
        assert seconds < 1, (name, text[:20])
        assert len(score.reason) < 600
        if name != 'letter_B':  # which some of them say
          assert not score.correct, (name, text[:20])


def test_verdicts_on_noise_never_raise():
  draw = random.Random(0)
  alphabet = [*'0123456789+-*/().,%=<>{}[]"\\#$ \n\x00٣ab']
  alphabet += ['frac', '\\boxed{', '####', '<think>', '</think>', 'answer is ']
  for task, problem in PROBLEMS.values():
    for _ in range(500):
      answer = ''.join(draw.choices(alphabet, k=draw.randrange(30)))
      assert task.score(problem, answer).reason


def test_no_verifier_takes_a_demonstration_of_another_problem(tasks):
  for task in tasks:
    problems = task.problems('train', 60, 1)
    for one, other in zip(problems, problems[1:], strict=False):
      if one.reference.split('\n')[-1] != other.reference.split('\n')[-1]:
        answer = task.demonstrate(other, think=True)
        expected = isinstance(task, multiple_choice.MultipleChoice) and (
          one.reference[0] == other.reference[0]
        )
        assert task.score(one, answer).correct == expected, (task, one, other)


@pytest.mark.parametrize('recipe', [sft, rl, evaluate])
def test_a_recipe_takes_any_task(recipe):
  imported = [*EXAMPLES]
  for cls in CLASSES | EXAMPLES:
    bindings = [f'Config.task = @{cls.__name__}()']
    if recipe is rl and cls is prompts.Prompts:  # it has no verifier
      bindings.append("Config.reward = 'model'")
    cfg = config.load(recipe.Config, (), bindings, imported)
    assert type(cfg.task) is cls
    values = config.to_dict(cfg)
    assert config.from_dict(recipe.Config, values, imported) == cfg
  bindings = ['Config.task = @Letters()', "Letters.kind = 'spell'"]
  cfg = config.load(recipe.Config, (), bindings, imported)
  assert cfg.task == letters.Letters('spell')


@pytest.mark.parametrize(
  ('cls', 'fields', 'message'),
  [
    (multiplication.Multiplication, {'n_left': 12}, 'at most 12 together'),
    (countdown.Countdown, {'n_numbers': 1}, 'use 2 to 8 numbers'),
    (countdown.Countdown, {'max_target': 3}, 'less than max_number = 25'),
    (comparison.Comparison, {'n_decimals': 0}, 'use 1 to 12'),
    (letters.Letters, {'n_syllables': 1}, 'use 2 or more'),
    (reversal.Reversal, {'n_syllables': 0}, 'use 2 or more'),
    (format.Format, {'n_words': 1}, 'use 2 or more'),
  ],
)
def test_sizes_that_make_no_problems_are_refused(cls, fields, message):
  with pytest.raises(ValueError, match=message):
    cls(**fields)


def test_more_problems_than_there_are():
  with pytest.raises(ValueError, match='which has about 87'):
    multiplication.Multiplication(1, 1).problems('train', 100, 0)


def test_larger_is_larger():
  for problem in comparison.Comparison().problems('train', 500, 0):
    _, _, a, _, b = problem.prompt.rstrip('=').split(' ')
    assert equality.number(problem.reference) == max(
      map(fractions.Fraction, (a, b))
    )


@pytest.mark.parametrize('recipe', [rl, evaluate])
def test_a_recipe_without_a_task_names_those_that_there_are(recipe):
  with pytest.raises(ValueError, match=r'Config\.task has no default') as error:
    config.load(recipe.Config)
  for task in CLASSES:
    assert f'@{task.__name__}()' in str(error.value)
